"""Joint training: backpropagation through gate and experts at once.

The saved model is a plain ``keras.Model``. While it is trained, a second functional model over the same layers gives
the routing weights and every expert's answer to the loss (``moe_edge.training.losses``).
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from moe_edge.config import Combine, MixtureConfig, Recipe, Task, TrainingConfig
from moe_edge.training.gates.gate_layers import RampEntropy
from moe_edge.training.losses import (
    CompetitiveCrossentropy,
    GaussianMixtureLikelihood,
    PackExperts,
    ScaledSquaredError,
    SmoothedCrossentropy,
)
from moe_edge.training.metrics import PackedAccuracy, PackedRmse
from moe_edge.training.mixture import build_mixture, with_top_k
from moe_edge.training.outputs import mixture_tensors
from moe_edge.training.strategies.problem import EpochCallback, Outcome, Problem
from moe_edge.training.strategies.weighted_fit import WeightedExpertLoss, pack_weights

GATE_START_EPOCHS = 3
"""Epochs in which the gate learns the pieces alone, where joint training starts from some."""
EXPERT_START_EPOCHS = 10
"""Epochs in which each expert then learns its piece alone."""
SPARSE_EPOCHS = 5
"""Epochs of sparse training of a gate with top k, unless the recipe says another number."""
_MAX_STEPS_PER_CALL = 32


def train_jointly(problem: Problem) -> Outcome:
    """Build the mixture and train it as a whole; from pieces, where the recipe names some.

    With ``top_k`` it is trained with all experts, then fine-tuned with few, which keeps experts alive that sparse
    training from the start would lose; the fine-tuning stays only if it lowers the validation loss.

    Raises:
        ValueError: If the gate or an expert is of a kind that can't be trained by backpropagation.
    """
    dense = replace(problem.config, gate=replace(problem.config.gate, top_k=None))
    model = build_mixture(dense, **problem.build_arguments, seed=problem.training.seed)
    if problem.training.pieces is not None:
        _start_from_pieces(model, problem)
    history, best_epoch = fit_whole(model, problem, dense, epochs=problem.training.epochs, on_epoch=problem.on_epoch)
    if problem.config.gate.top_k is None:
        return Outcome(model=model, history=history, best_epoch=best_epoch)
    sparse, _ = make_sparse(model, problem)
    return Outcome(model=sparse, history=history, best_epoch=best_epoch)


def make_sparse(model: keras.Model, problem: Problem) -> tuple[keras.Model, bool]:
    """Let the k best experts count alone, and fine-tune so; returns whether the fine-tuning was kept."""
    assert problem.config.gate.top_k is not None
    sparse = with_top_k(model, problem.config, problem.config.gate.top_k)
    return sparse, fine_tune(sparse, problem, epochs=problem.training.fine_tune_epochs or SPARSE_EPOCHS)


def fine_tune(model: keras.Model, problem: Problem, *, epochs: int) -> bool:
    """Train a mixture on, at a tenth of the step size; kept only if the validation loss is lower than before.

    Layers that were fitted by other means have no trainable weights and stay.

    Returns:
        Whether it was kept.
    """
    if not model.trainable_variables:
        return False
    gentle = replace(problem.training, recipe=Recipe.COMPETITIVE, learning_rate=problem.training.learning_rate / 10)
    before, weights = validation_loss(model, problem), model.get_weights()
    fit_whole(model, replace(problem, training=gentle), problem.config, epochs=epochs, on_epoch=None)
    after = validation_loss(model, problem)
    if np.isfinite(after) and after < before:
        return True
    model.set_weights(weights)
    return False


def validation_loss(model: keras.Model, problem: Problem) -> float:
    """The recipe's loss on the validation rows, without the gate's own terms."""
    twin = _training_twin(model, problem.config, problem.training, target_scale=problem.scale, num_steps=1)
    rows, total = problem.split.validation, 0.0
    for start in range(0, len(rows), 1024):
        part = rows[start : start + 1024]
        total += float(twin.loss(problem.y[part], twin(problem.x[part], training=False))) * len(part)
    return total / len(rows)


def _start_from_pieces(model: keras.Model, problem: Problem) -> None:
    """Teach the gate which piece each row is of, then each expert its piece."""
    tensors, rows = mixture_tensors(model), problem.split.train
    x, training = problem.x[rows], problem.training
    gate = keras.Model(model.input, tensors.routing_weights)
    gate.compile(keras.optimizers.Adam(training.learning_rate), "categorical_crossentropy", jit_compile=False)
    pieces = problem.pieces
    gate.fit(x, pieces.astype(np.float32), batch_size=training.batch_size, epochs=GATE_START_EPOCHS, verbose=0)
    raw = tensors.expert_outputs
    if problem.config.combine is Combine.GAUSSIAN:
        raw = model.get_layer("expert_gaussian").input
    experts = keras.Model(model.input, raw)
    loss = WeightedExpertLoss(problem.config.combine.value, training.label_smoothing)
    experts.compile(keras.optimizers.Adam(training.learning_rate), loss, jit_compile=False)
    packed = pack_weights(problem.targets[rows], pieces)
    experts.fit(x, packed, batch_size=training.batch_size, epochs=EXPERT_START_EPOCHS, verbose=0)


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


def fit_whole(
    model: keras.Model, problem: Problem, config: MixtureConfig, *, epochs: int, on_epoch: EpochCallback | None
) -> tuple[dict[str, list[float]], int]:
    """Train all of a mixture; returns the history and the best epoch, whose weights stay."""
    training, split, x, y = problem.training, problem.split, problem.x, problem.y
    steps = -(-len(split.train) // training.batch_size)
    twin = _training_twin(model, config, training, target_scale=problem.scale, num_steps=steps)
    callbacks: list[Any] = [_EpochReporter(on_epoch)] if on_epoch is not None else []
    if config.gate.entropy_coef > 0:
        callbacks.append(RampEntropy(epochs))
    stopping = None
    if training.recipe is Recipe.COMPETITIVE:
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=training.patience, restore_best_weights=True)
        callbacks.append(stopping)
        twin.optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(
            training.learning_rate, steps * epochs, alpha=0.01
        )
    fitted = twin.fit(
        x[split.train],
        y[split.train],
        batch_size=training.batch_size,
        epochs=epochs,
        validation_data=(x[split.validation], y[split.validation]),
        validation_batch_size=max(256, training.batch_size),
        callbacks=callbacks,
        verbose=0,
    )
    history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
    return history, len(history["loss"]) if stopping is None else int(stopping.best_epoch) + 1


class _EpochReporter(keras.callbacks.Callback):
    """Hands each epoch's figures to the caller."""

    def __init__(self, on_epoch: EpochCallback) -> None:
        super().__init__()
        self._on_epoch = on_epoch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._on_epoch(epoch + 1, dict(logs or {}))
