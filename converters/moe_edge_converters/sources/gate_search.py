"""Find what may be the gate of a mixture: tensors whose values are weights that sum to one, row by row.

Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_edge_converters.sources.float_graph import Array, FloatGraph
from moe_edge_converters.sources.linear_forms import MOVING

_SUM_TOLERANCE = 1e-4
_LEAST_WEIGHT = -1e-6


def find_gates(graph: FloatGraph, values: Sequence[dict[int, Array]]) -> list[int]:
    """Tensors of E >= 2 values, computed from the input, none negative, that sum to one for every row.

    A softmax spelled as exponentials over their sum counts too. The answer itself is none.

    Args:
        graph: The graph.
        values: Every tensor's value, for each of several rows.

    Returns:
        Candidates, those nearest to the output first.
    """
    computed = graph.descendants(graph.x)
    used = graph.ancestors([graph.output])
    found = [
        tensor
        for tensor in computed & used
        if tensor != graph.x
        and not graph.is_virtual(tensor)
        and graph.is_float(tensor)
        and graph.size(tensor) >= 2
        and not _is_answer(graph, tensor)
        and all(_are_weights(row.get(tensor)) for row in values)
    ]
    return sorted(found, key=lambda tensor: -graph.producers[tensor].position)


def _are_weights(value: Array | None) -> bool:
    return (
        value is not None
        and bool(np.isfinite(value).all())
        and bool(value.min() >= _LEAST_WEIGHT)
        and abs(float(value.sum()) - 1) < _SUM_TOLERANCE
    )


def _is_answer(graph: FloatGraph, tensor: int) -> bool:
    """Whether the model's answer is this tensor, moved at most."""
    current = graph.output
    while current != tensor:
        node = graph.producers.get(current)
        if node is None or node.kind not in MOVING or len(node.inputs) == 0:
            return False
        current = node.inputs[0]
    return True
