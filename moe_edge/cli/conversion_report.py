"""What ``moe-edge convert`` prints: coverage, the ladder of ``auto``, the file, the next command.

Layer: command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_edge.cli.console import Reporter
from moe_edge.config import Task
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge_converters.conversion import ConversionResult
    from moe_edge_converters.schemes.scheme_ladder import Ladder


def report_conversion(
    report: Reporter,
    result: ConversionResult,
    *,
    rows_are: str,
    failures: Sequence[str],
    next_command: str,
    picture: Path | None,
) -> None:
    """Print the result of a conversion, for people or as JSON.

    Args:
        report: Where to.
        result: What was written.
        rows_are: Which rows the file was run on.
        failures: What ``validate`` would say of the validation rows.
        next_command: What to run next.
        picture: Of the ladder.
    """
    check = result.check
    report.document(
        {
            "path": str(result.path),
            "num_bytes": result.num_bytes,
            "scheme": result.manifest.scheme,
            "rows_checked": check.num_rows,
            "max_abs_error": check.max_abs_error,
            "spread_share": check.spread_share,
            "failures_on_validation_rows": list(failures),
            "top1_agreement": check.top1_agreement,
            "coverage": None if result.coverage is None else to_dict(result.coverage),
            "stored_twice": list(result.unaliased),
            "ladder": None if result.ladder is None else _ladder_record(result.ladder),
            "target": None if result.target is None else result.target.to_record(),
            "ladder_picture": None if picture is None else str(picture),
        }
    )
    if result.ladder is not None:
        _report_ladder(report, result.ladder, result.manifest.task)
    if result.coverage is not None:
        report.table(
            f"Calibration: {result.coverage.num_rows} rows",
            ("expert", "strong in", "ranges from"),
            [
                (f"expert_{index}", own, used)
                for index, (own, used) in enumerate(zip(result.coverage.own, result.coverage.used, strict=True))
            ],
        )
        report.say("strong in: rows where it is one of the two strongest or weighs more than an even share")
        report.say("ranges from: rows that its int8 ranges were measured on, with the nearest where it had too few")
    for warning in () if result.coverage is None else result.coverage.warnings:
        report.warn(warning)
    for name in result.unaliased:
        report.warn(f"{name} is stored twice: a 4-bit slice of it starts in the middle of a byte")
    agreement = "" if check.top1_agreement is None else f", same class for {check.top1_agreement:.1%}"
    schemes = (
        "mixed schemes" if len({part.scheme for part in result.manifest.parts if part.role == "expert"}) > 1 else ""
    )
    report.say(f"Wrote {result.path}: {result.num_bytes:,} bytes, {schemes or result.manifest.scheme}")
    spread = "" if check.spread_share is None else f"; usual {check.spread_share:.2%} of the answers' spread"
    report.say(f"Ran it on {check.num_rows} {rows_are}:")
    report.say(f"  largest difference from Keras {check.max_abs_error:.2g}{spread}{agreement}")
    for failure in failures:
        report.warn(f"validate would fail on the validation rows: {failure}")
    if result.target is not None:
        for line in result.target.lines():
            report.say(f"Target {line}" if line.startswith(result.target.target.value) else f"  {line}")
    for path in result.sources:
        report.say(f"Wrote {path}")
    if picture is not None:
        report.say(f"Drew the ladder: {picture}")
    report.next_command(next_command)


def _ladder_record(ladder: Ladder) -> list[dict[str, Any]]:
    pairs = zip(ladder.record(), ladder.rungs, strict=True)
    return [{**record, "reason": rung.reason or None} for record, rung in pairs]


def _report_ladder(report: Reporter, ladder: Ladder, task: Task) -> None:
    """One line a rung at 80 columns: why a rung is refused stands in the JSON document."""
    classifies = task is Task.CLASSIFICATION
    rows = []
    for rung in ladder.rungs:
        trial = rung.trial
        agreement = [f"{trial.agreement:.3f}"] if classifies else []
        verdict = "chosen" if rung is ladder.chosen else "no" if rung.reason else "yes"
        cells = (f"{trial.num_bytes:,}", f"{trial.metric:.4f}" if classifies else f"{trial.metric:.4g}", *agreement)
        rows.append((rung.name, *cells, trial.route_flips, f"{trial.latency_us:.1f}", verdict))
    report.table(
        f"Ladder on {ladder.chosen.trial.num_rows} validation rows",
        ("experts", "bytes", "accuracy" if classifies else "RMSE", *["agree"] * classifies, "flips", "µs", "fits"),
        rows,
    )
    agree = "agree: rows with float32's class; " if classifies else ""
    report.say(f"{agree}flips: rows with another strongest expert; fits: the budget")
    report.say("bytes are without the manifest")
