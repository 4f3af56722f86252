"""``moe-edge inspect --data``: run the rows of a table through a file, and show how its mixture divides the work.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_edge.cli.console import Reporter
from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.errors import DataError, ModelFileError
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge.diagnosis import Diagnosis, ExpertScores
    from moe_edge.file_diagnosis import FileDiagnosis
    from moe_edge.manifest import Manifest


def diagnose_table(model: Path, manifest: Manifest | None, data: Path) -> FileDiagnosis:
    """Read a table as the file's manifest describes it, and diagnose the file on its rows.

    Args:
        model: A .tflite written by moe-edge.
        manifest: What it says of itself.
        data: The table; without the target column there are no scores.

    Raises:
        DataError: If the table can't be read or has no rows.
        ModelFileError: If the file has no manifest.
    """
    from moe_edge.file_diagnosis import diagnose_file
    from moe_edge.training.data import encode_dataset

    if manifest is None:
        raise ModelFileError(f"{model}: --data needs a file written by moe-edge, whose manifest describes the columns")
    dataset = encode_dataset(data, manifest.schema, require_target=False)
    if not dataset.num_rows:
        raise DataError(f"{data}: expected at least one row, got none")
    features = dataset.features.reshape(-1, *manifest.input_shape)
    with hide_native_notices():
        return diagnose_file(model, features, dataset.target)


def record_diagnosis(found: FileDiagnosis) -> dict[str, Any]:
    """The diagnosis as JSON's types."""
    record: dict[str, Any] = to_dict(found.diagnosis)
    if found.tree is not None:
        record["gate_tree"] = found.tree.to_nested()
    return record


def show_diagnosis(report: Reporter, found: FileDiagnosis) -> None:
    """Print the diagnosis for people."""
    diagnosis, routing = found.diagnosis, found.routing
    report.table(
        f"Routing of {diagnosis.num_rows:,} rows",
        ("expert", "mean weight", "strongest for rows", f"needed for mass {routing.mass:g}, rows"),
        [
            (f"expert_{index}", f"{expert.mean_weight:.3f}", expert.strongest_rows, expert.needed_rows)
            for index, expert in enumerate(routing.experts)
        ],
    )
    total = len(diagnosis.usage)
    report.say(
        f"A row needs {routing.experts_per_row:.2f} of {total} experts on average; median margin of its two strongest "
        f"{routing.median_margin:.2f}; {routing.close_rows} rows are close calls"
    )
    report.say(
        f"Effective number of experts: {diagnosis.effective_experts:.2f} over all rows, "
        f"{diagnosis.effective_per_row:.2f} for a row; mean entropy of the gate {diagnosis.mean_entropy:.3f} nats"
    )
    if found.tree is not None:
        report.say(found.tree.describe(diagnosis.usage))
    _show_groups(report, found)
    if diagnosis.scores is not None:
        _show_scores(report, diagnosis, diagnosis.scores)
    elif diagnosis.scores_missing:
        report.say(f"No scores: {diagnosis.scores_missing}")
    for sentence in diagnosis.advice:
        report.say(f"Advice: {sentence}")


def _show_groups(report: Reporter, found: FileDiagnosis) -> None:
    diagnosis = found.diagnosis
    if not diagnosis.groups:
        return
    names = [f"expert_{index}" for index in range(len(diagnosis.usage))]
    most = 8
    if len(names) > most:
        # Wider than a terminal: the strongest three say what there is to say.
        rows = []
        for group, weights in zip(diagnosis.groups, diagnosis.usage_by_group, strict=True):
            order = sorted(range(len(weights)), key=lambda index: -weights[index])[:3]
            rows.append((group, ", ".join(f"{names[index]} {weights[index]:.2f}" for index in order)))
        report.table(f"Mean gate weight by {found.manifest.schema.target}", ("", "strongest experts"), rows)
        return
    report.table(
        f"Mean gate weight by {found.manifest.schema.target}",
        ("", *names),
        [
            (group, *(f"{weight:.2f}" for weight in weights))
            for group, weights in zip(diagnosis.groups, diagnosis.usage_by_group, strict=True)
        ],
    )


def _show_scores(report: Reporter, diagnosis: Diagnosis, scores: ExpertScores) -> None:
    from moe_edge.diagnosis import score_text

    rows = [
        (f"expert_{index}", *(score_text(scores, value) for value in values))
        for index, values in enumerate(zip(scores.alone, scores.own_rows, scores.mixture_there, strict=True))
    ]
    rows.append(("mixture", score_text(scores, scores.mixture), "-", "-"))
    report.table(
        f"{scores.metric} on {diagnosis.num_rows:,} rows as given, seen in training or not",
        ("", "all rows", "where the gate prefers it", "mixture there"),
        rows,
    )
    report.say(
        f"The gate's choice is the best expert for {scores.gate_picks_best:.1%} of the rows; "
        f"if the best always answered: {score_text(scores, scores.oracle)}"
    )
