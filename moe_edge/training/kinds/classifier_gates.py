"""Gates made of a classifier: each row once for every expert, weighted by how much of it is that expert's.

Layer: desktop (training).
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.training.kinds import tree_estimators
from moe_edge.training.kinds.kind import FittedGate, Floats, GateJob, Weights
from moe_edge.training.kinds.linear_estimators import LogisticRegressionExpert, fit_logistic
from moe_edge.training.kinds.registry import with_defaults
from moe_edge.training.kinds.weighted_rows import on_rows, rows_that_count


class LogisticRegressionGate(FittedGate):
    """A penalised softmax regression, frozen."""

    name = "logistic_regression"
    options = LogisticRegressionExpert.options

    def fit(self, job: GateJob, x: Floats, responsibilities: Weights) -> keras.Model:
        """Fit to rows; see ``FittedGate``."""
        refuse_loss_terms(job, self.name)
        x, y, weights = rows_of_experts(job, x, responsibilities)
        model = fit_logistic(
            with_defaults(self, job.options), seed=job.seed, x=x, y=y, weights=weights, num_classes=job.num_experts
        )
        return on_rows(model, job.input_shape)


class _TreeGate(FittedGate):
    """A classifier made of trees. Experts without any row get weight 0."""

    expert: ClassVar[tree_estimators.TreeExpert]

    def fit(self, job: GateJob, x: Floats, responsibilities: Weights) -> keras.Model:
        """Fit to rows; see ``FittedGate``."""
        refuse_loss_terms(job, self.name)
        options = self.expert.checked(job.options)
        x, y, weights = rows_of_experts(job, x, responsibilities)
        model = self.expert.fit_classes(options, seed=job.seed, x=x, y=y, weights=weights, num_classes=job.num_experts)
        return on_rows(model, job.input_shape)


class DecisionTreeGate(_TreeGate):
    """One decision tree: its leaves hold the routing weights."""

    name = "decision_tree"
    expert = tree_estimators.DecisionTreeExpert()
    options = expert.options


class RandomForestGate(_TreeGate):
    """A random forest."""

    name = "random_forest"
    expert = tree_estimators.RandomForestExpert()
    options = expert.options


class GradientBoostingGate(_TreeGate):
    """Gradient boosting."""

    name = "gradient_boosting"
    expert = tree_estimators.GradientBoostingExpert()
    options = expert.options


class HistGradientBoostingGate(_TreeGate):
    """Gradient boosting over binned features."""

    name = "hist_gradient_boosting"
    expert = tree_estimators.HistGradientBoostingExpert()
    options = expert.options


def rows_of_experts(
    job: GateJob, x: Floats, responsibilities: Weights
) -> tuple[Floats, npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Rows as often as experts share them: features, the expert's index, its share as weight.

    Raises:
        ValueError: If there aren't as many responsibilities a row as experts.
    """
    if responsibilities.shape != (len(x), job.num_experts):
        raise ValueError(
            f"expected responsibilities ({len(x)}, {job.num_experts}), a row for each of x, "
            f"got {responsibilities.shape}"
        )
    experts = np.tile(np.arange(job.num_experts), len(x))
    rows = np.repeat(np.arange(len(x)), job.num_experts)
    weights = np.asarray(responsibilities, dtype=np.float64).reshape(-1)
    kept, experts, weights = rows_that_count(rows.astype(np.int64), experts, weights)
    return x.reshape(len(x), -1)[kept.reshape(-1)], experts, weights


def refuse_loss_terms(job: GateJob, kind: str) -> None:
    """Check that nothing is asked for that needs backpropagation or logits.

    Raises:
        ValueError: If a term of the loss or a temperature is set.
    """
    for name, default in (("entropy_coef", 0.0), ("z_loss_coef", 0.0), ("temperature", 1.0)):
        if getattr(job, name) != default:
            raise ValueError(
                f"{kind}: expected {name}={default:g}, got {getattr(job, name)}: a fitted classifier has no such term; "
                "use a dense or linear gate"
            )
