"""What estimators are given of weighted rows, and how far off they are on them.

Layer: desktop (training).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task
from moe_edge.training.kinds.kind import ExpertJob, Floats, Weights

NEGLIGIBLE = 1e-6
"""Rows that count less than this share of the weightiest are left out: they cost time and change nothing."""


def weighty_rows(
    kind: str, job: ExpertJob, x: Floats, y: npt.NDArray[Any], weights: Weights
) -> tuple[Floats, npt.NDArray[Any], Weights]:
    """Leave out rows of negligible weight; weights get a mean of 1.

    Raises:
        ValueError: If rows aren't flat, the weights are negative or all 0, or the task's answers are mixed in a way
            that the kind can't give.
    """
    if len(job.input_shape) != 1:
        raise ValueError(f"{kind}: expected rows of features (F,), got rows of shape {job.input_shape}")
    if job.combine is Combine.LOGITS:
        raise ValueError(f"{kind}: expected combine=probabilities, got logits: it answers with probabilities")
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(x),) or not np.isfinite(weights).all() or weights.min() < 0 or weights.max() <= 0:
        raise ValueError(f"{kind}: expected one weight of at least 0 a row, not all 0, got shape {weights.shape}")
    kept = weights > NEGLIGIBLE * weights.max()
    return x[kept], y[kept], weights[kept] / weights[kept].mean()


def as_targets(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Targets as scikit-learn takes them: (n,) for one output, (n, K) for several."""
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def log_sigmas(predicted: npt.NDArray[Any], y: npt.NDArray[Any], weights: Weights) -> Weights:
    """The logarithm of each output's weighted root mean square residual, float64 (K,)."""
    residuals = np.asarray(predicted, dtype=np.float64).reshape(len(weights), -1) - y.reshape(len(weights), -1)
    variance = np.average(residuals**2, axis=0, weights=weights)
    result: Weights = 0.5 * np.log(np.maximum(variance, 1e-12))
    return result


def check_task(kind: str, job: ExpertJob, expected: Task) -> None:
    """Refuse a kind that is for the other task.

    Raises:
        ValueError: If the job's task isn't ``expected``.
    """
    if job.task is not expected:
        other = "logistic_regression" if expected is Task.REGRESSION else "linear_regression"
        raise ValueError(f"{kind} is for {expected.value}, got {job.task.value}; use {other}")
