"""Experts that are trees: scikit-learn's decision trees, random forests and boosting, fitted to weighted rows.

Options carry scikit-learn's names; ``max_depth = 0`` stands for no limit, because TOML has no null.
Layer: desktop (training).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task
from moe_edge.training.estimator_trees import constant_model
from moe_edge.training.estimators import estimator_model
from moe_edge.training.kinds.kind import ExpertJob, FittedExpert, Floats, Weights
from moe_edge.training.kinds.registry import with_defaults
from moe_edge.training.kinds.weighted_rows import on_rows, refuse_logits, residual_sigma, rows_that_count


class TreeExpert(FittedExpert):
    """Fits an estimator of trees, and turns it into a frozen model."""

    several_outputs = True
    """Whether its regressor takes several outputs itself."""

    @abstractmethod
    def classifier(self, options: Mapping[str, Any], seed: int) -> Any:
        """An unfitted classifier."""

    @abstractmethod
    def regressor(self, options: Mapping[str, Any], seed: int) -> Any:
        """An unfitted regressor."""

    def fit(self, job: ExpertJob, x: Floats, y: npt.NDArray[Any], weights: Weights) -> keras.Model:
        """Fit to rows; see ``FittedExpert``. Classes without weight get probability 0."""
        refuse_logits(job, self.name)
        options = self.checked(job.options)
        x, y, weights = rows_that_count(x, y, weights)
        if job.task is Task.CLASSIFICATION:
            model = self.fit_classes(options, seed=job.seed, x=x, y=y, weights=weights, num_classes=job.num_outputs)
            return on_rows(model, job.input_shape)
        targets = y.reshape(len(y), job.num_outputs)
        estimator = self.regressor(options, job.seed)
        if job.num_outputs > 1 and not self.several_outputs:
            from sklearn.multioutput import MultiOutputRegressor

            estimator = MultiOutputRegressor(estimator)
        estimator.fit(x, targets if job.num_outputs > 1 else targets[:, 0], sample_weight=weights)
        sigma = residual_sigma(estimator.predict(x), targets, weights) if job.combine is Combine.GAUSSIAN else None
        model = estimator_model(estimator, x.shape[1], num_outputs=job.num_outputs, sigma=sigma)
        return on_rows(model, job.input_shape)

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options in force, as scikit-learn takes them."""
        options = with_defaults(self, given)
        return {name: None if (name, value) == ("max_depth", 0) else value for name, value in options.items()}

    def fit_classes(
        self,
        options: Mapping[str, Any],
        *,
        seed: int,
        x: Floats,
        y: npt.NDArray[Any],
        weights: npt.NDArray[np.float64],
        num_classes: int,
    ) -> keras.Model:
        """Fit a classifier to class codes (n,): a model from (B, F) to probabilities (B, num_classes)."""
        present = np.unique(y)
        if len(present) == 1:
            # Boosting refuses a single class.
            certain = np.zeros(num_classes)
            certain[int(present[0])] = 1.0
            return constant_model(certain.tolist(), x.shape[1], probabilities=True)
        estimator = self.classifier(options, seed).fit(x, y, sample_weight=weights)
        return estimator_model(estimator, x.shape[1], num_outputs=num_classes)


class DecisionTreeExpert(TreeExpert):
    """One decision tree."""

    name = "decision_tree"
    options = {"max_depth": 8, "min_samples_leaf": 1, "ccp_alpha": 0.0}  # noqa: RUF012 - declared by the base

    def classifier(self, options: Mapping[str, Any], seed: int) -> Any:
        """A ``DecisionTreeClassifier``."""
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(random_state=seed, **options)

    def regressor(self, options: Mapping[str, Any], seed: int) -> Any:
        """A ``DecisionTreeRegressor``."""
        from sklearn.tree import DecisionTreeRegressor

        return DecisionTreeRegressor(random_state=seed, **options)


class RandomForestExpert(TreeExpert):
    """A random forest."""

    name = "random_forest"
    options = {"n_estimators": 100, "max_depth": 8, "min_samples_leaf": 1}  # noqa: RUF012 - declared by the base

    def classifier(self, options: Mapping[str, Any], seed: int) -> Any:
        """A ``RandomForestClassifier``."""
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(random_state=seed, **options)

    def regressor(self, options: Mapping[str, Any], seed: int) -> Any:
        """A ``RandomForestRegressor``."""
        from sklearn.ensemble import RandomForestRegressor

        return RandomForestRegressor(random_state=seed, **options)


class GradientBoostingExpert(TreeExpert):
    """Gradient boosting; of several outputs, one ensemble each."""

    name = "gradient_boosting"
    options = {  # noqa: RUF012 - declared by the base
        "n_estimators": 100,
        "learning_rate": 0.1,
        "max_depth": 3,
        "min_samples_leaf": 1,
        "subsample": 1.0,
    }
    several_outputs = False

    def classifier(self, options: Mapping[str, Any], seed: int) -> Any:
        """A ``GradientBoostingClassifier``."""
        from sklearn.ensemble import GradientBoostingClassifier

        return GradientBoostingClassifier(random_state=seed, **options)

    def regressor(self, options: Mapping[str, Any], seed: int) -> Any:
        """A ``GradientBoostingRegressor``."""
        from sklearn.ensemble import GradientBoostingRegressor

        return GradientBoostingRegressor(random_state=seed, **options)


class HistGradientBoostingExpert(TreeExpert):
    """Gradient boosting over binned features; of several outputs, one ensemble each."""

    name = "hist_gradient_boosting"
    options = {  # noqa: RUF012 - declared by the base
        "max_iter": 100,
        "learning_rate": 0.1,
        "max_leaf_nodes": 31,
        "max_depth": 0,
        "min_samples_leaf": 20,
        "l2_regularization": 0.0,
    }
    several_outputs = False

    def classifier(self, options: Mapping[str, Any], seed: int) -> Any:
        """A ``HistGradientBoostingClassifier``."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(random_state=seed, early_stopping=False, **options)

    def regressor(self, options: Mapping[str, Any], seed: int) -> Any:
        """A ``HistGradientBoostingRegressor``."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(random_state=seed, early_stopping=False, **options)
