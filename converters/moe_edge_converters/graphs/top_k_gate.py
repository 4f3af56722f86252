"""Keep the k largest routing weights of a row and let them sum to one.

Layer: desktop (converters).
"""

from __future__ import annotations

import numpy as np

from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex


def add_top_k(builder: GraphBuilder, weights: TensorIndex, top_k: int) -> tuple[TensorIndex, TensorIndex]:
    """The k largest weights, renormalised, and their experts: float32 (1, k) and int32 (1, k).

    Of equal weights the expert with the lower index is taken, as NumPy's stable sort does.
    """
    values, indices = builder.top_k(weights, top_k, names=("route/largest", "route/chosen"))
    total = builder.sum(values, 1, name="route/total")
    total = builder.reshape(total, (1,), name="route/total_column")
    return builder.binary("DIV", values, total, name="route/renormalised"), indices


def scatter_weights(builder: GraphBuilder, values: TensorIndex, indices: TensorIndex, num_experts: int) -> TensorIndex:
    """Put the chosen weights back in the experts' places: float32 (1, E), zero for experts that don't run."""
    top_k = builder.shape(values)[1]
    chosen = builder.reshape(indices, (top_k, 1), name="route/chosen_column", dtype=np.int32)
    places = builder.constant("route/places", np.arange(num_experts, dtype=np.int32).reshape(1, 1, num_experts))
    mask = builder.to_float(builder.binary("EQUAL", chosen, places, name="route/is_chosen"), name="route/one_hot")
    column = builder.reshape(values, (top_k, 1), name="route/renormalised_column")
    return builder.sum(builder.binary("MUL", mask, column, name="route/placed"), 1, name="route/top_k_weights")
