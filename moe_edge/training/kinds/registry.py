"""Find a kind of expert or gate by its name, and check its options.

To add a kind: write its class in this folder and put its name here.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from moe_edge.config import MixtureConfig, Strategy
from moe_edge.training.kinds.options import EXPERT_OPTIONS, GATE_OPTIONS, check_options

if TYPE_CHECKING:
    # Imports Keras; names are checked before that.
    from moe_edge.training.kinds.kind import ExpertKind, GateKind

EXPERTS: Mapping[str, str] = {
    "dense": "dense:DenseExpert",
    "linear": "dense:LinearExpert",
    "conv1d": "convolutional:Conv1dExpert",
    "conv2d": "convolutional:Conv2dExpert",
    "gru": "recurrent:GruExpert",
    "lstm": "recurrent:LstmExpert",
    "keras": "user_model:UserExpert",
    "linear_regression": "linear_estimators:LinearRegressionExpert",
    "logistic_regression": "linear_estimators:LogisticRegressionExpert",
    "decision_tree": "tree_estimators:DecisionTreeExpert",
    "random_forest": "tree_estimators:RandomForestExpert",
    "gradient_boosting": "tree_estimators:GradientBoostingExpert",
    "hist_gradient_boosting": "tree_estimators:HistGradientBoostingExpert",
}
"""Names of expert kinds, with the module of this folder and the class."""

NEURAL_EXPERTS = ("dense", "linear", "conv1d", "conv2d", "gru", "lstm", "keras")
"""Kinds of experts that learn by backpropagation; a trunk is one of them."""

NEURAL_GATES = ("dense", "linear", "gaussian", "hierarchical")
"""Kinds of gates that can learn by backpropagation."""

GATES: Mapping[str, str] = {
    "dense": "gates:DenseGate",
    "linear": "gates:LinearGate",
    "gaussian": "gates:GaussianGateKind",
    "hierarchical": "gates:HierarchicalGateKind",
    "logistic_regression": "classifier_gates:LogisticRegressionGate",
    "decision_tree": "classifier_gates:DecisionTreeGate",
    "random_forest": "classifier_gates:RandomForestGate",
    "gradient_boosting": "classifier_gates:GradientBoostingGate",
    "hist_gradient_boosting": "classifier_gates:HistGradientBoostingGate",
}
"""Names of gate kinds, with the module of this folder and the class."""

REFUSED: Mapping[str, tuple[str, str]] = {
    "nearest_neighbours": ("it keeps every training row", "random_forest"),
    "svm": ("a kernel machine keeps its support vectors and needs an exponential for each", "logistic_regression"),
    "gaussian_process": ("it keeps every training row", "dense"),
}
"""Kinds that can't be written as a small graph: why, and the nearest that can."""


def expert_kind(name: str) -> ExpertKind:
    """The kind of expert called ``name``.

    Raises:
        ValueError: If there is none, or it can't be written as a small graph; names the nearest that can.
    """
    kind: ExpertKind = _find(name, EXPERTS, "expert")
    return kind


def gate_kind(name: str) -> GateKind:
    """The kind of gate called ``name``; errors as of ``expert_kind``."""
    kind: GateKind = _find(name, GATES, "gate")
    return kind


def with_defaults(kind: ExpertKind | GateKind, options: Mapping[str, Any]) -> dict[str, Any]:
    """The kind's options, those asked for in place of the defaults.

    Raises:
        ValueError: If an option is unknown, or of another type than its default's.
    """
    check_options(kind.name, kind.options, options)
    chosen = {**kind.options, **options}
    return {key: _as_list(value) if isinstance(kind.options[key], list) else value for key, value in chosen.items()}


def check_name(name: str, role: str) -> None:
    """Check a kind's name without importing it.

    Args:
        name: What a config calls the kind.
        role: ``expert`` or ``gate``.

    Raises:
        ValueError: As of ``expert_kind``.
    """
    known = {"expert": EXPERTS, "gate": GATES}[role]
    if name in REFUSED:
        reason, nearest = REFUSED[name]
        raise ValueError(f"{name} can't be written as a small graph: {reason}; the nearest kind that can: {nearest}")
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"expected a kind of {role} among {', '.join(known)}, got {name!r}{hint}")


def check_parts(mixture: MixtureConfig, strategy: Strategy) -> None:
    """Check names and options of a mixture's parts, and that the strategy can train them, without importing Keras.

    Raises:
        ValueError: If a kind or an option is unknown, or a part has to be fitted and the strategy only
            backpropagates.
    """
    gate, trunk = mixture.gate, mixture.trunk
    for expert in mixture.all_experts:
        check_name(expert.kind, "expert")
        if expert.kind in EXPERT_OPTIONS:
            check_options(expert.kind, EXPERT_OPTIONS[expert.kind], expert.options)
    check_name(gate.kind, "gate")
    if gate.kind in GATE_OPTIONS:
        check_options(gate.kind, GATE_OPTIONS[gate.kind], gate.options)
    if trunk is not None:
        check_name(trunk.kind, "expert")
        if trunk.kind in EXPERT_OPTIONS:
            check_options(trunk.kind, EXPERT_OPTIONS[trunk.kind], trunk.options)
    if strategy is not Strategy.JOINT:
        return
    kinds = {expert.kind for expert in mixture.all_experts}
    fitted = sorted(kind for kind in kinds if kind in EXPERT_OPTIONS and kind not in NEURAL_EXPERTS)
    if fitted:
        raise ValueError(
            f"expected experts that backpropagation can train for strategy joint, got {', '.join(fitted)}, "
            "fitted by an algorithm of their own; use strategy staged or em"
        )
    if gate.kind in GATE_OPTIONS and gate.kind not in NEURAL_GATES:
        raise ValueError(
            f"expected a gate that backpropagation can train for strategy joint, got {gate.kind}, "
            "fitted by an algorithm of its own; use strategy staged or em"
        )


def _as_list(value: Any) -> list[Any]:
    """One whole number stands for a list of one."""
    return [value] if isinstance(value, int) else list(value)


def _find(name: str, known: Mapping[str, str], role: str) -> Any:
    check_name(name, role)
    module, _, cls = known[name].partition(":")
    return getattr(import_module(f"moe_edge.training.kinds.{module}"), cls)()
