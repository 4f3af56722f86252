"""Scales and zero points: numbers that a kernel can compute with, as many as the tensor's shape asks.

Kernels divide by scales and shift by zero points while they prepare; a subnormal scale, or a zero point outside its
type, makes a delegate give up half-way and ends the process.
Layer: device. Imports NumPy and ``flatbuffer_verifier``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moe_edge.runtime.flatbuffer_verifier import FlatbufferError, Span

_SMALLEST_SCALE = np.finfo(np.float32).tiny
_RANGES: dict[str, tuple[int, int]] = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int2": (-2, 1),
    "int32": (-(2**31), 2**31 - 1),
}


def check_scales(
    content: Any, scales: Span, zero_points: Span | None, *, dtype: str, shape: tuple[int, ...], axis: int, where: str
) -> None:
    """Check one tensor's quantization.

    Args:
        content: The file.
        scales: Its scales: position of the first and how many, at least 1.
        zero_points: Its zero points, or None.
        dtype: The tensor's type.
        shape: The tensor's shape.
        axis: The axis that has a scale an index, when there are several.
        where: For messages.

    Raises:
        FlatbufferError: If they don't fit the tensor, or aren't numbers to compute with.
    """
    at, count = scales
    if count > 1 and not (axis < len(shape) and shape[axis] == count):
        raise FlatbufferError(f"{where}: {count} scales do not fit shape {shape}")
    # Copies: an error raised below keeps what it saw alive, and a map that is looked into can't be closed.
    values = np.frombuffer(bytes(content[at : at + 4 * count]), "<f4")
    normal = np.isfinite(values) & (values >= _SMALLEST_SCALE)
    # A channel whose weights are all 0 may have the scale 0.
    if not (normal | (values == 0) if count > 1 else normal).all():
        raise FlatbufferError(f"{where}: scales must be finite and positive, none subnormal")
    if not zero_points or not zero_points[1]:
        return
    at, found = zero_points
    if found not in (1, count):
        raise FlatbufferError(f"{where}: {count} scales but {found} zero points")
    if dtype in _RANGES:
        lowest, highest = _RANGES[dtype]
        zeros = np.frombuffer(bytes(content[at : at + 8 * found]), "<i8")
        if zeros.min() < lowest or zeros.max() > highest:
            raise FlatbufferError(f"{where}: a zero point lies outside {dtype}")
