"""Digits as people draw them: strokes of points in [0, 1], and ways to draw each otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Point = tuple[float, float]
Stroke = list[Point]


def arc(centre: Point, radii: Point, start: float, end: float, steps: int = 18) -> Stroke:
    """Points of an ellipse; angles in degrees, 0 to the right, 90 down."""
    angles = np.radians(np.linspace(start, end, steps))
    return [(centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in angles]


HANDS: dict[str, dict[int, list[Stroke]]] = {
    "round": {
        0: [arc((0.5, 0.5), (0.2, 0.33), -90, 270, 30)],
        1: [[(0.36, 0.32), (0.52, 0.15), (0.52, 0.85)]],
        2: [[*arc((0.48, 0.33), (0.19, 0.18), -170, 40), (0.3, 0.83), (0.72, 0.83)]],
        3: [[*arc((0.46, 0.33), (0.18, 0.17), -150, 90), *arc((0.46, 0.67), (0.2, 0.18), -90, 150)]],
        4: [[(0.56, 0.14), (0.27, 0.6), (0.76, 0.6)], [(0.6, 0.4), (0.58, 0.87)]],
        5: [[(0.7, 0.17), (0.36, 0.17), (0.33, 0.47), *arc((0.47, 0.64), (0.2, 0.2), -110, 145)]],
        6: [[(0.6, 0.13), (0.42, 0.33), *arc((0.49, 0.65), (0.18, 0.2), 190, -170, 30)]],
        7: [[(0.28, 0.17), (0.71, 0.17), (0.44, 0.87)]],
        8: [[*arc((0.5, 0.32), (0.15, 0.17), 90, -270, 26), *arc((0.5, 0.68), (0.18, 0.19), -90, 270, 26)]],
        9: [[*arc((0.48, 0.35), (0.18, 0.2), 0, -360, 28), (0.65, 0.5), (0.58, 0.87)]],
    },
    "plain": {
        0: [arc((0.5, 0.5), (0.24, 0.36), -60, 300, 30)],
        1: [[(0.5, 0.12), (0.5, 0.88)]],
        2: [[(0.3, 0.3), (0.4, 0.16), (0.6, 0.17), (0.66, 0.33), (0.5, 0.56), (0.28, 0.84), (0.7, 0.85)]],
        3: [[(0.31, 0.18), (0.58, 0.16), (0.66, 0.3), (0.46, 0.47), (0.66, 0.6), (0.66, 0.76), (0.5, 0.87), (0.3, 0.8)]],
        4: [[(0.34, 0.14), (0.3, 0.52), (0.72, 0.52)], [(0.64, 0.18), (0.62, 0.88)]],
        5: [
            [(0.36, 0.16), (0.34, 0.45), (0.55, 0.42), (0.67, 0.56), (0.63, 0.76), (0.48, 0.86), (0.3, 0.8)],
            [(0.36, 0.16), (0.68, 0.15)],
        ],
        6: [[(0.56, 0.12), (0.38, 0.4), (0.34, 0.66), (0.44, 0.86), (0.6, 0.84), (0.66, 0.66), (0.54, 0.54), (0.38, 0.64)]],
        7: [[(0.28, 0.18), (0.7, 0.18), (0.46, 0.86)], [(0.38, 0.52), (0.68, 0.5)]],
        8: [[(0.64, 0.24), (0.5, 0.13), (0.36, 0.26), (0.5, 0.45), (0.66, 0.66), (0.52, 0.87), (0.34, 0.72), (0.5, 0.47), (0.64, 0.24)]],
        9: [[(0.64, 0.3), (0.5, 0.14), (0.36, 0.28), (0.44, 0.47), (0.62, 0.4), (0.65, 0.24), (0.64, 0.6), (0.6, 0.88)]],
    },
}  # fmt: skip


def variations(strokes: list[Stroke], random: np.random.Generator, count: int) -> Iterator[list[Stroke]]:
    """The same digit smaller or larger, elsewhere on the pad, leaning, a little shaky."""
    for _ in range(count):
        size, slant = random.uniform(0.35, 0.95), random.normal(0, 0.1)
        widen, turn = random.normal(1, 0.1), random.normal(0, 0.05)
        points = np.concatenate([np.asarray(stroke) for stroke in strokes])
        matrix = np.array([[widen * math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        matrix = size * matrix @ np.array([[1, -slant], [0, 1]])
        moved = [
            (np.asarray(stroke) - 0.5) @ matrix.T + random.normal(0, 0.006, (len(stroke), 2)) for stroke in strokes
        ]
        low, high = ((points - 0.5) @ matrix.T).min(axis=0), ((points - 0.5) @ matrix.T).max(axis=0)
        centre = random.uniform(0.03 - low, 0.97 - high)
        yield [[(float(x), float(y)) for x, y in stroke + centre] for stroke in moved]
