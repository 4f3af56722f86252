"""The GATHER layout of a top-k mixture: the whole graph computes only the chosen experts.

All experts' weights are stacked, the chosen ones are gathered and multiplied by BATCH_MATMUL, so that the cost stays
flat in the number of experts on any host that runs ``serving_default``. Float32 only: a gathered int8 weight has no
scale of its own. IF trees would do the same, but their cost grows with E and they don't survive static quantization.
Layer: desktop (converters).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moe_edge.config import Combine
from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import Alias
from moe_edge_converters.graphs.fused_graph import SERVING
from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex, add_signature, new_model
from moe_edge_converters.graphs.network_graph import add_gate, add_network, ends_in_softmax
from moe_edge_converters.graphs.preprocess_graph import add_preprocess
from moe_edge_converters.graphs.routed_signatures import COMBINE, GATE, expert_signature
from moe_edge_converters.graphs.top_k_gate import add_top_k, scatter_weights
from moe_edge_converters.spec import DenseNetwork, MixtureSpec


def why_not_gather(spec: MixtureSpec, top_k: int | None) -> str:
    """Why a mixture can't have the GATHER layout; empty when it can."""
    if top_k is None:
        return "it runs all experts for each row; give --top-k"
    if spec.combine is not Combine.PROBABILITIES or not all(map(ends_in_softmax, spec.experts)):
        return "its experts don't all end in a softmax"
    if spec.trunk is not None:
        return "its gate and experts share layers"
    if not all(isinstance(expert, DenseNetwork) for expert in spec.experts):
        return "its experts aren't all stacks of dense layers"
    if len({expert.shapes for expert in spec.experts if isinstance(expert, DenseNetwork)}) != 1:
        return "its experts differ in size"
    return ""


def build_gathered_graph(spec: MixtureSpec, top_k: int) -> tuple[Any, dict[int, Alias]]:
    """Emit a float32 top-k mixture in the GATHER layout, with its routed signatures.

    Args:
        spec: A mixture of dense experts of one shape that end in a softmax.
        top_k: Experts that run for each row.

    Returns:
        The model: ``serving_default`` and, unlike the fused layout, ``gate``, ``expert_i`` and ``combine`` already in
        it; and the buffers that hold slices of stacked weights.

    Raises:
        ConversionError: If the mixture can't have this layout.
    """
    reason = why_not_gather(spec, top_k)
    if reason:
        raise ConversionError(f"the gather layout can't hold this mixture: {reason}; use --layout fully_connected")
    model = new_model("moe-edge mixture of experts")
    aliases = _Aliases(model)
    _add_serving(model, spec, top_k, aliases)
    _add_gate(model, spec, top_k)
    for index, expert in enumerate(spec.experts):
        builder = GraphBuilder(model, expert_signature(index))
        features = builder.input("features", _feature_shape(spec))
        first = len(model.buffers)
        out = add_network(builder, features, expert, prefix=f"expert_{index}/", softmax=False)
        aliases.find(first, index)
        builder.output("output", out)
        add_signature(model, builder.subgraph.name, builder.index, {"features": features}, {"output": out})
    _add_combine(model, spec)
    return model, aliases.found


class _Aliases:
    """Finds the stacked buffer that an expert's own weights are a slice of."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.stacked: list[int] = []
        self.found: dict[int, Alias] = {}

    def find(self, first: int, expert: int) -> None:
        """Match the buffers from ``first`` on, in the order of the layers' weights and biases."""
        own = range(first, len(self.model.buffers))
        for parent in self.stacked:
            content = bytes(self.model.buffers[parent].data)
            for index in own:
                data = bytes(self.model.buffers[index].data)
                offset = expert * len(data)
                if index not in self.found and content[offset : offset + len(data)] == data and data:
                    self.found[index] = Alias(buffer=parent, offset=offset)
                    break


def _feature_shape(spec: MixtureSpec) -> tuple[int, ...]:
    return spec.input_shape if spec.preprocess is None else (spec.preprocess.num_features,)


