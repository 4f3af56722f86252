"""``moe-edge inspect``: show what is inside a .tflite file.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from moe_edge.atomic import check_writable
from moe_edge.cli.console import EXISTING_FILE, OUTPUT_FILE, Reporter, output_options
from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.errors import DataError, ModelFileError, require
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge.diagnosis import Diagnosis
    from moe_edge.manifest import Manifest
    from moe_edge.routing_summary import RoutingSummary
    from moe_edge_converters.inspection import Inspection, TensorView


@click.command("inspect")
@click.argument("model", type=EXISTING_FILE)
@click.option("--data", type=EXISTING_FILE, help="A table: also show how the mixture routes its rows.")
@click.option("--report", "report_path", type=OUTPUT_FILE, help="With --data: write pictures and scores to this .html.")
@output_options
def command(model: Path, *, data: Path | None, report_path: Path | None, as_json: bool, quiet: bool) -> None:
    """Show what is inside MODEL, a .tflite file of moe-edge or of any other tool.

    Signatures (what a host can run), operators and versions, the bytes and dtypes of each part, and, in a file of
    moe-edge, the manifest: task, labels, experts, scheme, calibration. With --data, how the mixture divides the rows:
    use, sharpness, collapsed experts and, where the table has the target column, who is best where.
    """
    if report_path is not None and data is None:
        raise click.UsageError("--report shows how rows are divided; give the rows: --data TABLE")
    if report_path is not None:
        check_writable(report_path)
    require("ai_edge_litert", extra="desktop", purpose="inspect")
    from moe_edge_converters.inspection import inspect_file

    inspection = inspect_file(model)
    report = Reporter(as_json=as_json, quiet=quiet)
    routing, diagnosis = (None, None) if data is None else _diagnose(model, data, report_path)
    report.document(
        {
            "path": str(model),
            **to_dict(inspection),
            "routing": to_dict(routing),
            "diagnosis": to_dict(diagnosis),
        }
    )
    report.say(f"{model}: {inspection.num_bytes:,} bytes, {inspection.description or 'no description'}")
    if inspection.manifest is None:
        report.say("No moe-edge manifest inside: a file of another tool. moe-edge predict needs one.")
    else:
        _show_manifest(report, inspection.manifest)
    _show_structure(report, inspection)
    if routing is not None:
        _show_routing(report, routing)
    if diagnosis is not None:
        _show_diagnosis(report, diagnosis)
    if report_path is not None:
        report.say(f"Wrote {report_path}")
    if inspection.manifest is not None:
        report.next_command(f"moe-edge predict {model} DATA.csv --explain")


def _diagnose(model: Path, data: Path, report_path: Path | None) -> tuple[RoutingSummary, Diagnosis]:
    """Run the rows of a table through gate and experts."""
    from moe_edge.diagnosis import diagnose
    from moe_edge.routing_summary import summarise_routing
    from moe_edge.runtime.predictor import Predictor
    from moe_edge.training.data import encode_dataset

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
        dataset = encode_dataset(data, predictor.manifest.schema, require_target=False)
        if not dataset.num_rows:
            raise DataError(f"{data}: expected at least one row, got none")
        rows, target = dataset.features, dataset.target
        raw = predictor.predict_raw(rows)
        scored = target is not None and not missing
        diagnosis = diagnose(
            raw["routing_weights"],
            task=predictor.task,
            labels=predictor.labels,
            target=target,
            prediction=raw["prediction"],
            expert_answers=predictor.predict_experts(rows) if scored else None,
            scores_missing="" if target is None else missing,
        )
        if report_path is not None:
            require("matplotlib", extra="desktop", purpose="inspect --report")
            from moe_edge.pictures.diagnosis_report import write_diagnosis_report

            write_diagnosis_report(report_path, diagnosis, predictor, rows, target, name=model.name)
    return summarise_routing(raw["routing_weights"]), diagnosis


def _show_diagnosis(report: Reporter, diagnosis: Diagnosis) -> None:
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
            f"Each expert alone against the mixture ({scores.metric} {scores.mixture:.4g})",
            ("expert", "all rows", "on its own rows", "the mixture there"),
            [
                (f"expert_{index}", *("-" if value is None else f"{value:.4g}" for value in line))
                for index, line in enumerate(lines)
            ],
        )
        report.say(f"No expert is better than the gate's choice for {scores.gate_picks_best:.1%} of the rows")
    for advice in diagnosis.advice:
        report.say(f"Advice: {advice}")


def _show_routing(report: Reporter, routing: RoutingSummary) -> None:
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


def _shape(tensor: TensorView) -> str:
    return f"{tensor.name} {tensor.dtype}{list(tensor.shape)}"


def _show_structure(report: Reporter, inspection: Inspection) -> None:
    report.table(
        "Signatures",
        ("name", "subgraph", "inputs", "outputs"),
        [
            (view.name, view.subgraph, ", ".join(map(_shape, view.inputs)), ", ".join(map(_shape, view.outputs)))
            for view in inspection.signatures
        ],
    )
    report.table(
        "Parts (constants; shared bytes are stored once, with the part that has them first)",
        ("part", "weights", "bytes", "shared bytes"),
        [
            (part.name, ", ".join(part.dtypes) or "-", f"{part.num_bytes:,}", f"{part.shared_bytes:,}")
            for part in inspection.parts
        ],
    )
    report.table(
        "Operators",
        ("operator", "version", "count"),
        [(view.name, view.version, view.count) for view in inspection.operators],
    )


def _show_manifest(report: Reporter, manifest: Manifest) -> None:
    schema = manifest.schema
    rows = [
        ("task", manifest.task.value),
        ("combine", manifest.combine.value),
        ("experts", manifest.num_experts),
        ("layout", manifest.layout + (f", top {manifest.top_k} experts a row" if manifest.top_k else "")),
        ("input", "int8 features, after preprocessing" if manifest.io == "int8" else "raw rows, float32"),
        ("scheme", manifest.scheme + (", per tensor" if manifest.per_tensor else "")),
        ("columns", _few([column.name for column in schema.columns])),
        ("target", schema.target),
        ("labels", _few(list(schema.labels))),
        ("golden rows", len(manifest.golden.inputs)),
        ("written by", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
    ]
    if manifest.calibration:
        counts = ", ".join(map(str, manifest.calibration.get("rows_per_expert", [])))
        rows.insert(4, ("calibration", f"{manifest.calibration.get('rows')} rows; for each expert {counts}"))
    rows += [(name, text) for name, text in manifest.provenance.items()]
    report.table("Manifest", ("field", "value"), rows)


def _few(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
