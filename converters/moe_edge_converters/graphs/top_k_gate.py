"""Keep the k largest routing weights of a row and let them sum to one.

Layer: desktop (converters).
"""

from __future__ import annotations

import numpy as np

from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex


def add_top_k(builder: GraphBuilder, weights: TensorIndex, top_k: int) -> tuple[TensorIndex, TensorIndex]:
    """The k largest weights, renormalised, and their experts: float32 (1, k) and int32 (1, k), or (1,) for k = 1.

    Of equal weights the expert with the lower index is taken, as NumPy's stable sort does. A row whose weights aren't
    numbers gets NaN, and an expert that exists: TOPK_V2 and not the cheaper ARG_MAX, which on ARM answers 2^31 - 1 for
    NaN, and a GATHER of that expert fails.
    """
    values, indices = builder.top_k(weights, top_k, names=("route/largest", "route/chosen"))
    if top_k == 1:
        chosen = builder.reshape(indices, (), name="route/chosen_one", dtype=np.int32)
        # 1, but NaN for a row that isn't numbers.
        return builder.binary("DIV", values, values, name="route/renormalised"), chosen
    total = builder.sum(values, 1, keep_dims=True, name="route/total")
    return builder.binary("DIV", values, total, name="route/renormalised"), indices


def scatter_weights(builder: GraphBuilder, values: TensorIndex, indices: TensorIndex, num_experts: int) -> TensorIndex:
    """Put the chosen weights back in the experts' places: float32 (1, E), zero for experts that don't run."""
    top_k = builder.shape(values)[1]
    mask = builder.one_hot(indices, num_experts, name="route/one_hot")
    if top_k == 1:
        return builder.binary("MUL", mask, values, name="route/top_k_weights")
    column = builder.reshape(values, (top_k, 1), name="route/renormalised_column")
    return builder.sum(builder.binary("MUL", mask, column, name="route/placed"), 1, name="route/top_k_weights")
