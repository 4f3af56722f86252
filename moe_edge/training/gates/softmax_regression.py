"""Softmax regression onto responsibilities: the M step of a linear gate.

Convex with its ridge, and minimised by L-BFGS; iteratively reweighted least squares is unstable for more than two
classes, because its Hessian leaves out how classes depend on each other (Chen, Xu & Chi 1999).
Layer: desktop (training).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp

RIDGE = 1e-4
"""Weight of half the kernel's squared norm against the mean cross-entropy of a row."""

_MAX_ITERATIONS = 500


class SoftmaxRegression(NamedTuple):
    """``softmax(x @ kernel + bias)``: kernel float64 (F, C), bias float64 (C,)."""

    kernel: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]


def fit_softmax_regression(
    x: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    *,
    ridge: float = RIDGE,
    start: SoftmaxRegression | None = None,
) -> SoftmaxRegression:
    """Minimise the cross-entropy against soft targets.

    Args:
        x: Features (n, F).
        targets: How much of each row is whose, (n, C), at least 0; a row counts as much as its targets add up to.
        ridge: Weight of half the kernel's squared norm; the bias is free.
        start: Where to start; zeros by default.

    Raises:
        ValueError: If shapes don't fit, or the targets are negative or all 0.
    """
    rows, wanted = np.asarray(x, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if rows.ndim != 2 or wanted.ndim != 2 or len(rows) != len(wanted):
        raise ValueError(f"expected x (n, F) and targets (n, C), got {rows.shape} and {wanted.shape}")
    total = float(wanted.sum())
    if not (wanted >= 0).all() or not 0 < total < float("inf"):
        raise ValueError("expected targets of at least 0 that are not all 0")
    features, classes = rows.shape[1], wanted.shape[1]
    weights = wanted.sum(axis=1, keepdims=True)

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        kernel, bias = flat[:-classes].reshape(features, classes), flat[-classes:]
        logits = rows @ kernel + bias
        normaliser = logsumexp(logits, axis=1, keepdims=True)
        loss = float((wanted * (normaliser - logits)).sum()) / total + 0.5 * ridge * float(np.square(kernel).sum())
        error = (weights * np.exp(logits - normaliser) - wanted) / total
        gradient = np.concatenate([(rows.T @ error + ridge * kernel).reshape(-1), error.sum(axis=0)])
        return loss, gradient

    first = np.zeros((features + 1) * classes)
    if start is not None:
        first = np.concatenate([np.reshape(start.kernel, -1), start.bias]).astype(np.float64)
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS})
    kernel, bias = found.x[:-classes].reshape(features, classes), found.x[-classes:]
    # A softmax doesn't see what all logits have in common.
    return SoftmaxRegression(kernel, bias - bias.mean())
