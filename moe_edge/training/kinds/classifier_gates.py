"""Gates made of a classifier: which expert answers for which rows, learnt as classes are.

Each row stands in the fit once for every expert, weighted with that expert's responsibility for it.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.training.kinds.kind import FittedGate, Floats, GateJob, Weights
from moe_edge.training.kinds.linear_estimators import fit_logistic
from moe_edge.training.kinds.options import GATE_OPTIONS
from moe_edge.training.kinds.registry import with_defaults
from moe_edge.training.kinds.tree_estimators import (
    DecisionTreeExpert,
    GradientBoostingExpert,
    HistGradientBoostingExpert,
    RandomForestExpert,
    TreeExpert,
)
from moe_edge.training.kinds.weighted_rows import NEGLIGIBLE


def repeated_rows(job: GateJob, x: Floats, responsibilities: Weights) -> tuple[Floats, npt.NDArray[np.int64], Weights]:
    """Each row once for every expert that is responsible for some of it: rows, the experts' numbers, weights.

    Raises:
        ValueError: If rows aren't flat, or the responsibilities are of another shape, or not shares of each row.
    """
    if len(job.input_shape) != 1:
        raise ValueError(f"expected rows of features (F,) for a gate, got rows of shape {job.input_shape}")
    shares = np.asarray(responsibilities, dtype=np.float64)
    if shares.shape != (len(x), job.num_experts):
        raise ValueError(f"expected responsibilities of shape ({len(x)}, {job.num_experts}), got {shares.shape}")
    if not np.isfinite(shares).all() or shares.min() < 0 or not np.allclose(shares.sum(axis=1), 1, atol=1e-3):
        raise ValueError("expected responsibilities of at least 0 that sum to 1 in each row")
    rows, experts = np.nonzero(shares > NEGLIGIBLE)
    weights = shares[rows, experts]
    return x[rows], experts.astype(np.int64), weights / weights.mean()


class LogisticRegressionGate(FittedGate):
    """Multinomial logistic regression; experts without rows get a weight of 1e-7 at most."""

    name = "logistic_regression"
    options: ClassVar[Mapping[str, Any]] = GATE_OPTIONS["logistic_regression"]

    def fit(self, job: GateJob, x: Floats, responsibilities: Weights) -> keras.Model:
        """Fit; errors as of ``repeated_rows``."""
        rows, experts, weights = repeated_rows(job, x, responsibilities)
        return fit_logistic(rows, experts, weights, job.num_experts, with_defaults(self, job.options))


class TreeGate(FittedGate):
    """A gate of decision trees; experts without rows get weight 0."""

    expert: ClassVar[type[TreeExpert]]

    def fit(self, job: GateJob, x: Floats, responsibilities: Weights) -> keras.Model:
        """Fit; errors as of ``repeated_rows``."""
        rows, experts, weights = repeated_rows(job, x, responsibilities)
        return self.expert().fit_classifier(
            rows, experts, weights, num_classes=job.num_experts, seed=job.seed, options=job.options
        )


class DecisionTreeGate(TreeGate):
    """One tree: routes that can be read."""

    name = "decision_tree"
    expert = DecisionTreeExpert
    options: ClassVar[Mapping[str, Any]] = GATE_OPTIONS["decision_tree"]


class RandomForestGate(TreeGate):
    """A random forest."""

    name = "random_forest"
    expert = RandomForestExpert
    options: ClassVar[Mapping[str, Any]] = GATE_OPTIONS["random_forest"]


class GradientBoostingGate(TreeGate):
    """Gradient boosting."""

    name = "gradient_boosting"
    expert = GradientBoostingExpert
    options: ClassVar[Mapping[str, Any]] = GATE_OPTIONS["gradient_boosting"]


class HistGradientBoostingGate(TreeGate):
    """Gradient boosting over binned features."""

    name = "hist_gradient_boosting"
    expert = HistGradientBoostingExpert
    options: ClassVar[Mapping[str, Any]] = GATE_OPTIONS["hist_gradient_boosting"]
