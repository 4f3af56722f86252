"""Emit the whole mixture as one graph: preprocessing, gate, experts, and the gating-plus-weighted-sum tail.

The first layers of experts of one shape and scheme are one wide FULLY_CONNECTED (a *bank*); later layers are one
FULLY_CONNECTED an expert. As fast as a BATCH_MATMUL over stacked weights, and it quantizes per channel.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_edge.config import Combine
from moe_edge.hierarchy import GateTree
from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex, add_signature, new_model
from moe_edge_converters.graphs.network_graph import add_gate, add_network, ends_in_softmax, splice
from moe_edge_converters.graphs.preprocess_graph import add_preprocess
from moe_edge_converters.graphs.top_k_gate import add_top_k, scatter_weights
from moe_edge_converters.spec import DenseNetwork, HeadSpec, HierarchicalNetwork, MixtureSpec

SERVING = "serving_default"
ANSWERS, STACKED = "combine/answers", "combine/stacked"


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Experts whose first layers are one wide layer.

    Attributes:
        name: Start of the wide layer's tensor names.
        experts: Their indices, in order.
        scheme: The scheme that all of them share.
    """

    name: str
    experts: tuple[int, ...]
    scheme: str


@dataclass(frozen=True, kw_only=True)
class FusedLayout:
    """Names of the tensors between the parts; they survive quantization.

    Attributes:
        banks: Experts with a common first layer.
        features: What gate and experts are given.
        answers: All experts' answers side by side, (1, E * values), before a shared softmax.
        stacked: The same as (1, E, values).
        gate_outputs: Outputs of ``serving_default`` that the gate alone gives, the routing weights first.
        tree: The tree of a hierarchical gate.
    """

    banks: tuple[Bank, ...]
    features: str
    answers: str
    stacked: str
    gate_outputs: tuple[str, ...] = ("routing_weights",)
    tree: GateTree | None = None


def plan_banks(spec: MixtureSpec, schemes: Sequence[str]) -> tuple[Bank, ...]:
    """Group dense experts of equal shape and scheme; an expert alone, or of another architecture, is in no bank.

    Args:
        spec: The mixture.
        schemes: Each expert's scheme.
    """
    groups: dict[tuple[object, str], list[int]] = {}
    for index, (expert, scheme) in enumerate(zip(spec.experts, schemes, strict=True)):
        if isinstance(expert, DenseNetwork):
            groups.setdefault((expert.shapes, scheme), []).append(index)
    wide = [(key, members) for key, members in groups.items() if len(members) > 1]
    return tuple(
        Bank(name=f"bank_{number}", experts=tuple(members), scheme=scheme)
        for number, ((_, scheme), members) in enumerate(wide)
    )


def build_fused_graph(spec: MixtureSpec, schemes: Sequence[str], *, densities: bool = True) -> tuple[Any, FusedLayout]:
    """Emit the float32 graph of a mixture; the quantizer later gives each part its scheme.

    Args:
        spec: The mixture.
        schemes: Each expert's scheme, which decides the banks.
        densities: Whether Gaussian mixtures hand out each expert's mean and sigma too.

    Returns:
        A model with one subgraph and the signature ``serving_default``: x (1, ...) to ``prediction`` (1, K),
        ``routing_weights`` (1, E), for Gaussian mixtures ``sigma`` (1, K), ``expert_means`` and ``expert_sigmas``
        (1, E, K), and the gate's side outputs (1, 1); and its layout.
    """
    banks = plan_banks(spec, schemes)
    model = new_model("moe-edge mixture of experts")
    builder = GraphBuilder(model, SERVING)
    x = builder.input("x", spec.input_shape)
    features = add_preprocess(builder, x, spec.preprocess) if spec.preprocess else x
    if spec.trunk is not None:
        features = splice(builder, features, spec.trunk, prefix="trunk/")
    weights, sides = add_gate(builder, features, spec.gate)
    if spec.top_k is not None:
        weights = scatter_weights(builder, *add_top_k(builder, weights, spec.top_k), spec.num_experts)
    shared_softmax = spec.combine is Combine.PROBABILITIES and all(map(ends_in_softmax, spec.experts))
    features_name = builder.subgraph.tensors[features].name
    answers = _add_experts(builder, features, spec, banks, softmax=not shared_softmax)
    outputs = _add_tail(builder, weights, answers, spec, softmax=shared_softmax, densities=densities)
    outputs = {"prediction": outputs["prediction"], "routing_weights": weights, **outputs, **sides}
    for name, tensor in outputs.items():
        builder.output(name, tensor)
    add_signature(model, SERVING, builder.index, {"x": x}, outputs)
    return model, FusedLayout(
        banks=banks,
        features=features_name,
        answers=ANSWERS,
        stacked=STACKED,
        gate_outputs=("routing_weights", *sides),
        tree=spec.gate.tree if isinstance(spec.gate, HierarchicalNetwork) else None,
    )


