"""The layers of a mixture: preprocessing, stacked experts, load balancing, the weighted sum.

B is the batch, E the number of experts, K the number of outputs. All are registered under the package ``moe_edge``
and load in Keras' safe mode.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="moe_edge")
class Preprocess(keras.layers.Layer):
    """Raw rows (B, d) to features (B, F): impute, normalise, clip, one-hot encode; always float32.

    Numeric columns: ``z = clip((fill if x is NaN else x) - mean) * inverse_scale, low, high)``. Categorical columns:
    one value a category, 1 where the code equals it; a missing category (NaN) is all zeros.
    F = number of numeric columns + sum of the numbers of categories; numeric columns come first.

    Attributes:
        numeric_indices: Columns of the raw row that are numbers.
        fill: What stands for a missing value, one a numeric column, in the column's unit.
        mean: Centre of each numeric column.
        inverse_scale: One over the spread of each numeric column.
        low: Smallest z let through, one a numeric column.
        high: Largest z let through.
        categorical: ``[column, number of categories]`` of each categorical column.
    """

    def __init__(  # noqa: PLR0917 - one argument a key of the config
        self,
        numeric_indices: Sequence[int],
        fill: Sequence[float],
        mean: Sequence[float],
        inverse_scale: Sequence[float],
        low: Sequence[float],
        high: Sequence[float],
        categorical: Sequence[Sequence[int]] = (),
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.numeric_indices = [int(index) for index in numeric_indices]
        self.fill = _floats(fill)
        self.mean = _floats(mean)
        self.inverse_scale = _floats(inverse_scale)
        self.low = _floats(low)
        self.high = _floats(high)
        self.categorical = [[int(column), int(count)] for column, count in categorical]
        lengths = {len(self.numeric_indices), len(self.fill), len(self.mean), len(self.inverse_scale)}
        if lengths | {len(self.low), len(self.high)} != {len(self.numeric_indices)}:
            raise ValueError("expected one fill, mean, inverse_scale, low and high for each numeric column")
        if not self.numeric_indices and not self.categorical:
            raise ValueError("expected at least one column, got none")

    def call(self, x: Any) -> Any:
        """Map raw rows, float32 (B, d), to features, float32 (B, F)."""
        parts = []
        if self.numeric_indices:
            values = ops.take(x, self.numeric_indices, axis=1)
            values = ops.where(ops.isnan(values), ops.convert_to_tensor([self.fill], dtype="float32"), values)
            z = (values - ops.convert_to_tensor([self.mean], dtype="float32")) * ops.convert_to_tensor(
                [self.inverse_scale], dtype="float32"
            )
            low = ops.convert_to_tensor([self.low], dtype="float32")
            high = ops.convert_to_tensor([self.high], dtype="float32")
            parts.append(ops.minimum(ops.maximum(z, low), high))
        for column, count in self.categorical:
            codes = ops.arange(count, dtype="float32")
            parts.append(ops.cast(ops.equal(x[:, column : column + 1], codes), "float32"))
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """(B, d) to (B, F)."""
        return (input_shape[0], len(self.numeric_indices) + sum(count for _, count in self.categorical))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "numeric_indices": list(self.numeric_indices),
            "fill": list(self.fill),
            "mean": list(self.mean),
            "inverse_scale": list(self.inverse_scale),
            "low": list(self.low),
            "high": list(self.high),
            "categorical": [list(pair) for pair in self.categorical],
        }


@keras.saving.register_keras_serializable(package="moe_edge")
class StackedDense(keras.layers.Layer):
    """E dense layers of one shape at once: (B, d) or (B, E, d) to (B, E, units).

    Weights: ``kernel`` float32 (E, d, units), ``bias`` float32 (E, units), initialised as E separate Dense layers
    would be. ``softmax`` as activation runs over the last axis.

    Attributes:
        num_experts: E.
        units: Outputs of each expert's layer.
        activation: A Keras activation.
    """

    def __init__(self, num_experts: int, units: int, activation: Any = "linear", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_experts < 1 or units < 1:
            raise ValueError(f"expected num_experts and units of at least 1, got {num_experts} and {units}")
        self.num_experts = num_experts
        self.units = units
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for inputs (B, d) or (B, E, d)."""
        if len(input_shape) == 3 and input_shape[1] != self.num_experts:
            raise ValueError(f"{self.name}: expected inputs (B, {self.num_experts}, d), got {tuple(input_shape)}")
        if len(input_shape) not in (2, 3) or input_shape[-1] is None:
            raise ValueError(f"{self.name}: expected inputs (B, d) or (B, E, d), got {tuple(input_shape)}")

        def separately(shape: Sequence[int], dtype: Any = None) -> Any:
            # Glorot's fans are those of one expert's kernel; a single call on (E, d, units) would scale by E.
            one = [keras.initializers.GlorotUniform()(shape[1:], dtype=dtype) for _ in range(shape[0])]
            return ops.stack(one)

        self.kernel = self.add_weight(
            name="kernel", shape=(self.num_experts, input_shape[-1], self.units), initializer=separately
        )
        self.bias = self.add_weight(name="bias", shape=(self.num_experts, self.units), initializer="zeros")

    def call(self, x: Any) -> Any:
        """(B, d) or (B, E, d) to (B, E, units)."""
        equation = "bd,edu->beu" if len(x.shape) == 2 else "bed,edu->beu"
        return self.activation(ops.einsum(equation, x, self.kernel) + self.bias)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int, int]:
        """(B, d) or (B, E, d) to (B, E, units)."""
        return (input_shape[0], self.num_experts, self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
        }


