"""What a kind of expert, or of gate, has to do, whatever it is made of.

Every kind ends as a Keras model, from features to an answer: a neural one is built and trained by backpropagation; a
fitted one (scikit-learn's estimators, closed forms) is fitted to weighted rows and comes back as a model whose layers
hold what was learnt, exactly. So one ``.keras`` file holds any mixture, and the converters need to know layers only.

B is the batch, E the number of experts, K the number of outputs, V what an expert answers with: K probabilities, K
standardised numbers, or 2 K values for Gaussian experts (standardised means, then logarithms of standardised sigmas).
Layer: desktop (training).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task

Floats = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ExpertJob:
    """What an expert is to be made for.

    Attributes:
        input_shape: Shape of one row of features, without the batch; (F,) after the preprocessing of a table.
        num_outputs: K: classes, or numbers.
        task: Classification or regression.
        combine: How answers will be mixed; decides what the expert answers with.
        hidden: Units of hidden layers, for kinds that have some.
        activation: Activation of hidden layers.
        options: The kind's own options.
        seed: For whatever is random; another for each expert.
    """

    input_shape: tuple[int, ...]
    num_outputs: int
    task: Task
    combine: Combine
    hidden: tuple[int, ...] = (64, 32)
    activation: str = "relu"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def num_values(self) -> int:
        """V."""
        return 2 * self.num_outputs if self.combine is Combine.GAUSSIAN else self.num_outputs

    @property
    def output_activation(self) -> str:
        """Activation of a neural expert's last layer."""
        return "softmax" if self.combine is Combine.PROBABILITIES else "linear"


@dataclass(frozen=True, kw_only=True)
class GateJob:
    """What a gate is to be made for; see ``ExpertJob``.

    Attributes:
        input_shape: Shape of one row of features, without the batch.
        num_experts: E.
        hidden: Units of hidden layers, for kinds that have some.
        activation: Activation of hidden layers.
        options: The kind's own options.
        seed: For whatever is random.
        temperature: Divides the logits, where the kind has some; above 0.
        entropy_coef: Weight of the mean entropy of a row's weights in the loss (``gate_layers.RowEntropy``).
        z_loss_coef: Weight of the z-loss of the logits in the loss (``gate_layers.ZLoss``).
    """

    input_shape: tuple[int, ...]
    num_experts: int
    hidden: tuple[int, ...] = (32,)
    activation: str = "relu"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    temperature: float = 1.0
    entropy_coef: float = 0.0
    z_loss_coef: float = 0.0


class ExpertKind(ABC):
    """A kind of expert; subclass ``NeuralExpert`` or ``FittedExpert``.

    Attributes:
        name: What configurations call it.
        options: Names of the options that it takes, each with its default.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}


class NeuralExpert(ExpertKind):
    """An expert that is trained by backpropagation."""

    @abstractmethod
    def build(self, job: ExpertJob) -> keras.Model:
        """Build an untrained model, (B, *input_shape) to (B, V).

        Raises:
            ValueError: If the job's options don't fit each other or the rows' shape.
        """


class FittedExpert(ExpertKind):
    """An expert that is fitted to weighted rows by an algorithm of its own, and is then frozen."""

    @abstractmethod
    def fit(self, job: ExpertJob, x: Floats, y: npt.NDArray[Any], weights: Weights) -> keras.Model:
        """Fit to rows.

        Args:
            job: What the expert is for.
            x: Features, float32 (n, F).
            y: int64 class codes (n,), or float64 standardised targets (n, K).
            weights: How much each row counts, float64 (n,), at least 0, not all 0.

        Returns:
            A model of no trainable weights, (B, F) to (B, V), whose answers are the estimator's own.
        """


class GateKind(ABC):
    """A kind of gate: from features to routing weights (B, E) that sum to 1. A kind may be trainable in both ways.

    Attributes:
        name: What configurations call it.
        options: Names of the options that it takes, each with its default.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}


class NeuralGate(GateKind):
    """A gate that can be trained by backpropagation."""

    @abstractmethod
    def build(self, job: GateJob) -> keras.Model:
        """Build an untrained model, (B, *input_shape) to (B, E)."""


class FittedGate(GateKind):
    """A gate that is fitted to responsibilities by an algorithm of its own."""

    @abstractmethod
    def fit(self, job: GateJob, x: Floats, responsibilities: Weights) -> keras.Model:
        """Fit to rows.

        Args:
            job: What the gate is for.
            x: Features, float32 (n, F).
            responsibilities: How much of each row is whose, float64 (n, E); rows sum to 1.

        Returns:
            A model, (B, F) to (B, E).
        """
