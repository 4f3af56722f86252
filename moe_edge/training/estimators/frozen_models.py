"""Turn fitted scikit-learn estimators into frozen Keras models that answer the same, for the experts of a mixture.

Layer: desktop (training). Imports scikit-learn only through the estimators that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.training.estimators.estimator_trees import (
    TreeSums,
    forest_sums,
    gradient_boosting_sums,
    hist_gradient_boosting_sums,
    side_by_side,
    without_missing,
)
from moe_edge.training.estimators.tree_arrays import constant_tree, pack_trees
from moe_edge.training.estimators.tree_layers import TreeAnswer, tree_model

ABSENT_LOGIT = -16.0
"""Logit of a class without rows in a linear model: a probability of 1e-7 at most, in a range that 8 bits can hold."""
_ABSENT_SUM = -1e4
"""The same in trees, which stay float32: a probability of 0."""

_FOREST = ("DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees")
_READERS: dict[str, Callable[[Any], TreeSums]] = {
    **{f"{name}{role}": forest_sums for name in _FOREST for role in ("Classifier", "Regressor")},
    **{f"GradientBoosting{role}": gradient_boosting_sums for role in ("Classifier", "Regressor")},
    **{f"HistGradientBoosting{role}": hist_gradient_boosting_sums for role in ("Classifier", "Regressor")},
}
_LINEAR = ("LinearRegression", "Ridge", "Lasso", "ElasticNet", "LogisticRegression")
_NEAREST = {
    "Neighbors": ("keeps every training row", "random_forest (RandomForestClassifier, RandomForestRegressor)"),
    "GaussianProcess": ("keeps every training row", "hist_gradient_boosting (HistGradientBoostingRegressor)"),
    "SV": (
        "keeps its support vectors",
        "logistic_regression (LogisticRegression), or random_forest for curved borders",
    ),
    "Pipeline": ("holds several steps", "the pipeline's last estimator, fitted to the rows as the earlier steps leave"),
    "MLP": ("is a neural network", "dense (a Keras model)"),
}


def estimator_model(
    estimator: Any, input_dim: int, *, num_outputs: int | None = None, classes: Sequence[int] | None = None
) -> keras.Model:
    """Turn a fitted scikit-learn estimator into a frozen Keras model.

    Give it to a mixture as it is: ``create_moe_model(..., expert=lambda input_dim, output_dim:
    estimator_model(forests.pop(), input_dim, num_outputs=output_dim))``.

    Args:
        estimator: A fitted decision tree, forest (random, or extra trees), gradient boosting (histogram-based too),
            ``LinearRegression``, ``Ridge``, ``Lasso``, ``ElasticNet`` or ``LogisticRegression``; or a
            ``MultiOutputRegressor`` of boosted trees.
        input_dim: F, features of a row.
        num_outputs: K: classes, or numbers; the estimator's own by default. More classes than it knows get
            probability 0.
        classes: Which of the K classes each of the estimator's columns is, for one that was fitted to some of them;
            by default its ``classes_``, where they are codes from 0 to K - 1, or else their order.

    Returns:
        A model of no trainable weights, float32 (B, F) to (B, K): what ``predict_proba`` or ``predict`` answers, in
        float32. Numbers nearer to 0 than 1.2e-38 count as 0.

    Raises:
        ValueError: If it isn't fitted, of another class, or of other numbers of features and outputs.
    """
    kind = type(estimator).__name__
    if kind not in _READERS and kind not in _LINEAR and kind != "MultiOutputRegressor":
        raise ValueError(_refusal(kind))
    if getattr(estimator, "n_features_in_", None) is None:
        raise ValueError(f"expected a fitted {kind}, got one that isn't; call its fit first")
    if estimator.n_features_in_ != input_dim:
        raise ValueError(f"expected a {kind} of {input_dim} features, got one of {estimator.n_features_in_}")
    if kind in _LINEAR:
        return _linear_model(estimator, input_dim, num_outputs, classes)
    sums = read_trees(estimator)
    if hasattr(estimator, "classes_"):
        return classifier_trees(sums, input_dim, *_class_columns(estimator, num_outputs, classes))
    _check_outputs(kind, num_outputs, len(sums.base))
    return regression_trees(sums, input_dim)


def read_trees(estimator: Any) -> TreeSums:
    """The trees of an estimator of a known class; of a ``MultiOutputRegressor``, those of each output side by side."""
    kind = type(estimator).__name__
    if kind == "MultiOutputRegressor":
        members = estimator.estimators_
        if not {type(member).__name__ for member in members} <= set(_READERS):
            raise ValueError(_refusal(f"MultiOutputRegressor of {type(members[0]).__name__}"))
        return side_by_side([read_trees(member) for member in members])
    sums = _READERS[kind](estimator)
    return without_missing(sums) if kind.startswith("GradientBoosting") else sums


def classifier_trees(sums: TreeSums, input_dim: int, columns: npt.NDArray[Any], num_outputs: int) -> keras.Model:
    """A model of trees that answers with a probability for each of K classes.

    Args:
        sums: The trees.
        input_dim: F.
        columns: Which class each of the estimator's columns is.
        num_outputs: K; classes in no column get 0.
    """
    absent = 0.0 if sums.link == "linear" else _ABSENT_SUM
    taken, scale = np.zeros(num_outputs, np.int32), np.zeros(num_outputs, np.float32)
    offset = np.full(num_outputs, absent, dtype=np.float32)
    if sums.link == "sigmoid":
        signs = np.array([-1.0, 1.0])
        scale[columns], offset[columns] = signs, signs * sums.base
    else:
        taken[columns], scale[columns], offset[columns] = np.arange(len(columns)), 1.0, sums.base
    answer = TreeAnswer(columns=taken, scale=scale, offset=offset, link=sums.link, probabilities=True)
    return _packed(sums, input_dim, answer)


def constant_classifier(input_dim: int, known: int, num_outputs: int) -> keras.Model:
    """A tree of a single leaf: all rows are of the class ``known``."""
    sums = TreeSums(trees=(constant_tree([1.0]),), num_groups=1, base=np.zeros(1))
    return classifier_trees(sums, input_dim, np.array([known]), num_outputs)


def regression_trees(sums: TreeSums, input_dim: int) -> keras.Model:
    """A model of trees that answers with K numbers."""
    size = len(sums.base)
    answer = TreeAnswer(
        columns=np.arange(size, dtype=np.int32),
        scale=np.ones(size, np.float32),
        offset=sums.base.astype(np.float32),
        link=sums.link,
    )
    return _packed(sums, input_dim, answer)


def gaussian_trees(sums: TreeSums, input_dim: int, log_sigma: npt.NDArray[np.float64]) -> keras.Model:
    """A model of trees that answers with K means, then K constant logarithms of sigma."""
    size = len(log_sigma)
    answer = TreeAnswer(
        columns=np.concatenate([np.arange(size), np.zeros(size)]).astype(np.int32),
        scale=np.repeat([1.0, 0.0], size).astype(np.float32),
        offset=np.concatenate([sums.base, log_sigma]).astype(np.float32),
    )
    return _packed(sums, input_dim, answer)


def frozen_dense(
    kernel: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], activation: str = "linear"
) -> keras.Model:
    """A model of one frozen dense layer; kernel (F, V), bias (V,)."""
    layer = keras.layers.Dense(kernel.shape[1], activation=activation, trainable=False)
    model = keras.Sequential([keras.Input(shape=(kernel.shape[0],)), layer])
    layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return model


def class_logits(
    estimator: Any, columns: npt.NDArray[Any], num_outputs: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Kernel (F, K) and bias (K,) of a fitted ``LogisticRegression``, whose softmax is its ``predict_proba``."""
    weights, bias = np.asarray(estimator.coef_, np.float64), np.asarray(estimator.intercept_, np.float64).reshape(-1)
    if len(weights) == 1:
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    # Centred, so that the largest is at least 0 and a class without rows stays far below it.
    weights, bias = weights - weights.mean(axis=0), bias - bias.mean()
    kernel, offset = np.zeros((weights.shape[1], num_outputs)), np.full(num_outputs, ABSENT_LOGIT)
    kernel[:, columns], offset[columns] = weights.T, bias
    return kernel, offset


