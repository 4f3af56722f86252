"""What a mixture is and how it is trained, as strict, frozen configuration objects.

A config that exists is valid; unknown keys in JSON are errors (``moe_edge.strict``).
Layer: shared. Imports the standard library and ``moe_edge.task``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from moe_edge.task import Combine as Combine  # noqa: PLC0414 - re-exported for type checkers
from moe_edge.task import Task as Task  # noqa: PLC0414 - re-exported for type checkers


class Recipe(str, enum.Enum):
    """How the mixture is trained.

    ``competitive``: half mixture cross-entropy, half expected cross-entropy, load balancing, label smoothing, best
    epoch on validation rows. ``classical``: sparse categorical cross-entropy of the sum, 10 epochs, batch 32.
    """

    COMPETITIVE = "competitive"
    CLASSICAL = "classical"


ACTIVATIONS = ("relu", "relu6", "tanh", "sigmoid", "linear")
"""Hidden activations that the stacked experts offer; any other comes with a user-given expert model."""


def _check_network(hidden: tuple[int, ...], activation: str, owner: str) -> None:
    if any(units < 1 for units in hidden):
        raise ValueError(f"expected {owner} hidden sizes of at least 1, got {list(hidden)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"expected {owner} activation among {', '.join(ACTIVATIONS)}, got {activation!r}")


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """One expert: a dense stack, ``hidden`` units a layer, then the output layer.

    Attributes:
        hidden: Units of each hidden layer, each at least 1.
        activation: Activation of the hidden layers.
    """

    hidden: tuple[int, ...] = (64, 32)
    activation: str = "relu"

    def __post_init__(self) -> None:
        _check_network(self.hidden, self.activation, "expert")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The gating network: which experts see which row, and how strongly.

    Attributes:
        num_experts: Experts in the mixture, at least 2.
        hidden: Units of each hidden layer of the gate.
        activation: Activation of the hidden layers.
        load_balancing_coef: Weight of the load-balancing loss; 0 turns it off, None means
            ``0.1 * max(1, num_experts / 8)``.
    """

    num_experts: int = 5
    hidden: tuple[int, ...] = (32,)
    activation: str = "relu"
    load_balancing_coef: float | None = None

    def __post_init__(self) -> None:
        if self.num_experts < 2:
            raise ValueError(f"expected num_experts >= 2, got {self.num_experts}")
        if self.load_balancing_coef is not None and not 0 <= self.load_balancing_coef < float("inf"):
            raise ValueError(f"expected load_balancing_coef >= 0, got {self.load_balancing_coef}")
        _check_network(self.hidden, self.activation, "gate")

    @property
    def balance(self) -> float:
        """The load-balancing coefficient in force."""
        if self.load_balancing_coef is not None:
            return self.load_balancing_coef
        return 0.1 * max(1.0, self.num_experts / 8)


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """The whole mixture: experts, gate, and how their answers are combined."""

    task: Task = Task.CLASSIFICATION
    combine: Combine = Combine.PROBABILITIES
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    gate: GateConfig = field(default_factory=GateConfig)

    def __post_init__(self) -> None:
        allowed = {
            Task.CLASSIFICATION: (Combine.PROBABILITIES, Combine.LOGITS),
            Task.REGRESSION: (Combine.GAUSSIAN, Combine.MEAN),
        }[self.task]
        if self.combine not in allowed:
            expected = " or ".join(combine.value for combine in allowed)
            raise ValueError(f"expected combine={expected} for {self.task.value}, got {self.combine.value}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the mixture is trained.

    Attributes:
        recipe: The loss and the schedule.
        epochs: Most epochs to train, at least 1.
        batch_size: Rows a step, at least 1.
        learning_rate: Adam's step size at the start.
        label_smoothing: Share of the label spread over all classes, in [0, 1).
        competitive_weight: Weight of the expected cross-entropy ``sum(g * CE)`` against the mixture's, in [0, 1].
        patience: Epochs without a better validation loss before training stops.
        seed: Seed of the split, the initialisation and the order of rows.
    """

    recipe: Recipe = Recipe.COMPETITIVE
    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 2e-3
    label_smoothing: float = 0.1
    competitive_weight: float = 0.5
    patience: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"expected learning_rate > 0, got {self.learning_rate}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"expected 0 <= label_smoothing < 1, got {self.label_smoothing}")
        if not 0 <= self.competitive_weight <= 1:
            raise ValueError(f"expected 0 <= competitive_weight <= 1, got {self.competitive_weight}")

    @classmethod
    def classical(cls, *, seed: int = 0) -> TrainingConfig:
        """The classical guide's own recipe: plain cross-entropy, adam, 10 epochs, batch 32."""
        return cls(
            recipe=Recipe.CLASSICAL,
            epochs=10,
            batch_size=32,
            learning_rate=1e-3,
            label_smoothing=0.0,
            competitive_weight=0.0,
            seed=seed,
        )
