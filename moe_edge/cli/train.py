"""``moe-edge train``: a table in, a ``.keras`` out, told in the four steps of a mixture of experts.

Layer: command line. Reads and checks settings and the table before TensorFlow is imported.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from moe_edge.atomic import check_writable
from moe_edge.cli.console import EXISTING_FILE, Reporter, output_options
from moe_edge.cli.interruption import will_write
from moe_edge.cli.option_sections import SectionedCommand
from moe_edge.cli.train_options import Settings, asked_settings, default_output, train_options
from moe_edge.cli.train_report import document, say_iteration, say_result, say_split
from moe_edge.config import Strategy, Task
from moe_edge.errors import DataError, require
from moe_edge.job_config import JobConfig
from moe_edge.schema import FeatureSchema

HELP = """Train a mixture of experts on the table DATA.

DATA is a .csv, .parquet, .npz (x and y) or .npy. Which rows were held out is remembered in the .keras file.

\b
Five dense experts and a gate, as they come:
  moe-edge train flowers.csv --target species
Three experts of two kinds, by expectation-maximisation:
  moe-edge train flowers.csv --target species --strategy em \\
    --expert dense:64,32,count=2 --expert random_forest:max_depth=8
Everything in one file:
  moe-edge train --print-config > mixture.toml
  moe-edge train flowers.csv --config mixture.toml

\b
Kinds of experts:
  {experts}
Kinds of gates:
  {gates}
"""


def _help() -> str:
    from moe_edge.training.kinds.registry import EXPERTS, GATES

    def listed(kinds: Iterable[str]) -> str:
        return "\n  ".join(textwrap.wrap(", ".join(kinds), 74))

    return HELP.format(experts=listed(EXPERTS), gates=listed(GATES))


@click.command("train", cls=SectionedCommand, help=_help())
@click.argument("data", type=EXISTING_FILE, required=False)
@train_options
@output_options
def command(*, data: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Train a mixture of experts."""
    settings = _read_settings(options)
    if options["print_config"]:
        from moe_edge.training.config_text import render_settings

        click.echo(render_settings(settings), nl=False)
        return
    if data is None:
        raise click.UsageError("Missing argument 'DATA', the table to train on.")
    path = options["output"] or default_output(data)
    will_write(path)
    _train(Reporter(as_json=as_json, quiet=quiet), data, path, settings)


def _train(reporter: Reporter, data: Path, path: Path, settings: Settings) -> None:
    check_writable(path, suffix=".keras")
    _check_early(settings)
    from moe_edge.tables.dataset import read_dataset
    from moe_edge.training.config_file import with_row_shape
    from moe_edge.training.split import split_dataset

    given = settings.get("data", {})
    task = settings.get("mixture", {}).get("task")
    dataset = read_dataset(
        data,
        target=given.get("target"),
        task=Task(task) if task else None,
        categorical=given.get("categorical", ()),
        drop=given.get("drop", ()),
        group=given.get("group"),
        subtask=(settings.get("training", {}).get("pieces") or {}).get("column"),
    )
    job = _complete(settings, dataset.schema.task, num_rows=1)
    split = split_dataset(
        dataset, test_share=job.data.test_share, validation_share=job.data.validation_share, seed=job.training.seed
    )
    job = with_row_shape(_complete(settings, dataset.schema.task, num_rows=len(split.train)), dataset.row_shape)
    _check_columns(job, dataset.schema.names)
    _check_shapes(job, dataset.schema)
    say_split(reporter, dataset, split, job, guessed=task is None)

    require("tensorflow", extra="desktop", purpose="train")
    from moe_edge.training.keras_setup import load_keras

    load_keras()
    from moe_edge.training.archive import save_model
    from moe_edge.training.fit import train_mixture

    iterates = job.training.strategy is Strategy.EM
    reporter.say("2. Train the experts")
    total = job.training.em_iterations if iterates else job.training.epochs
    with reporter.progress("Training", total=total) as advance:

        def tell(number: int, figures: Mapping[str, float]) -> None:
            advance(1, _note(figures))
            if iterates:
                say_iteration(reporter, number, figures)

        try:
            result = train_mixture(dataset, split, job.mixture, job.training, on_epoch=tell)
        except ValueError as error:
            # A kind's options, which are checked by the kind itself.
            raise DataError(str(error)) from error
    save_model(
        result.model,
        path,
        schema=result.schema,
        mixture_config=job.mixture,
        training_config=job.training,
        data_config=job.data,
        split=split,
    )
    following = f"moe-edge convert {path} {data} -o {path.with_suffix('.tflite')}"
    say_result(reporter, result, job.mixture, job.training, path)
    for warning in result.warnings:
        reporter.warn(warning)
    reporter.next_command(following)
    reporter.document(document(dataset, split, result, job) | {"model": str(path), "next": following})


def _read_settings(options: dict[str, Any]) -> Settings:
    """What the file says, then what the command line says."""
    from moe_edge.training.config_file import check_settings, merge_settings, read_settings

    asked = asked_settings(options)
    try:
        return check_settings(merge_settings(read_settings(options["config"]) if options["config"] else {}, asked))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _check_early(settings: Settings) -> None:
    """Say what is wrong with the settings before the table is read, whatever its task will be."""
    problems = []
    for task in Task:
        try:
            _complete(settings, task, num_rows=1)
        except click.UsageError as error:
            problems.append(error)
    if len(problems) == len(Task):
        raise problems[0]


def _complete(settings: Settings, task: Task, *, num_rows: int) -> JobConfig:
    from moe_edge.training.config_file import complete_job
    from moe_edge.training.kinds.registry import check_parts

    try:
        job = complete_job(settings, task=task, num_rows=num_rows)
        check_parts(job.mixture, job.training.strategy)
        return job
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _check_columns(job: JobConfig, known: tuple[str, ...]) -> None:
    """Name a column that the gate should see and that isn't there, before anything is trained."""
    from difflib import get_close_matches

    for name in job.mixture.gate.features:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"--gate-features: there is no feature column {name!r}{hint}")


def _check_shapes(job: JobConfig, schema: FeatureSchema) -> None:
    """Say what shape a convolutional or recurrent part lacks; a category is one feature for each of its values."""
    from moe_edge.training.config_file import check_row_shapes

    try:
        check_row_shapes(job, sum(len(column.categories) or 1 for column in schema.columns))
    except ValueError as error:
        raise DataError(str(error)) from error


def _note(figures: Mapping[str, float]) -> str:
    for name, words in (("val_loss", "validation loss"), ("log_likelihood", "log-likelihood"), ("loss", "loss")):
        if name in figures:
            return f"{words} {figures[name]:.4f}"
    return ""
