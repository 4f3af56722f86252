"""Record how usual the training rows are to a Gaussian gate, so that a device can tell an unusual row.

Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from moe_edge.manifest import Manifest
from moe_edge_converters.graphs.gaussian_gate_graph import LOG_DENSITY
from moe_edge_converters.schemes.calibration import CHUNK, thin_rows

QUANTILES = (0.01, 0.05, 0.5)


def record_density(manifest: Manifest, content: bytes, rows: npt.NDArray[np.float32]) -> Manifest:
    """Add quantiles of the rows' log density to the manifest's extras; a gate without densities changes nothing.

    Args:
        manifest: The file's.
        content: The float32 graph.
        rows: float32 (n, ...), training rows; thinned out where there are many.
    """
    interpreter = Interpreter(model_content=content)
    places = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    if LOG_DENSITY not in places:
        return manifest
    x = interpreter.get_input_details()[0]["index"]
    rows = thin_rows(rows)
    parts = []
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        interpreter.resize_tensor_input(x, chunk.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(x, chunk)
        interpreter.invoke()
        parts.append(interpreter.get_tensor(places[LOG_DENSITY]))
    found = np.concatenate(parts)
    values = {str(share): float(f"{np.quantile(found, share):.6g}") for share in QUANTILES}
    record = {"rows": len(found), "quantiles": values}
    return replace(manifest, extras={**manifest.extras, LOG_DENSITY: record})
