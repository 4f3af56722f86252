"""``moe-edge demo``: the whole job on handwritten digits, with files, a table and pictures to look at.

Layer: command line.
"""

from __future__ import annotations

import csv
import datetime
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moe_edge.atomic import atomic_path, check_writable
from moe_edge.cli.console import Reporter, output_options
from moe_edge.cli.interruption import will_write
from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.errors import MoeEdgeError, require
from moe_edge.pictures.page import JOB_PAGE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from moe_edge.config import MixtureConfig
    from moe_edge.parity import Answers
    from moe_edge.pictures.schemes import SchemeResult
    from moe_edge.tables.dataset import Dataset
    from moe_edge.training.fit import TrainingResult
    from moe_edge.training.split import Split

TARGET, MODEL, TABLE, NEW_ROWS = "digit", "digits.keras", "digits.csv", "new.csv"
SHOWN = "w8a8"
NUM_NEW = 10
LATENCY_RUNS = 500
LEAST_SHOWN = 0.005
"""Experts with less of the gate's weight are not named: they would read as 0 %."""


@dataclass(frozen=True, kw_only=True)
class CheckedFile:
    """One converted file with what was found out about it."""

    path: Path
    result: SchemeResult
    failures: tuple[str, ...]
    keras: Answers
    tflite: Answers
    backend: str


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedJob:
    """The table, how it was split, and the mixture that was trained on it."""

    config: MixtureConfig
    dataset: Dataset
    split: Split
    result: TrainingResult

    @property
    def held_out(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """Features and targets of the rows that training didn't see."""
        return self.dataset.features[self.split.test], self.dataset.require_target()[self.split.test]


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the table, the models, the pictures and index.html; made when missing.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of everything.")
@click.option("--epochs", type=click.IntRange(1), help="Most epochs to train.  [default: the recipe's]")
@output_options
@click.pass_context
def command(context: click.Context, folder: Path, *, seed: int, epochs: int | None, as_json: bool, quiet: bool) -> None:
    """Run the whole job on scikit-learn's handwritten digits: train, convert, validate, predict."""
    for module in ("tensorflow", "ai_edge_quantizer", "sklearn", "matplotlib"):
        require(module, extra="desktop", purpose="the demo")
    _prepare(folder)
    will_write(folder / JOB_PAGE)
    report = Reporter(as_json=as_json, quiet=quiet)
    report.say("Mixture of Experts, from a table to a checked .tflite file")

    table = write_digits(folder / TABLE)
    report.say(f"\nStep 1 of 4: train five experts and their gate on {table}")
    job = _train(report, table, folder / MODEL, seed=seed, epochs=epochs)
    split, trained = job.split, job.result
    usage = ", ".join(f"{share:.0%}" for share in trained.usage)
    report.say(
        f"  {len(split.train)} training rows, {len(split.validation)} validation rows chose epoch "
        f"{trained.best_epoch}; {len(split.test)} rows held out"
    )
    report.say(f"  the gate's mean weights of the experts: {usage}")
    for warning in trained.warnings:
        report.warn(warning)

    report.say("\nSteps 2 and 3 of 4: convert in every scheme, and compare each file with Keras on the held-out rows")
    files = _convert_and_validate(report, job, folder)
    shown = next(file for file in files if file.result.scheme == SHOWN)

    report.say(f"\nStep 4 of 4: ask {shown.path} alone, without TensorFlow")
    explained = _predict(job, shown.path, folder / NEW_ROWS)
    for row, label, confidence, experts in explained:
        report.say(f"  table row {row}: {label} ({confidence}), said by {experts}")

    commands = next_commands(folder, shown.path)
    page = _draw(folder, job, files, explained=explained, commands=commands)
    report.say()
    report.table(
        f"{len(split.test)} held-out rows; Keras answers {trained.test.value:.2%} of them rightly",
        ("scheme", "bytes", "accuracy", "agreement", "µs per row", "parity"),
        [
            (
                file.result.scheme,
                f"{file.result.num_bytes:,}",
                f"{file.result.accuracy:.2%}",
                f"{file.result.agreement:.2%}",
                f"{file.result.row_us:.1f}",
                "FAIL" if file.failures else "PASS",
            )
            for file in files
        ],
    )
    report.say(f"Pictures with explanations: {page}")
    report.say("Next, the same by the commands:")
    for line in commands:
        report.say(f"  {line}")
    report.document(_document(job, files, page))
    for file in files:
        for failure in file.failures:
            click.echo(f"{file.path} FAILS: {failure}", err=True)
    # The smallest schemes may fail the thresholds, and the table says so; the default one must not.
    if shown.failures:
        context.exit(1)


def write_digits(path: Path) -> Path:
    """Write the digits as a table: 64 columns of pixels from 0 to 16, and the target ``digit``."""
    from moe_edge.training.examples import digits_dataset

    dataset = digits_dataset()
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*dataset.schema.names, TARGET])
        for pixels, code in zip(dataset.features, dataset.require_target(), strict=True):
            writer.writerow([*(f"{pixel:g}" for pixel in pixels), dataset.schema.labels[code]])
    return path


def next_commands(folder: Path, tflite: Path) -> tuple[str, ...]:
    """What a newcomer types next, as pasted."""
    table = folder / TABLE
    return (
        f"moe-edge predict {tflite} {folder / NEW_ROWS} --explain",
        f"moe-edge inspect {tflite}",
        f"moe-edge train {table} --target {TARGET} -o my.keras",
        f"moe-edge convert my.keras {table} -o my.tflite",
        f"moe-edge validate my.keras my.tflite {table}",
    )


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MoeEdgeError(f"can't make the folder {folder}: {error.strerror}; choose another with -o") from error
    check_writable(folder / TABLE)


