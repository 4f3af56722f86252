"""``moe-edge inspect``: show what is inside a .tflite file.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from moe_edge.cli.console import EXISTING_FILE, Reporter, output_options
from moe_edge.errors import require
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge.manifest import Manifest
    from moe_edge_converters.inspection import Inspection, TensorView


@click.command("inspect")
@click.argument("model", type=EXISTING_FILE)
@output_options
def command(model: Path, *, as_json: bool, quiet: bool) -> None:
    """Show what is inside MODEL, a .tflite file of moe-edge or of any other tool.

    Signatures (what a host can run), operators and versions, the bytes and dtypes of each part, and, in a file of
    moe-edge, the manifest: task, labels, experts, scheme, calibration.
    """
    require("ai_edge_litert", extra="desktop", purpose="inspect")
    from moe_edge_converters.inspection import inspect_file

    inspection = inspect_file(model)
    report = Reporter(as_json=as_json, quiet=quiet)
    report.document({"path": str(model), **to_dict(inspection)})
    report.say(f"{model}: {inspection.num_bytes:,} bytes, {inspection.description or 'no description'}")
    if inspection.manifest is None:
        report.say("No moe-edge manifest inside: a file of another tool. moe-edge predict needs one.")
    else:
        _show_manifest(report, inspection.manifest)
    _show_structure(report, inspection)
    if inspection.manifest is not None:
        report.next_command(f"moe-edge predict {model} DATA.csv --explain")


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
