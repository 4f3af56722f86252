"""Build a mixture from its config: stacked experts, one einsum a layer, as a plain functional Keras model.

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from moe_edge.config import Combine, MixtureConfig
from moe_edge.training.layers import LoadBalancing, Preprocess, StackedDense, TargetScale, WeightedSum
from moe_edge.training.regression_layers import GaussianExperts, GaussianMixture


def build_mixture(
    config: MixtureConfig,
    input_dim: int,
    output_dim: int,
    *,
    preprocess: Preprocess | None = None,
    target_mean: Sequence[float] | None = None,
    target_scale: Sequence[float] | None = None,
) -> keras.Model:
    """Build the mixture that ``config`` describes; E experts, K outputs.

    Layers: ``preprocess``, ``expert_hidden_0`` ..., ``expert_output``, ``gate_hidden_0`` ..., ``gate_output`` (logits),
    ``gate_softmax``, ``routing_weights`` (load balancing), ``combine``; ``expert_gaussian`` before ``combine`` for
    gaussian mixtures, ``prediction`` (softmax) after it for logits, ``target_scale`` after it for mean.

    Args:
        config: The mixture.
        input_dim: Columns d of a raw row.
        output_dim: Classes, or outputs of a regression: K.
        preprocess: The fitted preprocessing, or None when rows are already features.
        target_mean: Centre of each output of a regression; 0 by default.
        target_scale: Spread of each output of a regression; 1 by default.

    Returns:
        An uncompiled model, float32 (B, d) to (B, K): probabilities, or the regression's mean.
    """
    row = keras.Input(shape=(input_dim,), name="x")
    features = row
    if preprocess is not None:
        preprocess.name = "preprocess"
        features = preprocess(row)

    experts = features
    for index, units in enumerate(config.expert.hidden):
        experts = StackedDense(config.gate.num_experts, units, config.expert.activation, name=f"expert_hidden_{index}")(
            experts
        )
    activation = "softmax" if config.combine is Combine.PROBABILITIES else "linear"
    width = 2 * output_dim if config.combine is Combine.GAUSSIAN else output_dim
    experts = StackedDense(config.gate.num_experts, width, activation, name="expert_output")(experts)

    gate = features
    for index, units in enumerate(config.gate.hidden):
        gate = keras.layers.Dense(units, activation=config.gate.activation, name=f"gate_hidden_{index}")(gate)
    gate = keras.layers.Dense(config.gate.num_experts, name="gate_output")(gate)
    gate = keras.layers.Softmax(name="gate_softmax")(gate)
    gate = LoadBalancing(config.gate.balance, name="routing_weights")(gate)

    if config.combine is Combine.GAUSSIAN:
        experts = GaussianExperts(
            output_dim,
            _filled(target_mean, output_dim, 0.0),
            _filled(target_scale, output_dim, 1.0),
            name="expert_gaussian",
        )(experts)
        answer = GaussianMixture(output_dim, name="combine")([gate, experts])[0]
    else:
        answer = WeightedSum(name="combine")([gate, experts])
    if config.combine is Combine.LOGITS:
        answer = keras.layers.Softmax(name="prediction")(answer)
    if config.combine is Combine.MEAN:
        scale, shift = _filled(target_scale, output_dim, 1.0), _filled(target_mean, output_dim, 0.0)
        answer = TargetScale(scale, shift, name="target_scale")(answer)
    return keras.Model(row, answer, name="mixture")


def _filled(values: Sequence[float] | None, count: int, default: float) -> list[float]:
    return [default] * count if values is None else list(values)
