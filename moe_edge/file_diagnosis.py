"""Diagnose a .tflite on rows: its own gate, its own experts, its own answers, and how it divides a plane or a line.

n is the number of rows, E of experts, K of outputs or classes, G of grid points.
Layer: device. Imports NumPy, ``moe_edge.diagnosis`` and the predictor.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe_edge.diagnosis import Diagnosis, diagnose
from moe_edge.errors import ModelFileError
from moe_edge.hierarchy import GateTree
from moe_edge.manifest import Manifest
from moe_edge.routing_summary import RoutingSummary, summarise_routing
from moe_edge.runtime.mixture_density import INTERVAL
from moe_edge.runtime.predictor import Predictor
from moe_edge.schema import ColumnKind

Floats = npt.NDArray[np.float32]

_LINE_POINTS, _PLANE_POINTS = 401, 141
"""Grid points on each axis."""
_MARGIN = 0.04
"""Share of the data's range that the grid goes beyond it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureAnswers:
    """All that a mixture says of some rows.

    Attributes:
        weights: float32 (n, E), the gate's.
        prediction: float32 (n, K), the mixture's.
        experts: float32 (n, E, K), each expert's own answers; None where experts can't run alone.
        interval: float32 (n, 2, K), between which 90 % of the probability lies; None without a mixture density.
    """

    weights: Floats
    prediction: Floats
    experts: Floats | None
    interval: Floats | None


@dataclass(frozen=True, kw_only=True, eq=False)
class InputPartition:
    """How the mixture divides an input space of one or two numeric columns.

    Attributes:
        columns: Their names.
        axes: Grid values of each column, rising.
        answers: The mixture's answers on the grid, flat: the last column changes fastest.
    """

    columns: tuple[str, ...]
    axes: tuple[npt.NDArray[np.float64], ...]
    answers: MixtureAnswers


@dataclass(frozen=True, kw_only=True, eq=False)
class FileDiagnosis:
    """What rows reveal of a file.

    Attributes:
        manifest: The file's.
        features: float32 (n, ...), the rows.
        target: Class codes (n,), or numbers (n, K); None without a target.
        answers: The mixture's answers to the rows.
        routing: How the gate routes them.
        diagnosis: What follows.
        partition: For one or two numeric columns, else None.
        tree: The tree of a hierarchical gate, else None.
    """

    manifest: Manifest
    features: Floats
    target: npt.NDArray[np.generic] | None
    answers: MixtureAnswers
    routing: RoutingSummary
    diagnosis: Diagnosis
    partition: InputPartition | None
    tree: GateTree | None


def diagnose_file(
    model: str | os.PathLike[str], features: Floats, target: npt.NDArray[np.generic] | None = None
) -> FileDiagnosis:
    """Run rows through a file, its whole graph and each expert, and look at how the mixture divides its work.

    Args:
        model: A .tflite written by ``moe-edge convert``.
        features: float32 (n, columns), n >= 1, as the model takes them: categories as codes, NaN for missing.
        target: Class codes (n,), or numbers (n, K).

    Raises:
        DataError: If the rows aren't what the model takes.
        ModelFileError: If the file can't be read.
        ValueError: If there are no rows.
    """
    if not len(features):
        raise ValueError("expected at least one row, got none")
    with Predictor(model, mode="dense") as dense:
        routed, missing = _open_experts(model, dense)
        try:
            manifest = dense.manifest
            answers = _answer(dense, routed, features)
            grid = _make_grid(manifest, features)
            partition = None
            if grid is not None:
                axes, points = grid
                partition = InputPartition(
                    columns=manifest.schema.names, axes=axes, answers=_answer(dense, routed, points)
                )
        finally:
            if routed is not None:
                routed.close()
    return FileDiagnosis(
        manifest=manifest,
        features=features,
        target=target,
        answers=answers,
        routing=summarise_routing(answers.weights),
        diagnosis=diagnose(
            answers.weights,
            task=manifest.task,
            labels=manifest.schema.labels,
            target=target,
            prediction=answers.prediction,
            expert_answers=answers.experts,
            scores_missing=missing,
        ),
        partition=partition,
        tree=_read_tree(manifest),
    )


def _open_experts(model: str | os.PathLike[str], dense: Predictor) -> tuple[Predictor | None, str]:
    """What runs experts alone, or why nothing does. A mixture density's whole graph gives their means by itself."""
    if dense.has_density:
        return None, ""
    try:
        return Predictor(model, mass=1), ""
    except ModelFileError as error:
        reason = str(error).removeprefix(f"{model}: ")
        return None, f"experts' own answers can't be had: {reason.removesuffix('; use mode dense')}"


def _answer(dense: Predictor, routed: Predictor | None, rows: Floats) -> MixtureAnswers:
    raw = dense.predict_raw(rows)
    experts, interval = None, None
    if dense.has_density:
        experts, interval = raw["expert_means"], dense.predict_quantiles(rows, INTERVAL)
    elif routed is not None:
        experts = routed.predict_experts(rows)
    return MixtureAnswers(
        weights=raw["routing_weights"], prediction=raw["prediction"], experts=experts, interval=interval
    )


def _make_grid(
    manifest: Manifest, features: Floats
) -> tuple[tuple[npt.NDArray[np.float64], ...], npt.NDArray[np.float32]] | None:
    """Axes over the rows' range, and all their points; None where the input isn't one or two numeric columns."""
    columns = manifest.schema.columns
    if len(columns) > 2 or any(column.kind is not ColumnKind.NUMERIC for column in columns):
        return None
    flat = features.reshape(len(features), -1).astype(np.float64)
    if flat.shape[1] != len(columns) or not np.isfinite(flat).any(axis=0).all():
        return None
    axes = []
    for values in flat.T:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        margin = _MARGIN * (high - low) if high > low else 0.5 * max(1.0, abs(low))
        axes.append(np.linspace(low - margin, high + margin, _LINE_POINTS if len(columns) == 1 else _PLANE_POINTS))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(columns))
    return tuple(axes), points.astype(np.float32).reshape(-1, *manifest.input_shape)


def _read_tree(manifest: Manifest) -> GateTree | None:
    """The tree of gates as the file records it; None where it records none, or none that can be read."""
    nested = manifest.extras.get("gate_tree")
    try:
        tree = None if nested is None else GateTree.from_nested(nested)
    except ValueError:
        return None
    return tree if tree is not None and tree.num_experts == manifest.num_experts else None
