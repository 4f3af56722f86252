"""``moe-edge inspect --data``: run a table's rows through a mixture, a .tflite or a .keras, and diagnose it.

Layer: command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.diagnosis import diagnose
from moe_edge.diagnosis_subject import Answered, Floats, Subject
from moe_edge.errors import DataError, ModelFileError, require
from moe_edge.hierarchy import GateTree
from moe_edge.routing_summary import summarise_routing

if TYPE_CHECKING:
    from moe_edge.cli.console import Reporter
    from moe_edge.diagnosis import Diagnosis
    from moe_edge.manifest import Manifest
    from moe_edge.routing_summary import RoutingSummary
    from moe_edge.training.archive import LoadedModel


def diagnose_rows(subject: Subject, data: Path, report_path: Path | None = None) -> tuple[RoutingSummary, Diagnosis]:
    """Run the rows of a table through gate and experts; write the page if asked for.

    Raises:
        DataError: If the table has no rows, or not the columns.
        MoeEdgeError: If the page can't be written.
    """
    from moe_edge.tables.dataset import encode_dataset

    dataset = encode_dataset(data, subject.schema, require_target=False)
    if not dataset.num_rows:
        raise DataError(f"{data}: expected at least one row, got none")
    rows, target = dataset.features, dataset.target
    answered = subject.answer(rows)
    diagnosis = diagnose(
        answered.routing_weights,
        task=subject.schema.task,
        labels=subject.schema.labels,
        target=target,
        prediction=answered.prediction,
        expert_answers=None if target is None else answered.expert_answers,
        scores_missing="" if target is None else subject.answers_missing,
    )
    if report_path is not None:
        require("matplotlib", extra="desktop", purpose="inspect --report")
        from moe_edge.pictures.diagnosis_report import write_diagnosis_report

        write_diagnosis_report(report_path, diagnosis, subject, rows, target)
    return summarise_routing(answered.routing_weights), diagnosis


@contextmanager
def open_tflite(model: Path) -> Iterator[Subject]:
    """A .tflite, by the predictor that ships.

    Raises:
        ModelFileError: If it isn't a file of moe-edge.
    """
    from moe_edge.runtime.predictor import Predictor

    missing = ""
    with hide_native_notices():
        opened = Predictor(model, mode="dense")
        try:
            # With the whole mass the answers are the whole graph's, and experts can run alone.
            parts = Predictor(model, mass=1.0)
        except ModelFileError as error:
            missing = f"the experts can't run alone: {error}"
        else:
            opened.close()
            opened = parts
    with opened as predictor:

        def answer(rows: Floats) -> Answered:
            raw = predictor.predict_raw(rows)
            return Answered(
                prediction=raw["prediction"],
                routing_weights=raw["routing_weights"],
                expert_answers=None if missing else predictor.predict_experts(rows),
            )

        manifest = predictor.manifest
        yield Subject(
            name=model.name,
            schema=manifest.schema,
            answer=answer,
            answers_missing=missing,
            gate_tree=_tree_of(manifest, model),
            gate_note=_tree_note(manifest),
        )


def _tree_of(manifest: Manifest, model: Path) -> GateTree | None:
    nested = manifest.extras.get("gate_tree")
    if nested is None:
        return None
    try:
        return GateTree.from_nested(nested)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{model}: its tree of gates is damaged: {error}; convert the model again") from error


def _tree_note(manifest: Manifest) -> str:
    """Where the splits of a decision tree can be seen."""
    job = manifest.extras.get("job")
    mixture = job.get("mixture") if isinstance(job, dict) else None
    gate = mixture.get("gate") if isinstance(mixture, dict) else None
    if not isinstance(gate, dict) or gate.get("kind") != "decision_tree":
        return ""
    return (
        "The gate is a decision tree, which the .tflite holds as arrays without the columns' names and units; its "
        "splits are drawn from the model that it was converted from: moe-edge inspect MODEL.keras --data TABLE "
        "--report PAGE.html."
    )


def keras_subject(loaded: LoadedModel, path: Path) -> Subject:
    """A .keras of ``moe-edge train``, through Keras.

    Raises:
        ModelFileError: If it carries no schema, or no mixture is found in it.
    """
    from moe_edge.training.gates.gate_reading import read_gate_splits, read_gate_tree
    from moe_edge.training.outputs import expert_outputs
    from moe_edge.training.score import predict

    schema, model = loaded.schema, loaded.model
    if schema is None:
        raise ModelFileError(
            f"{path}: expected a .keras of moe-edge train, which knows its columns and labels, got one without; "
            "convert it, and inspect the .tflite"
        )
    inside = expert_outputs(model)

    def answer(rows: Floats) -> Answered:
        found = predict(inside, rows.reshape(len(rows), *model.input_shape[1:]))
        return Answered(
            prediction=found["prediction"],
            routing_weights=found["routing_weights"],
            expert_answers=found["expert_answers"],
        )

    return Subject(
        name=path.name,
        schema=schema,
        answer=answer,
        gate_tree=read_gate_tree(model),
        gate_splits=lambda rows: read_gate_splits(model, schema, rows),
    )


def show_diagnosis(report: Reporter, diagnosis: Diagnosis) -> None:
    """Say what was found."""
    report.say(
        f"Effective experts: {diagnosis.effective_experts:.2f} over all rows, {diagnosis.effective_per_row:.2f} a row; "
        f"mean entropy of a row's weights {diagnosis.mean_entropy:.3f} nats"
    )
    scores = diagnosis.scores
    if scores is None:
        report.say(f"No scores of the experts: {diagnosis.scores_missing}")
    else:
        lines = zip(scores.alone, scores.own_rows, scores.mixture_there, strict=True)
        report.table(
            f"Each expert alone against the mixture ({scores.metric} {scores.mixture:.4g}), training's rows included",
            ("expert", "all rows", "on its own rows", "the mixture there"),
            [
                (f"expert_{index}", *("-" if value is None else f"{value:.4g}" for value in line))
                for index, line in enumerate(lines)
            ],
        )
        report.say(f"No expert is better than the gate's choice for {scores.gate_picks_best:.1%} of the rows")
    for advice in diagnosis.advice:
        report.say(f"Advice: {advice}")


def show_routing(report: Reporter, routing: RoutingSummary) -> None:
    """Say how rows are divided."""
    report.table(
        f"Routing of {routing.num_rows} rows",
        ("expert", "mean weight", "strongest for rows", f"needed for mass {routing.mass:g}, rows"),
        [
            (f"expert_{index}", f"{expert.mean_weight:.3f}", expert.strongest_rows, expert.needed_rows)
            for index, expert in enumerate(routing.experts)
        ],
    )
    report.say(
        f"A row needs {routing.experts_per_row:.2f} of {len(routing.experts)} experts on average; median margin of its "
        f"two strongest {routing.median_margin:.2f}; {routing.close_rows} rows are close calls"
    )
