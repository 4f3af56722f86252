"""How few experts are enough: the smallest gate mass whose loss on validation rows is within noise.

A soft gate gives every expert some weight, most of it to few. Routed execution stops once the experts that ran hold
``mass`` of it (top-p routing, Huang et al. 2024); what that costs is measured on rows that training didn't see, through
the very predictor that ships.
Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge.manifest import Manifest
from moe_edge.runtime.predictor import Predictor
from moe_edge.thresholds import rows_allowed

MASSES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_MAX_LOST_SHARE = 1 / 500
"""Rows that may become wrong, beyond those that become right."""
_UNSEEN_SHARE = 0.1
"""Of the loss's own standard error: a rise this small is no difference, however surely it is measured."""


@dataclass(frozen=True, kw_only=True)
class MassPoint:
    """One operating point.

    Attributes:
        mass: Gate mass at which a row's experts are enough.
        experts_run: Mean number of experts that ran.
        loss: Mean cross-entropy in nats, or mean squared error.
        loss_rise: That, less the whole mixture's.
        rows_lost: Rows whose class became wrong, less those that became right; 0 for a regression.
        within_noise: Whether the rise can't be told from none.
    """

    mass: float
    experts_run: float
    loss: float
    loss_rise: float
    rows_lost: int
    within_noise: bool


def measure_masses(file: bytes | Path, rows: npt.NDArray[np.float32], target: Any) -> tuple[MassPoint, ...]:
    """Run a file at each of ``MASSES``.

    Args:
        file: A .tflite that may be routed and whose gate gives weight to all experts.
        rows: float32 (n, ...) validation rows, n at least 2.
        target: Class codes (n,), or numbers (n,) or (n, K).

    Raises:
        ConversionError: If there aren't as many targets as rows, or too few.
    """
    truth = np.asarray(target)
    if len(truth) != len(rows) or len(rows) < 2:
        raise ConversionError(f"expected at least 2 validation rows with a target each, got {len(rows)}, {len(truth)}")
    with Predictor(file, mode="dense") as dense:
        task = dense.task
        exact = dense.predict_raw(rows)["prediction"]
    base = _losses(exact, truth, task)
    # The standard error of a mean over so few rows: what another draw of rows would change.
    own_error = base.std(ddof=1) / np.sqrt(len(base))
    points = []
    for mass in MASSES:
        with Predictor(file, mode="routed", mass=mass) as predictor:
            raw = predictor.predict_raw(rows)
        losses = _losses(raw["prediction"], truth, task)
        rises = losses - base
        allowed = max(rises.std(ddof=1) / np.sqrt(len(rises)), _UNSEEN_SHARE * own_error)
        lost = 0
        if task is Task.CLASSIFICATION:
            lost = int((exact.argmax(axis=1) == truth).sum() - (raw["prediction"].argmax(axis=1) == truth).sum())
        points.append(
            MassPoint(
                mass=mass,
                experts_run=float(raw["experts_run"].mean()),
                loss=float(losses.mean()),
                loss_rise=float(rises.mean()),
                rows_lost=lost,
                within_noise=bool(rises.mean() <= allowed and lost <= rows_allowed(_MAX_LOST_SHARE, len(rows))),
            )
        )
    return tuple(points)


def smallest_mass(points: tuple[MassPoint, ...]) -> MassPoint | None:
    """The first point from which on every larger mass is within noise too; None if there is none."""
    found = None
    for point in reversed(points):
        if not point.within_noise:
            break
        found = point
    return found


def record_mass(manifest: Manifest, points: tuple[MassPoint, ...]) -> Manifest:
    """Put the smallest mass, its mean number of experts and all points into the manifest."""
    best = smallest_mass(points)
    record: dict[str, Any] = {
        "points": [[point.mass, round(point.experts_run, 3), round(point.loss_rise, 6)] for point in points]
    }
    if best is not None:
        record["experts_run"] = round(best.experts_run, 3)
    return replace(manifest, mass=None if best is None else best.mass, extras={**manifest.extras, "mass": record})


def _losses(prediction: npt.NDArray[Any], truth: npt.NDArray[Any], task: Task) -> npt.NDArray[np.float64]:
    """Loss of each row, float64 (n,)."""
    answers = prediction.astype(np.float64)
    if task is Task.CLASSIFICATION:
        given = answers[np.arange(len(answers)), truth]
        losses: npt.NDArray[np.float64] = -np.log(np.maximum(given, 1e-7))
        return losses
    squared: npt.NDArray[np.float64] = np.square(answers - truth.reshape(answers.shape)).mean(axis=1)
    return squared
