"""Layers around a gate: chosen columns, temperature, terms of the loss, the k largest weights.

B is the batch, E the number of experts. Terms of the loss are added in training only, so that validation losses of
different epochs can be compared.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

_SMALLEST = 1e-7
"""Added inside logarithms of weights: float32 softmax reaches 0."""


@keras.saving.register_keras_serializable(package="moe_edge")
class SelectColumns(keras.layers.Layer):
    """Features (B, F) to the chosen ones (B, len(indices)): a gate over few features.

    Attributes:
        indices: Columns to take, each at least 0.
    """

    def __init__(self, indices: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.indices = [int(index) for index in indices]
        if not self.indices or min(self.indices) < 0:
            raise ValueError(f"expected at least one column index, each at least 0, got {self.indices}")

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Check that the columns are there."""
        if len(input_shape) != 2 or input_shape[1] is None or max(self.indices) >= input_shape[1]:
            raise ValueError(
                f"{self.name}: expected rows (B, F) with F > {max(self.indices)}, got {tuple(input_shape)}"
            )

    def call(self, x: Any) -> Any:
        """(B, F) to (B, len(indices))."""
        return ops.take(x, self.indices, axis=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """(B, F) to (B, len(indices))."""
        return (input_shape[0], len(self.indices))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "indices": list(self.indices)}


class _Unchanged(keras.layers.Layer):
    """A layer whose output has its input's shape."""

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """The shape stays."""
        return input_shape


@keras.saving.register_keras_serializable(package="moe_edge")
class Temperature(_Unchanged):
    """Divide logits (B, E) by a temperature: below 1 the gate is sharper, above 1 softer.

    Attributes:
        temperature: Above 0.
    """

    def __init__(self, temperature: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = float(temperature)
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"expected temperature > 0, got {temperature}")

    def call(self, logits: Any) -> Any:
        """(B, E) to (B, E)."""
        return logits / self.temperature

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="moe_edge")
class ZLoss(_Unchanged):
    """Pass logits (B, E) on, and add ``coefficient * mean(logsumexp(logits)**2)`` to the loss.

    The z-loss of ST-MoE (Zoph et al. 2022, arXiv 2202.08906): keeps logits in a range that float32 and int8 resolve.

    Attributes:
        coefficient: Weight of the term; 0 turns it off.
    """

    def __init__(self, coefficient: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coefficient = float(coefficient)

    def call(self, logits: Any, training: bool | None = None) -> Any:
        """Return the logits unchanged."""
        if training and self.coefficient > 0:
            self.add_loss(self.coefficient * ops.mean(ops.square(ops.logsumexp(logits, axis=-1))))
        return logits

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "coefficient": self.coefficient}


@keras.saving.register_keras_serializable(package="moe_edge")
class RowEntropy(_Unchanged):
    """Pass routing weights (B, E) on, and add ``coefficient * strength * mean(H(weights))`` to the loss.

    H is the entropy of a row's weights in nats: rows that few experts share need few experts at a given mass.
    ``strength``, 1 unless ``RampEntropy`` moves it, is a state of the layer: soft first, so that experts specialise.

    Attributes:
        coefficient: Weight of the term; 0 turns it off.
    """

    def __init__(self, coefficient: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coefficient = float(coefficient)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the state."""
        self.strength = self.add_weight(name="strength", shape=(), initializer="ones", trainable=False)

    def call(self, routing_weights: Any, training: bool | None = None) -> Any:
        """Return the routing weights unchanged."""
        if training and self.coefficient > 0:
            entropy = -ops.sum(routing_weights * ops.log(routing_weights + _SMALLEST), axis=-1)
            self.add_loss(self.coefficient * self.strength * ops.mean(entropy))
        return routing_weights

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "coefficient": self.coefficient}


class RampEntropy(keras.callbacks.Callback):
    """Raise every ``RowEntropy`` of a model from 0 to its coefficient over the first half of the epochs.

    Does nothing to a model without one. Patience may end training early, so the full term comes before the end.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._last = max(1, epochs // 2)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the strength of the epoch to come."""
        for layer in self.model._flatten_layers():
            if isinstance(layer, RowEntropy):
                layer.strength.assign(min(1.0, epoch / self._last))


@keras.saving.register_keras_serializable(package="moe_edge")
class TopK(_Unchanged):
    """Keep the k largest routing weights of a row, renormalised; the others are 0 (Shazeer et al. 2017).

    Of equal weights that of the lower index is kept. Gradients flow through the kept weights; with k = 1, a hard
    choice, the weight is always 1 and the gate gets none but those of its own terms: train it dense before.

    Attributes:
        k: Experts that count for each row, at least 1.
    """

    def __init__(self, k: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = int(k)
        if self.k < 1:
            raise ValueError(f"expected k >= 1, got {k}")

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Check the number of experts."""
        if input_shape[-1] is None or self.k > input_shape[-1]:
            raise ValueError(f"{self.name}: expected at least k={self.k} experts, got {tuple(input_shape)}")

    def call(self, routing_weights: Any) -> Any:
        """(B, E) to (B, E)."""
        num_experts = routing_weights.shape[-1]
        if self.k == num_experts:
            return routing_weights
        _, chosen = ops.top_k(routing_weights, self.k)
        mask = ops.sum(ops.one_hot(chosen, num_experts, dtype=routing_weights.dtype), axis=-2)
        kept = routing_weights * ops.stop_gradient(mask)
        return kept / ops.sum(kept, axis=-1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "k": self.k}
