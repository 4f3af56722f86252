"""Read the trees out of scikit-learn's fitted estimators.

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.errors import DataError
from moe_edge.training.tree_arrays import Forest, Tree, leaf, plant
from moe_edge.training.tree_layers import tree_model

_ZERO = "zero"
NEVER = 0.0
"""Probability of a class that an estimator never saw."""


def class_columns(classes: Sequence[int], num_outputs: int) -> list[int] | None:
    """Where each of K classes stands among an estimator's; those it never saw stand after them. None: as they are."""
    places = {int(code): place for place, code in enumerate(classes)}
    if list(places) == list(range(num_outputs)):
        return None
    return [places.get(code, len(classes)) for code in range(num_outputs)]


def forest_model(estimator: Any, *, codes: Sequence[int] | None, num_outputs: int, log_sigma: Any = ()) -> keras.Model:
    """Trees whose answers are averaged: DecisionTree, RandomForest, ExtraTrees.

    Args:
        estimator: A fitted one.
        codes: Class codes of its answers, in their order; None for a regression.
        num_outputs: K.
        log_sigma: What a Gaussian expert's answers end with.
    """
    members = getattr(estimator, "estimators_", [estimator])
    trees = []
    for member in members:
        tree = member.tree_
        values = tree.value[:, 0, :] if codes is not None else tree.value[:, :, 0]
        if codes is not None:
            values = values / values.sum(axis=1, keepdims=True)
        trees.append(_plain_tree(tree, values / len(members)))
    forest = plant(trees)
    base = np.zeros(forest.values.shape[1])
    return _finish(
        estimator, forest, base=base, codes=codes, num_outputs=num_outputs, link="linear", log_sigma=log_sigma
    )


def boosting_model(
    estimators: Sequence[Any], *, codes: Sequence[int] | None, num_outputs: int, log_sigma: Any = ()
) -> keras.Model:
    """Trees whose answers are summed: GradientBoosting and HistGradientBoosting.

    Args:
        estimators: One for a classification; for a regression one for each output.
        codes: Class codes of its answers; None for a regression.
        num_outputs: K.
        log_sigma: What a Gaussian expert's answers end with.

    Raises:
        DataError: If it starts from a model of its own, or splits by categories.
    """
    grown = [_rounds(estimator) for estimator in estimators]
    length = max(len(rounds) for rounds in grown)
    # Outputs may have stopped after different numbers of rounds: leaves of 0 fill them up.
    padded = [rounds + [[leaf([0.0])] * len(rounds[0])] * (length - len(rounds)) for rounds in grown]
    columns = [[tree for rounds in padded for tree in rounds[number]] for number in range(length)]
    forest = plant([tree for row in columns for tree in row])
    bases = [_base(estimator, rounds) for estimator, rounds in zip(estimators, grown, strict=True)]
    base = np.concatenate(bases)
    link = "linear" if codes is None else "sigmoid" if len(base) == 1 else "softmax"
    if getattr(estimators[0], "loss", "") == "exponential":
        # Its probability is sigmoid(2 * score).
        forest.values[:] *= 2
        base = base * 2
    return _finish(
        estimators[0], forest, base=base, codes=codes, num_outputs=num_outputs, link=link, log_sigma=log_sigma
    )


def constant_model(values: Sequence[float], num_features: int, *, probabilities: bool) -> keras.Model:
    """A model that answers every row with the same values: one leaf."""
    forest = plant([leaf(values)])
    return tree_model(forest, num_features, base=[0.0] * len(values), probabilities=probabilities)


def _finish(
    estimator: Any,
    forest: Forest,
    *,
    base: npt.NDArray[np.float64],
    codes: Sequence[int] | None,
    num_outputs: int,
    link: str,
    log_sigma: Any,
) -> keras.Model:
    columns = None if codes is None else class_columns(codes, num_outputs)
    constants = [NEVER] if columns is not None and codes is not None and max(columns) == len(codes) else []
    return tree_model(
        forest,
        int(estimator.n_features_in_),
        base=base.tolist(),
        link=link,
        constants=constants or [float(value) for value in log_sigma],
        columns=columns,
        probabilities=codes is not None,
    )


def _plain_tree(tree: Any, values: npt.NDArray[np.float64]) -> Tree:
    """One of ``sklearn.tree``'s trees, whose leaves have feature -2."""
    return Tree(
        feature=np.maximum(tree.feature, 0),
        threshold=np.asarray(tree.threshold, dtype=np.float64),
        left=tree.children_left,
        right=tree.children_right,
        values=values,
    )


def _rounds(estimator: Any) -> list[list[Tree]]:
    """The trees of each round, one for each score."""
    if type(estimator).__name__.startswith("Hist"):
        if estimator.is_categorical_ is not None and estimator.is_categorical_.any():
            raise DataError(
                "expected splits by thresholds, got splits by categories; encode categorical columns as one column a "
                "category (OneHotEncoder) and fit without categorical_features"
            )
        # No public name leads to these trees; exporters of other projects read them here too.
        return [[_binned_tree(tree.nodes) for tree in trees] for trees in estimator._predictors]
    if estimator.init_ != _ZERO and type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
        raise DataError(
            f"expected {type(estimator).__name__} to start from a constant, got init={type(estimator.init_).__name__}; "
            "fit it with init=None"
        )
    rate = estimator.learning_rate
    return [
        [_plain_tree(member.tree_, member.tree_.value[:, 0, :] * rate) for member in members]
        for members in estimator.estimators_
    ]


def _binned_tree(nodes: Any) -> Tree:
    """One of the histogram estimators' trees: a table of nodes."""
    inner = nodes["is_leaf"] == 0
    return Tree(
        feature=np.where(inner, nodes["feature_idx"], 0),
        threshold=np.where(inner, nodes["num_threshold"], 0.0),
        left=np.where(inner, nodes["left"].astype(np.int64), -1),
        right=np.where(inner, nodes["right"].astype(np.int64), -1),
        values=np.where(inner, 0.0, nodes["value"]).reshape(-1, 1),
    )


def _base(estimator: Any, rounds: list[list[Tree]]) -> npt.NDArray[np.float64]:
    """The scores that boosting starts from: what it answers for a row, less what its trees do."""
    row = np.zeros((1, int(estimator.n_features_in_)))
    ask: Callable[[Any], Any] = getattr(estimator, "decision_function", estimator.predict)
    scores = np.asarray(ask(row), dtype=np.float64).reshape(-1)
    for trees in rounds:
        scores = scores - np.array([_answer(tree, row[0]) for tree in trees])
    return scores


def _answer(tree: Tree, row: npt.NDArray[np.float64]) -> float:
    node = 0
    while tree.left[node] >= 0:
        node = int(tree.left[node] if row[tree.feature[node]] <= tree.threshold[node] else tree.right[node])
    return float(tree.values[node, 0])
