"""``moe-edge train``: a table in, a ``.keras`` out, told in the four steps of a mixture of experts.

Layer: command line. Reads and checks the table before TensorFlow is imported.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moe_edge.atomic import check_writable
from moe_edge.cli.console import EXISTING_FILE, OUTPUT_FILE, Reporter, output_options
from moe_edge.config import (
    ACTIVATIONS,
    Combine,
    ExpertConfig,
    GateConfig,
    MixtureConfig,
    Recipe,
    Task,
    TrainingConfig,
)
from moe_edge.errors import require
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge.training.data import Dataset
    from moe_edge.training.fit import TrainingResult
    from moe_edge.training.score import Score
    from moe_edge.training.split import Split

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it: 128 + SIGINT."""


def hidden_sizes(text: str) -> tuple[int, ...]:
    """Read ``64,32``, units of each hidden layer; an empty text means none."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"expected whole numbers joined by commas, such as 64,32, got {text!r}") from None


@click.command("train")
@click.argument("data", type=EXISTING_FILE)
@click.option("--target", help="Target column; several joined by commas for a regression with several outputs.")
@click.option("--output", "-o", type=OUTPUT_FILE, help="Where to write the model.  [default: DATA's name, .keras]")
@click.option("--task", type=click.Choice([task.value for task in Task]), help="Read off the target by default.")
@click.option("--num-experts", type=click.IntRange(min=2), default=5, show_default=True, help="Experts.")
@click.option(
    "--expert-hidden",
    type=hidden_sizes,
    metavar="SIZES",
    default="64,32",
    show_default=True,
    help="Units of each expert.",
)
@click.option(
    "--gate-hidden", type=hidden_sizes, metavar="SIZES", default="32", show_default=True, help="Units of the gate."
)
@click.option("--activation", type=click.Choice(ACTIVATIONS), default="relu", show_default=True)
@click.option(
    "--combine",
    type=click.Choice([combine.value for combine in Combine]),
    help="How answers are mixed.  [default: probabilities, or gaussian for a regression]",
)
@click.option(
    "--recipe", type=click.Choice([recipe.value for recipe in Recipe]), default="competitive", show_default=True
)
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Most epochs.  [default: 100, or 300 below 1000 rows; classical: 10]"
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Rows a step.  [default: 64, or 32 below 1000 rows; classical: 32]"
)
@click.option("--learning-rate", type=float, help="Adam's step at the start.  [default: 0.002; classical: 0.001]")
@click.option("--label-smoothing", type=float, help="In [0, 1).  [default: 0.1; classical: 0]")
@click.option("--load-balancing-coef", type=float, help="[default: 0.1 x max(1, experts / 8); classical: 0]")
@click.option("--test-share", type=float, default=0.2, show_default=True, help="Share of the rows held out.")
@click.option("--validation-share", type=float, default=0.15, show_default=True, help="Share of the rest.")
@click.option("--group", help="Column that names each row's group; groups are split whole. No feature.")
@click.option("--drop", multiple=True, help="Column to leave out; may be given several times.")
@click.option("--categorical", multiple=True, help="Column of numbers to take as categories; several times.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@output_options
@click.pass_context
def command(ctx: click.Context, /, data: Path, output: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Train a mixture of experts on the table DATA.

    DATA is a .csv, .parquet, .npz (x and y) or .npy. Which rows were held out is remembered in the .keras file.
    """
    reporter = Reporter(as_json=as_json, quiet=quiet)
    path = output if output is not None else Path(data.stem + ".keras")
    try:
        _train(reporter, data, path, options)
    except KeyboardInterrupt:
        click.echo(f"Stopped: nothing was written to {path}", err=True)
        ctx.exit(INTERRUPTED)


def _train(reporter: Reporter, data: Path, path: Path, options: dict[str, Any]) -> None:
    check_writable(path, suffix=".keras")
    _training_config(options, num_rows=1)  # says what is wrong with it before the table is read
    _check_shares(options)
    from moe_edge.training.data import read_dataset
    from moe_edge.training.split import split_dataset

    dataset = read_dataset(
        data,
        target=options["target"],
        task=Task(options["task"]) if options["task"] else None,
        categorical=options["categorical"],
        drop=options["drop"],
        group=options["group"],
    )
    config = _mixture_config(dataset.schema.task, options)
    split = split_dataset(
        dataset, test_share=options["test_share"], validation_share=options["validation_share"], seed=options["seed"]
    )
    training = _training_config(options, num_rows=len(split.train))
    _say_split(reporter, dataset, split, options)

    require("tensorflow", extra="desktop", purpose="train")
    from moe_edge.training.keras_setup import load_keras

    load_keras()
    from moe_edge.training.archive import save_model
    from moe_edge.training.fit import train_mixture

    with reporter.progress("Training", total=training.epochs) as advance:
        result = train_mixture(
            dataset,
            split,
            config,
            training,
            on_epoch=lambda epoch, figures: advance(1, f"validation loss {figures['val_loss']:.4f}"),
        )
    save_model(result.model, path, schema=result.schema, mixture_config=config, training_config=training, split=split)
    following = f"moe-edge convert {path} {data} -o {path.with_suffix('.tflite')}"
    _say_result(reporter, result, config, training, path)
    for warning in result.warnings:
        reporter.warn(warning)
    reporter.next_command(following)
    reporter.document(_document(dataset, split, result, config, training) | {"model": str(path), "next": following})


