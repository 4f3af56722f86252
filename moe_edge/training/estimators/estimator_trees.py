"""Read the trees out of fitted scikit-learn estimators, and what links their sums to an answer.

Layer: desktop (training). Imports scikit-learn only through the estimators that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moe_edge.training.estimators.tree_arrays import Tree, constant_tree


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeSums:
    """Trees whose answers are added; tree t adds to group ``t % num_groups``.

    Attributes:
        trees: The trees, scaled, so that their plain sum counts.
        num_groups: Sums that they take turns in.
        base: What is added to each of the ``num_groups * W`` sums, float64.
        link: ``linear``, ``sigmoid`` (one sum, two classes), ``softmax`` or ``exp``.
    """

    trees: tuple[Tree, ...]
    num_groups: int
    base: np.ndarray[Any, np.dtype[np.float64]]
    link: str = "linear"


def forest_sums(estimator: Any) -> TreeSums:
    """The trees of a decision tree or a forest, each divided by their number.

    Raises:
        ValueError: If it has several columns of classes.
    """
    members = getattr(estimator, "estimators_", None) or [estimator]
    classifies = hasattr(estimator, "classes_")
    if classifies and estimator.n_outputs_ != 1:
        raise ValueError(f"expected a classifier of one column of classes, got {estimator.n_outputs_}")
    trees = tuple(_sklearn_tree(member.tree_, 1.0 / len(members), normalise=classifies) for member in members)
    return TreeSums(trees=trees, num_groups=1, base=np.zeros(trees[0].values.shape[1]))


def gradient_boosting_sums(estimator: Any) -> TreeSums:
    """The trees of a ``GradientBoostingClassifier`` or ``-Regressor``.

    Raises:
        ValueError: If its first guess is an estimator of its own.
    """
    if type(estimator.init_).__name__ not in ("str", "DummyClassifier", "DummyRegressor"):
        raise ValueError(
            f"expected gradient boosting that starts from a constant, got init={type(estimator.init_).__name__}; "
            "fit it with init=None or init='zero'"
        )
    grid = np.atleast_2d(estimator.estimators_)
    exponential = estimator.loss == "exponential"
    factor = 2.0 if exponential else 1.0  # P(second class) = sigmoid(2 * raw), Friedman, Hastie & Tibshirani 2000
    row = np.zeros((1, estimator.n_features_in_), np.float32)
    classifies = hasattr(estimator, "classes_")
    raw = estimator.decision_function(row) if classifies else estimator.predict(row)
    added = [sum(float(tree.predict(row)[0]) for tree in column) for column in grid.T]
    base = factor * (np.asarray(raw, np.float64).reshape(-1) - estimator.learning_rate * np.asarray(added))
    rate = factor * estimator.learning_rate
    trees = tuple(_sklearn_tree(member.tree_, rate) for member in grid.reshape(-1))
    link = "linear" if not classifies else "sigmoid" if grid.shape[1] == 1 else "softmax"
    return TreeSums(trees=trees, num_groups=grid.shape[1], base=base, link=link)


def hist_gradient_boosting_sums(estimator: Any) -> TreeSums:
    """The trees of a ``HistGradientBoostingClassifier`` or ``-Regressor``.

    Raises:
        ValueError: If it splits categories by sets.
    """
    if estimator.is_categorical_ is not None:
        raise ValueError("expected numeric features only, got categorical_features; give one-hot columns instead")
    rounds = estimator._predictors
    base = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)
    groups = len(base)
    trees = tuple(_histogram_tree(predictor.nodes) for members in rounds for predictor in members)
    if hasattr(estimator, "classes_"):
        link = "sigmoid" if groups == 1 else "softmax"
    else:
        link = "exp" if estimator.loss in ("gamma", "poisson") else "linear"
    return TreeSums(trees=trees or tuple(constant_tree([0.0]) for _ in base), num_groups=groups, base=base, link=link)


def side_by_side(sums: Sequence[TreeSums]) -> TreeSums:
    """Ensembles of one sum each, one an output; shorter ones are filled up with trees that answer 0.

    Raises:
        ValueError: If their links differ.
    """
    links = {each.link for each in sums}
    if len(links) != 1:
        raise ValueError(f"expected estimators of one loss, got the links {', '.join(sorted(links))}")
    longest = max(len(each.trees) for each in sums)
    filled = [[*each.trees, *[constant_tree([0.0])] * (longest - len(each.trees))] for each in sums]
    return TreeSums(
        trees=tuple(tree for taken in zip(*filled, strict=True) for tree in taken),
        num_groups=len(sums),
        base=np.concatenate([each.base for each in sums]),
        link=links.pop(),
    )


def _sklearn_tree(tree: Any, factor: float, *, normalise: bool = False) -> Tree:
    values = np.asarray(tree.value, dtype=np.float64)
    values = values[:, 0, :] if normalise else values[:, :, 0]
    if normalise:
        # Some nodes hold weights of classes, some their shares, as the version of scikit-learn has it.
        values = values / np.maximum(values.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return Tree(
        feature=np.asarray(tree.feature),
        threshold=np.asarray(tree.threshold, dtype=np.float64),
        left=np.asarray(tree.children_left),
        right=np.asarray(tree.children_right),
        missing_left=np.asarray(tree.missing_go_to_left).astype(np.bool_),
        values=values * factor,
    )


def _histogram_tree(nodes: Any) -> Tree:
    leaf = nodes["is_leaf"].astype(np.bool_)
    return Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
        values=nodes["value"].astype(np.float64)[:, None],
    )


def without_missing(sums: TreeSums) -> TreeSums:
    """The same for estimators that take no missing values: no node needs to send them right."""
    trees = tuple(replace(tree, missing_left=np.ones(len(tree.feature), np.bool_)) for tree in sums.trees)
    return replace(sums, trees=trees)
