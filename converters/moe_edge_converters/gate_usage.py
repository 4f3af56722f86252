"""Record how much each expert is used by the training rows, so that a device can tell when that changes.

Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from moe_edge.manifest import Manifest, Part, Role
from moe_edge_converters.gate_answers import gate_answers


def record_usage(manifest: Manifest, content: bytes, rows: npt.NDArray[np.float32]) -> Manifest:
    """Fill in ``usage`` of the manifest's experts: their mean weight over the rows.

    Args:
        manifest: The file's.
        content: The float32 graph.
        rows: float32 (n, ...), training rows; thinned out where there are many.
    """
    weights = gate_answers(content, "routing_weights", rows)
    if weights is None:
        return manifest
    means = iter(weights.mean(axis=0, dtype=np.float64).tolist())

    def with_usage(part: Part) -> Part:
        return replace(part, usage=float(f"{next(means):.6g}")) if part.role is Role.EXPERT else part

    return replace(manifest, parts=tuple(with_usage(part) for part in manifest.parts))