def _linear_model(
    estimator: Any, input_dim: int, num_outputs: int | None, classes: Sequence[int] | None
) -> keras.Model:
    if hasattr(estimator, "classes_"):
        columns, size = _class_columns(estimator, num_outputs, classes)
        return frozen_dense(*class_logits(estimator, columns, size), "softmax")
    kernel = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64)).reshape(-1, input_dim).T
    _check_outputs(type(estimator).__name__, num_outputs, kernel.shape[1])
    return frozen_dense(kernel, np.broadcast_to(np.asarray(estimator.intercept_, np.float64), kernel.shape[1]))


def _packed(sums: TreeSums, input_dim: int, answer: TreeAnswer) -> keras.Model:
    return tree_model(pack_trees(sums.trees, input_dim), answer, input_dim, num_groups=sums.num_groups)


def _class_columns(
    estimator: Any, num_outputs: int | None, classes: Sequence[int] | None
) -> tuple[npt.NDArray[Any], int]:
    known = np.asarray(estimator.classes_)
    if classes is None:
        codes = known.dtype.kind in "iu" and known.min() >= 0 and num_outputs is not None and known.max() < num_outputs
        columns = known if codes else np.arange(len(known))
    else:
        columns = np.asarray(classes)
    size = len(known) if num_outputs is None else num_outputs
    if (
        len(columns) != len(known)
        or len(set(columns.tolist())) != len(columns)
        or not np.isin(columns, range(size)).all()
    ):
        raise ValueError(
            f"expected a class from 0 to {size - 1} for each of the {len(known)} columns of "
            f"{type(estimator).__name__}, got {columns.tolist()}; give num_outputs and classes"
        )
    return columns.astype(np.int64), size


def _check_outputs(kind: str, expected: int | None, got: int) -> None:
    if expected is not None and expected != got:
        raise ValueError(f"expected a {kind} of {expected} outputs, got one of {got}")


def _refusal(kind: str) -> str:
    for part, (reason, nearest) in _NEAREST.items():
        if part in kind:
            return f"{kind} can't be written as a small graph: it {reason}; the nearest kind that can: {nearest}"
    known = ", ".join([*_READERS, *_LINEAR])
    return f"{kind} can't be written as a graph; expected a fitted estimator among: {known}"
