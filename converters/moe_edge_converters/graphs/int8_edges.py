"""``--io int8``: a fused graph that takes int8 features and gives int8 answers, for hosts without float input.

Preprocessing stays with the host: an int8 row has 256 levels for every column alike, so raw columns of different
ranges can't be its input, but normalised features can.
Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge.schema import Column, ColumnKind, FeatureSchema
from moe_edge_converters.graphs.gaussian_gate_graph import LOG_DENSITY
from moe_edge_converters.graphs.graph import operator_code
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.calibration import Ranges
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import MixtureSpec

_SHARE_SCALE, _SHARE_ZERO = 1 / 256, -128
"""Probabilities and routing weights lie in [0, 1]: the scale that TFLite fixes for a softmax."""


def check_int8_io(spec: MixtureSpec, options: ConversionOptions) -> None:
    """Refuse what can't have int8 edges.

    Raises:
        ConversionError: If an expert isn't w8a8, the graph would be routed, or a trunk stands before the features.
    """
    others = sorted({scheme.value for scheme in options.schemes_of(spec.num_experts)} - {Scheme.W8A8.value})
    if others:
        raise ConversionError(f"--io int8 needs experts in w8a8, got {others[0]}; use --scheme w8a8")
    if options.routed:
        raise ConversionError("--io int8 writes the fused graph only; drop --routed")
    if spec.trunk is not None:
        raise ConversionError("--io int8 takes the features that experts are given; this mixture's trunk makes them")


def features_only(spec: MixtureSpec, feature_schema: FeatureSchema | None) -> tuple[MixtureSpec, FeatureSchema | None]:
    """The mixture without its preprocessing, and the schema of its features."""
    if spec.preprocess is None:
        return spec, feature_schema
    names = _feature_names(spec, feature_schema)
    labels = tuple(str(index) for index in range(spec.num_outputs)) if feature_schema is None else feature_schema.labels
    target = "y" if feature_schema is None else feature_schema.target
    columns = tuple(Column(name=name) for name in names)
    described = FeatureSchema(columns=columns, target=target, task=spec.task, labels=labels)
    return replace(spec, preprocess=None, input_shape=(spec.preprocess.num_features,)), described


def _feature_names(spec: MixtureSpec, feature_schema: FeatureSchema | None) -> list[str]:
    """``scaled(width)`` for a normalised number, ``colour=red`` for a category."""
    if spec.preprocess is None:
        return []
    if feature_schema is None:
        return [f"feature_{index}" for index in range(spec.preprocess.num_features)]
    columns = feature_schema.columns
    names = [f"scaled({columns[index].name})" for index in spec.preprocess.numeric]
    for index, count in spec.preprocess.categorical:
        known = columns[index].categories if columns[index].kind is ColumnKind.CATEGORICAL else ()
        names += [f"{columns[index].name}={known[code] if code < len(known) else code}" for code in range(count)]
    return names


def make_edges_int8(model: Any, task: Task, ranges: Ranges) -> None:
    """Turn a w8a8 fused graph's float input and outputs into int8, in place.

    Args:
        model: One subgraph, quantized; its features meet a QUANTIZE.
        task: Tells which outputs are shares.
        ranges: Calibrated ranges, for the outputs of a regression.

    Raises:
        ConversionError: If the features aren't quantized.
    """
    graph = model.subgraphs[0]
    quantize = operator_code(model, "QUANTIZE")
    x = graph.inputs[0]
    first = next((op for op in graph.operators if op.opcodeIndex == quantize and op.inputs[0] == x), None)
    if first is None:
        raise ConversionError("--io int8 found no expert that takes int8 features")
    features = first.outputs[0]
    graph.operators.remove(first)
    graph.tensors[x].name, graph.tensors[features].name = "features_float", "x"
    graph.inputs = [features]
    model.signatureDefs[0].inputs[0].tensorIndex = features
    if any(x in list(operator.inputs) for operator in graph.operators):
        # The gate stays float32.
        graph.operators.insert(0, _operator(model, "DEQUANTIZE", [features], [x]))
    for entry in model.signatureDefs[0].outputs:
        name = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
        scale, zero = _SHARE_SCALE, _SHARE_ZERO
        if name == LOG_DENSITY or (task is Task.REGRESSION and name != "routing_weights"):
            low, high = (float(ranges[name][end].min()) for end in ("min", "max"))
            scale, zero = _affine(min(low, 0.0), max(high, 0.0))
        exact = entry.tensorIndex
        entry.tensorIndex = _int8_tensor(graph, exact, name, scale, zero)
        graph.operators.append(_operator(model, "QUANTIZE", [exact], [entry.tensorIndex]))
        graph.outputs = [entry.tensorIndex if index == exact else index for index in graph.outputs]


def _affine(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of an int8 tensor that covers [low, high]."""
    scale = max((high - low) / 255, 1e-12)
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def _int8_tensor(graph: Any, source: int, name: str, scale: float, zero: int) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape = name, list(graph.tensors[source].shape)
    tensor.type, tensor.hasRank = schema.TensorType.INT8, True
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array([scale], dtype=np.float32)
    tensor.quantization.zeroPoint = np.array([zero], dtype=np.int64)
    graph.tensors[source].name = f"{name}_float"
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(model: Any, name: str, inputs: list[int], outputs: list[int]) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, name)
    operator.inputs, operator.outputs = inputs, outputs
    return operator


def feature_rows(spec: MixtureSpec, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the host must compute before an int8 file: the preprocessing, in NumPy."""
    return rows if spec.preprocess is None else spec.preprocess.apply(rows)
