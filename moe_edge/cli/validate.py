"""``moe-edge validate``: does the .tflite answer like the Keras model, on rows that training never saw?

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moe_edge.cli.console import EXISTING_FILE, EXISTING_PATH, Reporter, output_options
from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.cli.source_options import source_options
from moe_edge.errors import DataError, require
from moe_edge.parity import MetricPair, ParityReport, Score
from moe_edge.strict import to_dict
from moe_edge.task import Task
from moe_edge.thresholds import ParityThresholds, check_parity

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from moe_edge.training.archive import LoadedModel

_DEFAULTS = ParityThresholds()
_METRIC_NAMES = {
    "accuracy": "accuracy",
    "rmse": "RMSE",
    "r2": "R²",
    "nll": "negative log-likelihood",
    "coverage_50": "in the 50 % interval",
    "coverage_90": "in the 90 % interval",
}


@click.command()
@click.argument("model", type=EXISTING_PATH)
@click.argument("tflite", type=EXISTING_FILE)
@click.argument("data", type=EXISTING_FILE)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 100),
    default=_DEFAULTS.max_accuracy_drop,
    show_default=True,
    metavar="POINTS",
    help="Points of accuracy that may be lost; one row always may, unless this is 0.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    default=_DEFAULTS.min_agreement,
    show_default=True,
    metavar="SHARE",
    help="Least share of rows with the same label, in [0, 1]; one row may always differ, unless this is 1.",
)
@click.option(
    "--max-abs-error",
    type=click.FloatRange(0),
    metavar="X",
    help="Largest difference of a probability, or of an output in its unit.  [default: not checked]",
)
@click.option(
    "--max-rmse-rise",
    type=click.FloatRange(0),
    default=_DEFAULTS.max_rmse_rise,
    show_default=True,
    metavar="PERCENT",
    help="Percent by which the RMSE of an output may rise (regression).",
)
@click.option("--all-rows", is_flag=True, help="Compare on all rows of DATA, though MODEL may have seen them.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "litert", "tflite-runtime", "tensorflow"]),
    default="auto",
    show_default=True,
    help="The runtime that runs the .tflite.",
)
@source_options
@output_options
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    tflite: Path,
    data: Path,
    *,
    max_accuracy_drop: float,
    min_agreement: float,
    max_abs_error: float | None,
    max_rmse_rise: float,
    all_rows: bool,
    backend: str,
    custom_modules: tuple[str, ...],
    unsafe_load: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check that TFLITE answers like the Keras MODEL that it was converted from.

    DATA is the table that MODEL was trained on; only the rows that training held out are compared, as remembered in
    MODEL. A model that `moe-edge train` didn't make remembers nothing: all rows of DATA are compared, its columns
    taken in their order and then the target, which may be absent. The exit code is 0 for PASS and 1 for FAIL.
    """
    try:
        thresholds = ParityThresholds(
            max_accuracy_drop=max_accuracy_drop,
            min_agreement=min_agreement,
            max_abs_error=max_abs_error,
            max_rmse_rise=max_rmse_rise,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    require("tensorflow", extra="desktop", purpose="validate")
    from moe_edge.runtime.predictor import Predictor

    report = Reporter(as_json=as_json, quiet=quiet)
    # The small file is checked first: it needs no TensorFlow, and a damaged one ends the command at once.
    with hide_native_notices():
        opened = Predictor(tflite, backend=backend)
    with opened as predictor:
        with report.progress(f"Comparing {tflite.name} with {model.name}", total=4) as advance:
            from moe_edge.training.keras_setup import load_keras

            advance(0, "starting TensorFlow")
            load_keras()
            from moe_edge.tables.dataset import encode_dataset
            from moe_edge_converters.sources.source import open_source
            from moe_edge_converters.validation import check_same_mixture, validate

            advance(1, "loading the model")
            loaded = open_source(model, unsafe=unsafe_load, custom_modules=custom_modules)
            check_same_mixture(loaded.model, loaded.schema, predictor.manifest, source=str(tflite))
            advance(1, "reading the table")
            ours = loaded.schema is not None
            schema = loaded.schema or predictor.manifest.schema
            dataset = encode_dataset(data, schema, require_target=ours, by_position=not ours)
            if dataset.target is None and predictor.task is Task.REGRESSION and max_abs_error is None:
                raise DataError(
                    f"{data}: expected the target after the features, to compare the RMSE, got none; "
                    "add it, or say with --max-abs-error how far an answer may move"
                )
            rows = _choose_rows(loaded, dataset, all_rows=all_rows)
            advance(1, f"running {len(rows)} rows through both")
            targets = None if dataset.target is None else dataset.target[rows]
            result = validate(loaded.model, predictor, dataset.features[rows], targets, row_numbers=rows + 1)
            advance(1, "")
        scheme, runtime = predictor.manifest.scheme, predictor.backend
    failures = check_parity(result, thresholds)
    report.document(
        {
            "passed": not failures,
            "failures": list(failures),
            "scheme": scheme,
            "backend": runtime,
            "held_out": not all_rows and loaded.split is not None,
            "thresholds": to_dict(thresholds),
            "report": to_dict(result),
        }
    )
    rows_are = (
        "held-out rows" if loaded.split is not None and not all_rows else "rows as given, seen in training or not"
    )
    _show(report, result, f"{result.num_rows} {rows_are}: Keras and the {scheme} file on {runtime}")
    for failure in failures:
        # Reasons are errors: they are shown with --quiet too.
        click.echo(f"FAIL: {failure}", err=not report.speaks)
    if failures:
        report.next_command(f"moe-edge convert {model} {data} -o {tflite} --scheme float16")
        context.exit(1)
    report.say(f"PASS: the file answers like the model: {_allowed(result, thresholds)}")
    # The file of a model that knows no columns takes none by name.
    if ours or data.suffix in (".npz", ".npy"):
        report.next_command(f"moe-edge predict {tflite} {data} --explain")


def _allowed(result: ParityReport, thresholds: ParityThresholds) -> str:
    """What was held against the thresholds."""
    known = bool(result.metrics)
    if result.task is Task.CLASSIFICATION:
        parts = [f"accuracy at most {thresholds.max_accuracy_drop:g} points lower"] if known else []
        parts.append(f"the same label for at least {thresholds.min_agreement:.6g} of the rows")
    else:
        parts = [f"RMSE at most {thresholds.max_rmse_rise:g} % higher"] if known else []
    if thresholds.max_abs_error is not None:
        parts.append(f"no difference above {thresholds.max_abs_error:g}")
    return ", ".join(parts)


def _choose_rows(loaded: LoadedModel, dataset: Any, *, all_rows: bool) -> npt.NDArray[np.int64]:
    """The held-out rows; all of them when asked for, or when the model comes from elsewhere and remembers none."""
    import numpy

    from moe_edge.training.archive import match_split

    if all_rows or loaded.split is None:
        return numpy.arange(dataset.num_rows, dtype=numpy.int64)
    return match_split(loaded, dataset).test


def _show(report: Reporter, result: ParityReport, title: str) -> None:
    table: list[tuple[str, str, str]] = [
        (_name(metric), _score(metric, metric.keras), _score(metric, metric.tflite)) for metric in result.metrics
    ]
    table += [
        (f"expert_{index} usage", f"{before:.1%}", f"{after:.1%}")
        for index, (before, after) in enumerate(zip(result.keras_usage, result.tflite_usage, strict=True))
    ]
    report.table(title, ("[95 % interval]", "Keras", "tflite"), table)
    if result.agreement is not None:
        report.say(f"Same label: {result.agreeing_rows} of {result.num_rows} rows ({result.agreement:.2%})")
    report.say(f"Difference: largest {result.max_abs_error:.4g}, mean {result.mean_abs_error:.4g}")
    flips = "" if result.route_flip_error is None else f"; mean difference there {result.route_flip_error:.4g}"
    report.say(f"Same preferred expert: {result.routing_agreement:.2%} of rows{flips}")
    if result.max_abs_error > 0 or result.tflite_non_finite_rows:
        report.table(
            "Rows that differ most",
            ("row", "difference", "Keras", "tflite", "true", "same expert"),
            [
                (row.row, f"{row.abs_error:.4g}", row.keras, row.tflite, row.target, "yes" if row.same_expert else "no")
                for row in result.worst_rows
            ],
        )


def _name(metric: MetricPair) -> str:
    name = _METRIC_NAMES[metric.name]
    return f"{name} of {metric.output}" if metric.output else name


def _score(metric: MetricPair, score: Score) -> str:
    if metric.name == "accuracy" or metric.name.startswith("coverage_"):
        return f"{score.value:.2%} [{score.low:.1%}, {score.high:.1%}]"
    return f"{score.value:.5g} [{score.low:.4g}, {score.high:.4g}]"
