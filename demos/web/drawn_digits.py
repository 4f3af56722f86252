"""Digits that the table hardly has: its 43 writers, from Turkey, crossed their sevens and closed their fours.

A seven without a bar, open fours, ones of a single line, nines on a straight leg: as lines of points, each drawn many
times a little otherwise, and brought to 8x8 pixels as src/page/digit_image.js does.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PROTOTYPES: tuple[tuple[int, tuple[tuple[tuple[float, float], ...], ...]], ...] = (
    (7, (((0.0, 0.0), (0.5, 0.02), (1.0, 0.0), (0.7, 0.45), (0.45, 1.0)),)),
    (7, (((0.0, 0.12), (0.02, 0.0), (0.95, 0.03), (0.55, 0.5), (0.35, 1.0)),)),
    (4, (((0.15, 0.0), (0.0, 0.55), (1.0, 0.52)), ((0.8, 0.1), (0.72, 1.0)))),
    (4, (((0.05, 0.05), (0.02, 0.5), (0.5, 0.58), (0.95, 0.5)), ((0.85, 0.0), (0.8, 0.5), (0.82, 1.0)))),
    (4, (((0.6, 0.0), (0.0, 0.66), (1.0, 0.66)), ((0.7, 0.3), (0.66, 1.0)))),
    (4, (((0.62, 0.0), (0.3, 0.4), (0.0, 0.68), (1.0, 0.64)), ((0.78, 0.4), (0.72, 1.0)))),
    (1, (((0.0, 0.25), (0.3, 0.0), (0.28, 1.0)),)),
    (1, (((0.1, 0.0), (0.0, 1.0)),)),
    (9, (((0.95, 0.25), (0.5, 0.0), (0.05, 0.25), (0.45, 0.5), (0.95, 0.3), (0.92, 0.6), (0.8, 1.0)),)),
)
"""Digit, and its strokes: points (x, y), y downwards."""
DRAWINGS, SMOKE_DRAWINGS = 120, 40
"""Of each prototype."""
SIDE, BLOCK = 8, 4
FIELD, WIDTH = 32, 20
INK, THINNEST, THICKEST, MOST_WIDENING = 312.0, 3.0, 8.0, 1.6
"""As in digit_image.js, which says why."""
_FINE = 3
"""Samples a side of each of the 32x32 pixels."""


def drawn_digits(count: int, random: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Draw each prototype ``count`` times.

    Returns:
        Pixels from 0 to 16, float32 (n, 64), and their digits, int64 (n,).
    """
    images, digits = [], []
    for digit, strokes in PROTOTYPES:
        for _ in range(count):
            images.append(digit_image(shake(strokes, random)).reshape(-1))
            digits.append(digit)
    return np.stack(images).astype(np.float32), np.asarray(digits, dtype=np.int64)


def shake(strokes: tuple[tuple[tuple[float, float], ...], ...], random: np.random.Generator) -> list[Floats]:
    """Move each point a little; slant and widen the whole."""
    matrix = np.array([[random.uniform(0.45, 0.85), random.normal(0, 0.12)], [random.normal(0, 0.06), 1.0]])
    return [(np.asarray(stroke) + random.normal(0, 0.035, (len(stroke), 2))) @ matrix.T for stroke in strokes]


def digit_image(strokes: list[Floats]) -> Floats:
    """Strokes, each (points, 2), as 8x8 pixels from 0 to 16."""
    width = 5.0
    for _ in range(4):
        covered = _render(strokes, width)
        wanted = min(THICKEST, max(THINNEST, width * INK / max(covered.sum(), 1.0)))
        if math.isclose(wanted, width, abs_tol=0.05):
            break
        width = wanted
    image: Floats = np.rint(covered.reshape(SIDE, BLOCK, SIDE, BLOCK).sum(axis=(1, 3)))
    return image


def _render(strokes: list[Floats], width: float) -> Floats:
    """The covered share of each pixel, (32, 32)."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    size = high - low
    tall = (FIELD - width) / max(size[1], size[0] * 0.4, 0.02)
    wide = min((WIDTH - width) / max(size[0], 0.001), tall * MOST_WIDENING)
    centres = (np.arange(FIELD * _FINE) + 0.5) / _FINE
    pixels = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    nearest = np.full(len(pixels), np.inf)
    for stroke in strokes:
        placed = (stroke - (low + high) / 2) * (wide, tall) + FIELD / 2
        for start, end in pairwise(placed):
            along = end - start
            share = np.clip((pixels - start) @ along / max(along @ along, 1e-9), 0, 1)
            nearest = np.minimum(nearest, np.linalg.norm(pixels - start - share[:, None] * along, axis=1))
    covered = (nearest <= width / 2).astype(np.float64)
    shares: Floats = covered.reshape(FIELD, _FINE, FIELD, _FINE).mean(axis=(1, 3))
    return shares
