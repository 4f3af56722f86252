"""The page of ``moe-edge inspect --data --report``: how a mixture divides its work.

Layer: desktop (pictures).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moe_edge.diagnosis import Diagnosis, ExpertScores
from moe_edge.manifest import Manifest
from moe_edge.pictures.diagnosis import draw_line_partition, draw_matrix, draw_plane_partition, draw_tree, draw_usage
from moe_edge.pictures.page import Section, write_page
from moe_edge.runtime.modes import ROUTED
from moe_edge.runtime.predictor import Predictor
from moe_edge.schema import ColumnKind
from moe_edge.task import Task

_LINE, _PLANE = 400, 120


def write_diagnosis_report(
    path: Path,
    diagnosis: Diagnosis,
    predictor: Predictor,
    rows: npt.NDArray[np.floating],
    target: npt.NDArray[np.generic] | None,
    *,
    name: str,
) -> Path:
    """Draw the pictures and write one page that needs no other file.

    Args:
        path: The ``.html`` to write.
        diagnosis: What was found.
        predictor: The open model; draws the partition of one or two numeric inputs.
        rows: (n, columns), what was diagnosed.
        target: Codes (n,) or numbers (n, K), or None.
        name: What to call the model.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    experts = [f"expert_{index}" for index in range(len(diagnosis.usage))]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sections = [
            Section(
                title="How the work is divided",
                paragraphs=(
                    f"{diagnosis.effective_experts:.2f} of {len(experts)} experts are in use over all rows; one row "
                    f"needs {diagnosis.effective_per_row:.2f} (exp of the weights' entropy, on average).",
                    *(diagnosis.advice or ("Nothing to advise: every expert works.",)),
                ),
                header=("expert", "mean weight", "strongest for rows"),
                rows=[
                    (expert, f"{usage:.1%}", f"{count:,}")
                    for expert, usage, count in zip(experts, diagnosis.usage, diagnosis.strongest_rows, strict=True)
                ],
                picture=draw_usage(diagnosis, folder / "usage.png"),
                caption="Mean gate weight of each expert; rows by entropy of their weights; rows by margin.",
            )
        ]
        if diagnosis.groups:
            what = predictor.manifest.schema.target
            picture = draw_matrix(
                diagnosis.usage_by_group,
                diagnosis.groups,
                folder / "groups.png",
                title=f"Which experts speak for which {'class' if predictor.task is Task.CLASSIFICATION else 'range'}",
                row_title=what,
                column_title="expert",
                unit="mean gate weight",
            )
            sections.append(
                Section(title=f"Experts by {what}", picture=picture, caption=f"Mean gate weight by {what}.")
            )
        sections.append(_scores(diagnosis, experts, folder))
        partition = _partition(predictor, rows, target, folder / "partition.png")
        if partition is not None:
            text = "Regions and lines show where each expert is the gate's first choice."
            sections.append(Section(title="The input space", picture=partition, caption=text))
        parents = tree_of(predictor.manifest)
        if parents:
            shares = dict(zip(experts, diagnosis.usage, strict=True))
            text = "An expert's weight is the product of the weights along its path from the root."
            tree = draw_tree(parents, shares, folder / "tree.png")
            sections.append(Section(title="The tree of gates", picture=tree, caption=text))
        lead = f"How {name} divides {diagnosis.num_rows:,} rows among its {len(experts)} experts."
        return write_page(path, title=f"Inside {name}", lead=lead, sections=sections)


def tree_of(manifest: Manifest) -> dict[str, str | None]:
    """Gates and experts of a hierarchy, each with the gate above it; empty for a single gate."""
    if not any(part.parent and part.parent.startswith("gate_") for part in manifest.parts):
        return {}
    return {part.id: part.parent for part in manifest.parts if part.id.startswith(("gate_", "expert_"))}


def _scores(diagnosis: Diagnosis, experts: list[str], folder: Path) -> Section:
    scores = diagnosis.scores
    title = "Each expert against the mixture"
    if scores is None:
        return Section(title=title, paragraphs=(f"No scores: {diagnosis.scores_missing}.",))
    lines = [
        (expert, _show(scores, alone), _show(scores, own), _show(scores, there))
        for expert, alone, own, there in zip(experts, scores.alone, scores.own_rows, scores.mixture_there, strict=True)
    ]
    lines.append(("mixture", _show(scores, scores.mixture), "", ""))
    lines.append(("best expert of each row", _show(scores, scores.oracle), "", ""))
    picture = draw_matrix(
        scores.best_rows,
        experts,
        folder / "best.png",
        title="The gate's choice against the best expert",
        row_title="chosen by the gate",
        column_title="best expert",
        unit="rows",
        counted=True,
    )
    return Section(
        title=title,
        paragraphs=(
            f"For {scores.gate_picks_best:.1%} of the rows no expert is better than the one that the gate prefers.",
        ),
        header=("", f"{scores.metric}, all rows", "on its own rows", "the mixture there"),
        rows=lines,
        picture=picture,
        caption="Rows by the expert that the gate prefers and the one that was best; the diagonal is right.",
    )


def _show(scores: ExpertScores, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if scores.metric == "accuracy" else f"{value:.5g}"


def _partition(
    predictor: Predictor, rows: npt.NDArray[np.floating], target: npt.NDArray[np.generic] | None, path: Path
) -> Path | None:
    """The picture of one or two numeric inputs; None for others."""
    schema = predictor.manifest.schema
    columns = schema.columns
    if len(columns) > 2 or rows.ndim != 2 or any(column.kind is ColumnKind.CATEGORICAL for column in columns):
        return None
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    if not (low < high).all():
        return None
    if len(columns) == 2:
        first, second = (np.linspace(low[i], high[i], _PLANE, dtype=np.float32) for i in range(2))
        grid = np.stack([axis.ravel() for axis in np.meshgrid(first, second)], axis=1)
        weights = predictor.predict_raw(grid)["routing_weights"].reshape(_PLANE, _PLANE, -1)
        return draw_plane_partition(first, second, weights, path, names=(schema.names[0], schema.names[1]), rows=rows)
    x = np.linspace(low[0], high[0], _LINE, dtype=np.float32)
    raw = predictor.predict_raw(x[:, None])
    if predictor.task is Task.CLASSIFICATION:
        return draw_line_partition(x, raw["routing_weights"], path, names=(schema.names[0], schema.target))
    answers = predictor.predict_experts(x[:, None])[:, :, 0] if predictor.mode == ROUTED else None
    known = None
    if target is not None:
        known = (rows[:, 0], np.asarray(target, dtype=np.float64).reshape(len(rows), -1)[:, 0])
    return draw_line_partition(
        x,
        raw["routing_weights"],
        path,
        names=(schema.names[0], schema.labels[0]),
        prediction=raw["prediction"][:, 0],
        answers=answers,
        rows=known,
    )
