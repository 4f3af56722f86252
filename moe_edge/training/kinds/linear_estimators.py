"""Linear experts in closed form, or by scikit-learn's solver: frozen dense layers.

Layer: desktop (training).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task
from moe_edge.training.estimators import NEVER_LOGIT, dense_model, estimator_model
from moe_edge.training.kinds.kind import ExpertJob, FittedExpert, Floats, Weights
from moe_edge.training.kinds.registry import with_defaults
from moe_edge.training.kinds.weighted_rows import on_rows, residual_sigma, rows_that_count


class LinearRegressionExpert(FittedExpert):
    """Weighted least squares."""

    name = "linear_regression"
    options = {"fit_intercept": True}  # noqa: RUF012 - declared by the base

    def fit(self, job: ExpertJob, x: Floats, y: npt.NDArray[Any], weights: Weights) -> keras.Model:
        """Fit to rows; see ``FittedExpert``."""
        from sklearn.linear_model import LinearRegression

        if job.task is not Task.REGRESSION:
            raise ValueError(f"{self.name}: expected a regression, got {job.task.value}; use logistic_regression")
        x, y, weights = rows_that_count(x, y, weights)
        targets = y.reshape(len(y), job.num_outputs)
        # In float64: least squares squares the features' spread.
        estimator = LinearRegression(**with_defaults(self, job.options))
        estimator.fit(x.astype(np.float64), targets, sample_weight=weights)
        sigma = residual_sigma(estimator.predict(x), targets, weights) if job.combine is Combine.GAUSSIAN else None
        return on_rows(
            estimator_model(estimator, x.shape[1], num_outputs=job.num_outputs, sigma=sigma), job.input_shape
        )


class LogisticRegressionExpert(FittedExpert):
    """Weighted multinomial logistic regression with a quadratic penalty."""

    name = "logistic_regression"
    options = {"C": 1.0, "max_iter": 1000, "fit_intercept": True}  # noqa: RUF012 - declared by the base

    def fit(self, job: ExpertJob, x: Floats, y: npt.NDArray[Any], weights: Weights) -> keras.Model:
        """Fit to rows; see ``FittedExpert``. Classes without weight get a probability below 2e-7."""
        if job.task is not Task.CLASSIFICATION:
            raise ValueError(f"{self.name}: expected a classification, got {job.task.value}; use linear_regression")
        x, y, weights = rows_that_count(x, y, weights)
        model = fit_logistic(
            with_defaults(self, job.options), seed=job.seed, x=x, y=y, weights=weights, num_classes=job.num_outputs
        )
        if job.combine is Combine.LOGITS:
            model.layers[-1].activation = keras.activations.linear
        return on_rows(model, job.input_shape)


def fit_logistic(
    options: dict[str, Any],
    *,
    seed: int,
    x: Floats,
    y: npt.NDArray[Any],
    weights: npt.NDArray[np.float64],
    num_classes: int,
) -> keras.Model:
    """Fit to class codes (n,): a frozen dense layer with softmax, (B, F) to (B, num_classes)."""
    from sklearn.linear_model import LogisticRegression

    present = np.unique(y)
    if len(present) == 1:
        bias = np.where(np.arange(num_classes) == present[0], 0.0, NEVER_LOGIT)
        return dense_model(np.zeros((x.shape[1], num_classes)), bias, activation="softmax")
    estimator = LogisticRegression(random_state=seed, **options)
    estimator.fit(x.astype(np.float64), y, sample_weight=weights)
    return estimator_model(estimator, x.shape[1], num_outputs=num_classes)
