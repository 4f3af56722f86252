"""Read a gate out of a Keras mixture: chosen columns, any network, tree or densities, temperature, top-k.

Layer: desktop (converters). Imports Keras only through the model that it is given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.gaussian_gate_graph import gaussian_gate_graph
from moe_edge_converters.graphs.graph import GraphBuilder, new_model
from moe_edge_converters.graphs.hierarchical_gate_graph import hierarchical_gate_graph
from moe_edge_converters.graphs.network_graph import splice
from moe_edge_converters.sources.keras_networks import extract_network, is_identity
from moe_edge_converters.spec import DenseLayer, DenseNetwork, GraphNetwork, Network

_NO_BRANCH = -1e4
"""The bias in place of a branch that a gate doesn't have: exp of it is exactly 0 (``HierarchicalGate``)."""


class _Step(NamedTuple):
    """One operation on the way to the routing weights, and the tensors before and after it."""

    operation: Any
    before: Any
    after: Any

    @property
    def kind(self) -> str:
        return type(self.operation).__name__


def extract_gate(features: Any, weights: Any) -> tuple[Network, int | None]:
    """Turn what lies between the features and the routing weights into a network.

    Args:
        features: The Keras tensor that the gate takes.
        weights: The Keras tensor of the routing weights (B, E).

    Returns:
        The network, and the experts that count for each row, None for all.

    Raises:
        ConversionError: If it can't be converted.
    """
    steps = _outer_steps(features, weights)
    top_k = None
    while steps and (is_identity(steps[-1].operation) or steps[-1].kind == "TopK"):
        step = steps.pop()
        if step.kind == "TopK":
            top_k = min(int(step.operation.k), top_k or int(step.operation.k))
        weights = step.before
    columns = None
    if steps and steps[0].kind == "SelectColumns":
        columns = tuple(steps[0].operation.indices)
        start, steps = steps[0].after, steps[1:]
    else:
        start = features
    shape = tuple(int(size) for size in features.shape[1:])
    inner = [step for outer in steps for step in _expand(outer)]
    own = [step for step in inner if step.kind in ("GaussianGate", "HierarchicalGate")]
    if own:
        return _own_gate(inner, shape, columns), _counted(top_k, weights)
    network = extract_network(start, weights, role="the gate")
    if columns is not None:
        network = _from_columns(network, shape, columns)
    return network, _counted(top_k, weights)


def _counted(top_k: int | None, weights: Any) -> int | None:
    return None if top_k == int(weights.shape[-1]) else top_k


def _outer_steps(start: Any, end: Any) -> list[_Step]:
    """The operations from ``start`` to ``end``, as far back as they are a plain chain."""
    steps: list[_Step] = []
    tensor = end
    while tensor is not start:
        operation, node_index, _ = tensor._keras_history
        sources = operation._inbound_nodes[node_index].input_tensors
        if len(sources) != 1:
            # A gate of several branches; what was found so far stands behind it.
            break
        steps.append(_Step(operation, sources[0], tensor))
        tensor = sources[0]
    return steps[::-1]


def _expand(step: _Step) -> list[_Step]:
    """The operations within a nested model."""
    model = step.operation
    if step.kind not in ("Sequential", "Functional") or len(model.inputs) != 1 or len(model.outputs) != 1:
        return [step]
    return [inner for outer in _outer_steps(model.inputs[0], model.outputs[0]) for inner in _expand(outer)]


def _own_gate(steps: list[_Step], shape: tuple[int, ...], columns: tuple[int, ...] | None) -> GraphNetwork:
    """A Gaussian or hierarchical gate with a temperature, and nothing else that changes values."""
    temperature, layer, closed = 1.0, None, False
    for step in steps:
        if step.kind in ("GaussianGate", "HierarchicalGate") and layer is None:
            layer = step.operation
        elif step.kind == "Temperature" and layer is not None and not closed:
            temperature *= float(step.operation.temperature)
        elif step.kind == "Softmax" and layer is not None and not closed:
            closed = True
        elif not (is_identity(step.operation) or (step.kind == "Flatten" and layer is None)):
            raise ConversionError(
                f"the gate: expected nothing but a temperature and a softmax after a {type(layer).__name__} layer "
                f"and nothing before it, got {step.kind} {step.operation.name!r}; build it by its kind"
            )
    if layer is None or not closed:
        raise ConversionError("the gate: expected a softmax at its end; build it by its kind")
    if type(layer).__name__ == "GaussianGate":
        found = layer.components()
        return gaussian_gate_graph(
            shape,
            peak=found.log_scale_factor,
            mean=found.mean,
            whitening=found.whitening,
            temperature=temperature,
            columns=columns,
        )
    if temperature != 1:
        raise ConversionError("the gate: expected a hierarchical gate's temperature in its layer, got one behind it")
    return _hierarchical(layer, shape, columns)


def _hierarchical(layer: Any, shape: tuple[int, ...], columns: tuple[int, ...] | None) -> GraphNetwork:
    tree = layer.gate_tree
    layers = [
        (np.array(kernel, dtype=np.float32), np.array(bias, dtype=np.float32))
        for kernel, bias in zip(layer.kernels, layer.biases, strict=True)
    ]
    kernel, bias = layers[-1]
    kernel, bias = kernel / np.float32(layer.temperature), bias / np.float32(layer.temperature)
    for node, branches in enumerate(tree.nodes):
        kernel[node, :, len(branches) :] = 0.0
        bias[node, len(branches) :] = _NO_BRANCH
    layers[-1] = (kernel, bias)
    return hierarchical_gate_graph(shape, tree, layers, activation=layer.activation.__name__, columns=columns)


def _from_columns(network: Network, shape: tuple[int, ...], columns: tuple[int, ...]) -> Network:
    """A network of some columns as one of all of them."""
    if isinstance(network, DenseNetwork):
        first = network.layers[0]
        kernel = np.zeros((shape[0], first.kernel.shape[1]), dtype=np.float32)
        # A column may be chosen twice.
        np.add.at(kernel, list(columns), first.kernel)
        return DenseNetwork(
            layers=(DenseLayer(kernel=kernel, bias=first.bias, activation=first.activation), *network.layers[1:])
        )
    builder = GraphBuilder(new_model("gate of chosen columns"), "gate")
    chosen = builder.gather_columns(builder.input("features", shape), columns, name="columns")
    builder.output("out", splice(builder, chosen, network, prefix="network/"))
    return GraphNetwork(
        model=pack(builder.model),
        num_outputs=network.num_outputs,
        ends_in_softmax=network.ends_in_softmax,
        float_only=network.float_only,
    )
