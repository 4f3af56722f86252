"""Look at a quantized model and say, part by part, what is really in it.

A quantizer skips what it doesn't support without a word; the audit compares what was asked with what is there.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from moe_edge.errors import ConversionError
from moe_edge_converters.schemes.scheme import Scheme

TYPE_NAMES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
OPERATOR_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}

_WEIGHT_INPUT = {"FULLY_CONNECTED": 1, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1}
"""Operators with weights, and which input holds them."""

_EXPECTED = {
    Scheme.FLOAT32: ("float32", "float32"),
    Scheme.FLOAT16: ("float16", "float32"),
    Scheme.DYNAMIC_W8: ("int8", "float32"),
    Scheme.W8A8: ("int8", "int8"),
    Scheme.W8A16: ("int8", "int16"),
    Scheme.W4: ("int4", "float32"),
}
"""Scheme to (dtype of the weights, dtype of the activation that meets them)."""


@dataclass(frozen=True, kw_only=True)
class WeightedOperator:
    """An operator with weights, as it stands in the file.

    Attributes:
        part: ``gate``, ``expert_3``, ``bank_0``, ...
        operator: Its name, such as ``FULLY_CONNECTED``.
        weights: dtype of its stored weights.
        activations: dtype of its input.
    """

    part: str
    operator: str
    weights: str
    activations: str


def tensor_name(tensor: Any) -> str:
    """A tensor's name as text."""
    name = tensor.name
    return name.decode() if isinstance(name, bytes) else str(name or "")


def weighted_operators(model: Any, subgraph: int = 0) -> list[WeightedOperator]:
    """List the operators with constant weights and their real dtypes."""
    graph = model.subgraphs[subgraph]
    producers = {output: operator for operator in graph.operators for output in operator.outputs}
    found = []
    for operator in graph.operators:
        name = OPERATOR_NAMES[model.operatorCodes[operator.opcodeIndex].builtinCode]
        if name not in _WEIGHT_INPUT:
            continue
        weights = operator.inputs[_WEIGHT_INPUT[name]]
        source = producers.get(weights)
        if source is not None:
            # float16 weights come through a DEQUANTIZE.
            weights = source.inputs[0]
        # A fused output may carry the name of a signature's output; the weights' name keeps the part's.
        part = tensor_name(graph.tensors[weights]).split("/")[0]
        found.append(
            WeightedOperator(
                part=part,
                operator=name,
                weights=TYPE_NAMES[graph.tensors[weights].type],
                activations=TYPE_NAMES[graph.tensors[operator.inputs[0]].type],
            )
        )
    return found


def check_schemes(model: Any, schemes: Mapping[str, Scheme]) -> None:
    """Compare what was asked with what is in the file.

    Args:
        model: The quantized model.
        schemes: Part (``gate``, ``expert_0``, ``bank_0``, ...) to the scheme asked for.

    Raises:
        ConversionError: If an operator's dtypes are not its scheme's, naming the first and counting the others.
    """
    wrong = []
    for operator in weighted_operators(model):
        scheme = schemes.get(operator.part, Scheme.FLOAT32)
        expected = _EXPECTED[scheme]
        if (operator.weights, operator.activations) != expected:
            wrong.append(
                f"{operator.part} {operator.operator}: expected {scheme.value} (weights {expected[0]}, activations "
                f"{expected[1]}), got weights {operator.weights}, activations {operator.activations}"
            )
    if wrong:
        others = f" and {len(wrong) - 1} more operators" if len(wrong) > 1 else ""
        raise ConversionError(f"the quantizer didn't do what was asked: {wrong[0]}{others}; choose another scheme")
