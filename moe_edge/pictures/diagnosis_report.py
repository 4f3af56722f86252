"""A diagnosis on one page: use, sharpness, who is best where, the input space, the tree of gates, advice.

Layer: desktop (pictures). Imports matplotlib, NumPy and the shared modules.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from moe_edge.diagnosis import Diagnosis, score_text
from moe_edge.file_diagnosis import FileDiagnosis
from moe_edge.pictures.diagnosis import draw_best_experts, draw_experts, draw_routing, group_means
from moe_edge.pictures.gate_tree import draw_gate_tree
from moe_edge.pictures.heatmaps import draw_usage
from moe_edge.pictures.page import Section, write_page
from moe_edge.pictures.partition import draw_partition
from moe_edge.task import Task


def write_diagnosis_report(found: FileDiagnosis, path: Path, *, model: str, data: str) -> Path:
    """Write the page, pictures inside.

    Args:
        found: The diagnosis.
        path: The ``.html`` to write.
        model: The file's name.
        data: The table's name.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="moe-edge-") as folder:
        sections = [
            _summary(found),
            _experts(found, Path(folder)),
            *_groups(found, Path(folder)),
            _routing(found.diagnosis, Path(folder)),
            *_best(found.diagnosis, Path(folder)),
            *_partition(found, Path(folder)),
            *_tree(found, Path(folder)),
            Section(
                title="Again",
                paragraphs=("This page was written by:",),
                commands=(f"moe-edge inspect {model} --data {data} --report {path.name}",),
            ),
        ]
        lead = (
            f"How the mixture of {len(found.diagnosis.usage)} experts in {model} divides its work on the "
            f"{found.diagnosis.num_rows:,} rows of {data}: which experts are used, how sharply the gate chooses, and "
            "whether it chooses well. The rows are taken as given: on rows that training saw, scores flatter."
        )
        return write_page(path, title=f"Diagnosis of {model}", lead=lead, sections=sections)


def _summary(found: FileDiagnosis) -> Section:
    diagnosis, manifest = found.diagnosis, found.manifest
    total = len(diagnosis.usage)
    rows = [
        ("task", manifest.task.value),
        ("target", manifest.schema.target),
        ("scheme", manifest.scheme),
        ("experts in use over all rows", f"{diagnosis.effective_experts:.2f} of {total}"),
        ("experts that a row needs", f"{diagnosis.effective_per_row:.2f} of {total}"),
        (f"experts that hold {found.routing.mass:.0%} of the weight", f"{found.routing.experts_per_row:.2f}"),
        ("close calls, which rounding may flip", f"{found.routing.close_rows:,} rows"),
    ]
    if diagnosis.scores is not None:
        scores = diagnosis.scores
        rows += [
            (f"{scores.metric} of the mixture", score_text(scores, scores.mixture)),
            (f"{scores.metric} if the best expert always answered", score_text(scores, scores.oracle)),
            ("rows where the gate's choice is the best expert", f"{scores.gate_picks_best:.1%}"),
        ]
    advice = diagnosis.advice or ("Nothing stands out: every expert is used, and the gate chooses.",)
    return Section(title="In short", paragraphs=advice, header=("of the mixture", ""), rows=rows)


def _experts(found: FileDiagnosis, folder: Path) -> Section:
    diagnosis, scores = found.diagnosis, found.diagnosis.scores
    header = ["expert", "mean weight", "strongest for rows"]
    if scores is not None:
        header += [f"{scores.metric} alone", "on its own rows", "mixture there"]
    rows = []
    for index, share in enumerate(diagnosis.usage):
        cells = [f"expert_{index}", f"{share:.1%}", f"{diagnosis.strongest_rows[index]:,}"]
        if scores is not None:
            values = (scores.alone[index], scores.own_rows[index], scores.mixture_there[index])
            cells += [score_text(scores, value) for value in values]
        rows.append(cells)
    paragraphs = ["The mean gate weight is how much an expert counts over all rows."]
    if scores is not None:
        paragraphs.append(
            "An expert's own rows are those where the gate gives it most. A specialist is good there and poor "
            "elsewhere; the gap to the mixture there is what the other experts add."
        )
    elif diagnosis.scores_missing:
        paragraphs.append(f"No scores: {diagnosis.scores_missing}.")
    picture = draw_experts(diagnosis, folder / "experts.png", unit=found.manifest.schema.target)
    return Section(
        title="Experts",
        paragraphs=paragraphs,
        picture=picture,
        caption="Mean gate weight of each expert" + (", and scores." if scores is not None else "."),
        header=header,
        rows=rows,
    )


def _groups(found: FileDiagnosis, folder: Path) -> list[Section]:
    diagnosis = found.diagnosis
    if not diagnosis.groups:
        return []
    classifies = found.manifest.task is Task.CLASSIFICATION
    kind = "class" if classifies else "quarter of the target"
    target = found.manifest.schema.target if classifies else found.manifest.schema.labels[0]
    picture = draw_usage(
        group_means(diagnosis),
        diagnosis.groups,
        folder / "groups.png",
        row_title=target,
        title=f"Mean gate weight of each expert by {kind}",
    )
    text = f"Nobody told the experts what to learn. The map shows each one's mean gate weight for each {kind}."
    return [
        Section(title="What each expert took", paragraphs=(text,), picture=picture, caption=f"Gate weight by {kind}.")
    ]


def _routing(diagnosis: Diagnosis, folder: Path) -> Section:
    return Section(
        title="How sharply the gate chooses",
        paragraphs=(
            "Entropy 0 means that one expert answers alone, 1 that all count alike. The smaller it is, the fewer "
            "experts a routed run needs for the same answers. Rows with a small margin between the two strongest "
            "experts are close calls.",
        ),
        picture=draw_routing(diagnosis, folder / "routing.png"),
        caption="Rows by entropy of the gate and by margin.",
    )


def _best(diagnosis: Diagnosis, folder: Path) -> list[Section]:
    if diagnosis.scores is None:
        return []
    text = (
        "Each line holds the rows that the gate gives mostly to one expert; the columns say which expert would have "
        "answered best. What lies off the diagonal a better gate could win."
    )
    if diagnosis.scores.metric == "accuracy":
        text += " Where several experts are right, the gate's choice counts as best."
    picture = draw_best_experts(diagnosis.scores, diagnosis.usage, folder / "best.png")
    return [Section(title="Does the gate choose well?", paragraphs=(text,), picture=picture, caption="Rows counted.")]


def _partition(found: FileDiagnosis, folder: Path) -> list[Section]:
    if found.partition is None:
        return []
    names = " and ".join(found.partition.columns)
    return [
        Section(
            title="How the input is divided",
            paragraphs=(f"The model sees {names} only, so its whole input space can be drawn.",),
            picture=draw_partition(found, folder / "partition.png"),
            caption=f"The mixture over {names}.",
        )
    ]


def _tree(found: FileDiagnosis, folder: Path) -> list[Section]:
    if found.tree is None:
        return []
    return [
        Section(
            title="The hierarchy of gates",
            paragraphs=(
                "An expert's weight is the product of the branch probabilities on its path. A routed run may follow "
                "the likeliest branches only.",
            ),
            picture=draw_gate_tree(found.tree, found.diagnosis.usage, folder / "tree.png"),
            caption="Gates, experts, and the share of weight on each branch.",
        )
    ]
