"""Float rows for a file with int8 edges: rounded to its scale, saturated at its range, and back.

Layer: device. Imports NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class Int8Edges:
    """Scales and zero points of a graph's input and outputs."""

    def __init__(self, interpreter: Any, input_index: int, outputs: Mapping[str, int]) -> None:
        """Read them from an allocated interpreter."""
        details = {
            detail["index"]: detail["quantization"]
            for detail in (*interpreter.get_input_details(), *interpreter.get_output_details())
        }
        self._input = details[input_index]
        self._outputs = {name: details[index] for name, index in outputs.items()}

    def quantize(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
        """Round float32 (n, ...) to int8; values beyond the range saturate instead of wrapping around."""
        scale, zero = self._input
        levels: npt.NDArray[np.int8] = np.clip(np.rint(rows / scale) + zero, -128, 127).astype(np.int8)
        return levels

    def dequantize(self, answers: Mapping[str, npt.NDArray[np.int8]]) -> dict[str, npt.NDArray[np.float32]]:
        """Turn int8 answers into float32."""
        floats = {}
        for name, values in answers.items():
            scale, zero = self._outputs[name]
            floats[name] = ((values.astype(np.float32) - zero) * scale).astype(np.float32)
        return floats
