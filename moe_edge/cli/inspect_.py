"""``moe-edge inspect``: show what is inside a .tflite file.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from moe_edge.atomic import check_writable
from moe_edge.cli.console import EXISTING_FILE, OUTPUT_FILE, Reporter, output_options
from moe_edge.cli.diagnosis_view import diagnose_table, record_diagnosis, show_diagnosis
from moe_edge.errors import require
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge.manifest import Manifest
    from moe_edge_converters.inspection import Inspection, TensorView


@click.command("inspect")
@click.argument("model", type=EXISTING_FILE)
@click.option("--data", type=EXISTING_FILE, help="A table: also show how the mixture divides its rows, and how well.")
@click.option("--report", "page", type=OUTPUT_FILE, help="With --data: write the diagnosis as one .html page.")
@output_options
def command(model: Path, *, data: Path | None, page: Path | None, as_json: bool, quiet: bool) -> None:
    """Show what is inside MODEL, a .tflite file of moe-edge or of any other tool.

    Signatures (what a host can run), operators and versions, the bytes and dtypes of each part, and, in a file of
    moe-edge, the manifest: task, labels, experts, scheme, calibration.

    With --data, a table with the model's columns, also the mixture at work: use of each expert, over all and by class,
    how sharply the gate chooses, and, where the table has the target column, which expert is best where and each
    expert's own score. --report draws it.
    """
    if page is not None:
        if data is None:
            raise click.UsageError("--report draws what rows reveal: give --data TABLE as well")
        if page.suffix.lower() not in (".html", ".htm"):
            raise click.UsageError(f"--report: expected a file that ends in .html, got {page}")
        check_writable(page)
        require("matplotlib", extra="desktop", purpose="inspect --report")
    require("ai_edge_litert", extra="desktop", purpose="inspect")
    from moe_edge_converters.inspection import inspect_file

    inspection = inspect_file(model)
    report = Reporter(as_json=as_json, quiet=quiet)
    found = None if data is None else diagnose_table(model, inspection.manifest, data)
    if page is not None and found is not None and data is not None:
        from moe_edge.pictures.diagnosis_report import write_diagnosis_report

        write_diagnosis_report(found, page, model=model.name, data=data.name)
    report.document(
        {
            "path": str(model),
            **to_dict(inspection),
            "routing": None if found is None else to_dict(found.routing),
            "diagnosis": None if found is None else record_diagnosis(found),
            "report": None if page is None else str(page),
        }
    )
    report.say(f"{model}: {inspection.num_bytes:,} bytes, {inspection.description or 'no description'}")
    if inspection.manifest is None:
        report.say("No moe-edge manifest inside: a file of another tool. moe-edge predict needs one.")
    else:
        _show_manifest(report, inspection.manifest)
    _show_structure(report, inspection)
    if found is not None:
        show_diagnosis(report, found)
    if page is not None:
        report.say(f"Wrote {page}")
    if inspection.manifest is not None:
        report.next_command(f"moe-edge predict {model} {data or 'DATA.csv'} --explain")


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
