"""Train a mixture on a dataset: the four steps, from split rows to a model with its figures.

The saved model is a plain ``keras.Model``. While it is trained, a second functional model over the same layers gives
the routing weights and every expert's answer to the loss (``moe_edge.training.losses``).
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import MixtureConfig, Recipe, Task, TrainingConfig
from moe_edge.schema import FeatureSchema
from moe_edge.training.data import Dataset, describe_ranges
from moe_edge.training.losses import (
    CompetitiveCrossentropy,
    GaussianMixtureLikelihood,
    PackExperts,
    ScaledSquaredError,
    SmoothedCrossentropy,
)
from moe_edge.training.metrics import PackedAccuracy, PackedRmse
from moe_edge.training.mixture import build_mixture
from moe_edge.training.outputs import mixture_tensors
from moe_edge.training.score import ExpertReport, Score, dead_expert_warnings, report_experts, score_rows
from moe_edge.training.split import Split
from moe_edge.training.standardise import centre_and_spread, fit_preprocess

EpochCallback = Callable[[int, Mapping[str, float]], None]

_MAX_STEPS_PER_CALL = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingResult:
    """A trained mixture and its figures.

    Attributes:
        model: Plain Keras model, compiled with adam and the task's usual loss.
        schema: The dataset's schema with the ranges of the training rows.
        history: One value an epoch: loss, val_loss, and accuracy or rmse of both.
        best_epoch: The epoch whose weights the model has, from 1.
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
        on_epoch: Called after each epoch with its number, from 1, and its figures.

    Raises:
        ValueError: If ``config.task`` is not the dataset's.
    """
    if config.task is not dataset.schema.task:
        raise ValueError(f"expected a mixture for {dataset.schema.task.value}, got one for {config.task.value}")
    keras.utils.set_random_seed(training.seed)
    x, y = dataset.features, dataset.require_target()
    centres = [
        centre_and_spread(column) for column in y[split.train].astype(np.float64).reshape(len(split.train), -1).T
    ]
    scale = [spread for _, spread in centres]
    model = build_mixture(
        config,
        x.shape[1],
        len(dataset.schema.labels),
        preprocess=fit_preprocess(dataset.schema, x[split.train]),
        target_mean=[centre for centre, _ in centres] if config.task is Task.REGRESSION else None,
        target_scale=scale if config.task is Task.REGRESSION else None,
    )
    num_steps = -(-len(split.train) // training.batch_size)
    twin = _training_twin(model, config, training, target_scale=scale, num_steps=num_steps)
    history, best_epoch = _fit(twin, x, y, split, training=training, on_epoch=on_epoch)
    compile_plainly(model, config.task, training.learning_rate)
    experts = report_experts(model, config, x, y, split)
    return TrainingResult(
        model=model,
        schema=describe_ranges(dataset.schema, x[split.train]),
        history=history,
        best_epoch=best_epoch,
        experts=experts,
        train=score_rows(model, config.task, x, y, split.train),
        validation=score_rows(model, config.task, x, y, split.validation),
        test=score_rows(model, config.task, x, y, split.test),
        warnings=dead_expert_warnings(experts, config),
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


def _training_twin(
    model: keras.Model,
    config: MixtureConfig,
    training: TrainingConfig,
    *,
    target_scale: list[float],
    num_steps: int,
) -> keras.Model:
    """The model that is fitted: the same layers, with the output that the recipe's loss needs."""
    classifies = config.task is Task.CLASSIFICATION
    packs = config.combine.routable and not (classifies and training.recipe is Recipe.CLASSICAL)
    loss: keras.losses.Loss
    if not packs:
        if classifies:
            # Without smoothing this is sparse categorical cross-entropy, the classical recipe's.
            loss = SmoothedCrossentropy(training.label_smoothing)
            metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        else:
            loss = ScaledSquaredError(target_scale)
            metric = keras.metrics.RootMeanSquaredError(name="rmse")
        twin = keras.Model(model.input, model.output, name="mixture_in_training")
    else:
        tensors = mixture_tensors(model)
        packed = PackExperts(name="packed")([tensors.routing_weights, tensors.expert_outputs])
        twin = keras.Model(model.input, packed, name="mixture_in_training")
        if classifies:
            loss = CompetitiveCrossentropy(training.competitive_weight, training.label_smoothing)
            metric = PackedAccuracy(name="accuracy")
        else:
            loss = GaussianMixtureLikelihood(target_scale)
            metric = PackedRmse(name="rmse")
    # XLA's compilation takes longer than training a small mixture; many steps a call spare a third of the time.
    twin.compile(
        keras.optimizers.Adam(training.learning_rate),
        loss,
        metrics=[metric],
        jit_compile=False,
        steps_per_execution=min(num_steps, _MAX_STEPS_PER_CALL),
    )
    return twin


def _fit(
    twin: keras.Model,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[Any],
    split: Split,
    *,
    training: TrainingConfig,
    on_epoch: EpochCallback | None,
) -> tuple[dict[str, list[float]], int]:
    """Fit; returns the history and the best epoch, whose weights stay."""
    callbacks: list[Any] = [_EpochReporter(on_epoch)] if on_epoch is not None else []
    stopping = None
    if training.recipe is Recipe.COMPETITIVE:
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=training.patience, restore_best_weights=True)
        callbacks.append(stopping)
        steps = -(-len(split.train) // training.batch_size)
        twin.optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(
            training.learning_rate, steps * training.epochs, alpha=0.01
        )
    fitted = twin.fit(
        x[split.train],
        y[split.train],
        batch_size=training.batch_size,
        epochs=training.epochs,
        validation_data=(x[split.validation], y[split.validation]),
        validation_batch_size=max(256, training.batch_size),
        callbacks=callbacks,
        verbose=0,
    )
    history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
    epochs = len(history["loss"])
    return history, epochs if stopping is None else int(stopping.best_epoch) + 1


class _EpochReporter(keras.callbacks.Callback):
    """Hands each epoch's figures to the caller."""

    def __init__(self, on_epoch: EpochCallback) -> None:
        super().__init__()
        self._on_epoch = on_epoch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._on_epoch(epoch + 1, dict(logs or {}))
