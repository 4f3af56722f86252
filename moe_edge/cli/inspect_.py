"""``moe-edge inspect``: show what is inside a .tflite or .keras file.

Layer: command line.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from moe_edge.atomic import check_writable
from moe_edge.cli.console import EXISTING_FILE, OUTPUT_FILE, Reporter, output_options
from moe_edge.cli.source_options import source_options
from moe_edge.errors import require
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge.manifest import Manifest
    from moe_edge.training.archive import LoadedModel
    from moe_edge_converters.inspection import Inspection, TensorView


@click.command("inspect")
@click.argument("model", type=EXISTING_FILE)
@click.option("--data", type=EXISTING_FILE, help="A table: also show how the mixture routes its rows.")
@click.option("--report", "report_path", type=OUTPUT_FILE, help="With --data: write pictures and scores to this .html.")
@source_options
@output_options
def command(
    model: Path,
    *,
    data: Path | None,
    report_path: Path | None,
    custom_modules: tuple[str, ...],
    unsafe_load: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what is inside MODEL, a .tflite file of moe-edge or of any other tool, or a .keras of moe-edge train.

    Signatures (what a host can run), operators and versions, the bytes and dtypes of each part, and, in a file of
    moe-edge, the manifest: task, labels, experts, scheme, calibration. With --data, how the mixture divides the rows:
    use, sharpness, collapsed experts and, where the table has the target column, who is best where. Through a .keras
    the same, by Keras; it also knows the splits of a decision-tree gate.
    """
    if report_path is not None and data is None:
        raise click.UsageError("--report shows how rows are divided; give the rows: --data TABLE")
    if report_path is not None:
        check_writable(report_path)
    report = Reporter(as_json=as_json, quiet=quiet)
    if model.suffix == ".keras":
        require("tensorflow", extra="desktop", purpose="inspect a .keras")
        from moe_edge.training.keras_setup import load_keras

        load_keras()
        from moe_edge_converters.sources.source import open_source

        loaded = open_source(model, unsafe=unsafe_load, custom_modules=custom_modules)
        _inspect_keras(report, model, loaded, data, report_path)
        return
    require("ai_edge_litert", extra="desktop", purpose="inspect")
    from moe_edge.cli.inspect_data import diagnose_rows, open_tflite, show_diagnosis, show_routing
    from moe_edge_converters.inspection import inspect_file

    inspection = inspect_file(model)
    routing = diagnosis = None
    if data is not None:
        with open_tflite(model) as subject:
            routing, diagnosis = diagnose_rows(subject, data, report_path)
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
        show_routing(report, routing)
    if diagnosis is not None:
        show_diagnosis(report, diagnosis)
    if report_path is not None:
        report.say(f"Wrote {report_path}")
    if inspection.manifest is not None:
        report.next_command(f"moe-edge predict {model} DATA.csv --explain")


def _inspect_keras(
    report: Reporter, model: Path, loaded: LoadedModel, data: Path | None, report_path: Path | None
) -> None:
    """What a .keras of moe-edge train says of itself, and how it divides the rows."""
    from moe_edge.cli.inspect_data import diagnose_rows, keras_subject, show_diagnosis, show_routing

    subject = keras_subject(loaded, model)
    routing, diagnosis = (None, None) if data is None else diagnose_rows(subject, data, report_path)
    report.document(
        {
            "path": str(model),
            "parameters": int(loaded.model.count_params()),
            "record": loaded.record,
            "routing": to_dict(routing),
            "diagnosis": to_dict(diagnosis),
        }
    )
    report.say(f"{model}: a Keras model of {loaded.model.count_params():,} parameters")
    schema, config = subject.schema, loaded.config
    rows: list[tuple[str, object]] = [
        ("task", schema.task.value),
        ("columns", _few([column.name for column in schema.columns])),
        ("target", schema.target),
        ("labels", _few(list(schema.labels))),
    ]
    if config is not None:
        kinds = Counter(expert.kind for expert in config.all_experts)
        rows[1:1] = [
            ("combine", config.combine.value),
            ("experts", ", ".join(f"{count} {kind}" for kind, count in kinds.items())),
            ("gate", config.gate.kind),
        ]
    report.table("Model", ("field", "value"), rows)
    if subject.gate_tree is not None:
        report.say("Gates:\n" + subject.gate_tree.describe(None if diagnosis is None else diagnosis.usage))
    if routing is not None and diagnosis is not None:
        show_routing(report, routing)
        show_diagnosis(report, diagnosis)
    if report_path is not None:
        report.say(f"Wrote {report_path}")
    report.next_command(f"moe-edge convert {model} {data or 'DATA.csv'} -o {model.with_suffix('.tflite')}")


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
