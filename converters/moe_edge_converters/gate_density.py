"""Record how usual the training rows are to a Gaussian gate, so that a device can tell an unusual row.

Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from moe_edge.manifest import Manifest
from moe_edge_converters.gate_answers import gate_answers
from moe_edge_converters.graphs.gaussian_gate_graph import LOG_DENSITY

QUANTILES = (0.01, 0.05, 0.5)


def record_density(manifest: Manifest, content: bytes, rows: npt.NDArray[np.float32]) -> Manifest:
    """Add quantiles of the rows' log density to the manifest's extras; a gate without densities changes nothing.

    Args:
        manifest: The file's.
        content: The float32 graph.
        rows: float32 (n, ...), training rows; thinned out where there are many.
    """
    found = gate_answers(content, LOG_DENSITY, rows)
    if found is None:
        return manifest
    values = {str(share): float(f"{np.quantile(found, share):.6g}") for share in QUANTILES}
    record = {"rows": len(found), "quantiles": values}
    return replace(manifest, extras={**manifest.extras, LOG_DENSITY: record})
