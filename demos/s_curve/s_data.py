"""The S-shaped data: a position sensor that follows the middle of its range and compresses both ends, simulated.

Three straight lines fit it well, one doesn't. The pieces have different widths, so that no split into equal parts is
right by luck.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FIRST, LAST = -3.0, 3.0
"""Ends of the sensor's way, millimetres."""
BORDERS = (-0.9, 0.7)
"""Where the bottom ends and the top begins, millimetres."""
SLOPES = (0.12, 2.2, 0.2)
"""Of bottom, middle and top, volts per millimetre."""
NOISE = 0.05
"""Standard deviation of a reading, volts."""
BOTTOM = 0.5
"""Reading at ``FIRST``, volts."""
ROUNDNESS = 0.06
"""How far around a border the curve bends from one slope to the next, millimetres; real sensors have no kinks."""


def true_curve(x: Floats) -> Floats:
    """The reading without noise, volts, at ``x`` millimetres, (n,): slopes that change smoothly at the borders."""
    y = BOTTOM + SLOPES[0] * (x - FIRST)
    for border, before, after in zip(BORDERS, SLOPES[:-1], SLOPES[1:], strict=True):
        y = y + (after - before) * ROUNDNESS * np.logaddexp(0.0, (x - border) / ROUNDNESS)
    return np.asarray(y)


def s_curve(num_rows: int, seed: int) -> tuple[Floats, Floats]:
    """Positions (n, 1) in millimetres, and noisy readings (n,) in volts."""
    random = np.random.default_rng(seed)
    x = random.uniform(FIRST, LAST, num_rows)
    return x[:, None], true_curve(x) + random.normal(0, NOISE, num_rows)