def _add_experts(
    builder: GraphBuilder, features: TensorIndex, spec: MixtureSpec, banks: tuple[Bank, ...], *, softmax: bool
) -> list[TensorIndex]:
    """Every expert's answer, (1, K) each (2 K for Gaussian experts), in the experts' order."""
    hidden: dict[int, TensorIndex] = {}
    for bank in banks:
        members = [spec.experts[index] for index in bank.experts]
        layers = [member.layers[0] for member in members if isinstance(member, DenseNetwork)]
        activation = layers[0].activation
        closing = activation == "softmax"
        wide = builder.fully_connected(
            builder.flatten(features, name=f"{bank.name}/flat"),
            np.concatenate([layer.kernel.T for layer in layers]),
            np.concatenate([layer.bias for layer in layers]),
            activation="linear" if closing else activation,
            name=f"{bank.name}/dense_0",
        )
        names = [f"expert_{index}/dense_0" for index in bank.experts]
        for index, piece in zip(bank.experts, builder.split(wide, len(layers), names=names), strict=True):
            # A one-layer expert's softmax runs over its own slice, not over the whole bank.
            own_softmax = closing and softmax
            hidden[index] = builder.softmax(piece, name=f"expert_{index}/softmax") if own_softmax else piece
    return [
        add_network(
            builder,
            hidden.get(index, features),
            expert,
            prefix=f"expert_{index}/",
            softmax=softmax,
            first_layer=1 if index in hidden else 0,
        )
        for index, expert in enumerate(spec.experts)
    ]


def _add_tail(
    builder: GraphBuilder,
    weights: TensorIndex,
    answers: list[TensorIndex],
    spec: MixtureSpec,
    *,
    softmax: bool,
    densities: bool,
) -> dict[str, TensorIndex]:
    """Stack the experts' answers and weigh them; float32 in every scheme."""
    size = builder.shape(answers[0])[1]
    stacked = builder.concatenate(answers, name=ANSWERS)
    stacked = builder.reshape(stacked, (spec.num_experts, size), name=STACKED)
    if softmax:
        stacked = builder.softmax(stacked, name="combine/probabilities")
    column = builder.reshape(weights, (spec.num_experts, 1), name="combine/routing_weights")

    def weighted_sum(values: TensorIndex, name: str) -> TensorIndex:
        products = builder.binary("MUL", values, column, name=f"combine/{name}_products")
        return builder.sum(products, 1, name=f"combine/{name}")

    if spec.combine is Combine.GAUSSIAN:
        return _add_gaussian_tail(builder, stacked, weighted_sum, spec, densities=densities)
    mixed = weighted_sum(stacked, "mixed")
    if spec.combine is Combine.LOGITS:
        mixed = builder.softmax(mixed, name="combine/softmax")
    return {"prediction": _add_scale(builder, mixed, spec.head, shift=True, name="scaled")}


def _add_gaussian_tail(
    builder: GraphBuilder, stacked: TensorIndex, weighted_sum: Any, spec: MixtureSpec, *, densities: bool
) -> dict[str, TensorIndex]:
    """Mean and sigma of the mixture of Gaussians: variance = sum g (sigma_e^2 + (mean_e - mean)^2).

    The experts' own means and sigmas are outputs too: quantiles need the whole density (Bishop 1994).
    """
    head = spec.head
    means, log_sigmas = builder.split(stacked, 2, names=["combine/means", "combine/log_sigmas"])
    mean = weighted_sum(means, "mean")
    limits = np.log([head.min_sigma, head.max_sigma]).astype(np.float32).reshape(2, 1, 1, 1)
    log_sigmas = builder.binary(
        "MAXIMUM", log_sigmas, builder.constant("combine/log_min_sigma", limits[0]), name="combine/log_sigmas_floored"
    )
    log_sigmas = builder.binary(
        "MINIMUM", log_sigmas, builder.constant("combine/log_max_sigma", limits[1]), name="combine/log_sigmas_clipped"
    )
    sigmas = builder.unary("EXP", log_sigmas, name="combine/sigmas")
    variances = builder.binary("MUL", sigmas, sigmas, name="combine/variances")
    centre = builder.reshape(mean, (1, spec.num_outputs), name="combine/centre")
    distances = builder.binary("SUB", means, centre, name="combine/distances")
    squares = builder.binary("MUL", distances, distances, name="combine/squares")
    moments = builder.binary("ADD", variances, squares, name="combine/moments")
    sigma = builder.unary("SQRT", weighted_sum(moments, "variance"), name="combine/sigma")
    outputs = {
        "prediction": _add_scale(builder, mean, head, shift=True, name="scaled_mean"),
        "sigma": _add_scale(builder, sigma, head, shift=False, name="scaled_sigma"),
    }
    if densities:
        outputs["expert_means"] = _add_scale(builder, means, head, shift=True, name="expert_means")
        outputs["expert_sigmas"] = _add_scale(builder, sigmas, head, shift=False, name="expert_sigmas")
    return outputs


def _add_scale(builder: GraphBuilder, x: TensorIndex, head: HeadSpec, *, shift: bool, name: str) -> TensorIndex:
    """From the standardised target back to the user's units."""
    if head.scale is None or head.shift is None:
        return x
    scale = builder.constant("combine/scale", head.scale.reshape(1, -1), np.float32)
    scaled = builder.binary("MUL", x, scale, name=f"combine/{name}")
    if not shift:
        return scaled
    offset = builder.constant("combine/shift", head.shift.reshape(1, -1), np.float32)
    return builder.binary("ADD", scaled, offset, name=f"combine/{name}_shifted")
