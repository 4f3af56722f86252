"""The page of ``moe-edge inspect --data --report``: how a mixture divides its work.

Layer: desktop (pictures).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moe_edge.diagnosis import Diagnosis, ExpertScores
from moe_edge.diagnosis_subject import Floats, Subject
from moe_edge.pictures.diagnosis import draw_line_partition, draw_matrix, draw_plane_partition, draw_usage
from moe_edge.pictures.gate_trees import draw_gate_tree, draw_splits
from moe_edge.pictures.page import Section, write_page
from moe_edge.schema import ColumnKind
from moe_edge.task import Task

_LINE, _PLANE = 400, 120


def write_diagnosis_report(
    path: Path,
    diagnosis: Diagnosis,
    subject: Subject,
    rows: Floats,
    target: npt.NDArray[np.generic] | None,
) -> Path:
    """Draw the pictures and write one page that needs no other file.

    Args:
        path: The ``.html`` to write.
        diagnosis: What was found.
        subject: The mixture; draws the partition of one or two numeric inputs, and its gate where that is a tree.
        rows: (n, columns), what was diagnosed.
        target: Codes (n,) or numbers (n, K), or None.

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
                    f"spreads over {diagnosis.effective_per_row:.2f} (exp of the weights' entropy, on average).",
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
            what = subject.schema.target
            kind = "class" if subject.schema.task is Task.CLASSIFICATION else "range"
            picture = draw_matrix(
                diagnosis.usage_by_group,
                diagnosis.groups,
                folder / "groups.png",
                title=f"Which experts speak for which {kind}",
                row_title=what,
                column_title="expert",
                unit="mean gate weight",
            )
            sections.append(
                Section(title=f"Experts by {what}", picture=picture, caption=f"Mean gate weight by {what}.")
            )
        sections.append(_scores(diagnosis, experts, folder))
        partition = _partition(subject, rows, target, folder / "partition.png")
        if partition is not None:
            text = "Regions and lines show where each expert is the gate's first choice."
            sections.append(Section(title="The input space", picture=partition, caption=text))
        sections += _gate(subject, diagnosis, rows, folder)
        lead = f"How {subject.name} divides {diagnosis.num_rows:,} rows among its {len(experts)} experts."
        if diagnosis.scores is not None:
            scores = diagnosis.scores
            lead += (
                f" On these rows, those of training included where the table has them, it predicts "
                f"{subject.schema.target} with {scores.metric} {_show(scores, scores.mixture)}."
            )
        return write_page(path, title=f"Inside {subject.name}", lead=lead, sections=sections)


def _gate(subject: Subject, diagnosis: Diagnosis, rows: Floats, folder: Path) -> list[Section]:
    """The gate, where it is a tree."""
    if subject.gate_tree is not None:
        text = "An expert's weight is the product of the weights along its path from the root."
        picture = draw_gate_tree(subject.gate_tree, diagnosis.usage, folder / "tree.png")
        return [Section(title="The tree of gates", picture=picture, caption=text)]
    root = None if subject.gate_splits is None else subject.gate_splits(rows)
    if root is not None:
        text = (
            f"{root.depth} questions at most, in the table's own units; a leaf names the expert that it gives most, "
            "and how much."
        )
        picture = draw_splits(root, folder / "splits.png")
        return [Section(title="What the gate asks", picture=picture, caption=text)]
    return [Section(title="The gate", paragraphs=(subject.gate_note,))] if subject.gate_note else []


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


def _partition(subject: Subject, rows: Floats, target: npt.NDArray[np.generic] | None, path: Path) -> Path | None:
    """The picture of one or two numeric inputs; None for others."""
    schema = subject.schema
    columns = schema.columns
    if len(columns) > 2 or rows.ndim != 2 or any(column.kind is ColumnKind.CATEGORICAL for column in columns):
        return None
    if np.isnan(rows).all(axis=0).any():
        return None
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    if not (low < high).all():
        return None
    if len(columns) == 2:
        first, second = (np.linspace(low[i], high[i], _PLANE, dtype=np.float32) for i in range(2))
        grid = np.stack([axis.ravel() for axis in np.meshgrid(first, second)], axis=1)
        weights = subject.answer(grid).routing_weights.reshape(_PLANE, _PLANE, -1)
        return draw_plane_partition(first, second, weights, path, names=(schema.names[0], schema.names[1]), rows=rows)
    x = np.linspace(low[0], high[0], _LINE, dtype=np.float32)
    answered = subject.answer(x[:, None])
    if schema.task is Task.CLASSIFICATION:
        return draw_line_partition(x, answered.routing_weights, path, names=(schema.names[0], schema.target))
    known = None
    if target is not None:
        known = (rows[:, 0], np.asarray(target, dtype=np.float64).reshape(len(rows), -1)[:, 0])
    return draw_line_partition(
        x,
        answered.routing_weights,
        path,
        names=(schema.names[0], schema.labels[0]),
        prediction=answered.prediction[:, 0],
        answers=None if answered.expert_answers is None else answered.expert_answers[:, :, 0],
        rows=known,
    )
