"""Fit neural experts to rows that count differently for each of them, all in one Keras model.

The loss of a row is ``sum_e m_e * l_e``: m_e how much of the row is expert e's (its piece, or its responsibility in
EM), l_e the expert's own loss on it. An expert of a single layer is fitted in closed form, or to convergence.
Layer: desktop (training).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from moe_edge.config import Combine, Strategy, Task, TrainingConfig
from moe_edge.training.gates.softmax_regression import fit_softmax_regression
from moe_edge.training.kinds.kind import ExpertJob
from moe_edge.training.layers import StackExperts

MIN_SIGMA, MAX_SIGMA = 0.01, 10.0
"""Limits of a Gaussian expert's standardised sigma: the defaults of ``GaussianExperts``."""
_SMALLEST = 1e-7
_RIDGE = 1e-8
"""Added to the squares of the columns, as a share of the weights' sum, so that constant columns can be solved for."""


@keras.saving.register_keras_serializable(package="moe_edge")
class WeightedExpertLoss(keras.losses.Loss):
    """``sum_e m_e * l_e`` of raw answers (B, E, V); targets (B, K' + E): codes or standardised numbers, then m.

    l_e is the cross-entropy (probabilities or logits), the Gaussian negative log-likelihood, or half the squared
    error, as ``combine`` says.

    Attributes:
        combine: How the experts' answers will be mixed.
        label_smoothing: Share of the label spread over all classes, in [0, 1).
    """

    def __init__(self, combine: str, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.combine = Combine(combine)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each row, (B,)."""
        num_experts, values = y_pred.shape[1], y_pred.shape[2]
        y_true = ops.cast(y_true, y_pred.dtype)
        weights = y_true[:, -num_experts:]
        if self.combine in (Combine.PROBABILITIES, Combine.LOGITS):
            wanted = ops.one_hot(ops.cast(y_true[:, 0], "int32"), values, dtype=y_pred.dtype)
            wanted = wanted * (1.0 - self.label_smoothing) + self.label_smoothing / values
            logs = ops.log(y_pred + _SMALLEST) if self.combine is Combine.PROBABILITIES else ops.log_softmax(y_pred)
            losses = -ops.einsum("bk,bek->be", wanted, logs)
        elif self.combine is Combine.MEAN:
            losses = 0.5 * ops.sum(ops.square(y_pred - y_true[:, None, :values]), axis=-1)
        else:
            outputs = values // 2
            log_sigma = ops.clip(y_pred[:, :, outputs:], math.log(MIN_SIGMA), math.log(MAX_SIGMA))
            z = (y_true[:, None, :outputs] - y_pred[:, :, :outputs]) * ops.exp(-log_sigma)
            losses = ops.sum(0.5 * ops.square(z) + log_sigma + 0.5 * math.log(2 * math.pi), axis=-1)
        return ops.sum(weights * losses, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "combine": self.combine.value, "label_smoothing": self.label_smoothing}


def pack_weights(targets: npt.NDArray[Any], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Targets of ``WeightedExpertLoss``: codes (n,) or numbers (n, K), beside the weights (n, E)."""
    return np.concatenate([targets.reshape(len(targets), -1), weights], axis=1).astype(np.float32)


class NeuralFit:
    """Trains several neural experts at once; keeps the optimiser's state from one call to the next."""

    def __init__(
        self, models: Sequence[keras.Model], combine: Combine, training: TrainingConfig, input_shape: tuple[int, ...]
    ) -> None:
        row = keras.Input(shape=input_shape)
        self._model = keras.Model(row, StackExperts()([model(row) for model in models]))
        self._batch_size = training.batch_size
        self._model.compile(
            keras.optimizers.Adam(training.learning_rate),
            WeightedExpertLoss(
                combine.value, training.label_smoothing if training.strategy is Strategy.STAGED else 0.0
            ),
            jit_compile=False,
        )

    def fit(
        self,
        x: npt.NDArray[np.float32],
        packed: npt.NDArray[np.float32],
        *,
        epochs: int,
        validation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
        patience: int = 20,
    ) -> dict[str, list[float]]:
        """Train on rows (n, F) with targets of ``pack_weights``; with validation rows, the best epoch stays."""
        callbacks = []
        if validation is not None:
            callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True))
        fitted = self._model.fit(
            x,
            packed,
            batch_size=self._batch_size,
            epochs=epochs,
            validation_data=validation,
            validation_batch_size=1024,
            callbacks=callbacks,
            verbose=0,
        )
        return {name: [float(value) for value in values] for name, values in fitted.history.items()}


def single_layer(model: keras.Model, job: ExpertJob) -> keras.layers.Dense | None:
    """The one layer of a linear expert; None for any other."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer | keras.layers.Flatten)]
    if len(layers) != 1 or not isinstance(layers[0], keras.layers.Dense):
        return None
    dense = layers[0]
    same = dense.use_bias and dense.activation is keras.activations.get(job.output_activation)
    return dense if same and dense.units == job.num_values else None


def fit_single_layer(
    dense: keras.layers.Dense,
    job: ExpertJob,
    x: npt.NDArray[np.float32],
    targets: npt.NDArray[Any],
    weights: npt.NDArray[np.float64],
) -> None:
    """Set a linear expert's weights to the weighted maximum of its likelihood.

    Regression: weighted least squares, and one sigma for each output from the weighted residuals, not below
    ``MIN_SIGMA`` (still the maximum within the limit). Classification: softmax regression by L-BFGS.

    Args:
        dense: The layer.
        job: What the expert is for.
        x: Features, float32 (n, ...).
        targets: int64 (n,), or standardised float64 (n, K).
        weights: float64 (n,), not all 0.
    """
    rows = x.reshape(len(x), -1).astype(np.float64)
    if job.task is Task.CLASSIFICATION:
        found = fit_softmax_regression(rows, np.eye(job.num_outputs)[targets] * weights[:, None])
        dense.set_weights([found.kernel.astype(np.float32), found.bias.astype(np.float32)])
        return
    share = (weights / weights.sum())[:, None]
    centre_x, centre_y = (share * rows).sum(axis=0), (share * targets).sum(axis=0)
    # Centred, so that the ridge leaves the bias free.
    a, b = rows - centre_x, targets - centre_y
    kernel = np.linalg.solve(a.T @ (share * a) + _RIDGE * np.eye(rows.shape[1]), a.T @ (share * b))
    bias = centre_y - centre_x @ kernel
    if job.combine is Combine.GAUSSIAN:
        variance = (share * np.square(targets - rows @ kernel - bias)).sum(axis=0)
        log_sigma = np.log(np.clip(np.sqrt(variance), MIN_SIGMA, MAX_SIGMA))
        kernel, bias = np.hstack([kernel, np.zeros_like(kernel)]), np.concatenate([bias, log_sigma])
    dense.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
