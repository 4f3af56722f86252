"""What kinds fitted to weighted rows share: rows that count, seeds, sigma, rows of any shape.

Layer: desktop (training).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine
from moe_edge.training.kinds.kind import ExpertJob, Floats, Weights

NEGLIGIBLE = 1e-6
"""Rows of less weight than this share of the heaviest are left out: they cost time and tell nothing."""

SMALLEST_SIGMA = 1e-3
"""In standardised units; an expert that fits its rows exactly doesn't know the next one."""


def rows_that_count(
    x: Floats, y: npt.NDArray[Any], weights: Weights
) -> tuple[Floats, npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Rows with a weight that isn't negligible, features as (n, F), weights of mean 1.

    Raises:
        ValueError: If no row has a weight, or weights aren't numbers of at least 0.
    """
    if not np.isfinite(weights).all() or weights.min(initial=0) < 0 or weights.max(initial=0) <= 0:
        raise ValueError("expected finite weights of at least 0, not all 0")
    kept = weights > NEGLIGIBLE * weights.max()
    chosen = np.asarray(weights[kept], dtype=np.float64)
    return x[kept].reshape(int(kept.sum()), -1), y[kept], chosen / chosen.mean()


def residual_sigma(
    answers: npt.NDArray[Any], targets: npt.NDArray[Any], weights: npt.NDArray[np.float64]
) -> list[float]:
    """Weighted root mean square error of each output."""
    errors = np.asarray(answers, dtype=np.float64).reshape(targets.shape) - targets
    sigma = np.sqrt(np.average(errors**2, axis=0, weights=weights))
    return [max(float(value), SMALLEST_SIGMA) for value in sigma]


def refuse_logits(job: ExpertJob, kind: str) -> None:
    """Check that an expert may answer with probabilities, which can be 0 and have no logits.

    Raises:
        ValueError: If logits are to be mixed.
    """
    if job.combine is Combine.LOGITS:
        raise ValueError(
            f"{kind}: expected combine={Combine.PROBABILITIES.value}, got {job.combine.value}: its probabilities can "
            "be 0, which has no logit"
        )


def on_rows(model: keras.Model, input_shape: tuple[int, ...]) -> keras.Model:
    """A model of (B, F) as one of (B, *input_shape)."""
    if len(input_shape) == 1:
        return model
    return keras.Sequential([keras.Input(shape=input_shape), keras.layers.Flatten(), *model.layers])
