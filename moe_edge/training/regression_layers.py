"""Regression as a mixture of Gaussians: the experts' means and sigmas, and the moments of their mixture.

B is the batch, E the number of experts, K the number of outputs.
Layer: desktop (training).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="moe_edge")
class GaussianExperts(keras.layers.Layer):
    """Raw expert outputs (B, E, 2K) to means and sigmas in the target's unit (B, E, 2K).

    The first K raw values are means in standardised units, the last K logarithms of sigma in standardised units:
    ``concat(mean * target_scale + target_mean, target_scale * exp(clip(log_sigma, log(min_sigma), log(max_sigma))))``.
    The floor keeps the likelihood bounded when an expert fits a few rows exactly.

    Attributes:
        num_outputs: K.
        target_mean: Centre of each output on the training rows.
        target_scale: Spread of each output on the training rows, above 0.
        min_sigma: Smallest sigma, as a share of target_scale.
        max_sigma: Largest sigma, as a share of target_scale.
    """

    def __init__(
        self,
        num_outputs: int,
        target_mean: Sequence[float],
        target_scale: Sequence[float],
        min_sigma: float = 0.01,
        max_sigma: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_outputs = int(num_outputs)
        self.target_mean = [float(value) for value in target_mean]
        self.target_scale = [float(value) for value in target_scale]
        self.min_sigma = float(min_sigma)
        self.max_sigma = float(max_sigma)
        if len(self.target_mean) != self.num_outputs or len(self.target_scale) != self.num_outputs:
            raise ValueError(f"expected {num_outputs} target means and scales, got {target_mean} and {target_scale}")
        if not all(value > 0 for value in self.target_scale):
            raise ValueError(f"expected target scales above 0, got {self.target_scale}")
        if not 0 < self.min_sigma < self.max_sigma:
            raise ValueError(f"expected 0 < min_sigma < max_sigma, got {min_sigma} and {max_sigma}")

    def call(self, raw: Any) -> Any:
        """Map raw values (B, E, 2K) to ``concat(mean, sigma)`` (B, E, 2K)."""
        scale = ops.convert_to_tensor([[self.target_scale]], dtype="float32")
        shift = ops.convert_to_tensor([[self.target_mean]], dtype="float32")
        mean = raw[:, :, : self.num_outputs] * scale + shift
        log_sigma = ops.clip(raw[:, :, self.num_outputs :], math.log(self.min_sigma), math.log(self.max_sigma))
        return ops.concatenate([mean, ops.exp(log_sigma) * scale], axis=2)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """The shape stays."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_outputs": self.num_outputs,
            "target_mean": list(self.target_mean),
            "target_scale": list(self.target_scale),
            "min_sigma": self.min_sigma,
            "max_sigma": self.max_sigma,
        }


@keras.saving.register_keras_serializable(package="moe_edge")
class GaussianMixture(keras.layers.Layer):
    """``[routing_weights (B, E), concat(mean, sigma) (B, E, 2K)]`` to the mixture's ``(mean, sigma)``, each (B, K).

    ``mean = sum(g * mu)``; ``variance = sum(g * (sigma**2 + mu**2)) - mean**2``, taken about the mean so that targets
    far from zero lose no digits, and never below 0.

    Attributes:
        num_outputs: K.
    """

    def __init__(self, num_outputs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_outputs = int(num_outputs)

    def build(self, input_shape: Sequence[Sequence[int | None]]) -> None:
        """Check the two inputs' shapes."""
        weights, parameters = input_shape
        if len(parameters) != 3 or weights[1] != parameters[1] or parameters[2] != 2 * self.num_outputs:
            raise ValueError(
                f"{self.name}: expected routing weights (B, E) and parameters (B, E, {2 * self.num_outputs}), "
                f"got {tuple(weights)} and {tuple(parameters)}"
            )

    def call(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        """The moments of the mixture."""
        weights, parameters = inputs
        means = parameters[:, :, : self.num_outputs]
        sigmas = parameters[:, :, self.num_outputs :]
        mean = ops.einsum("be,bek->bk", weights, means)
        spread = ops.square(sigmas) + ops.square(means - ops.expand_dims(mean, 1))
        variance = ops.einsum("be,bek->bk", weights, spread)
        return mean, ops.sqrt(ops.maximum(variance, 0.0))

    def compute_output_shape(
        self, input_shape: Sequence[Sequence[int | None]]
    ) -> tuple[tuple[int | None, int], tuple[int | None, int]]:
        """[(B, E), (B, E, 2K)] to twice (B, K)."""
        shape = (input_shape[0][0], self.num_outputs)
        return shape, shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "num_outputs": self.num_outputs}
