"""Write a mixture of dense networks as an ONNX graph: fused as in our .tflite, batched, or one network an expert.

The batch is a free dimension called ``N``, which a session fixes.
Layer: desktop (converters). Imports onnx.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError
from moe_edge_converters.spec import DenseNetwork, MixtureSpec, PreprocessSpec

OPSET, IR_VERSION = 17, 8
BATCH = "N"
"""Name of the free dimension."""
_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


class OnnxLayout(str, enum.Enum):
    """How the experts lie in the graph.

    ``fused``: first layers as one wide Gemm, then one Gemm an expert on its slice, one softmax over all experts, one
    weighted sum: the graph of our .tflite. ``batched``: later layers as one MatMul over stacked experts.
    ``separate``: one chain an expert, as an export of separate sub-models gives.
    """

    FUSED = "fused"
    BATCHED = "batched"
    SEPARATE = "separate"


def build_onnx(spec: MixtureSpec, *, layout: OnnxLayout = OnnxLayout.FUSED) -> bytes:
    """Write a mixture as an ONNX model with the input ``x`` and the output ``prediction``.

    Args:
        spec: A classification mixture of dense networks.
        layout: How the experts lie.

    Raises:
        ConversionError: If the mixture isn't one that this writes.
    """
    experts, gate = [network for network in spec.experts if isinstance(network, DenseNetwork)], spec.gate
    if len(experts) != spec.num_experts or not isinstance(gate, DenseNetwork) or spec.trunk is not None:
        raise ConversionError("expected experts and a gate of dense layers, got another architecture; measure without")
    if spec.task is not Task.CLASSIFICATION or spec.combine is not Combine.PROBABILITIES or spec.top_k is not None:
        raise ConversionError(
            "expected a classification mixture of probabilities that runs all its experts, "
            f"got {spec.task.value} by {spec.combine.value}, top_k {spec.top_k}; measure without onnxruntime"
        )
    if layout is not OnnxLayout.SEPARATE and len({expert.shapes for expert in experts}) > 1:
        layout = OnnxLayout.SEPARATE
    graph = _Graph()
    features = "x" if spec.preprocess is None else _preprocess(graph, spec.preprocess)
    weights = _chain(graph, features, gate)
    if layout is OnnxLayout.SEPARATE:
        each = [graph.add("Unsqueeze", [_chain(graph, features, e), graph.constant(np.array([1]))]) for e in experts]
        answers = graph.add("Concat", each, axis=1)
    elif layout is OnnxLayout.FUSED:
        answers = _fused(graph, features, experts)
    else:
        answers = _batched(graph, features, experts)
    weighted = graph.add("Unsqueeze", [weights, graph.constant(np.array([1]))])
    mixed = graph.add("MatMul", [weighted, answers])
    graph.add("Squeeze", [mixed, graph.constant(np.array([1]))], output="prediction")
    return graph.to_bytes((BATCH, *spec.input_shape), (BATCH, spec.num_outputs))


class _Graph:
    """Nodes and constants, named as they come."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, operator: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        name = output or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def split(self, source: str, sizes: list[int], axis: int) -> list[str]:
        names = [f"t{len(self._nodes)}_{index}" for index in range(len(sizes))]
        lengths = self.constant(np.array(sizes, dtype=np.int64))
        self._nodes.append(helper.make_node("Split", [source, lengths], names, axis=axis))
        return names

    def constant(self, value: npt.NDArray[Any]) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def to_bytes(self, input_shape: tuple[int | str, ...], output_shape: tuple[int | str, ...]) -> bytes:
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)
        target = helper.make_tensor_value_info("prediction", TensorProto.FLOAT, output_shape)
        graph = helper.make_graph(self._nodes, "mixture", [source], [target], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def _dense(graph: _Graph, source: str, kernel: npt.NDArray[Any], bias: npt.NDArray[Any]) -> str:
    return graph.add("Gemm", [source, graph.constant(kernel), graph.constant(bias)])


def _activate(graph: _Graph, source: str, activation: str) -> str:
    if activation == "linear":
        return source
    if activation == "softmax":
        return graph.add("Softmax", [source], axis=-1)
    if activation == "relu6":
        limits = [graph.constant(np.float32(limit)) for limit in (0, 6)]
        return graph.add("Clip", [source, *limits])
    if activation not in _ACTIVATIONS:
        raise ConversionError(f"expected an activation among {', '.join(_ACTIVATIONS)}, got {activation!r}")
    return graph.add(_ACTIVATIONS[activation], [source])


def _chain(graph: _Graph, source: str, network: DenseNetwork) -> str:
    for layer in network.layers:
        source = _activate(graph, _dense(graph, source, layer.kernel, layer.bias), layer.activation)
    return source


def _fused(graph: _Graph, features: str, experts: list[DenseNetwork]) -> str:
    """(batch, E, K): softmax over all experts at once, when that is their last activation."""
    first = [expert.layers[0] for expert in experts]
    wide = _dense(
        graph, features, np.concatenate([f.kernel for f in first], axis=1), np.concatenate([f.bias for f in first])
    )
    last = experts[0].layers[-1]
    if len(experts[0].layers) == 1:
        return _activate(graph, _stacked(graph, wide, len(experts), last.bias.size), last.activation)
    wide = _activate(graph, wide, first[0].activation)
    slices = graph.split(wide, [layer.bias.size for layer in first], axis=1)
    ends = []
    for expert, source in zip(experts, slices, strict=True):
        end = source
        for layer in expert.layers[1:-1]:
            end = _activate(graph, _dense(graph, end, layer.kernel, layer.bias), layer.activation)
        ends.append(_dense(graph, end, expert.layers[-1].kernel, expert.layers[-1].bias))
    joined = graph.add("Concat", ends, axis=1)
    return _activate(graph, _stacked(graph, joined, len(experts), last.bias.size), last.activation)


def _stacked(graph: _Graph, source: str, count: int, units: int) -> str:
    return graph.add("Reshape", [source, graph.constant(np.array([-1, count, units], dtype=np.int64))])


def _batched(graph: _Graph, features: str, experts: list[DenseNetwork]) -> str:
    """(batch, E, K): later layers as one MatMul over (E, batch, units)."""
    first = [expert.layers[0] for expert in experts]
    wide = _dense(
        graph, features, np.concatenate([f.kernel for f in first], axis=1), np.concatenate([f.bias for f in first])
    )
    wide = _activate(graph, _stacked(graph, wide, len(experts), first[0].bias.size), first[0].activation)
    along = graph.add("Transpose", [wide], perm=[1, 0, 2])
    for depth in range(1, len(experts[0].layers)):
        layers = [expert.layers[depth] for expert in experts]
        product = graph.add("MatMul", [along, graph.constant(np.stack([layer.kernel for layer in layers]))])
        biases = graph.constant(np.stack([layer.bias for layer in layers])[:, None])
        along = _activate(graph, graph.add("Add", [product, biases]), layers[0].activation)
    return graph.add("Transpose", [along], perm=[1, 0, 2])


def _preprocess(graph: _Graph, spec: PreprocessSpec) -> str:
    numeric = graph.constant(np.array(spec.numeric, dtype=np.int64))
    numbers = graph.add("Gather", ["x", numeric], axis=1)
    missing = graph.add("IsNaN", [numbers])
    filled = graph.add("Where", [missing, graph.constant(spec.fill), numbers])
    centred = graph.add("Sub", [filled, graph.constant(spec.mean)])
    scaled = graph.add("Mul", [centred, graph.constant(spec.inverse_scale)])
    lowest = graph.add("Max", [scaled, graph.constant(spec.low)])
    parts = [graph.add("Min", [lowest, graph.constant(spec.high)])]
    for column, count in spec.categorical:
        code = graph.add("Gather", ["x", graph.constant(np.array([column], dtype=np.int64))], axis=1)
        same = graph.add("Equal", [code, graph.constant(np.arange(count, dtype=np.float32))])
        parts.append(graph.add("Cast", [same], to=TensorProto.FLOAT))
    return graph.add("Concat", parts, axis=1) if len(parts) > 1 else parts[0]
