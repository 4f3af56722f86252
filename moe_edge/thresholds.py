"""When a shipped file is no longer the trained model: thresholds on a parity report, each with its reason.

Layer: shared, device-safe. Imports the standard library and ``moe_edge.parity``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from moe_edge.parity import MetricPair, ParityReport


@dataclass(frozen=True, kw_only=True)
class ParityThresholds:
    """How far the file may be from the trained model.

    Shares of few rows jump: one row of 60 is 1.7 points. A threshold that isn't zero therefore always allows one row,
    and otherwise as many whole rows as it covers; a threshold of zero (agreement of 1) allows none.

    Attributes:
        max_accuracy_drop: Points of accuracy (of 100) that may be lost. 0.5 is what careful int8 rounding costs at
            most; a wrong calibration costs ten times that.
        min_agreement: Least share of rows with the same label. 0.99: rounding turns only rows whose two best labels are
            almost tied, and these are rarely more than one in a hundred.
        max_abs_error: Largest difference of a probability or output, None to leave it unchecked (the default: a single
            unsure row may move far without harm to any answer).
        max_rmse_rise: Percent by which the RMSE of each output may rise. 5 percent of RMSE is a loss of about one
            point of R² for a model with R² = 0.9.
    """

    max_accuracy_drop: float = 0.5
    min_agreement: float = 0.99
    max_abs_error: float | None = None
    max_rmse_rise: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_accuracy_drop <= 100:
            raise ValueError(f"expected max_accuracy_drop in [0, 100] points, got {self.max_accuracy_drop}")
        if not 0 <= self.min_agreement <= 1:
            raise ValueError(f"expected min_agreement in [0, 1], a share, got {self.min_agreement}")
        if self.max_abs_error is not None and not 0 <= self.max_abs_error < math.inf:
            raise ValueError(f"expected max_abs_error >= 0, got {self.max_abs_error}")
        if not 0 <= self.max_rmse_rise < math.inf:
            raise ValueError(f"expected max_rmse_rise >= 0 percent, got {self.max_rmse_rise}")


def rows_allowed(share: float, num_rows: int) -> int:
    """Whole rows that a share covers, at least one unless the share is zero.

    Args:
        share: Share of rows, in [0, 1].
        num_rows: Rows compared, at least 1.
    """
    if share <= 0:
        return 0
    # The nudge keeps 1 % of 100 rows at 1 row, whatever 1 - 0.99 is in binary.
    return max(1, math.floor(share * num_rows + 1e-9))


def check_parity(report: ParityReport, thresholds: ParityThresholds) -> tuple[str, ...]:
    """Hold a report against thresholds.

    Returns:
        One sentence for each threshold that is passed, with what was expected and what came; empty when all hold.
    """
    failures = []
    for count, owner in ((report.keras_non_finite_rows, "Keras"), (report.tflite_non_finite_rows, "the .tflite")):
        if count:
            failures.append(f"expected finite answers, got NaN or infinity from {owner} for {_rows(count)}")
    if report.correct_rows_lost is not None:
        allowed = rows_allowed(thresholds.max_accuracy_drop / 100, report.num_rows)
        if report.correct_rows_lost > allowed:
            accuracy = report.metrics[0]
            failures.append(
                f"expected an accuracy drop of at most {thresholds.max_accuracy_drop:g} points "
                f"({allowed} of {_rows(report.num_rows)}), got "
                f"{100 * (accuracy.keras.value - accuracy.tflite.value):.2f} points ({_rows(report.correct_rows_lost)})"
            )
    if report.agreeing_rows is not None and report.agreement is not None:
        allowed = rows_allowed(1 - thresholds.min_agreement, report.num_rows)
        disagreeing = report.num_rows - report.agreeing_rows
        if disagreeing > allowed:
            failures.append(
                f"expected the same label for at least {thresholds.min_agreement:.2%} of rows "
                f"(at most {allowed} of {report.num_rows} different), "
                f"got {report.agreement:.2%} ({disagreeing} different)"
            )
    failures += [failure for metric in report.metrics if (failure := _rmse_failure(metric, thresholds.max_rmse_rise))]
    # Written so that NaN fails.
    if thresholds.max_abs_error is not None and not report.max_abs_error <= thresholds.max_abs_error:
        failures.append(
            f"expected a largest difference of at most {thresholds.max_abs_error:g}, got {report.max_abs_error:.4g} "
            f"(row {report.worst_rows[0].row})"
        )
    return tuple(failures)


def _rmse_failure(metric: MetricPair, max_rise: float) -> str | None:
    if metric.name != "rmse":
        return None
    limit = metric.keras.value * (1 + max_rise / 100)
    if metric.tflite.value <= limit:
        return None
    return (
        f"expected an RMSE of {metric.output} of at most {limit:.6g} "
        f"({max_rise:g} % above the {metric.keras.value:.6g} of Keras), got {metric.tflite.value:.6g}"
    )


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
