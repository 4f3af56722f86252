"""What an int8 accelerator (a TPU, an NPU) could take of a graph, and what stays with the CPU.

None can be run here. Their compilers differ; common to them is that they take runs of operators whose values are int8,
with int32 biases, and leave the others to the CPU. Raw columns, their normalisation and the gating-plus-weighted-sum
tail are float32 in every file of ours, by design: those stay with the CPU, and the report says so.
Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moe_edge.errors import ConversionError
from moe_edge_converters.targets.operator_support import PlacedOperator, list_operators

_ACCELERATED = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED LOGISTIC "
    "MAX_POOL_2D MAXIMUM MEAN MINIMUM MUL PACK PAD QUANTIZE RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR "
    "RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE "
    "TRANSPOSE_CONV "
)
ACCELERATED = frozenset(_ACCELERATED.split())
"""Operators that compilers for int8 accelerators commonly list. Each has limits of its own;
none was run."""

_WEIGHTED = frozenset({"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"})
_EDGES = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True, kw_only=True)
class AcceleratorPlan:
    """What goes where in ``serving_default``.

    Attributes:
        accelerated: Operators that an accelerator may take.
        on_cpu: Operators that stay float.
        runs: Stretches of accelerated operators; each is a way there and back.
        first_on_cpu: The first operator that stays float, or None.
        per_channel: Whether a weight tensor has a scale a channel.
    """

    accelerated: int
    on_cpu: int
    runs: int
    first_on_cpu: PlacedOperator | None
    per_channel: bool

    def notes(self) -> tuple[str, ...]:
        """For people."""
        stretches = "1 stretch" if self.runs == 1 else f"{self.runs} stretches"
        notes = [f"{self.accelerated} operators may run in int8, in {stretches}; {self.on_cpu} stay float"]
        if self.first_on_cpu is not None:
            notes.append(
                f"first layer that stays float: {self.first_on_cpu.place}; preprocessing, a float32 gate and the "
                "weighted sum run on the CPU, between it and the accelerator each stretch is copied there and back"
            )
        if self.per_channel:
            notes.append("weights have a scale a channel; for a compiler that rejects it: --per-tensor")
        return tuple(notes)


def plan_acceleration(model: Any, *, gate_may_be_float: bool = True) -> AcceleratorPlan:
    """Look at the whole graph of a parsed model.

    Args:
        model: The model.
        gate_may_be_float: Whether the gate's layers may stay on the CPU.

    Raises:
        ConversionError: If a layer with weights isn't int8 or isn't supported, naming the first.
    """
    operators = [operator for operator in list_operators(model) if operator.subgraph == 0]
    taken = [_is_accelerated(operator) for operator in operators]
    for operator, inside in zip(operators, taken, strict=True):
        excused = gate_may_be_float and (operator.layer.startswith("gate/") or operator.layer == "routing_weights")
        if operator.name in _WEIGHTED and not inside and not excused:
            raise ConversionError(
                f"layer {operator.place} stays {operator.inputs[0]} with {operator.inputs[1]} weights: an int8 "
                "accelerator takes int8 with int8; choose --scheme w8a8"
            )
    left = [operator for operator, inside in zip(operators, taken, strict=True) if not inside]
    starts = [inside and not before for inside, before in zip(taken, [False, *taken[:-1]], strict=True)]
    return AcceleratorPlan(
        accelerated=sum(taken),
        on_cpu=len(left),
        runs=sum(starts),
        first_on_cpu=left[0] if left else None,
        per_channel=_has_channel_scales(model),
    )


def _is_accelerated(operator: PlacedOperator) -> bool:
    if operator.name in _EDGES:
        return False
    values = {*operator.inputs, *operator.outputs} - {"int32", "none"}
    return operator.name in ACCELERATED and values == {"int8"}


def _has_channel_scales(model: Any) -> bool:
    return any(
        tensor.quantization is not None and tensor.quantization.scale is not None and len(tensor.quantization.scale) > 1
        for tensor in model.subgraphs[0].tensors
    )
