"""Put a mixture together from its parts, as a plain functional Keras model.

``x -> preprocess -> trunk? -> gate and experts -> combine -> the target's unit``. Dense experts of one shape are
stacked, one einsum a layer; any others are sub-models whose answers are stacked.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from moe_edge.config import Combine, MixtureConfig
from moe_edge.training.gates.gate_layers import SelectColumns, TopK
from moe_edge.training.layers import (
    LoadBalancing,
    Preprocess,
    StackedDense,
    StackExperts,
    TargetScale,
    WeightedSum,
)
from moe_edge.training.outputs import mixture_tensors
from moe_edge.training.parts import build_expert, build_gate, gate_columns
from moe_edge.training.regression_layers import GaussianExperts, GaussianMixture


def build_mixture(
    config: MixtureConfig,
    input_dim: int,
    output_dim: int,
    *,
    preprocess: Preprocess | None = None,
    target_mean: Sequence[float] | None = None,
    target_scale: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> keras.Model:
    """Build the untrained mixture that ``config`` describes; E experts, K outputs.

    Dense experts of one shape become layers ``expert_hidden_0`` ..., ``expert_output``, and a plain dense gate
    ``gate_hidden_0`` ..., ``gate_output`` (logits), ``gate_softmax``; others the sub-models ``expert_0`` ..., ``gate``.
    The rest is as of ``join_mixture``.

    Args:
        config: The mixture.
        input_dim: Columns d of a raw row.
        output_dim: Classes, or outputs of a regression: K.
        preprocess: The fitted preprocessing, or None when rows are already features.
        target_mean: Centre of each output of a regression; 0 by default.
        target_scale: Spread of each output of a regression; 1 by default.
        names: Names of the columns, which ``config.gate.features`` may name; ``x0``, ``x1``, ... by default.
        seed: Of the sub-models' initial weights; the stacked layers take Keras' global seed.

    Returns:
        An uncompiled model, float32 (B, d) to (B, K): probabilities, or the regression's mean.

    Raises:
        ValueError: If an expert or the gate is of a kind that can't be trained by backpropagation, or an option
            doesn't fit.
    """
    from moe_edge.training.kinds.trunk import build_trunk

    row, features = _features(input_dim, preprocess)
    trunk = None
    if config.trunk is not None:
        trunk = build_trunk(config.trunk, tuple(features.shape[1:]), seed=seed * 1000 + 999)
    columns = gate_columns(config, names or [f"x{index}" for index in range(input_dim)], preprocess)
    given = features if trunk is None else trunk(features)
    shape = tuple(int(size) for size in given.shape[1:])
    if _stackable(config):
        answers = _stacked_experts(config, given, output_dim)
    else:
        models = [build_expert(config, index, shape, output_dim, seed=seed) for index in range(config.gate.num_experts)]
        answers = _call_experts(models, given)
    weights = _plain_gate(config, given)
    if weights is None:
        gate_shape = shape if columns is None else (len(columns),)
        weights = _call_gate(build_gate(config, gate_shape, seed=seed), given, columns)
    return _finish(config, row, weights, answers, (output_dim, target_mean, target_scale))


def join_mixture(
    config: MixtureConfig,
    input_dim: int,
    output_dim: int,
    *,
    gate: keras.Model,
    experts: Sequence[keras.Model],
    trunk: keras.Model | None = None,
    preprocess: Preprocess | None = None,
    target_mean: Sequence[float] | None = None,
    target_scale: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> keras.Model:
    """Join parts of any kind into one mixture; their weights are shared, not copied.

    Layers: ``preprocess``, ``trunk``, ``gate_columns`` (where the gate sees few), ``gate``, ``expert_0`` ...,
    ``stack_experts``, ``routing_weights`` (load balancing), ``top_k`` (where few experts count), ``combine``;
    ``expert_gaussian`` before ``combine`` for gaussian mixtures, ``prediction`` (softmax) after it for logits,
    ``target_scale`` after it for mean.

    Args:
        config: The mixture: how it combines, which columns the gate sees, top k, load balancing.
        input_dim: Columns d of a raw row.
        output_dim: K.
        gate: (B, F) to (B, E); of the chosen columns where ``config.gate.features`` names some.
        experts: E models, (B, F) to (B, V).
        trunk: (B, F) to what gate and experts take.
        preprocess: As of ``build_mixture``, and so the rest.
        target_mean: As of ``build_mixture``.
        target_scale: As of ``build_mixture``.
        names: As of ``build_mixture``.

    Raises:
        ValueError: If there are more or fewer experts than the gate has weights for.
    """
    if len(experts) != config.gate.num_experts:
        raise ValueError(f"expected {config.gate.num_experts} experts, as the gate weighs, got {len(experts)}")
    row, features = _features(input_dim, preprocess)
    columns = gate_columns(config, names or [f"x{index}" for index in range(input_dim)], preprocess)
    given = features if trunk is None else trunk(features)
    weights = _call_gate(gate, given, columns)
    answers = _call_experts(experts, given)
    return _finish(config, row, weights, answers, (output_dim, target_mean, target_scale))


def with_top_k(model: keras.Model, config: MixtureConfig, top_k: int) -> keras.Model:
    """The same mixture with the k largest routing weights alone; shares all weights with ``model``, which has all."""
    tensors = mixture_tensors(model)
    weights = TopK(top_k, name="top_k")(tensors.routing_weights)
    num_outputs = int(model.output.shape[-1])
    scale: tuple[Sequence[float], Sequence[float]] | None = None
    if config.combine is Combine.MEAN:
        layer = model.get_layer("target_scale")
        scale = (layer.shift, layer.scale)
    return keras.Model(
        model.input, _combine(config, weights, tensors.expert_outputs, num_outputs, scale), name=model.name
    )


def _features(input_dim: int, preprocess: Preprocess | None) -> tuple[Any, Any]:
    row = keras.Input(shape=(input_dim,), name="x")
    if preprocess is None:
        return row, row
    preprocess.name = "preprocess"
    return row, preprocess(row)


def _stackable(config: MixtureConfig) -> bool:
    """Whether all experts are dense, of one shape, and so may be one einsum a layer."""
    first = config.all_experts[0]
    return first.kind in ("dense", "linear") and not first.options and all(e == first for e in config.all_experts)


def _stacked_experts(config: MixtureConfig, features: Any, output_dim: int) -> Any:
    expert = config.all_experts[0]
    num_experts = config.gate.num_experts
    answers = features
    for index, units in enumerate(() if expert.kind == "linear" else expert.hidden):
        answers = StackedDense(num_experts, units, expert.activation, name=f"expert_hidden_{index}")(answers)
    activation = "softmax" if config.combine is Combine.PROBABILITIES else "linear"
    width = 2 * output_dim if config.combine is Combine.GAUSSIAN else output_dim
    return StackedDense(num_experts, width, activation, name="expert_output")(answers)


def _plain_gate(config: MixtureConfig, features: Any) -> Any:
    """The routing weights of a dense gate without options, layer by layer; None for any other."""
    gate = config.gate
    special = gate.options or gate.features or gate.entropy_coef or gate.z_loss_coef or gate.temperature != 1
    if gate.kind != "dense" or special:
        return None
    weights = features
    for index, units in enumerate(gate.hidden):
        weights = keras.layers.Dense(units, activation=gate.activation, name=f"gate_hidden_{index}")(weights)
    weights = keras.layers.Dense(gate.num_experts, name="gate_output")(weights)
    return keras.layers.Softmax(name="gate_softmax")(weights)


def _call_gate(gate: keras.Model, features: Any, columns: Sequence[int] | None) -> Any:
    gate.name = "gate"
    if columns is not None:
        features = SelectColumns(columns, name="gate_columns")(features)
    return gate(features)


def _call_experts(models: Sequence[keras.Model], features: Any) -> Any:
    for index, model in enumerate(models):
        model.name = f"expert_{index}"
    return StackExperts(name="stack_experts")([model(features) for model in models])


def _finish(
    config: MixtureConfig,
    row: Any,
    weights: Any,
    answers: Any,
    target: tuple[int, Sequence[float] | None, Sequence[float] | None],
) -> keras.Model:
    output_dim, target_mean, target_scale = target
    mean, scale = _filled(target_mean, output_dim, 0.0), _filled(target_scale, output_dim, 1.0)
    weights = LoadBalancing(config.gate.balance, name="routing_weights")(weights)
    if config.gate.top_k is not None:
        weights = TopK(config.gate.top_k, name="top_k")(weights)
    if config.combine is Combine.GAUSSIAN:
        answers = GaussianExperts(output_dim, mean, scale, name="expert_gaussian")(answers)
    return keras.Model(row, _combine(config, weights, answers, output_dim, (mean, scale)), name="mixture")


def _combine(
    config: MixtureConfig,
    weights: Any,
    answers: Any,
    output_dim: int,
    scale: tuple[Sequence[float], Sequence[float]] | None,
) -> Any:
    """The mixture's answer in the target's unit; ``scale`` is its (mean, scale), needed for mean alone."""
    if config.combine is Combine.GAUSSIAN:
        return GaussianMixture(output_dim, name="combine")([weights, answers])[0]
    answer = WeightedSum(name="combine")([weights, answers])
    if config.combine is Combine.LOGITS:
        return keras.layers.Softmax(name="prediction")(answer)
    if config.combine is Combine.MEAN and scale is not None:
        return TargetScale(scale[1], scale[0], name="target_scale")(answer)
    return answer


def _filled(values: Sequence[float] | None, count: int, default: float) -> list[float]:
    return [default] * count if values is None else list(values)