def _train(report: Reporter, table: Path, output: Path, *, seed: int, epochs: int | None) -> TrainedJob:
    from moe_edge.training.keras_setup import load_keras

    load_keras()
    from moe_edge.config import MixtureConfig, TrainingConfig
    from moe_edge.tables.dataset import read_dataset
    from moe_edge.training.archive import save_model
    from moe_edge.training.fit import train_mixture
    from moe_edge.training.split import split_dataset

    dataset = read_dataset(table, target=TARGET)
    split = split_dataset(dataset, test_share=0.3, seed=seed)
    config = MixtureConfig()
    training = TrainingConfig(seed=seed) if epochs is None else TrainingConfig(seed=seed, epochs=epochs)
    with report.progress("Training", total=training.epochs) as advance:
        trained = train_mixture(
            dataset,
            split,
            config,
            training,
            on_epoch=lambda epoch, figures: advance(1, f"validation loss {figures.get('val_loss', float('nan')):.4f}"),
        )
    save_model(
        trained.model,
        output,
        schema=trained.schema,
        mixture_config=config,
        training_config=training,
        split=split,
    )
    return TrainedJob(config=config, dataset=dataset, split=split, result=trained)


def _convert_and_validate(report: Reporter, job: TrainedJob, folder: Path) -> list[CheckedFile]:
    from moe_edge.parity import compare_answers
    from moe_edge.pictures.schemes import SchemeResult
    from moe_edge.runtime.latency import measure_latency
    from moe_edge.runtime.predictor import Predictor
    from moe_edge.thresholds import ParityThresholds, check_parity
    from moe_edge_converters import Scheme, convert
    from moe_edge_converters.answer_check import start_runtime
    from moe_edge_converters.validation import keras_answers, tflite_answers

    held_out, targets = job.held_out
    trained, training_rows = job.result, job.dataset.features[job.split.train]
    keras = keras_answers(trained.model, held_out)
    files = []
    with hide_native_notices():
        start_runtime()
    with report.progress("Converting", total=len(Scheme)) as advance:
        for scheme in Scheme:
            advance(0, scheme.value)
            written = convert(
                trained.model,
                folder / f"digits-{scheme.value}.tflite",
                scheme=scheme,
                calibration=training_rows,
                schema=trained.schema,
                provenance={"source": MODEL},
            )
            with Predictor(written.path) as predictor:
                answers = tflite_answers(predictor, held_out)
                latency = measure_latency(predictor.predict_raw, held_out[:1], num_runs=LATENCY_RUNS)
                backend = predictor.backend
            parity = compare_answers(
                keras,
                answers,
                targets,
                task=trained.schema.task,
                labels=trained.schema.labels,
                row_numbers=job.split.test + 1,
            )
            result = SchemeResult(
                scheme=scheme.value,
                num_bytes=written.num_bytes,
                accuracy=parity.metrics[0].tflite.value,
                agreement=parity.agreement or 0.0,
                row_us=latency.per_row_us,
            )
            files.append(
                CheckedFile(
                    path=written.path,
                    result=result,
                    failures=check_parity(parity, ParityThresholds()),
                    keras=keras,
                    tflite=answers,
                    backend=backend,
                )
            )
            advance(1, scheme.value)
    return files


def _predict(job: TrainedJob, tflite: Path, output: Path) -> list[tuple[str, ...]]:
    """Answer a few held-out rows, and write them as a table without their labels, for the reader to try."""
    from moe_edge.runtime.predictor import Predictor

    dataset, rows = job.dataset, job.split.test[:NUM_NEW]
    with atomic_path(output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(dataset.schema.names)
        writer.writerows([[f"{pixel:g}" for pixel in dataset.features[row]] for row in rows])
    with Predictor(tflite) as predictor:
        answers = predictor.explain(dataset.features[rows])
        probabilities = predictor.predict_proba(dataset.features[rows])
    shares = [
        ", ".join(f"expert_{index} {weights[index]:.0%}" for index in experts if weights[index] >= LEAST_SHOWN)
        for weights, experts in zip(answers.routing_weights, answers.top_experts(3), strict=True)
    ]
    return [
        (str(row + 1), predictor.labels[chances.argmax()], f"{chances.max():.1%}", share)
        for row, chances, share in zip(rows, probabilities, shares, strict=True)
    ]


def _draw(
    folder: Path,
    job: TrainedJob,
    files: list[CheckedFile],
    *,
    explained: list[tuple[str, ...]],
    commands: tuple[str, ...],
) -> Path:
    from moe_edge.pictures.job_report import JobFigures, write_job_report

    trained = job.result
    shown = next(file for file in files if file.result.scheme == SHOWN)
    figures = JobFigures(
        title="moe-edge: handwritten digits",
        schema=trained.schema,
        config=job.config,
        usage=trained.usage,
        history=trained.history,
        best_epoch=trained.best_epoch,
        schemes=[file.result for file in files],
        shown_scheme=shown.result.scheme,
        keras=shown.keras,
        tflite=shown.tflite,
        targets=job.held_out[1],
        explained=explained,
        machine=(
            f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, {shown.backend}, "
            f"{datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()}"
        ),
        commands=commands,
    )
    return write_job_report(figures, folder)


def _document(job: TrainedJob, files: list[CheckedFile], page: Path) -> dict[str, Any]:
    from moe_edge.strict import to_dict

    trained, split = job.result, job.split
    return {
        "page": str(page),
        "rows": {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        "keras_accuracy": trained.test.value,
        "expert_usage": [float(share) for share in trained.usage],
        "best_epoch": trained.best_epoch,
        "schemes": [
            {**to_dict(file.result), "path": str(file.path), "failures": list(file.failures)} for file in files
        ],
    }
