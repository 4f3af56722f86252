"""Linear experts fitted in closed form, or to the optimum: least squares, and logistic regression.

Both become one frozen dense layer. Layer: desktop (training).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task
from moe_edge.training.estimators.frozen_models import ABSENT_LOGIT, class_logits, frozen_dense
from moe_edge.training.kinds.kind import ExpertJob, FittedExpert, Floats, Weights
from moe_edge.training.kinds.options import EXPERT_OPTIONS
from moe_edge.training.kinds.registry import with_defaults
from moe_edge.training.kinds.weighted_rows import check_task, log_sigmas, weighty_rows


class LinearRegressionExpert(FittedExpert):
    """Weighted least squares; ``alpha`` is the L2 penalty of the slopes, in mean squared errors of the rows."""

    name = "linear_regression"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["linear_regression"]

    def fit(self, job: ExpertJob, x: Floats, y: npt.NDArray[Any], weights: Weights) -> keras.Model:
        """Fit; errors as of ``weighty_rows`` and ``check_task``."""
        from sklearn.linear_model import LinearRegression, Ridge

        check_task(self.name, job, Task.REGRESSION)
        alpha = float(with_defaults(self, job.options)["alpha"])
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"{self.name}: expected alpha >= 0, got {alpha:g}")
        x, y, weights = weighty_rows(self.name, job, x, y, weights)
        rows = x.astype(np.float64)
        y = np.asarray(y, dtype=np.float64).reshape(len(rows), -1)
        estimator = Ridge(alpha=alpha * len(rows)) if alpha > 0 else LinearRegression()
        estimator.fit(rows, y, sample_weight=weights)
        kernel = np.asarray(estimator.coef_, dtype=np.float64).reshape(y.shape[1], -1).T
        bias = np.asarray(estimator.intercept_, dtype=np.float64).reshape(-1)
        if job.combine is Combine.GAUSSIAN:
            logs = log_sigmas(rows @ kernel + bias, y, weights)
            kernel, bias = np.concatenate([kernel, np.zeros_like(kernel)], axis=1), np.concatenate([bias, logs])
        return frozen_dense(kernel, bias)


class LogisticRegressionExpert(FittedExpert):
    """Multinomial logistic regression; ``C`` is the inverse of the L2 penalty."""

    name = "logistic_regression"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["logistic_regression"]

    def fit(self, job: ExpertJob, x: Floats, y: npt.NDArray[Any], weights: Weights) -> keras.Model:
        """Fit; classes without rows get a probability of 1e-7 at most."""
        check_task(self.name, job, Task.CLASSIFICATION)
        x, y, weights = weighty_rows(self.name, job, x, y, weights)
        return fit_logistic(x, y, weights, job.num_outputs, with_defaults(self, job.options))


def fit_logistic(
    x: Floats, y: npt.NDArray[Any], weights: Weights, num_classes: int, options: Mapping[str, Any]
) -> keras.Model:
    """Fit a logistic regression to weighted rows; a single class needs no slopes. Warns where it hasn't converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if options["max_iter"] < 1:
        raise ValueError(f"logistic_regression: expected max_iter >= 1, got {options['max_iter']}")
    present = np.unique(y)
    if len(present) == 1:
        bias = np.full(num_classes, ABSENT_LOGIT)
        bias[present] = 0.0
        return frozen_dense(np.zeros((x.shape[1], num_classes)), bias, "softmax")
    estimator = LogisticRegression(C=float(options["C"]), max_iter=int(options["max_iter"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(x.astype(np.float64), y, sample_weight=weights)
    if estimator.n_iter_.max() >= estimator.max_iter:
        warnings.warn(
            f"logistic_regression: not at its optimum after {estimator.max_iter} iterations; raise max_iter",
            ConvergenceWarning,
            stacklevel=2,
        )
    return frozen_dense(*class_logits(estimator, estimator.classes_, num_classes), "softmax")