def _training_config(options: dict[str, Any], *, num_rows: int) -> TrainingConfig:
    """The recipe's own defaults for ``num_rows`` training rows, with what was asked for."""
    from moe_edge.training.recipes import competitive_training

    names = ("epochs", "batch_size", "learning_rate", "label_smoothing")
    asked = {name: options[name] for name in names if options[name] is not None}
    recipe = Recipe(options["recipe"])
    base = TrainingConfig.classical() if recipe is Recipe.CLASSICAL else competitive_training(num_rows)
    try:
        return TrainingConfig(**{**vars(base), **asked, "seed": options["seed"]})
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _mixture_config(task: Task, options: dict[str, Any]) -> MixtureConfig:
    default = Combine.PROBABILITIES if task is Task.CLASSIFICATION else Combine.GAUSSIAN
    balance = options["load_balancing_coef"]
    if balance is None and Recipe(options["recipe"]) is Recipe.CLASSICAL:
        balance = 0.0
    try:
        return MixtureConfig(
            task=task,
            combine=Combine(options["combine"]) if options["combine"] else default,
            expert=ExpertConfig(hidden=options["expert_hidden"], activation=options["activation"]),
            gate=GateConfig(
                num_experts=options["num_experts"],
                hidden=options["gate_hidden"],
                activation=options["activation"],
                load_balancing_coef=balance,
            ),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _check_shares(options: dict[str, Any]) -> None:
    for name in ("test_share", "validation_share"):
        if not 0 < options[name] < 1:
            raise click.UsageError(f"expected 0 < --{name.replace('_', '-')} < 1, got {options[name]}")


def _say_split(reporter: Reporter, dataset: Dataset, split: Split, options: dict[str, Any]) -> None:
    schema = dataset.schema
    how = f"whole groups of {options['group']!r}" if dataset.groups is not None else "at random"
    if schema.task is Task.CLASSIFICATION and dataset.groups is None:
        how = "each class in its share"
    categorical = sum(bool(column.categories) for column in schema.columns)
    kinds = f"{len(schema.columns)} columns" + (f", {categorical} of them categorical" if categorical else "")
    answer = (
        f"{len(schema.labels)} classes" if schema.task is Task.CLASSIFICATION else f"{len(schema.labels)} output(s)"
    )
    guessed = "" if options["task"] else " (read off the target; --task overrides)"
    reporter.say("1. Split the problem")
    reporter.say(f"   {dataset.source}: {dataset.num_rows} rows, {kinds}; {schema.task.value}{guessed}, {answer}")
    reporter.say(
        f"   training {len(split.train)}, validation {len(split.validation)}, held out {len(split.test)} rows ({how})"
    )
    for name, count in dataset.missing.items():
        column = next(column for column in schema.columns if column.name == name)
        filled = "count as no category" if column.categories else "are filled with the training rows' median"
        reporter.say(f"   column {name!r}: {count} missing values {filled}")


def _say_result(
    reporter: Reporter, result: TrainingResult, config: MixtureConfig, training: TrainingConfig, path: Path
) -> None:
    epochs = len(result.history["loss"])
    hidden = "-".join(map(str, config.expert.hidden)) or "linear"
    metric = result.test.metric
    reporter.say("2. Train the experts")
    reporter.table(
        f"{config.gate.num_experts} experts of {hidden} units, {training.recipe.value} recipe",
        ("expert", "mean gate weight", f"held-out {metric} alone", "rows chosen for", f"{metric} on those"),
        [(e.index, f"{e.usage:.3f}", _figure(e.alone), e.chosen.rows, _figure(e.chosen)) for e in result.experts],
    )
    reporter.say("3. Train the gate")
    gate = "-".join(map(str, config.gate.hidden)) or "linear"
    reporter.say(
        f"   {gate} units, trained with the experts; least used expert {min(result.usage):.3f}, "
        f"even would be {1 / config.gate.num_experts:.3f}"
    )
    reporter.say(
        f"   epoch {result.best_epoch} of {epochs} kept"
        + (", the best on the validation rows" if training.recipe is Recipe.COMPETITIVE else ", the last")
    )
    reporter.say(f"4. Combine ({config.combine.value})")
    for name, score in (("training", result.train), ("validation", result.validation), ("held out", result.test)):
        reporter.say(f"   {name:<11}{_sentence(score)}")
    reporter.say(f"Wrote {path}")


def _figure(score: Score) -> str:
    return "-" if not score.rows else f"{score.value:.4f}" if score.metric == "accuracy" else f"{score.value:.4g}"


def _sentence(score: Score) -> str:
    if score.correct is not None:
        return f"accuracy {score.value:.4f} ({score.correct} of {score.rows} rows)"
    explained = "" if score.r2 is None else f", R² {score.r2:.3f}"
    return f"RMSE {score.value:.4g}{explained} ({score.rows} rows)"


def _document(
    dataset: Dataset, split: Split, result: TrainingResult, config: MixtureConfig, training: TrainingConfig
) -> dict[str, Any]:
    return {
        "task": config.task.value,
        "target": result.schema.target,
        "labels": list(result.schema.labels),
        "columns": list(result.schema.names),
        "missing": dataset.missing,
        "rows": {"training": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        "config": to_dict(config),
        "training": to_dict(training),
        "epochs": len(result.history["loss"]),
        "best_epoch": result.best_epoch,
        "experts": [asdict(expert) for expert in result.experts],
        "score": {
            "training": asdict(result.train),
            "validation": asdict(result.validation),
            "test": asdict(result.test),
        },
        "warnings": list(result.warnings),
    }
