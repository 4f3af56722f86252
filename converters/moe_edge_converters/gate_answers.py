"""What a graph's gate says of training rows: the numbers that the manifest records.

Layer: desktop (converters).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from moe_edge_converters.schemes.calibration import CHUNK, thin_rows


def gate_answers(content: bytes, name: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    """One output of the graph on the rows.

    Args:
        content: The float32 graph.
        name: The output.
        rows: float32 (n, ...), training rows; thinned out where there are many.

    Returns:
        float32 (n, ...), or None where the graph has no such output.
    """
    interpreter = Interpreter(model_content=content)
    places = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    if name not in places:
        return None
    x = interpreter.get_input_details()[0]["index"]
    rows = thin_rows(rows)
    parts = []
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        interpreter.resize_tensor_input(x, chunk.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(x, chunk)
        interpreter.invoke()
        parts.append(interpreter.get_tensor(places[name]))
    return np.concatenate(parts)
