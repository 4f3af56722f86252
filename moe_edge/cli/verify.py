"""``moe-edge verify``: does this .tflite answer here as it did where it was written? Needs nothing but the file.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from moe_edge.cli.console import EXISTING_FILE, Reporter, output_options
from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.runtime.backends import AUTO, BACKEND_NAMES
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge.runtime.verification import Verification


@click.command()
@click.argument("model", type=EXISTING_FILE)
@click.option("--backend", type=click.Choice(BACKEND_NAMES), default=AUTO, show_default=True, help="The runtime.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    help="Largest difference that passes. Default: 1e-6 for float files, one int8 step (1/256) for others.",
)
@output_options
def command(*, model: Path, backend: str, tolerance: float | None, as_json: bool, quiet: bool) -> None:
    """Verify on this machine that MODEL, a .tflite of moe-edge, is whole and answers as where it was written.

    Checks the digests of the whole file, runs every signature, and answers the rows stored in the file, dense and
    routed, against their stored answers and routing. Exit code 1 when a difference is past the tolerance.
    """
    from moe_edge.runtime.verification import verify

    report = Reporter(as_json=as_json, quiet=quiet)
    with hide_native_notices():
        found = verify(model, backend=backend, tolerance=tolerance)
    report.document({"model": str(model), "passed": found.passed, **to_dict(found)})
    _show(report, model, found)
    if not found.passed:
        if quiet:
            click.echo(f"{model}: {_verdict(found)}", err=True)
        raise SystemExit(1)


def _show(report: Reporter, model: Path, found: Verification) -> None:
    report.say(f"{model}: {found.num_bytes:,} bytes, sha256 {found.sha256}")
    report.say(f"{found.scheme} on {found.backend} {found.backend_version}; {len(found.signatures)} signatures run")
    report.table(
        f"{found.num_rows} stored rows answered again, tolerance {found.tolerance:.3g}",
        ("mode", "worst answer", "worst routing", "same label", "µs a row"),
        [
            (
                check.mode,
                f"{check.max_difference:.2g}",
                "-" if check.max_routing_difference is None else f"{check.max_routing_difference:.2g}",
                "-" if check.same_labels is None else f"{check.same_labels} of {found.num_rows}",
                f"{check.us_per_row:.1f}",
            )
            for check in found.modes
        ],
    )
    if found.not_routed is not None:
        report.say(f"Not run routed: {found.not_routed}")
    report.say(_verdict(found))


def _verdict(found: Verification) -> str:
    if found.passed:
        return "PASS: it answers here as where it was written"
    worst = max(check.worst for check in found.modes)
    return (
        f"FAIL: expected differences of at most {found.tolerance:.3g}, got {worst:.3g}; "
        "try another runtime (--backend) or processor, or convert the model again"
    )
