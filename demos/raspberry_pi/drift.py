"""The drift alarm: do the last windows look like those that the model was made for?

Three figures over the last N windows, each with a threshold found on people who had no part in what is compared with:

- turned: how much likelier the windows are if the sensor sits turned (``orientation.py``), nats a window;
- gate: Jensen-Shannon divergence between the experts' mean weights and the usage in the model's manifest, bits;
- unsure: one minus the mean confidence.

Device side: NumPy only.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from orientation import TURNS, Floats, UsualMotion, describe_turn, turn_scores

from moe_edge.errors import DataError

FORMAT = 1
REASONS = ("turned", "gate", "unsure")
CLEAR = 0.9
"""An alarm ends when its figure is below the threshold by a tenth of the threshold's size: it doesn't flutter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DriftProfile:
    """What is usual, as learnt with the model.

    Attributes:
        motion: The usual motion.
        windows: N, the windows that figures are taken over.
        hop: Samples from one window to the next, as calibrated.
        thresholds: Of each of ``REASONS``.
        model: SHA-256 of the model that it belongs to.
    """

    motion: UsualMotion
    windows: int
    hop: int
    thresholds: dict[str, float]
    model: str

    def to_json(self) -> bytes:
        """As a small JSON file."""
        content = {
            "format": FORMAT,
            "model": self.model,
            "windows": self.windows,
            "hop": self.hop,
            "thresholds": {name: round(value, 4) for name, value in self.thresholds.items()},
            "motion": self.motion.to_record(),
        }
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def read(cls, path: Path, *, model: str) -> DriftProfile:
        """Read a profile.

        Args:
            path: The file.
            model: SHA-256 of the model in use.

        Raises:
            DataError: If it is missing, damaged, or another model's.
        """
        try:
            content = json.loads(path.read_bytes())
            if content["format"] != FORMAT:
                raise ValueError(f"expected format {FORMAT}, got {content['format']}")
            found = cls(
                motion=UsualMotion.from_record(content["motion"]),
                windows=int(content["windows"]),
                hop=int(content["hop"]),
                thresholds={name: float(content["thresholds"][name]) for name in REASONS},
                model=str(content["model"]),
            )
        except OSError as error:
            raise DataError(
                f"can't read {path}: {error.strerror}; it is written beside the model by train.py"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected a drift profile, got something else ({error}); train again") from error
        if found.model != model:
            raise DataError(f"{path} belongs to another model; copy both from the same training")
        return found


@dataclass(frozen=True, kw_only=True)
class DriftState:
    """What the last windows say.

    Attributes:
        ready: Whether N windows were seen.
        seen: Windows in the figures, at most N.
        figures: Each of ``REASONS``.
        alarms: Those that are beyond their threshold.
        turn: The likeliest turn in words while ``turned`` alarms, else empty.
        entropy: Mean entropy of the gate's weights, as a share of its most.
    """

    ready: bool
    seen: int
    figures: dict[str, float]
    alarms: tuple[str, ...]
    turn: str
    entropy: float


class DriftMonitor:
    """Keeps the last N windows' densities, weights and confidences."""

    def __init__(self, profile: DriftProfile, usage: npt.ArrayLike) -> None:
        """Start with nothing seen.

        Args:
            profile: What is usual.
            usage: The manifest's usage, (E,).
        """
        self.profile = profile
        self._usage = np.asarray(usage, dtype=np.float64)
        self._rows = np.empty((profile.windows, len(TURNS) + len(self._usage) + 1))
        self._seen = 0
        self._alarms: set[str] = set()

    def update(
        self, window: npt.NDArray[np.floating], weights: npt.NDArray[np.floating], confidence: float
    ) -> DriftState:
        """Take one answered window.

        Args:
            window: (steps, 6), raw.
            weights: Routing weights (E,).
            confidence: Probability of the label.
        """
        densities = self.profile.motion.turn_densities(window[None])[0]
        self._keep(np.concatenate([densities, weights, [confidence]]))
        return self.state()

    def state(self) -> DriftState:
        """What the windows so far say."""
        if not self._seen:
            return DriftState(ready=False, seen=0, figures=dict.fromkeys(REASONS, 0.0), alarms=(), turn="", entropy=0.0)
        rows = self._rows[: min(self._seen, len(self._rows))]  # in a ring: figures don't depend on the order
        densities, weights, confidence = rows[:, : len(TURNS)], rows[:, len(TURNS) : -1], rows[:, -1]
        scores = turn_scores(densities)
        figures = {
            "turned": float(scores.max()),
            "gate": divergence(weights.mean(axis=0), self._usage),
            "unsure": 1 - float(confidence.mean()),
        }
        ready = len(rows) == len(self._rows)
        for name, value in figures.items():
            threshold = self.profile.thresholds[name]
            if ready and value > threshold:
                self._alarms.add(name)
            elif not ready or value < threshold - (1 - CLEAR) * abs(threshold):
                self._alarms.discard(name)
        return DriftState(
            ready=ready,
            seen=len(rows),
            figures=figures,
            alarms=tuple(name for name in REASONS if name in self._alarms),
            # What brings the windows back to usual undoes what was done to the sensor.
            turn=describe_turn(TURNS[1 + int(scores.argmax())].T) if "turned" in self._alarms else "",
            entropy=float(_entropy(weights).mean() / np.log2(weights.shape[1])),
        )

    def to_record(self) -> list[list[float]]:
        """The last windows, oldest first, for the state file."""
        size = len(self._rows)
        order = [(self._seen + index) % size for index in range(size)] if self._seen >= size else range(self._seen)
        return [[round(float(value), 4) for value in self._rows[index]] for index in order]

    def restore(self, record: list[list[float]], alarms: Collection[str]) -> None:
        """Go on from ``to_record``.

        Args:
            record: The last windows.
            alarms: Those that were on: one whose figure has come back a little is on still.

        Raises:
            ValueError: If it isn't such a record.
        """
        size = len(TURNS) + len(self._usage) + 1
        rows = [np.asarray(row, dtype=np.float64) for row in record]
        if any(row.shape != (size,) or not np.isfinite(row).all() for row in rows):
            raise ValueError(f"expected rows of {size} finite numbers")
        self._seen = 0
        for row in rows:
            self._keep(row)
        self._alarms = set(alarms) & set(REASONS)
        self.state()

    def _keep(self, row: Floats) -> None:
        self._rows[self._seen % len(self._rows)] = row
        self._seen += 1


def divergence(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Jensen-Shannon divergence of two distributions, bits in [0, 1]; 0 where they are equal, finite with zeros."""
    p, q = (np.asarray(part, dtype=np.float64) / np.sum(part) for part in (one, other))
    return max(0.0, float(_entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2))


def _entropy(shares: Floats) -> Floats:
    """Entropy along the last axis, bits; 0 log 0 is 0."""
    logs = np.log2(np.where(shares > 0, shares, 1.0))
    return np.asarray(-(shares * logs).sum(axis=-1), dtype=np.float64)
