"""Datasets to try things on: scikit-learn's own tables, and an S-curve that one linear model can't follow.

Layer: desktop (training). Imports scikit-learn on call.
"""

from __future__ import annotations

import numpy as np

from moe_edge.config import Task
from moe_edge.errors import require
from moe_edge.tables.dataset import Dataset, dataset_from_arrays


def digits_dataset() -> Dataset:
    """Handwritten digits: 1,797 rows, 64 pixels from 0 to 16, 10 classes (UCI, test part of optdigits)."""
    require("sklearn", extra="desktop", purpose="the digits example")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    return dataset_from_arrays(
        bunch.data, bunch.target, names=names, labels=[str(label) for label in range(10)], source="digits"
    )


def iris_dataset() -> Dataset:
    """Iris flowers: 150 rows, 4 lengths in cm, 3 species."""
    require("sklearn", extra="desktop", purpose="the iris example")
    from sklearn.datasets import load_iris

    bunch = load_iris()
    return dataset_from_arrays(
        bunch.data, bunch.target, names=bunch.feature_names, labels=list(map(str, bunch.target_names)), source="iris"
    )


def wine_dataset() -> Dataset:
    """Wines of three cultivars: 178 rows, 13 chemical measures whose ranges differ ten-thousandfold."""
    require("sklearn", extra="desktop", purpose="the wine example")
    from sklearn.datasets import load_wine

    bunch = load_wine()
    return dataset_from_arrays(
        bunch.data, bunch.target, names=bunch.feature_names, labels=list(map(str, bunch.target_names)), source="wine"
    )


def diabetes_dataset() -> Dataset:
    """Progression of diabetes after a year, a regression: 442 rows, 10 measures."""
    require("sklearn", extra="desktop", purpose="the diabetes example")
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes()
    return dataset_from_arrays(
        bunch.data, bunch.target, names=bunch.feature_names, task=Task.REGRESSION, source="diabetes"
    )


def s_curve_dataset(num_rows: int = 1000, *, noise: float = 0.1, seed: int = 0) -> Dataset:
    """A line that folds back twice: three linear pieces with slopes 3, -3 and 3 over x in [-1.5, 1.5].

    Args:
        num_rows: Rows.
        noise: Standard deviation of the target's noise; no model's RMSE can be lower.
        seed: Seed of rows and noise.
    """
    random = np.random.default_rng(seed)
    x = random.uniform(-1.5, 1.5, num_rows)
    y = np.where(x < -0.5, 3 * (x + 1), np.where(x < 0.5, -3 * x, 3 * (x - 1)))
    y = y + random.normal(0, noise, num_rows)
    return dataset_from_arrays(x[:, None], y, names=["x"], task=Task.REGRESSION, source="s_curve")
