"""Training windows as they might have been: on the other arm, and with the watch turned a little on the wrist.

Seven people's wrists are few. Both changes are exact: a body in front of a mirror, a strap that sits otherwise; gravity
and motion turn together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

MIRROR = np.array([-1, 1, 1, 1, -1, -1], dtype=np.float32)
"""The other arm: x, along the forearm, points the other way; turns about the two other axes change sense."""
TURN = 25.0
"""Standard deviation of a turn, degrees."""


def vary(windows: Samples, random: np.random.Generator) -> Samples:
    """Mirror half of the windows, and turn each about a random axis.

    Args:
        windows: float32 (n, steps, 6): three accelerations, three rates of turn.
        random: Where chance comes from.
    """
    mirrored = np.where(random.random((len(windows), 1, 1)) < 0.5, windows * MIRROR, windows)
    turns = random_turns(len(windows), random)
    accelerations, rates = (np.einsum("nij,ntj->nti", turns, part) for part in np.split(mirrored, 2, axis=2))
    return np.concatenate([accelerations, rates], axis=2).astype(np.float32)


def random_turns(count: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Rotation matrices (count, 3, 3) about axes of any direction, by angles of normal distribution (Rodrigues)."""
    axes = random.normal(size=(count, 3))
    x, y, z = (axes / np.linalg.norm(axes, axis=1, keepdims=True)).T
    zero = np.zeros(count)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    angles = np.deg2rad(random.normal(0, TURN, count))[:, None, None]
    turns: npt.NDArray[np.float64] = np.eye(3) + np.sin(angles) * cross + (1 - np.cos(angles)) * cross @ cross
    return turns
