"""Losses of a mixture: the mixture's likelihood, and the competitive loss that makes experts specialise.

They take the routing weights and every expert's answer packed into one tensor (B, E, values + 1), the weight last, so
that a plain functional model with a plain loss trains them (``moe_edge.training.fit``).
Layer: desktop (training).
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

_SMALLEST = 1e-7
"""Added inside logarithms of probabilities: float32 softmax reaches 0."""


@keras.saving.register_keras_serializable(package="moe_edge")
class PackExperts(keras.layers.Layer):
    """``[routing_weights (B, E), expert_outputs (B, E, V)]`` to one tensor (B, E, V + 1), the weight last."""

    def call(self, inputs: Any) -> Any:
        """Concatenate along the last axis."""
        weights, answers = inputs
        return ops.concatenate([answers, ops.expand_dims(weights, -1)], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """[(B, E), (B, E, V)] to (B, E, V + 1)."""
        return (*input_shape[1][:-1], input_shape[1][-1] + 1)


@keras.saving.register_keras_serializable(package="moe_edge")
class CompetitiveCrossentropy(keras.losses.Loss):
    """``(1 - a) * CE(sum(g * p)) + a * sum(g * CE(p))`` of packed probabilities; classes as int codes (B,).

    The first term is the mixture's likelihood, the second the expected loss of an expert drawn by the gate, the
    strongest competitive form (Jacobs et al. 1991): with it a row loses little when its best expert answers alone.

    Attributes:
        weight: a, in [0, 1].
        label_smoothing: Share of the label spread over all classes, in [0, 1).
    """

    def __init__(self, weight: float = 0.5, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each row, (B,)."""
        gate, answers = y_pred[:, :, -1], y_pred[:, :, :-1]
        num_classes = answers.shape[-1]
        codes = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        wanted = ops.one_hot(codes, num_classes, dtype=answers.dtype)
        wanted = wanted * (1.0 - self.label_smoothing) + self.label_smoothing / num_classes
        blend = ops.einsum("be,bek->bk", gate, answers)
        together = -ops.sum(wanted * ops.log(blend + _SMALLEST), axis=-1)
        alone = -ops.einsum("bk,bek->be", wanted, ops.log(answers + _SMALLEST))
        return (1.0 - self.weight) * together + self.weight * ops.sum(gate * alone, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "weight": self.weight, "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="moe_edge")
class GaussianMixtureLikelihood(keras.losses.Loss):
    """``-log sum(g * N(y; mu, sigma))`` of packed means and sigmas; targets (B, K), outputs independent in an expert.

    Attributes:
        target_scale: Spread of each output; the likelihood is that of the standardised target.
    """

    def __init__(self, target_scale: list[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_scale = [float(value) for value in target_scale]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Negative log-likelihood of each row, (B,)."""
        num_outputs = len(self.target_scale)
        gate = y_pred[:, :, -1]
        means, sigmas = y_pred[:, :, :num_outputs], y_pred[:, :, num_outputs:-1]
        y = ops.reshape(ops.cast(y_true, means.dtype), (-1, 1, num_outputs))
        z = (y - means) / sigmas
        relative = sigmas / ops.convert_to_tensor([[self.target_scale]], dtype=means.dtype)
        log_density = ops.sum(-0.5 * ops.square(z) - ops.log(relative) - 0.5 * math.log(2 * math.pi), axis=-1)
        return -ops.logsumexp(ops.log(gate + _SMALLEST) + log_density, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "target_scale": list(self.target_scale)}


@keras.saving.register_keras_serializable(package="moe_edge")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of probabilities (B, K) against int codes (B,) with label smoothing, which Keras' own lacks.

    Attributes:
        label_smoothing: Share of the label spread over all classes, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each row, (B,)."""
        num_classes = y_pred.shape[-1]
        wanted = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), num_classes, dtype=y_pred.dtype)
        wanted = wanted * (1.0 - self.label_smoothing) + self.label_smoothing / num_classes
        return -ops.sum(wanted * ops.log(y_pred + _SMALLEST), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="moe_edge")
class ScaledSquaredError(keras.losses.Loss):
    """Squared error of standardised targets, so that learning rates suit every unit; targets and answers (B, K).

    Attributes:
        target_scale: Spread of each output.
    """

    def __init__(self, target_scale: list[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_scale = [float(value) for value in target_scale]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Mean over the outputs, for each row, (B,)."""
        scale = ops.convert_to_tensor([self.target_scale], dtype=y_pred.dtype)
        y = ops.reshape(ops.cast(y_true, y_pred.dtype), (-1, len(self.target_scale)))
        return ops.mean(ops.square((y - y_pred) / scale), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "target_scale": list(self.target_scale)}
