"""The quantization schemes: one spelling each.

Layer: desktop (converters), light: imports nothing but the standard library, so that ``--help`` is fast.
"""

from __future__ import annotations

import enum

AUTO = "auto"
"""Not a scheme: the smallest file within a budget."""


class Scheme(str, enum.Enum):
    """How weights (w) and activations (a) are stored and computed.

    ``float32``: as trained. ``float16``: half-size weights, computed in float32. ``dynamic_w8``: int8 weights,
    activations rounded on the fly. ``w8a8``: int8 weights and activations, with calibrated ranges. ``w8a16``: int8
    weights, int16 activations. ``w4``: 4-bit weights, activations rounded to int8 on the fly.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC_W8 = "dynamic_w8"
    W8A8 = "w8a8"
    W8A16 = "w8a16"
    W4 = "w4"

    @property
    def needs_calibration(self) -> bool:
        """Whether the ranges of activations must be measured on data."""
        return self in (Scheme.W8A8, Scheme.W8A16)

    @property
    def activation_bits(self) -> int:
        """Bits of a stored activation."""
        return {Scheme.W8A8: 8, Scheme.W8A16: 16}.get(self, 32)

    @property
    def summary(self) -> str:
        """One line for people."""
        return {
            Scheme.FLOAT32: "float32 weights and arithmetic",
            Scheme.FLOAT16: "float16 weights, float32 arithmetic; no calibration",
            Scheme.DYNAMIC_W8: "int8 weights, activations rounded on the fly; no calibration",
            Scheme.W8A8: "int8 weights and activations; calibrated on training rows",
            Scheme.W8A16: "int8 weights, int16 activations; calibrated on training rows",
            Scheme.W4: "4-bit weights, activations rounded on the fly; no calibration",
        }[self]
