"""The classical guide's models: an expert, a gating network, and a mixture of separate sub-models.

Any Keras architecture may be given for the expert and for the gate; ``moe_edge_converters.convert`` takes the result.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from moe_edge.training.layers import LoadBalancing, StackExperts, WeightedSum

InputDim = int | tuple[int, ...]
ModelBuilder = Callable[[Any, int], Any]


def create_expert_model(input_dim: InputDim, output_dim: int) -> keras.Model:
    """Build one expert: Dense 64 relu, Dense 32 relu, softmax.

    Args:
        input_dim: Features of a row, or the shape of one row.
        output_dim: Number of classes K.

    Returns:
        A model from (B, input_dim) to probabilities (B, K).
    """
    return keras.Sequential(
        [
            keras.Input(shape=_shape(input_dim)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(output_dim, activation="softmax"),
        ]
    )


def create_gating_network(input_dim: InputDim, num_experts: int) -> keras.Model:
    """Build the gating network: Dense 32 relu, softmax.

    Returns:
        A model from (B, input_dim) to routing weights (B, num_experts) that sum to 1.
    """
    return keras.Sequential(
        [
            keras.Input(shape=_shape(input_dim)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(num_experts, activation="softmax"),
        ]
    )


def create_moe_model(
    input_dim: InputDim,
    output_dim: int,
    num_experts: int,
    *,
    expert: ModelBuilder = create_expert_model,
    gate: ModelBuilder = create_gating_network,
    load_balancing_coef: float = 0.0,
) -> keras.Model:
    """Build a mixture of ``num_experts`` separate sub-models and a gate; compile and fit it as any Keras model.

    Args:
        input_dim: Features of a row, or the shape of one row.
        output_dim: Outputs K of each expert.
        num_experts: Number of experts E, at least 2.
        expert: Called E times as ``expert(input_dim, output_dim)``; returns a new model to (B, K) each time.
        gate: Called as ``gate(input_dim, num_experts)``; returns a model to (B, E).
        load_balancing_coef: Weight of the load-balancing loss. 0, the guide's own, often lets experts die; 0.1 to
            0.3 keeps them alive.

    Returns:
        A plain functional model from (B, input_dim) to (B, K): sub-models ``expert_0`` ..., ``gate``, then
        ``StackExperts`` and ``WeightedSum``.

    Raises:
        ValueError: If ``num_experts`` < 2, or a sub-model doesn't answer with the shape that the mixture needs.
    """
    if num_experts < 2:
        raise ValueError(f"expected num_experts >= 2, got {num_experts}")
    row = keras.Input(shape=_shape(input_dim), name="x")
    experts: list[keras.Model] = []
    for index in range(num_experts):
        model = _named(expert(input_dim, output_dim), f"expert_{index}")
        if any(model is other for other in experts):
            raise ValueError("expected a new expert model from each call, got the same one twice; build it inside")
        experts.append(model)
    answers = [_answer(model, row, output_dim, "output_dim") for model in experts]
    weights = _answer(_named(gate(input_dim, num_experts), "gate"), row, num_experts, "num_experts")
    if load_balancing_coef > 0:
        weights = LoadBalancing(load_balancing_coef, name="routing_weights")(weights)
    stacked = StackExperts(name="stack_experts")(answers)
    return keras.Model(row, WeightedSum(name="combine")([weights, stacked]), name="mixture")


def _shape(input_dim: InputDim) -> tuple[int, ...]:
    return (input_dim,) if isinstance(input_dim, int) else tuple(input_dim)


def _named(model: Any, name: str) -> Any:
    """Check that a builder returned a model, and give it its name in the mixture."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"{name}: expected a keras.Model from the builder, got {type(model).__name__}")
    model.name = name
    return model


def _answer(model: Any, row: Any, units: int, what: str) -> Any:
    """Call a sub-model on the row and check the shape of its answer."""
    try:
        answer = model(row)
    except Exception as error:
        raise ValueError(
            f"{model.name}: can't take rows of shape {tuple(row.shape)}: {str(error).splitlines()[0]}"
        ) from error
    shape = getattr(answer, "shape", None)
    if shape is None or tuple(shape[1:]) != (units,):
        got = "several outputs" if shape is None else tuple(shape)
        raise ValueError(f"{model.name}: expected outputs of shape (None, {units}) ({what}={units}), got {got}")
    return answer
