"""How a flat row's features lie for a convolutional or recurrent part: checked without Keras.

Layer: desktop (training). Imports the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_SERIES = ("timesteps", "channels")

AXES: Mapping[str, tuple[str, ...]] = {
    "conv1d": _SERIES,
    "gru": _SERIES,
    "lstm": _SERIES,
    "conv2d": ("height", "width", "channels"),
}
"""Axes of the kinds that have the option ``shape``; the last may be left out of it."""


def row_sizes(kind: str, shape: Sequence[int], row: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of a row along the axes of a kind.

    A shape that lacks its last axis alone (a window of one channel, a grey image) gets one of size 1.

    Args:
        kind: A name in ``AXES``.
        shape: The option ``shape``; empty to take rows as they come.
        row: Shape of a row as it comes.

    Raises:
        ValueError: If the shape has other axes, or doesn't hold as many values as a row has.
    """
    axes = AXES[kind]
    named = f"{kind}: expected shape [{', '.join(axes)}]"
    sizes = tuple(shape) or row
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes):
        raise ValueError(f"{named} of whole numbers of at least 1, got {list(sizes)}")
    if len(sizes) not in (len(axes), len(axes) - 1) or (not shape and len(sizes) == 1):
        hint = f"; rows are flat: say how their {math.prod(sizes)} features lie, as option shape" if not shape else ""
        raise ValueError(f"{named}, got {list(sizes)}{hint}")
    if len(sizes) == len(axes) - 1:
        sizes = (*sizes, 1)
    if math.prod(sizes) != math.prod(row):
        raise ValueError(
            f"{named} of {math.prod(row)} features, as a row has, got {'x'.join(map(str, sizes))} = {math.prod(sizes)}"
        )
    return sizes
