"""How a sensor sits: is a turned sensor a better story for the last windows than one that sits as usual?

A body moves as bodies do, however the sensor sits. So a window is described by what turns with the sensor: its mean
acceleration (mostly gravity), and in which directions it shook and turned. A Gaussian mixture holds what is usual.
Each window is looked at as it came and after each of the 23 quarter turns of a cube; the score is the logarithm of
how much likelier the best of these turns makes the last windows than no turn (a generalised likelihood ratio).
A person who wears the sensor a little otherwise makes both stories less likely; only a turn makes one of them likely.

Device side: NumPy only. The training side (``demos/motion/drift_profile.py``) fits the mixture and finds the threshold.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_UPPER = np.triu_indices(3)
_LEAST_TURNING, _LEAST_SHAKING = 0.05, 0.01
"""(rad/s)² and g² of a sensor at rest: below them directions are noise."""


def _quarter_turns() -> Floats:
    """The 24 turns of a cube, no turn first: (24, 3, 3)."""
    turns = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), order] = signs
            if np.linalg.det(turn) > 0:
                turns.append(turn)
    return np.stack(sorted(turns, key=lambda turn: -np.trace(turn)))


TURNS = _quarter_turns()


def describe_turn(turn: Floats) -> str:
    """A rotation in words, such as ``90° about z``."""
    angle = round(float(np.rad2deg(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))))
    if angle == 0:
        return "no turn"
    # The axis is what the turn leaves alone.
    values, vectors = np.linalg.eig(turn)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    cross = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    sign = np.sign(axis @ cross) or np.sign(axis[np.argmax(np.abs(axis))])
    parts = [
        f"{'−' if value < 0 else '+'}{name}" for value, name in zip(sign * axis, "xyz", strict=True) if abs(value) > 0.3
    ]
    return f"{angle}° about {''.join(parts).removeprefix('+')}"


def window_features(windows: npt.NDArray[np.floating], turns: Floats = TURNS[:1]) -> Floats:
    """What turns with the sensor, for each window after each turn.

    Args:
        windows: (n, steps, 6), accelerations in g and rates of turn in rad/s.
        turns: (r, 3, 3).

    Returns:
        (n, r, 15): mean acceleration, and the normalised second moments of turning and shaking.
    """
    accelerations, rates = windows[..., :3].astype(np.float64), windows[..., 3:].astype(np.float64)
    mean = accelerations.mean(axis=1)
    shaking = accelerations - mean[:, None]
    moments = [np.matmul(part.transpose(0, 2, 1), part) / part.shape[1] for part in (rates, shaking)]
    features = [np.einsum("rij,nj->rni", turns, mean)]
    for moment, least in zip(moments, (_LEAST_TURNING, _LEAST_SHAKING), strict=True):
        direction = moment / (np.trace(moment, axis1=1, axis2=2)[:, None, None] + least)
        turned = turns[:, None] @ direction[None] @ turns[:, None].transpose(0, 1, 3, 2)
        features.append(turned[..., _UPPER[0], _UPPER[1]])
    rows: Floats = np.concatenate([part.reshape(len(turns), len(windows), -1) for part in features], axis=2)
    return np.ascontiguousarray(rows.transpose(1, 0, 2))


@dataclass(frozen=True, kw_only=True, eq=False)
class UsualMotion:
    """A Gaussian mixture over ``window_features`` of ordinary wear.

    Attributes:
        log_weights: (k,).
        means: (k, 15).
        whitening: (k, 15, 15), upper triangular; ``(x - mean) @ whitening`` has unit covariance.
        floor: Log densities below it count as this: no single window may decide.
    """

    log_weights: Floats
    means: Floats
    whitening: Floats
    floor: float

    def log_density(self, features: Floats) -> Floats:
        """Log density of features (n, r, 15), not below the floor: (n, r)."""
        flat = features.reshape(-1, features.shape[-1])
        white = (flat[None] - self.means[:, None]) @ self.whitening
        volumes = np.log(np.diagonal(self.whitening, axis1=1, axis2=2)).sum(axis=1)
        each = (self.log_weights + volumes)[:, None] - 0.5 * (white**2).sum(axis=2)
        each -= 0.5 * flat.shape[1] * np.log(2 * np.pi)
        largest = each.max(axis=0)
        total = largest + np.log(np.exp(each - largest).sum(axis=0))
        return np.asarray(np.maximum(total, self.floor).reshape(features.shape[:-1]), dtype=np.float64)

    def turn_densities(self, windows: npt.NDArray[np.floating]) -> Floats:
        """Log density of windows (n, steps, 6) after each of ``TURNS``: (n, 24)."""
        return self.log_density(window_features(windows, TURNS))

    def to_record(self) -> dict[str, Any]:
        """As JSON; six digits."""
        upper = [row[index:].tolist() for matrix in self.whitening for index, row in enumerate(matrix)]
        record = {"log_weights": self.log_weights.tolist(), "means": self.means.tolist(), "whitening": upper}
        return {**_rounded(record), "floor": round(self.floor, 3)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> UsualMotion:
        """Read back what ``to_record`` gave.

        Raises:
            ValueError: If shapes don't fit or a number isn't finite.
            KeyError: If a key is missing.
        """
        means = np.asarray(record["means"], dtype=np.float64)
        count, size = means.shape
        rows = [np.asarray(row, dtype=np.float64) for row in record["whitening"]]
        if [len(row) for row in rows] != [size - index for _ in range(count) for index in range(size)]:
            raise ValueError(f"expected {count} upper triangles of {size}")
        whitening = np.zeros((count, size, size))
        for number, row in enumerate(rows):
            whitening[number // size, number % size, number % size :] = row
        log_weights = np.asarray(record["log_weights"], dtype=np.float64)
        found = cls(log_weights=log_weights, means=means, whitening=whitening, floor=float(record["floor"]))
        if log_weights.shape != (count,) or not all(
            np.isfinite(part).all() for part in (log_weights, means, whitening, found.floor)
        ):
            raise ValueError("expected as many weights as means, all numbers finite")
        return found


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.6g}")


def turn_scores(densities: Floats) -> Floats:
    """Mean gain of each turn over none, nats a window.

    Args:
        densities: (n, 24), of the last n windows.

    Returns:
        (23,), of ``TURNS[1:]``.
    """
    mean = densities.mean(axis=0)
    scores: Floats = mean[1:] - mean[0]
    return scores
