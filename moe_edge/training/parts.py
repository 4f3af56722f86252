"""The parts of a mixture by their configuration: each expert's job, the gate's job and the columns it sees.

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import keras

from moe_edge.config import MixtureConfig
from moe_edge.training.kinds.kind import ExpertJob, FittedExpert, GateJob, NeuralExpert, NeuralGate
from moe_edge.training.kinds.registry import expert_kind, gate_kind
from moe_edge.training.layers import Preprocess


def expert_job(
    config: MixtureConfig, index: int, input_shape: tuple[int, ...], num_outputs: int, *, seed: int
) -> ExpertJob:
    """What expert ``index`` is to be made for."""
    expert = config.all_experts[index]
    return ExpertJob(
        input_shape=input_shape,
        num_outputs=num_outputs,
        task=config.task,
        combine=config.combine,
        hidden=expert.hidden,
        activation=expert.activation,
        options=expert.options,
        # Neighbouring seeds of a run don't share an expert's start.
        seed=seed * (config.gate.num_experts + 1) + index,
    )


def gate_job(config: MixtureConfig, input_shape: tuple[int, ...], *, seed: int) -> GateJob:
    """What the gate is to be made for."""
    gate = config.gate
    return GateJob(
        input_shape=input_shape,
        num_experts=gate.num_experts,
        hidden=gate.hidden,
        activation=gate.activation,
        options=gate.options,
        seed=seed * (gate.num_experts + 1) + gate.num_experts,
        temperature=gate.temperature,
        entropy_coef=gate.entropy_coef,
        z_loss_coef=gate.z_loss_coef,
    )


def is_fitted(config: MixtureConfig, index: int) -> bool:
    """Whether expert ``index`` is fitted by an algorithm of its own instead of backpropagation."""
    return isinstance(expert_kind(config.all_experts[index].kind), FittedExpert)


def build_expert(
    config: MixtureConfig, index: int, input_shape: tuple[int, ...], num_outputs: int, *, seed: int
) -> keras.Model:
    """Build an untrained expert.

    Raises:
        ValueError: If its kind isn't neural, or its options don't fit.
    """
    name = config.all_experts[index].kind
    kind = expert_kind(name)
    if not isinstance(kind, NeuralExpert):
        raise ValueError(
            f"expert {index}: {name} is fitted by an algorithm of its own, not by backpropagation; "
            "expected strategy staged or em, got joint"
        )
    return kind.build(expert_job(config, index, input_shape, num_outputs, seed=seed))


def build_gate(config: MixtureConfig, input_shape: tuple[int, ...], *, seed: int) -> keras.Model:
    """Build an untrained gate.

    Raises:
        ValueError: If its kind isn't neural, or its options don't fit.
    """
    kind = gate_kind(config.gate.kind)
    if not isinstance(kind, NeuralGate):
        raise ValueError(
            f"gate: {config.gate.kind} is fitted by an algorithm of its own, not by backpropagation; "
            "expected strategy staged or em, got joint"
        )
    return kind.build(gate_job(config, input_shape, seed=seed))


def gate_columns(config: MixtureConfig, names: Sequence[str], preprocess: Preprocess | None) -> list[int] | None:
    """Features (numbers after the preprocessing) of the columns that the gate sees; None for all.

    Raises:
        ValueError: If a column isn't there, or gate and experts share a trunk, which mixes all columns.
    """
    if not config.gate.features:
        return None
    if config.trunk is not None:
        raise ValueError("expected a gate of all features beside a trunk, which mixes them; leave gate features out")
    places = _places(len(names), preprocess)
    columns: list[int] = []
    for name in config.gate.features:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise ValueError(f"gate features: expected columns among {shown}, got {name!r}{hint}")
        columns.extend(places[list(names).index(name)])
    return columns


def _places(num_columns: int, preprocess: Preprocess | None) -> dict[int, list[int]]:
    """Where each raw column's values lie after the preprocessing."""
    if preprocess is None:
        return {column: [column] for column in range(num_columns)}
    places = {column: [place] for place, column in enumerate(preprocess.numeric_indices)}
    start = len(places)
    for column, count in preprocess.categorical:
        places[column] = list(range(start, start + count))
        start += count
    return places
