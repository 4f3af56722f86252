"""How far off an estimator is on rows that it wasn't fitted to: the sigma of a Gaussian expert made of trees.

Trees learn their own rows nearly by heart: a sigma of the residuals there would be far too small, EM would give such an
expert every row that it has seen, and the mixture's standard deviations and quantiles would be too narrow.
Layer: desktop (training). Imports scikit-learn on call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.training.kinds.kind import Floats, Weights

FOLDS = 3
"""Parts of the rows, each answered by a fit to the others: each part costs one more fit."""


def out_of_bag(forest: Any, x: Floats) -> npt.NDArray[np.float64]:
    """What a fitted forest's trees answer to the rows that they didn't draw (Breiman 1996, "Out-of-bag estimation").

    Args:
        forest: A fitted ``RandomForestRegressor`` that draws its rows with replacement.
        x: The rows that it was fitted to, float32 (n, F).

    Returns:
        float64 (n, K); NaN for a row that every tree drew.
    """
    total: npt.NDArray[np.float64] = np.zeros((len(x), forest.n_outputs_))
    count = np.zeros((len(x), 1))
    for tree, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        left = np.ones(len(x), dtype=bool)
        left[drawn] = False
        if left.any():
            total[left] += tree.predict(x[left]).reshape(-1, forest.n_outputs_)
            count[left] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def cross_fitted(
    make: Callable[[], Any], x: Floats, y: npt.NDArray[Any], weights: Weights, *, seed: int
) -> npt.NDArray[np.float64]:
    """What fits to two thirds of the rows answer to the other third.

    Args:
        make: Gives an unfitted estimator.
        x: Rows, float32 (n, F), n at least 2.
        y: Targets as scikit-learn takes them, (n,) or (n, K).
        weights: How much each row counts, float64 (n,).
        seed: Of the parts.

    Returns:
        float64 (n, K).
    """
    from sklearn.model_selection import KFold

    answers: npt.NDArray[np.float64] = np.empty(y.shape if y.ndim == 2 else (len(y), 1))
    for known, unseen in KFold(min(FOLDS, len(x)), shuffle=True, random_state=seed).split(x):
        fitted = make().fit(x[known], y[known], sample_weight=weights[known])
        answers[unseen] = fitted.predict(x[unseen]).reshape(len(unseen), -1)
    return answers
