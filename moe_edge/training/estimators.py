"""Take a fitted scikit-learn estimator, as it is, for an expert: a frozen Keras model with the same answers.

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.errors import DataError
from moe_edge.training.estimator_trees import boosting_model, class_columns, forest_model
from moe_edge.training.kinds.registry import REFUSED

FORESTS = ("DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees")
BOOSTING = ("GradientBoosting", "HistGradientBoosting")
LINEAR = ("LinearRegression", "Ridge", "Lasso", "ElasticNet")
_LOSSES = ("squared_error", "absolute_error", "huber", "quantile")
"""Losses of boosted regressions whose answer is the sum of the trees itself."""

NEVER_LOGIT = -16.0
"""Logit of a class that a logistic regression never saw, beside logits that sum to 0: a probability below 2e-7. Lower
would cost the other classes' logits their resolution in int8."""

_NEAREST = {
    "Neighbors": REFUSED["nearest_neighbours"],
    "SVC": REFUSED["svm"],
    "SVR": REFUSED["svm"],
    "GaussianProcess": REFUSED["gaussian_process"],
    "Pipeline": ("its steps before the last are any code", "its last step alone, fitted to what the steps before give"),
    "MLP": ("it is a neural network", "dense"),
    "Kernel": ("a kernel machine keeps every training row", "dense"),
}


