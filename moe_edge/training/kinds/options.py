"""Options of the kinds that are built in, each with its default, whose type is the option's: known without Keras.

The kinds' classes take them from here; a kind that isn't listed has its options checked when its class is loaded.
Layer: desktop (training). Imports the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

Options = Mapping[str, Any]

_CONVOLUTION: Options = {
    "shape": [],
    "filters": [16, 32],
    "kernel_size": 3,
    "strides": 1,
    "dilation": 1,
    "pool": 2,
    "padding": "same",
    "depthwise": False,
    "summary": "flatten",
}
"""``shape``: how a flat row's features lie, last axis fastest. ``filters``: of each convolution. ``kernel_size``,
``strides``, ``dilation``: of every convolution, along each axis. ``pool``: size of the max pooling after each
convolution; 1 for none. ``padding``: ``same`` or ``valid``. ``depthwise``: each convolution is one a channel, then one
across channels. ``summary``: what follows the convolutions, ``flatten`` or ``average`` (over positions).
"""

_RECURRENCE: Options = {"shape": [], "units": [16]}
"""``shape``: [timesteps, channels], how a flat row's features lie. ``units``: of each recurrent layer."""

_FITTED: Mapping[str, Options] = {
    "logistic_regression": {"C": 1.0, "max_iter": 1000},
    "decision_tree": {"max_depth": 8, "min_samples_leaf": 5, "max_leaf_nodes": None},
    "random_forest": {
        "n_estimators": 100,
        "max_depth": 8,
        "min_samples_leaf": 1,
        "max_features": None,
        "max_leaf_nodes": None,
    },
    "gradient_boosting": {
        "n_estimators": 100,
        "max_depth": 3,
        "learning_rate": 0.1,
        "min_samples_leaf": 1,
        "subsample": 1.0,
        "max_features": None,
    },
    "hist_gradient_boosting": {
        "max_iter": 100,
        "max_depth": None,
        "max_leaf_nodes": 31,
        "learning_rate": 0.1,
        "min_samples_leaf": 20,
        "l2_regularization": 0.0,
        "max_bins": 255,
        "early_stopping": False,
    },
}
"""Estimators that may be experts and gates; the options are scikit-learn's."""

EXPERT_OPTIONS: Mapping[str, Options] = {
    "dense": {},
    "linear": {},
    "conv1d": _CONVOLUTION,
    "conv2d": _CONVOLUTION,
    "gru": _RECURRENCE,
    "lstm": _RECURRENCE,
    "keras": {"build": ""},
    "linear_regression": {"alpha": 0.0},
    **_FITTED,
}
GATE_OPTIONS: Mapping[str, Options] = {
    "dense": {},
    "linear": {},
    "gaussian": {"covariance": "diagonal"},
    "hierarchical": {"branching": 2, "tree": [], "hidden": False, "grow": False},
    **_FITTED,
}


def check_options(kind: str, known: Options, options: Options) -> None:
    """Check names and types of a kind's options.

    Args:
        kind: What messages call it.
        known: Its options with their defaults.
        options: Those asked for.

    Raises:
        ValueError: If an option is unknown, or of another type than its default's.
    """
    for key, value in options.items():
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{kind}: unknown option {key!r}; expected options among: {', '.join(known) or 'none'}{hint}"
            )
        default = known[key]
        if isinstance(default, list):
            if isinstance(value, (tuple, list)) or type(value) is int:
                continue
            raise ValueError(f"{kind}: expected {key} to be a list of whole numbers, got {value!r}")
        if isinstance(value, bool) and default is not None and not isinstance(default, bool):
            raise ValueError(f"{kind}: expected {key} of type {type(default).__name__}, got {value!r}")
        if default is None or isinstance(value, type(default)) or (isinstance(default, float) and type(value) is int):
            continue
        raise ValueError(f"{kind}: expected {key} of type {type(default).__name__}, got {value!r}")
