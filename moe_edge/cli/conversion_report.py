"""What ``moe-edge convert`` prints: coverage, the ladder of ``auto``, the file, the next command.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moe_edge.cli.console import Reporter
from moe_edge.config import Task
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge_converters.conversion import ConversionResult
    from moe_edge_converters.schemes.scheme_ladder import Ladder


def report_conversion(report: Reporter, result: ConversionResult, *, next_command: str, picture: Path | None) -> None:
    """Print the result of a conversion, for people or as JSON."""
    check = result.check
    report.document(
        {
            "path": str(result.path),
            "num_bytes": result.num_bytes,
            "scheme": result.manifest.scheme,
            "rows_checked": check.num_rows,
            "max_abs_error": check.max_abs_error,
            "top1_agreement": check.top1_agreement,
            "coverage": None if result.coverage is None else to_dict(result.coverage),
            "stored_twice": list(result.unaliased),
            "ladder": None if result.ladder is None else result.ladder.record(),
            "target": None if result.target is None else result.target.to_record(),
            "ladder_picture": None if picture is None else str(picture),
        }
    )
    if result.ladder is not None:
        _report_ladder(report, result.ladder, result.manifest.task)
    if result.coverage is not None:
        report.table(
            f"Calibration: {result.coverage.num_rows} rows",
            ("expert", "own rows", "used rows"),
            [
                (f"expert_{index}", own, used)
                for index, (own, used) in enumerate(zip(result.coverage.own, result.coverage.used, strict=True))
            ],
        )
    for warning in () if result.coverage is None else result.coverage.warnings:
        report.warn(warning)
    for name in result.unaliased:
        report.warn(f"{name} is stored twice: a 4-bit slice of it starts in the middle of a byte")
    agreement = "" if check.top1_agreement is None else f", same class for {check.top1_agreement:.1%}"
    schemes = (
        "mixed schemes" if len({part.scheme for part in result.manifest.parts if part.role == "expert"}) > 1 else ""
    )
    report.say(f"Wrote {result.path}: {result.num_bytes:,} bytes, {schemes or result.manifest.scheme}")
    report.say(f"Ran it on {check.num_rows} rows: largest difference from Keras {check.max_abs_error:.2g}{agreement}")
    if result.target is not None:
        for line in result.target.lines():
            report.say(f"Target {line}" if line.startswith(result.target.target.value) else f"  {line}")
    for path in result.sources:
        report.say(f"Wrote {path}")
    if picture is not None:
        report.say(f"Drew the ladder: {picture}")
    report.next_command(next_command)


def _report_ladder(report: Reporter, ladder: Ladder, task: Task) -> None:
    metric = "accuracy" if task is Task.CLASSIFICATION else "RMSE"
    rows = []
    for rung in ladder.rungs:
        trial = rung.trial
        value = f"{trial.metric:.4f}" if task is Task.CLASSIFICATION else f"{trial.metric:.5g}"
        verdict = "chosen" if rung is ladder.chosen else rung.reason or "within budget"
        cells = (f"{trial.num_bytes:,}", value, f"{trial.agreement:.3f}", trial.route_flips, f"{trial.latency_us:.1f}")
        rows.append((rung.name, *cells, verdict))
    report.table(
        f"Ladder on {ladder.chosen.trial.num_rows} validation rows (bytes without manifest)",
        ("experts", "bytes", metric, "agreement", "route flips", "µs", "verdict"),
        rows,
    )
