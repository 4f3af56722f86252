"""A Gaussian gate as a float32 graph: routing weights, and the log density of the row.

Distances are taken from the means before they are scaled: expanding the square, ``[x, x^2]`` through one layer, loses
all digits where a narrow density lies far from 0.
Layer: desktop (converters).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex, new_model
from moe_edge_converters.spec import GraphNetwork

LOG_DENSITY = "gate_log_density"

Array = npt.NDArray[np.float64]


def gaussian_gate_graph(
    input_shape: tuple[int, ...],
    *,
    peak: Array,
    mean: Array,
    whitening: Array,
    temperature: float = 1.0,
    columns: tuple[int, ...] | None = None,
) -> GraphNetwork:
    """Write the gate ``softmax(log alpha_i N(x; m_i, S_i) / temperature)``.

    Args:
        input_shape: Shape of one row of features, without the batch.
        peak: log alpha_i N(m_i; m_i, S_i), (E,).
        mean: m_i, (E, F).
        whitening: One over the standard deviations (E, F), or P_i with S_i = inv(P_i' P_i), (E, F, F).
        temperature: Above 0.
        columns: Columns of the features that the densities are over; None for all.

    Returns:
        A network with the side output ``gate_log_density`` (1, 1), log sum_i alpha_i N(x; m_i, S_i).
    """
    num_experts = len(peak)
    builder = GraphBuilder(new_model("Gaussian gate"), "gate")
    x = builder.flatten(builder.input("features", input_shape), name="flat")
    if columns is not None:
        x = builder.gather_columns(x, columns, name="columns")
    # sqrt(1/2) in the scales spares a multiplication by 1/2.
    white = _whitened(builder, x, mean, whitening * math.sqrt(0.5))
    squares = builder.binary("MUL", white, white, name="squares")
    distances = builder.sum(squares, 2, name="distances")
    offset = float(peak.mean())
    peaks = builder.constant("peaks", (peak - offset).reshape(1, -1), np.float32)
    logits = builder.binary("SUB", peaks, distances, name="logits")
    density = _log_sum_exp(builder, logits, offset)
    if temperature != 1:
        factor = builder.constant("inverse_temperature", np.array([[1 / temperature]]), np.float32)
        logits = builder.binary("MUL", logits, factor, name="tempered")
    weights = builder.softmax(logits, name="weights")
    builder.output("weights_out", weights)
    builder.output(LOG_DENSITY, density)
    return GraphNetwork(
        model=pack(builder.model),
        num_outputs=num_experts,
        ends_in_softmax=True,
        side_outputs=(LOG_DENSITY,),
        float_only=True,
    )


def _whitened(builder: GraphBuilder, x: TensorIndex, mean: Array, whitening: Array) -> TensorIndex:
    """Scaled distances from every mean, (1, E, F)."""
    num_experts, num_features = mean.shape
    if whitening.ndim == 2:
        row = builder.reshape(x, (1, num_features), name="row")
        means = builder.constant("means", mean[None], np.float32)
        scales = builder.constant("scales", whitening[None], np.float32)
        distance = builder.binary("SUB", row, means, name="distance")
        return builder.binary("MUL", distance, scales, name="whitened")
    # One layer for all experts, from the middle of the means, so that little cancels.
    middle = mean.mean(axis=0).astype(np.float32)
    distance = builder.binary("SUB", x, builder.constant("middle", middle[None]), name="distance")
    bias = -np.einsum("egf,ef->eg", whitening, mean - middle.astype(np.float64))
    flat = builder.fully_connected(
        distance,
        whitening.reshape(-1, num_features).astype(np.float32),
        bias.reshape(-1).astype(np.float32),
        name="whitened_flat",
    )
    return builder.reshape(flat, (num_experts, num_features), name="whitened")


def _log_sum_exp(builder: GraphBuilder, logits: TensorIndex, offset: float) -> TensorIndex:
    """``log(sum(exp(logits))) + offset``, (1, 1), about the largest logit so that nothing overflows or vanishes."""
    largest = _reduce(builder, "REDUCE_MAX", logits, name="largest")
    shifted = builder.binary("SUB", logits, largest, name="shifted")
    total = _reduce(builder, "SUM", builder.unary("EXP", shifted, name="shares"), name="total")
    logarithm = builder.unary("LOG", total, name="log_total")
    relative = builder.binary("ADD", logarithm, largest, name="relative_density")
    return builder.binary("ADD", relative, builder.constant("offset", np.array([[offset]]), np.float32), name="density")


def _reduce(builder: GraphBuilder, operator: str, x: TensorIndex, *, name: str) -> TensorIndex:
    options: Any = schema.ReducerOptionsT()
    options.keepDims = True
    out = builder.tensor(name, (1, 1))
    builder.operator(operator, [x, builder.constant("last_axis", np.array([1], dtype=np.int32))], [out], options)
    return out
