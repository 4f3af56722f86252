"""Train a mixture on a dataset: the four steps, from split rows to a model with its figures.

How experts and gate learn is the strategy's (``moe_edge.training.strategies``); this module picks it and scores.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from moe_edge.config import MixtureConfig, Strategy, Task, TrainingConfig
from moe_edge.errors import DataError
from moe_edge.schema import FeatureSchema
from moe_edge.tables.dataset import Dataset, describe_ranges
from moe_edge.training.kinds.registry import check_parts, expert_kind, gate_kind, with_defaults
from moe_edge.training.score import ExpertReport, Score, dead_expert_warnings, report_experts, score_rows
from moe_edge.training.split import Split, few_rows_warnings
from moe_edge.training.strategies.em import train_by_em
from moe_edge.training.strategies.joint import train_jointly
from moe_edge.training.strategies.problem import EpochCallback, Outcome, Problem
from moe_edge.training.strategies.staged import train_in_stages

_STRATEGIES: Mapping[Strategy, Callable[[Problem], Outcome]] = {
    Strategy.JOINT: train_jointly,
    Strategy.STAGED: train_in_stages,
    Strategy.EM: train_by_em,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingResult:
    """A trained mixture and its figures.

    Attributes:
        model: Plain Keras model, compiled with adam and the task's usual loss.
        schema: The dataset's schema with the ranges of the training rows.
        history: One value an epoch: loss, val_loss, and accuracy or rmse of both; for ``em`` one an iteration:
            log_likelihood and val_log_likelihood, nats a row, and how many parts' M steps were rejected. Of
            ``staged``, the experts'; empty where none learns by gradients.
        best_epoch: The epoch, or iteration, whose weights the model has, from 1.
        experts: Usage and own score of each expert.
        train: Score of the whole mixture on the training rows.
        validation: On the rows that chose the epoch.
        test: On the rows held out.
        warnings: What the user should know, with advice.
    """

    model: keras.Model
    schema: FeatureSchema
    history: dict[str, list[float]]
    best_epoch: int
    experts: tuple[ExpertReport, ...]
    train: Score
    validation: Score
    test: Score
    warnings: tuple[str, ...]

    @property
    def usage(self) -> list[float]:
        """Mean gate weight of each expert on the training rows; they sum to 1."""
        return [expert.usage for expert in self.experts]


def train_mixture(
    dataset: Dataset,
    split: Split,
    config: MixtureConfig,
    training: TrainingConfig,
    *,
    on_epoch: EpochCallback | None = None,
) -> TrainingResult:
    """Train the mixture that ``config`` describes; nothing is fitted to or chosen on test rows.

    Seeds Python's, NumPy's and Keras' generators with ``training.seed``.

    Args:
        dataset: The rows.
        split: Which of them train, choose the epoch, and are held out.
        config: The mixture; its task is the dataset's.
        training: The recipe.
        on_epoch: Called after each epoch, or iteration of ``em``, with its number, from 1, and its figures.

    Raises:
        ValueError: If ``config.task`` is not the dataset's, or the strategy can't train a part of this kind.
        DataError: If the rows don't fall into as many pieces as there are experts, or the training diverges.
    """
    if config.task is not dataset.schema.task:
        raise ValueError(f"expected a mixture for {dataset.schema.task.value}, got one for {config.task.value}")
    keras.utils.set_random_seed(training.seed)
    x, y = dataset.features, dataset.require_target()
    _check_kinds(config, training)
    outcome = _STRATEGIES[training.strategy](
        Problem(dataset=dataset, split=split, config=config, training=training, on_epoch=on_epoch)
    )
    model = outcome.model
    # Frozen parts may hold infinity by right: the thresholds of a tree's padding.
    if not all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in model.trainable_weights):
        raise DataError(
            "training diverged: expected finite weights, got NaN or infinity; "
            f"take a smaller learning rate than {training.learning_rate:g}, or look for outliers in the target"
        )
    compile_plainly(model, config.task, training.learning_rate)
    experts = report_experts(model, config, x, y, split)
    return TrainingResult(
        model=model,
        schema=describe_ranges(dataset.schema, x[split.train]),
        history=outcome.history,
        best_epoch=outcome.best_epoch,
        experts=experts,
        train=score_rows(model, config.task, x, y, split.train),
        validation=score_rows(model, config.task, x, y, split.validation),
        test=score_rows(model, config.task, x, y, split.test),
        warnings=(
            *outcome.warnings,
            *dead_expert_warnings(experts, config),
            *few_rows_warnings(split, config.gate.num_experts),
        ),
    )


def compile_plainly(model: keras.Model, task: Task, learning_rate: float) -> None:
    """Compile with adam and the task's usual loss, so that evaluate and fit work on the saved model as on any other."""
    if task is Task.CLASSIFICATION:
        loss, metric = "sparse_categorical_crossentropy", keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    else:
        loss, metric = "mse", keras.metrics.RootMeanSquaredError(name="rmse")
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=[metric])
    # Keras warns on loading a file whose optimizer has no variables yet.
    model.optimizer.build(model.trainable_variables)


def _check_kinds(config: MixtureConfig, training: TrainingConfig) -> None:
    """Refuse options that a kind doesn't have, and parts that the strategy can't train, before anything is fitted."""
    check_parts(config, training.strategy)
    # Kinds that aren't built in are known by their classes alone.
    for expert in config.all_experts:
        with_defaults(expert_kind(expert.kind), expert.options)
    with_defaults(gate_kind(config.gate.kind), config.gate.options)
    if config.trunk is not None:
        with_defaults(expert_kind(config.trunk.kind), config.trunk.options)
