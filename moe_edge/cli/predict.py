"""``moe-edge predict``: answer the rows of a table with a .tflite, without TensorFlow.

Standard output carries the answers and nothing else; people's text goes to standard error.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np

from moe_edge.atomic import atomic_path, check_writable
from moe_edge.cli.console import EXISTING_FILE, OUTPUT_FILE, Reporter, output_options
from moe_edge.cli.interruption import will_write
from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.errors import DataError, MoeEdgeError
from moe_edge.runtime.backends import AUTO, BACKEND_NAMES
from moe_edge.runtime.csv_rows import STANDARD_INPUT, read_chunks
from moe_edge.runtime.explanation import Explanation, usual_log_density
from moe_edge.runtime.mixture_density import check_levels
from moe_edge.runtime.modes import AUTO as AUTO_MODE
from moe_edge.runtime.modes import MODES, ROUTED, Request
from moe_edge.runtime.predictor import Predictor
from moe_edge.task import Task

MASS = click.FloatRange(min=0, max=1, min_open=True)
EXISTING_TABLE = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True, path_type=Path)


@click.command()
@click.argument("model", type=EXISTING_FILE)
@click.argument("data", type=EXISTING_TABLE)
@click.option("--output", "-o", type=OUTPUT_FILE, help="Write the answers to this .csv instead of standard output.")
@click.option(
    "--explain",
    is_flag=True,
    help="Add the weight of each expert, routed how many ran, and under a Gaussian gate how usual the row is.",
)
@click.option(
    "--backend", type=click.Choice(BACKEND_NAMES), default=AUTO, show_default=True, help="The TFLite runtime."
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default=AUTO_MODE,
    show_default=True,
    help="dense runs every expert, routed those that a row needs, auto the faster that answers as trained.",
)
@click.option("--mass", type=MASS, help="Run experts until they hold this share of the gate's weight.")
@click.option("--top-k", type=click.IntRange(min=1), help="Run so many experts for each row.")
@click.option("--max-experts", type=click.IntRange(min=1), help="With --mass: at most so many.")
@click.option(
    "--branches",
    is_flag=True,
    help="Run a hierarchical gate branch by branch, as far as the experts that run need; pays for large gates.",
)
@click.option(
    "--quantiles",
    metavar="LEVELS",
    help="Add a column for each level, such as 0.05,0.5,0.95 (regression by Gaussian experts).",
)
@output_options
def command(
    *,
    model: Path,
    data: Path,
    output: Path | None,
    explain: bool,
    quantiles: str | None,
    backend: str,
    mode: str,
    mass: float | None,
    top_k: int | None,
    max_experts: int | None,
    branches: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Answer the rows of DATA (.csv, .npy, .npz; - is a .csv on standard input) with MODEL.

    Writes a CSV: label, confidence and one probability a class; for a regression the predictions and, where the
    model knows it, their sigma.
    """
    reporter = Reporter(as_json=as_json, quiet=quiet, to_stderr=True)
    if output is not None:
        check_writable(output)
        will_write(output)
        if any(output.exists() and source != STANDARD_INPUT and output.samefile(source) for source in (model, data)):
            raise MoeEdgeError(f"expected an output file of its own, got {output}, which is read; choose another -o")
    try:
        request = Request(mode=mode, mass=mass, top_k=top_k, max_experts=max_experts, branches=branches)
        with hide_native_notices():
            opened = Predictor(model, backend=backend, **asdict(request))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    levels = _read_levels(quantiles)
    with opened as predictor:
        if levels and predictor.task is Task.CLASSIFICATION:
            raise click.UsageError(
                f"--quantiles is for regressions, and {model} is a classification: drop it; the answers have one "
                "probability a class"
            )
        if levels:
            predictor.require_density()
        answers = _answers(predictor, data)
        header = _header(predictor, explain=explain, levels=levels)
        if output is not None:
            with atomic_path(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                count = _write(file, header, answers, explain=explain, levels=levels)
            reporter.say(f"Wrote {count:,} rows to {output} ({predictor.backend})")
            reporter.document({"model": str(model), "output": str(output), "num_rows": count})
        elif as_json:
            cells = _rows(answers, explain=explain, levels=levels, as_text=False)
            rows = [dict(zip(header, row, strict=True)) for row in cells]
            reporter.document({"model": str(model), "backend": predictor.backend, "rows": rows})
        else:
            with _standard_output() as file:
                count = _write(file, header, answers, explain=explain, levels=levels)
            reporter.say(f"{count:,} rows answered ({predictor.backend})")


def _answers(predictor: Predictor, data: Path) -> Iterator[Explanation]:
    """Answer the table a chunk at a time."""
    source = "standard input" if data == STANDARD_INPUT else str(data)
    count = 0
    for chunk in read_chunks(data, predictor.manifest.schema):
        try:
            answers = predictor.explain(chunk)
        except DataError as error:
            # Rows are counted within the chunk.
            raise DataError(f"{source}{f', after row {count}' if count else ''}: {error}") from error
        count += len(chunk)
        yield answers
    if not count:
        raise DataError(f"expected rows to answer, got none in {source}")


def _read_levels(text: str | None) -> tuple[float, ...]:
    """``0.05,0.5`` as numbers in (0, 1)."""
    if text is None:
        return ()
    takes = "--quantiles takes levels in (0, 1) joined by commas, such as 0.05,0.5,0.95"
    try:
        levels = tuple(float(level) for level in text.split(","))
    except ValueError:
        raise click.UsageError(f"{takes}; got {text!r}") from None
    try:
        check_levels(levels)
    except ValueError as error:
        raise click.UsageError(f"{takes}; {error}") from error
    if len(set(levels)) != len(levels):
        raise click.UsageError(f"--quantiles: expected each level once, got {text}")
    return levels


def _header(predictor: Predictor, *, explain: bool, levels: tuple[float, ...] = ()) -> list[str]:
    labels = predictor.labels
    if predictor.task is Task.CLASSIFICATION:
        names = ["label", "confidence", *(f"p({label})" for label in labels)]
    else:
        suffixes = [""] if len(labels) == 1 else [f"({label})" for label in labels]
        names = [f"prediction{suffix}" for suffix in suffixes]
        if predictor.has_sigma:
            names += [f"sigma{suffix}" for suffix in suffixes]
        names += [f"q{level:g}{suffix}" for level in levels for suffix in suffixes]
    experts = [f"expert_{index}" for index in range(predictor.num_experts)]
    if not explain:
        return names
    names += experts + ["experts_run"] * (predictor.mode == ROUTED)
    if not predictor.has_gate_density:
        return names
    return [*names, "gate_log_density", *["unusual"] * (usual_log_density(predictor.manifest) is not None)]


def _rows(
    answers: Iterable[Explanation], *, explain: bool, levels: tuple[float, ...], as_text: bool
) -> Iterator[list[Any]]:
    """One row of the output a row of the table."""
    for answer in answers:
        blocks: list[Any] = [answer.probabilities if answer.probabilities is not None else answer.values, answer.sigma]
        if levels:
            found = answer.quantiles(levels)
            blocks.append(None if found is None else found.reshape(len(found), -1))
        if explain:
            blocks.append(answer.routing_weights)
            if answer.experts_run is not None:
                blocks.append(answer.experts_run[:, None])
            if answer.gate_log_density is not None:
                blocks.append(answer.gate_log_density[:, None])
        unusual = answer.is_unusual if explain else None
        numbers = np.concatenate([block for block in blocks if block is not None], axis=1)
        # Lists of Python's own texts and numbers: str() of NumPy's swallows a Ctrl-C.
        labels = None if answer.labels is None else list(map(str, answer.labels.tolist()))
        confidences = [] if answer.confidence is None else answer.confidence.tolist()
        for index, row in enumerate(numbers.tolist()):
            cells: list[Any] = [f"{value:.7g}" if as_text else float(f"{value:.7g}") for value in row]
            if labels is not None and confidences:
                shown = f"{confidences[index]:.7g}"
                cells = [labels[index], shown if as_text else float(shown), *cells]
            if unusual is not None:
                cells.append(("yes" if unusual[index] else "no") if as_text else bool(unusual[index]))
            yield cells


def _write(
    file: TextIO, header: list[str], answers: Iterable[Explanation], *, explain: bool, levels: tuple[float, ...]
) -> int:
    """Write the CSV; returns the number of rows. Nothing is written when the first chunk already fails."""
    writer = csv.writer(file, lineterminator="\n")
    count = 0
    for row in _rows(answers, explain=explain, levels=levels, as_text=True):
        if count == 0:
            writer.writerow(header)
        writer.writerow(row)
        count += 1
    return count


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Standard output, flushed while an error can still be told."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # The unwritten rest would fail once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise MoeEdgeError(f"can't write to standard output: {error.strerror or error}") from error