def _add_serving(model: Any, spec: MixtureSpec, top_k: int, aliases: _Aliases) -> None:
    builder = GraphBuilder(model, SERVING)
    x = builder.input("x", spec.input_shape)
    features = add_preprocess(builder, x, spec.preprocess) if spec.preprocess else x
    gate, sides = add_gate(builder, features, spec.gate)
    values, indices = add_top_k(builder, gate, top_k)
    weights = scatter_weights(builder, values, indices, spec.num_experts)
    hidden = builder.flatten(features, name="experts/flat")
    ones = [1] * len(builder.shape(indices))
    hidden = builder.reshape(hidden, (*ones, builder.shape(hidden)[1]), name="experts/column")
    layers = [expert.layers for expert in spec.experts if isinstance(expert, DenseNetwork)]
    for number in range(len(layers[0])):
        # (E, units, inputs) and (E, 1, units): TFLite's order, so that an expert's own weights are a slice.
        kernels = np.stack([expert[number].kernel.T for expert in layers])
        biases = np.stack([expert[number].bias for expert in layers])[:, None, :]
        name = f"experts/dense_{number}"
        kernel = builder.gather(_stacked(builder, aliases, f"{name}/weights", kernels), indices, name=f"{name}/chosen")
        bias = builder.gather(_stacked(builder, aliases, f"{name}/bias", biases), indices, name=f"{name}/chosen_bias")
        product = builder.batch_matmul(hidden, kernel, transpose_b=True, name=f"{name}/product")
        hidden = builder.biased(product, bias, activation=layers[0][number].activation, name=name)
    prediction = _add_mixing(builder, hidden, values, spec.num_outputs)
    outputs = {"prediction": prediction, "routing_weights": weights, **sides}
    for name, tensor in outputs.items():
        builder.output(name, tensor)
    add_signature(model, SERVING, builder.index, {"x": x}, outputs)


def _add_mixing(builder: GraphBuilder, answers: TensorIndex, values: TensorIndex, num_outputs: int) -> TensorIndex:
    """The chosen experts' answers, weighed by ``values`` (1, k): (1, K)."""
    top_k = builder.shape(values)[1]
    if top_k == 1:
        # The weight is 1, or NaN: layers may have made numbers of a row that has none.
        return builder.binary(
            "MUL", builder.reshape(answers, (num_outputs,), name="combine/probabilities"), values, name="combine/mixed"
        )
    answers = builder.reshape(answers, (top_k, num_outputs), name="combine/probabilities")
    column = builder.reshape(values, (top_k, 1), name="combine/routing_weights")
    return builder.sum(builder.binary("MUL", answers, column, name="combine/products"), 1, name="combine/mixed")


def _stacked(builder: GraphBuilder, aliases: _Aliases, name: str, values: Any) -> TensorIndex:
    tensor = builder.constant(name, values, np.float32)
    aliases.stacked.append(builder.subgraph.tensors[tensor].buffer)
    return tensor


def _add_gate(model: Any, spec: MixtureSpec, top_k: int) -> None:
    builder = GraphBuilder(model, GATE)
    x = builder.input("x", spec.input_shape)
    if spec.preprocess:
        features = add_preprocess(builder, x, spec.preprocess)
    else:
        features = builder.reshape(x, spec.input_shape, name="features")
    gate, sides = add_gate(builder, features, spec.gate)
    values, indices = add_top_k(builder, gate, top_k)
    weights = scatter_weights(builder, values, indices, spec.num_experts)
    outputs = {"routing_weights": weights, **sides, "features": features}
    for name, tensor in outputs.items():
        builder.output(name, tensor)
    add_signature(model, GATE, builder.index, {"x": x}, outputs)


def _add_combine(model: Any, spec: MixtureSpec) -> None:
    builder = GraphBuilder(model, COMBINE)
    weights = builder.input("routing_weights", (spec.num_experts,))
    outputs = builder.input("outputs", (spec.num_experts, spec.num_outputs))
    probabilities = builder.softmax(outputs, name="combine/probabilities")
    column = builder.reshape(weights, (spec.num_experts, 1), name="combine/column")
    mixed = builder.sum(builder.binary("MUL", probabilities, column, name="combine/products"), 1, name="combine/mixed")
    builder.output("prediction", mixed)
    add_signature(
        model, COMBINE, builder.index, {"routing_weights": weights, "outputs": outputs}, {"prediction": mixed}
    )