@keras.saving.register_keras_serializable(package="moe_edge")
class StackExperts(keras.layers.Layer):
    """A list of E answers (B, K) to one tensor (B, E, K): the experts are stacked on axis 1."""

    def call(self, answers: Sequence[Any]) -> Any:
        """Stack the experts' answers."""
        return ops.stack(list(answers), axis=1)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple[int | None, ...]:
        """E times (B, K) to (B, E, K)."""
        return (input_shape[0][0], len(input_shape), *input_shape[0][1:])


@keras.saving.register_keras_serializable(package="moe_edge")
class LoadBalancing(keras.layers.Layer):
    """Pass the routing weights (B, E) on, and add ``coefficient * (E * sum(mean_gate**2) - 1)`` to the loss.

    The term is the squared coefficient of variation of the experts' mean weights (importance, Shazeer et al. 2017,
    arXiv 1701.06538): 0 when all are used alike, ``E - 1`` when one does everything.

    Attributes:
        coefficient: Weight of the term; 0 turns it off.
    """

    def __init__(self, coefficient: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coefficient = float(coefficient)

    def call(self, routing_weights: Any) -> Any:
        """Return the routing weights (B, E) unchanged."""
        if self.coefficient > 0:
            mean_gate = ops.mean(routing_weights, axis=0)
            num_experts = routing_weights.shape[-1]
            self.add_loss(self.coefficient * (num_experts * ops.sum(ops.square(mean_gate)) - 1.0))
        return routing_weights

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """The shape stays."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "coefficient": self.coefficient}


@keras.saving.register_keras_serializable(package="moe_edge")
class WeightedSum(keras.layers.Layer):
    """``[routing_weights (B, E), expert_outputs (B, E, K)]`` to the mixture's answer (B, K)."""

    def build(self, input_shape: Sequence[Sequence[int | None]]) -> None:
        """Check the two inputs' shapes."""
        weights, answers = input_shape
        if len(weights) != 2 or len(answers) != 3 or weights[1] != answers[1]:
            raise ValueError(
                f"{self.name}: expected routing weights (B, E) and expert outputs (B, E, K), "
                f"got {tuple(weights)} and {tuple(answers)}; stack the experts on axis 1"
            )

    def call(self, inputs: Sequence[Any]) -> Any:
        """Weight the experts' answers with the gate's weights and sum them."""
        weights, answers = inputs
        return ops.einsum("be,bek->bk", weights, answers)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple[int | None, int | None]:
        """[(B, E), (B, E, K)] to (B, K)."""
        return (input_shape[1][0], input_shape[1][2])


@keras.saving.register_keras_serializable(package="moe_edge")
class TargetScale(keras.layers.Layer):
    """Bring standardised answers (B, K) back to the target's unit: ``x * scale + shift``.

    Attributes:
        scale: One value an output.
        shift: One value an output.
    """

    def __init__(self, scale: Sequence[float], shift: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = _floats(scale)
        self.shift = _floats(shift)
        if len(self.scale) != len(self.shift):
            raise ValueError(f"expected as many scales as shifts, got {len(self.scale)} and {len(self.shift)}")

    def call(self, x: Any) -> Any:
        """(B, K) to (B, K)."""
        return x * ops.convert_to_tensor([self.scale], dtype="float32") + ops.convert_to_tensor(
            [self.shift], dtype="float32"
        )

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """The shape stays."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": list(self.scale), "shift": list(self.shift)}


def _floats(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values]