def estimator_model(
    estimator: Any, input_dim: int, *, num_outputs: int | None = None, sigma: Sequence[float] | None = None
) -> keras.Model:
    """Turn a fitted estimator into a frozen Keras model, for ``create_moe_model(..., expert=...)``.

    Decision trees, random forests, extra trees, gradient boosting, histogram gradient boosting (with several outputs:
    ``MultiOutputRegressor`` of boosting), linear regressions and logistic regression. Every float32 row takes the
    branches that it takes in the estimator; answers are sums of float32.

    Args:
        estimator: Fitted to rows of ``input_dim`` columns without missing values.
        input_dim: Features of a row.
        num_outputs: K; by default what the estimator answers with. More classes than it knows get probability 0, and
            its classes must then be codes in [0, K).
        sigma: Standard deviation of its errors, one an output, in the unit of its answers, where it is an expert of a
            Gaussian mixture.

    Returns:
        A model from (B, input_dim) to ``predict_proba`` (B, K), or to ``predict`` (B, K), followed by the logarithms
        of ``sigma`` where that is given.

    Raises:
        DataError: If there is no exact small graph for it, naming the nearest kind that has one; if it isn't fitted;
            or if sizes differ.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    family = _family(estimator)
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise DataError(f"expected a fitted {type(estimator).__name__}; call its fit first") from error
    if int(estimator.n_features_in_) != input_dim:
        raise DataError(
            f"expected an estimator of {input_dim} features, got {type(estimator).__name__} of "
            f"{estimator.n_features_in_}; fit it to what the experts are given"
        )
    classifies = hasattr(estimator, "classes_")
    codes = _codes(estimator, num_outputs) if classifies else None
    given = len(codes) if codes is not None else _num_numbers(estimator)
    num_outputs = given if num_outputs is None else num_outputs
    if codes is None and num_outputs != given:
        raise DataError(f"expected an estimator of {num_outputs} outputs, got one of {given}")
    log_sigma = _logarithms(sigma, num_outputs, classifies=classifies)
    if family == "linear":
        return _linear_model(estimator, codes, num_outputs, log_sigma)
    if family == "forest":
        return forest_model(estimator, codes=codes, num_outputs=num_outputs, log_sigma=log_sigma)
    members = list(getattr(estimator, "estimators_", [])) if _name(estimator) == "MultiOutput" else [estimator]
    return boosting_model(members, codes=codes, num_outputs=num_outputs, log_sigma=log_sigma)


def _name(estimator: Any) -> str:
    """The class's name without Classifier or Regressor; of scikit-learn's own classes alone."""
    cls = type(estimator)
    name: str = cls.__name__
    if not cls.__module__.startswith("sklearn."):
        return f"{cls.__module__}.{name}"
    return name.removesuffix("Classifier").removesuffix("Regressor")


def _family(estimator: Any) -> str:
    """``forest``, ``boosting`` or ``linear``.

    Raises:
        DataError: If it is none of them.
    """
    name = _name(estimator)
    if name in FORESTS:
        if isinstance(getattr(estimator, "n_outputs_", 1), int) and hasattr(estimator, "classes_"):
            _refuse_several_targets(estimator)
        return "forest"
    if name == "MultiOutput" and all(_name(member) in BOOSTING for member in getattr(estimator, "estimators_", [])):
        if hasattr(estimator, "classes_"):
            raise DataError("expected one target of a classifier, got MultiOutputClassifier; make one mixture each")
        for member in getattr(estimator, "estimators_", []):
            _check_loss(member)
        return "boosting"
    if name in BOOSTING:
        _check_loss(estimator)
        return "boosting"
    if name in LINEAR:
        return "linear"
    if name == "LogisticRegression":
        if getattr(estimator, "multi_class", "deprecated") == "ovr" and len(getattr(estimator, "classes_", ())) > 2:
            raise DataError("expected a multinomial LogisticRegression, got multi_class='ovr'; fit it without")
        return "linear"
    reason, nearest = next(
        (value for part, value in _NEAREST.items() if part in name),
        ("no exact graph of it is known", "random_forest, hist_gradient_boosting or dense"),
    )
    raise DataError(
        f"{type(estimator).__name__} can't be written as a small graph: {reason}; the nearest kind that can: {nearest}"
    )


def _refuse_several_targets(estimator: Any) -> None:
    if int(getattr(estimator, "n_outputs_", 1)) > 1:
        raise DataError(
            f"expected one target of a classifier, got {type(estimator).__name__} of {estimator.n_outputs_}; "
            "make one mixture each"
        )


def _check_loss(estimator: Any) -> None:
    if not hasattr(estimator, "classes_") and estimator.loss not in _LOSSES:
        raise DataError(
            f"expected {type(estimator).__name__} of loss {', '.join(_LOSSES)}, got {estimator.loss}, whose answer is "
            "an exponential of its trees; fit logarithms with squared_error"
        )


def _codes(estimator: Any, num_outputs: int | None) -> list[int]:
    classes = list(estimator.classes_)
    if num_outputs is None or num_outputs == len(classes):
        return list(range(len(classes)))
    try:
        codes = [int(value) for value in classes]
    except (TypeError, ValueError):
        codes = []
    if len(classes) > num_outputs or [*map(float, codes)] != [*map(float, classes if codes else [num_outputs])]:
        raise DataError(
            f"expected at most {num_outputs} classes, codes in [0, {num_outputs}) where there are fewer, "
            f"got {len(classes)}: {classes[:5]}"
        )
    if min(codes) < 0 or max(codes) >= num_outputs:
        raise DataError(f"expected class codes in [0, {num_outputs}), got {classes[:5]}")
    return codes


def _num_numbers(estimator: Any) -> int:
    if _name(estimator) == "MultiOutput":
        return len(estimator.estimators_)
    if _name(estimator) in LINEAR:
        return int(np.atleast_2d(estimator.coef_).shape[0])
    return int(getattr(estimator, "n_outputs_", 1))


def _logarithms(sigma: Sequence[float] | None, num_outputs: int, *, classifies: bool) -> list[float]:
    if sigma is None:
        return []
    if classifies or len(sigma) != num_outputs or not all(0 < value < float("inf") for value in sigma):
        kind = "a classifier" if classifies else f"a regression of {num_outputs}"
        raise DataError(f"expected one sigma above 0 an output of a regression, got {list(sigma)} for {kind}")
    return [float(value) for value in np.log(np.asarray(sigma, dtype=np.float64))]


def _linear_model(
    estimator: Any, codes: Sequence[int] | None, num_outputs: int, log_sigma: Sequence[float]
) -> keras.Model:
    kernel = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64)).T
    bias = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64).reshape(-1), (kernel.shape[1],))
    if codes is None:
        return dense_model(
            np.concatenate([kernel, np.zeros((len(kernel), len(log_sigma)))], axis=1),
            np.concatenate([bias, log_sigma]),
        )
    if kernel.shape[1] == 1:
        # Two classes: half the score for one, half against the other.
        kernel, bias = np.concatenate([-kernel, kernel], axis=1) / 2, np.concatenate([-bias, bias]) / 2
    columns = class_columns(codes, num_outputs)
    if columns is not None:
        bias = np.append(bias - bias.mean(), NEVER_LOGIT)[columns]
        kernel = np.append(kernel - kernel.mean(axis=1, keepdims=True), np.zeros((len(kernel), 1)), axis=1)[:, columns]
    return dense_model(kernel, bias, activation="softmax")


def dense_model(
    kernel: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], *, activation: str = "linear"
) -> keras.Model:
    """A frozen model of one dense layer: kernel (F, units), bias (units,)."""
    layer = keras.layers.Dense(kernel.shape[1], activation=activation, trainable=False, name="linear")
    model = keras.Sequential([keras.Input(shape=(kernel.shape[0],)), layer])
    layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return model
