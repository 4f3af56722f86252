"""Find a kind of expert or gate by its name, and check its options.

To add a kind: write its class in this folder and put its name here.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    for key, value in options.items():
        if key not in kind.options:
            known = ", ".join(kind.options) or "none"
            raise ValueError(f"{kind.name}: unknown option {key!r}; expected options among: {known}")
        default = kind.options[key]
        if isinstance(default, list):
            if isinstance(value, (tuple, list)) or type(value) is int:
                continue
            raise ValueError(f"{kind.name}: expected {key} to be a list of whole numbers, got {value!r}")
        if isinstance(value, bool) and default is not None and not isinstance(default, bool):
            raise ValueError(f"{kind.name}: expected {key} of type {type(default).__name__}, got {value!r}")
        if default is None or isinstance(value, type(default)) or (isinstance(default, float) and type(value) is int):
            continue
        raise ValueError(f"{kind.name}: expected {key} of type {type(default).__name__}, got {value!r}")
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


def _as_list(value: Any) -> list[Any]:
    """One whole number stands for a list of one."""
    return [value] if isinstance(value, int) else list(value)


def _find(name: str, known: Mapping[str, str], role: str) -> Any:
    check_name(name, role)
    module, _, cls = known[name].partition(":")
    return getattr(import_module(f"moe_edge.training.kinds.{module}"), cls)()
