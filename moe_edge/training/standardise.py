"""Fit the preprocessing and the target's scale on training rows only.

Layer: desktop (training).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moe_edge.schema import ColumnKind, FeatureSchema
from moe_edge.training.layers import Preprocess

MAX_Z = 10.0
"""No standardised value beyond this passes; the clip also bounds what quantization must cover."""
_MARGIN = 0.1
"""Room beyond the range of the training rows, as a share of that range."""


def fit_preprocess(schema: FeatureSchema, features: npt.NDArray[np.float32]) -> Preprocess:
    """Fit imputation (median), normalisation (mean, standard deviation) and clip.

    Args:
        schema: The columns.
        features: Training rows, float32 (n, d), raw.

    Returns:
        The layer. A column without any value or without change maps to 0.
    """
    numeric = [index for index, column in enumerate(schema.columns) if column.kind is ColumnKind.NUMERIC]
    categorical = [
        [index, len(column.categories)]
        for index, column in enumerate(schema.columns)
        if column.kind is ColumnKind.CATEGORICAL
    ]
    statistics = [_column_statistics(features[:, index].astype(np.float64)) for index in numeric]
    fill, mean, inverse_scale, low, high = ([values[position] for values in statistics] for position in range(5))
    return Preprocess(numeric, fill, mean, inverse_scale, low, high, categorical, name="preprocess")


def _column_statistics(values: npt.NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    """(fill, mean, inverse_scale, low, high) of one column."""
    known = values[~np.isnan(values)]
    if not len(known):
        return 0.0, 0.0, 1.0, 0.0, 0.0
    fill = float(np.median(known))
    filled = np.where(np.isnan(values), fill, values)
    mean, scale = centre_and_spread(filled)
    z = (filled - mean) / scale
    margin = _MARGIN * float(z.max() - z.min())
    return fill, mean, 1 / scale, max(float(z.min()) - margin, -MAX_Z), min(float(z.max()) + margin, MAX_Z)


def centre_and_spread(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; 1 for a column that doesn't change beyond float32's resolution."""
    mean, scale = float(values.mean()), float(values.std())
    resolution = max(1e-30, float(np.finfo(np.float32).eps) * abs(mean))
    return mean, scale if scale > resolution else 1.0
