"""What a mixture is and how it is trained, as strict, frozen configuration objects.

A config that exists is valid; unknown keys in JSON are errors (``moe_edge.strict``).
Layer: shared. Imports the standard library, ``moe_edge.task`` and ``moe_edge.training_config``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moe_edge.task import Combine as Combine  # noqa: PLC0414 - re-exported for type checkers
from moe_edge.task import Task as Task  # noqa: PLC0414 - re-exported for type checkers
from moe_edge.training_config import PiecesConfig as PiecesConfig  # noqa: PLC0414
from moe_edge.training_config import Recipe as Recipe  # noqa: PLC0414
from moe_edge.training_config import Strategy as Strategy  # noqa: PLC0414
from moe_edge.training_config import TrainingConfig as TrainingConfig  # noqa: PLC0414

ACTIVATIONS = ("relu", "relu6", "tanh", "sigmoid", "linear")
"""Hidden activations that the stacked experts offer; any other comes with a user-given expert model."""


def _check_network(hidden: tuple[int, ...], activation: str, owner: str) -> None:
    if any(units < 1 for units in hidden):
        raise ValueError(f"expected {owner} hidden sizes of at least 1, got {list(hidden)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"expected {owner} activation among {', '.join(ACTIVATIONS)}, got {activation!r}")


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """One expert, or all of them where they are alike.

    Attributes:
        kind: ``dense``, ``conv1d``, ``random_forest``, ...: a name of ``moe_edge.training.kinds.registry``.
        hidden: Units of each hidden layer, each at least 1, for kinds that have hidden layers.
        activation: Activation of the hidden layers.
        options: The kind's own options, such as ``max_depth``.
    """

    kind: str = "dense"
    hidden: tuple[int, ...] = (64, 32)
    activation: str = "relu"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_network(self.hidden, self.activation, "expert")


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """What gate and experts share: computed once, in routed runs too.

    Attributes:
        kind: A neural kind of expert.
        units: Features that it gives, at least 1.
        hidden: Units of each hidden layer.
        activation: Activation of all its layers, the last included.
        options: The kind's own options.
    """

    kind: str = "dense"
    units: int = 32
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ValueError(f"expected trunk units of at least 1, got {self.units}")
        _check_network(self.hidden, self.activation, "trunk")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The gating network: which experts see which row, and how strongly.

    Attributes:
        num_experts: Experts in the mixture, at least 2.
        kind: ``dense``, ``gaussian``, ``hierarchical``, ``decision_tree``, ...: a name of
            ``moe_edge.training.kinds.registry``.
        hidden: Units of each hidden layer of the gate.
        activation: Activation of the hidden layers.
        options: The kind's own options.
        features: Columns that the gate sees; empty for all.
        top_k: Experts that count for each row, their weights renormalised; None for all. 1 is a hard choice.
        load_balancing_coef: Weight of the load-balancing loss; 0 turns it off, None means
            ``0.1 * max(1, num_experts / 8)``.
        entropy_coef: Weight of the mean entropy of a row's weights, ramped up from 0: fewer experts run at a mass.
        z_loss_coef: Weight of the mean squared logarithm of the gate's normaliser (ST-MoE): bounds the logits.
        temperature: Divides the gate's logits; below 1 it sharpens.
    """

    num_experts: int = 5
    kind: str = "dense"
    hidden: tuple[int, ...] = (32,)
    activation: str = "relu"
    options: dict[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    top_k: int | None = None
    load_balancing_coef: float | None = None
    entropy_coef: float = 0.0
    z_loss_coef: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.num_experts < 2:
            raise ValueError(f"expected num_experts >= 2, got {self.num_experts}")
        if self.load_balancing_coef is not None and not 0 <= self.load_balancing_coef < float("inf"):
            raise ValueError(f"expected load_balancing_coef >= 0, got {self.load_balancing_coef}")
        for name in ("entropy_coef", "z_loss_coef"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"expected {name} >= 0, got {getattr(self, name)}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"expected temperature > 0, got {self.temperature}")
        if self.top_k is not None and not 1 <= self.top_k <= self.num_experts:
            raise ValueError(f"expected top_k in [1, {self.num_experts}], got {self.top_k}")
        _check_network(self.hidden, self.activation, "gate")

    @property
    def balance(self) -> float:
        """The load-balancing coefficient in force."""
        if self.load_balancing_coef is not None:
            return self.load_balancing_coef
        return 0.1 * max(1.0, self.num_experts / 8)


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """The whole mixture: experts, gate, and how their answers are combined.

    Attributes:
        task: Classification or regression.
        combine: How answers are mixed.
        expert: Every expert, where they are alike.
        experts: One for each expert, where they differ; empty when all are ``expert``.
        trunk: What gate and experts share, or None.
        gate: The gating network.
    """

    task: Task = Task.CLASSIFICATION
    combine: Combine = Combine.PROBABILITIES
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    experts: tuple[ExpertConfig, ...] = ()
    trunk: TrunkConfig | None = None
    gate: GateConfig = field(default_factory=GateConfig)

    def __post_init__(self) -> None:
        allowed = {
            Task.CLASSIFICATION: (Combine.PROBABILITIES, Combine.LOGITS),
            Task.REGRESSION: (Combine.GAUSSIAN, Combine.MEAN),
        }[self.task]
        if self.combine not in allowed:
            expected = " or ".join(combine.value for combine in allowed)
            raise ValueError(f"expected combine={expected} for {self.task.value}, got {self.combine.value}")
        if self.experts and len(self.experts) != self.gate.num_experts:
            raise ValueError(
                f"expected as many experts as the gate's num_experts={self.gate.num_experts}, got {len(self.experts)}"
            )
        if self.gate.top_k is not None and not self.combine.routable:
            raise ValueError(f"expected no top_k with combine={self.combine.value}: few experts can't stand for all")

    @property
    def all_experts(self) -> tuple[ExpertConfig, ...]:
        """One configuration for each expert."""
        return self.experts or (self.expert,) * self.gate.num_experts
