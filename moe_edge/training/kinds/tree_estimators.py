"""Experts made of decision trees, fitted by scikit-learn and held exactly in one layer.

Layer: desktop (training).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task
from moe_edge.training.estimators.estimator_trees import side_by_side
from moe_edge.training.estimators.frozen_models import (
    constant_classifier,
    estimator_model,
    gaussian_trees,
    read_trees,
    regression_trees,
)
from moe_edge.training.kinds.kind import ExpertJob, FittedExpert, Floats, Weights
from moe_edge.training.kinds.options import EXPERT_OPTIONS
from moe_edge.training.kinds.registry import with_defaults
from moe_edge.training.kinds.unseen_residuals import cross_fitted, out_of_bag
from moe_edge.training.kinds.weighted_rows import as_targets, log_sigmas, weighty_rows


class TreeExpert(FittedExpert):
    """What all kinds of trees share.

    Options are scikit-learn's; one that is None is left to scikit-learn. A Gaussian expert's sigma is that of rows that
    the trees haven't seen (``unseen_residuals``).
    """

    one_output: ClassVar[bool] = False
    """Whether the estimator takes one output only; for several, one is fitted for each."""

    @abstractmethod
    def estimator(self, *, classifies: bool, seed: int, options: Mapping[str, Any]) -> Any:
        """An unfitted estimator."""

    def fit(self, job: ExpertJob, x: Floats, y: npt.NDArray[Any], weights: Weights) -> keras.Model:
        """Fit; errors as of ``weighty_rows``."""
        x, y, weights = weighty_rows(self.name, job, x, y, weights)
        if job.task is Task.CLASSIFICATION:
            return self.fit_classifier(x, y, weights, num_classes=job.num_outputs, seed=job.seed, options=job.options)
        chosen = self._chosen(job.options)
        y = np.asarray(y, dtype=np.float64).reshape(len(x), -1)
        parts = [as_targets(y[:, [index]]) for index in range(y.shape[1])] if self.one_output else [as_targets(y)]
        estimators = [
            self.estimator(classifies=False, seed=job.seed, options=chosen).fit(x, part, sample_weight=weights)
            for part in parts
        ]
        sums = side_by_side([read_trees(each) for each in estimators])
        if job.combine is not Combine.GAUSSIAN:
            return regression_trees(sums, x.shape[1])
        unseen = np.column_stack(
            [
                self._unseen(each, chosen, x, part, weights, seed=job.seed)
                for each, part in zip(estimators, parts, strict=True)
            ]
        )
        return gaussian_trees(sums, x.shape[1], log_sigmas(unseen, y, weights))

    def fit_classifier(
        self,
        x: Floats,
        y: npt.NDArray[Any],
        weights: Weights,
        *,
        num_classes: int,
        seed: int,
        options: Mapping[str, Any],
    ) -> keras.Model:
        """Fit to class codes below ``num_classes``, some of which may have no row; those get probability 0."""
        present = np.unique(y)
        if len(present) == 1:
            return constant_classifier(x.shape[1], int(present[0]), num_classes)
        estimator = self.estimator(classifies=True, seed=seed, options=self._chosen(options))
        estimator.fit(x, y, sample_weight=weights)
        return estimator_model(estimator, x.shape[1], num_outputs=num_classes, classes=estimator.classes_)

    def _chosen(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in with_defaults(self, options).items() if value is not None}

    def _unseen(
        self,
        fitted: Any,
        options: Mapping[str, Any],
        x: Floats,
        part: npt.NDArray[Any],
        weights: Weights,
        *,
        seed: int,
    ) -> npt.NDArray[np.float64]:
        """What the estimator answers to rows that it hasn't seen, (n, K): by cross-fitting; NaN where that is unknown.

        A single row can't be left out of anything: then its own answer.
        """
        if len(x) < 2:
            return np.asarray(fitted.predict(x), np.float64).reshape(len(x), -1)
        return cross_fitted(
            lambda: self.estimator(classifies=False, seed=seed, options=options), x, part, weights, seed=seed
        )


class DecisionTreeExpert(TreeExpert):
    """One tree."""

    name = "decision_tree"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["decision_tree"]

    def estimator(self, *, classifies: bool, seed: int, options: Mapping[str, Any]) -> Any:
        """See ``TreeExpert``."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        return (DecisionTreeClassifier if classifies else DecisionTreeRegressor)(random_state=seed, **options)


class RandomForestExpert(TreeExpert):
    """The mean of many trees, each fitted to a random draw of the rows (Breiman 2001)."""

    name = "random_forest"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["random_forest"]

    def estimator(self, *, classifies: bool, seed: int, options: Mapping[str, Any]) -> Any:
        """See ``TreeExpert``."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        return (RandomForestClassifier if classifies else RandomForestRegressor)(random_state=seed, **options)

    def _unseen(
        self,
        fitted: Any,
        options: Mapping[str, Any],
        x: Floats,
        part: npt.NDArray[Any],
        weights: Weights,
        *,
        seed: int,
    ) -> npt.NDArray[np.float64]:
        """Out of bag: costs no further fit. A forest so small that its trees drew all rows is cross-fitted."""
        answers = out_of_bag(fitted, x)
        if np.isnan(answers).all():
            return super()._unseen(fitted, options, x, part, weights, seed=seed)
        return answers


class GradientBoostingExpert(TreeExpert):
    """A sum of small trees, each fitted to what the ones before left (Friedman 2001)."""

    name = "gradient_boosting"
    one_output = True
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["gradient_boosting"]

    def estimator(self, *, classifies: bool, seed: int, options: Mapping[str, Any]) -> Any:
        """See ``TreeExpert``."""
        from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

        return (GradientBoostingClassifier if classifies else GradientBoostingRegressor)(random_state=seed, **options)


class HistGradientBoostingExpert(TreeExpert):
    """Gradient boosting over binned features: fast on many rows."""

    name = "hist_gradient_boosting"
    one_output = True
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["hist_gradient_boosting"]

    def estimator(self, *, classifies: bool, seed: int, options: Mapping[str, Any]) -> Any:
        """See ``TreeExpert``."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
        return kind(random_state=seed, **options)
