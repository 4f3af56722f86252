"""Emit one network, dense or of any other architecture, onto a tensor of a graph.

Layer: desktop (converters).
"""

from __future__ import annotations

import copy

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex, operator_code
from moe_edge_converters.spec import DenseNetwork, GraphNetwork, Network


def add_network(
    builder: GraphBuilder, x: TensorIndex, network: Network, *, prefix: str, softmax: bool = True, first_layer: int = 0
) -> TensorIndex:
    """Emit a network.

    Args:
        builder: The graph to add to.
        x: The network's input, or the output of layer ``first_layer - 1``.
        network: What to emit.
        prefix: Start of every tensor's name, such as ``expert_3/``.
        softmax: Whether a closing softmax is emitted; without it the answer is logits.
        first_layer: Dense layers before this one are already there.

    Returns:
        Tensor of shape (1, outputs).
    """
    if isinstance(network, GraphNetwork):
        out = splice(builder, x, network, prefix=prefix, softmax=softmax)
        return builder.flatten(out, name=f"{prefix}flat")
    out = builder.flatten(x, name=f"{prefix}flat")
    for index, layer in enumerate(network.layers[first_layer:], start=first_layer):
        activation = layer.activation
        if activation == "softmax" and not softmax and index == len(network.layers) - 1:
            activation = "linear"
        out = builder.fully_connected(
            out, layer.kernel.T, layer.bias, activation=activation, name=f"{prefix}dense_{index}"
        )
    return out


def ends_in_softmax(network: Network) -> bool:
    """Whether the network's answer is a softmax over all its outputs."""
    if isinstance(network, DenseNetwork):
        return network.layers[-1].activation == "softmax"
    return network.ends_in_softmax


def splice(
    builder: GraphBuilder, x: TensorIndex, network: GraphNetwork, *, prefix: str, softmax: bool = True
) -> TensorIndex:
    """Copy a one-subgraph TFLite model's operators into the graph, its input replaced by ``x``.

    Args:
        builder: The graph to add to.
        x: What takes the place of the model's input, of the same shape.
        network: The model.
        prefix: Start of the copied tensors' names.
        softmax: Whether a closing softmax is copied too.
    """
    return _splice_all(builder, x, network, prefix=prefix, softmax=softmax)[0]


def add_gate(builder: GraphBuilder, x: TensorIndex, network: Network) -> tuple[TensorIndex, dict[str, TensorIndex]]:
    """Emit a gate.

    Returns:
        The routing weights (1, E), and what else the gate gives, by name.
    """
    if not isinstance(network, GraphNetwork):
        return add_network(builder, x, network, prefix="gate/"), {}
    weights, *sides = _splice_all(builder, x, network, prefix="gate/")
    return builder.flatten(weights, name="gate/flat"), dict(zip(network.side_outputs, sides, strict=True))


def _splice_all(
    builder: GraphBuilder, x: TensorIndex, network: GraphNetwork, *, prefix: str, softmax: bool = True
) -> list[TensorIndex]:
    source = flatbuffer_utils.read_model_from_bytearray(bytearray(network.model))
    graph = source.subgraphs[0]
    operators = list(graph.operators)
    outputs = list(graph.outputs)
    if not softmax and network.ends_in_softmax:
        outputs[0] = operators.pop().inputs[0]
    places: dict[int, TensorIndex] = {-1: -1, graph.inputs[0]: x}
    target = builder.subgraph

    def place(index: int) -> TensorIndex:
        if index not in places:
            tensor = copy.copy(graph.tensors[index])
            name = tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)
            # The quantizer reads ";" as a list of names, and "/" at the start as another part.
            tensor.name = builder.unique_name(f"{prefix}{name.split(';')[0].lstrip('/')}")
            tensor.shapeSignature = None
            data = source.buffers[tensor.buffer].data
            if data is None or len(data) == 0:
                tensor.buffer = 0
            else:
                buffer = schema.BufferT()
                buffer.data = data
                builder.model.buffers.append(buffer)
                tensor.buffer = len(builder.model.buffers) - 1
            target.tensors.append(tensor)
            places[index] = len(target.tensors) - 1
        return places[index]

    for operator in operators:
        copied = copy.copy(operator)
        code = source.operatorCodes[operator.opcodeIndex]
        copied.opcodeIndex = operator_code(builder.model, _operator_name(code.builtinCode), code.version)
        copied.inputs = [place(index) for index in operator.inputs]
        copied.outputs = [place(index) for index in operator.outputs]
        target.operators.append(copied)
    return [place(index) for index in outputs]


def _operator_name(code: int) -> str:
    return next(str(name) for name, value in vars(schema.BuiltinOperator).items() if value == code)
