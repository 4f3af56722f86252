"""What ``moe-edge train`` tells: the four steps of a mixture of experts, for people and as JSON.

Layer: command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_edge.cli.console import Reporter
from moe_edge.config import ExpertConfig, MixtureConfig, Recipe, Strategy, Task, TrainingConfig
from moe_edge.job_config import JobConfig
from moe_edge.strict import to_dict

if TYPE_CHECKING:
    from moe_edge.tables.dataset import Dataset
    from moe_edge.training.fit import TrainingResult
    from moe_edge.training.score import Score
    from moe_edge.training.split import Split


def say_split(reporter: Reporter, dataset: Dataset, split: Split, job: JobConfig, *, guessed: bool) -> None:
    """Step 1: the rows, and into which pieces they fall."""
    schema = dataset.schema
    how = f"whole groups of {job.data.group!r}" if dataset.groups is not None else "at random"
    if schema.task is Task.CLASSIFICATION and dataset.groups is None:
        how = "each class in its share"
    categorical = sum(bool(column.categories) for column in schema.columns)
    kinds = f"{len(schema.columns)} columns" + (f", {categorical} of them categorical" if categorical else "")
    answer = (
        f"{len(schema.labels)} classes" if schema.task is Task.CLASSIFICATION else f"{len(schema.labels)} output(s)"
    )
    told = " (read off the target; --task overrides)" if guessed else ""
    reporter.say("1. Split the problem")
    task = f"{schema.task.value}{told} of {schema.target!r}"
    reporter.say(f"   {dataset.source}: {dataset.num_rows} rows, {kinds}; {task}, {answer}")
    reporter.say(
        f"   training {len(split.train)}, validation {len(split.validation)}, held out {len(split.test)} rows ({how})"
    )
    reporter.say(f"   {_pieces_sentence(job.training)}")
    for name, count in dataset.missing.items():
        column = next(column for column in schema.columns if column.name == name)
        filled = "count as no category" if column.categories else "are filled with the training rows' median"
        reporter.say(f"   column {name!r}: {count} missing values {filled}")


def say_iteration(reporter: Reporter, number: int, figures: Mapping[str, float]) -> None:
    """One iteration of EM, told when it ends."""
    rejected = int(figures["rejected"])
    told = f"; {rejected} part(s) fitted worse and stayed as they were" if rejected else ""
    reporter.say(
        f"   iteration {number}: log-likelihood {figures['log_likelihood']:.6g} a row, "
        f"of validation rows {figures['val_log_likelihood']:.6g}{told}"
    )


def say_result(
    reporter: Reporter, result: TrainingResult, config: MixtureConfig, training: TrainingConfig, path: Path
) -> None:
    """Steps 2 to 4: experts, gate, and the combined mixture's scores; step 2 was announced before the training."""
    metric = result.test.metric
    if config.trunk is not None:
        reporter.say(f"   all after a shared trunk: {config.trunk.kind}, {config.trunk.units} features")
    reporter.table(
        f"{describe_experts(config.all_experts)}; {training.strategy.value}, {training.recipe.value} recipe",
        ("expert", "mean gate weight", f"held-out {metric} alone", "rows chosen for", f"{metric} on those"),
        [(e.index, f"{e.usage:.3f}", _figure(e.alone), e.chosen.rows, _figure(e.chosen)) for e in result.experts],
    )
    reporter.say("3. Train the gate")
    reporter.say(
        f"   {_gate_sentence(config, training)}; least used expert {min(result.usage):.3f}, "
        f"even would be {1 / config.gate.num_experts:.3f}"
    )
    rounds = _rounds(result)
    if rounds:
        by_validation = training.recipe is Recipe.COMPETITIVE or training.strategy is not Strategy.JOINT
        reporter.say(
            f"   {'iteration' if training.strategy is Strategy.EM else 'epoch'} {result.best_epoch} of {rounds} kept, "
            + ("the best on the validation rows" if by_validation else "the last")
        )
    reporter.say(f"4. Combine ({config.combine.value})")
    for name, score in (("training", result.train), ("validation", result.validation), ("held out", result.test)):
        reporter.say(f"   {name:<11}{_sentence(score)}")
    reporter.say(f"Wrote {path}")


def describe_experts(experts: Sequence[ExpertConfig]) -> str:
    """Experts in words, neighbours that are alike together: ``3 experts: 2 dense 64-32, 1 random_forest``."""
    groups = [(len(list(alike)), expert) for expert, alike in groupby(experts)]
    if len(groups) == 1:
        return f"{len(experts)} experts, {_part(groups[0][1])}"
    return f"{len(experts)} experts: " + ", ".join(f"{count} {_part(expert)}" for count, expert in groups)


def document(dataset: Dataset, split: Split, result: TrainingResult, job: JobConfig) -> dict[str, Any]:
    """The same for machines."""
    return {
        "task": job.mixture.task.value,
        "target": result.schema.target,
        "labels": list(result.schema.labels),
        "columns": list(result.schema.names),
        "missing": dataset.missing,
        "rows": {"training": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        "data": to_dict(job.data),
        "config": to_dict(job.mixture),
        "training": to_dict(job.training),
        "epochs": _rounds(result),
        "best_epoch": result.best_epoch,
        "history": result.history,
        "experts": [asdict(expert) for expert in result.experts],
        "score": {
            "training": asdict(result.train),
            "validation": asdict(result.validation),
            "test": asdict(result.test),
        },
        "warnings": list(result.warnings),
    }


def _rounds(result: TrainingResult) -> int:
    """Epochs, or iterations of EM; 0 where nothing learnt step by step."""
    return max(map(len, result.history.values()), default=0)


def _pieces_sentence(training: TrainingConfig) -> str:
    pieces = training.pieces
    if pieces is None:
        if training.strategy is Strategy.JOINT:
            return "no pieces beforehand: gate and experts find them together"
        return "one piece for each expert: clusters (kmeans)"
    how = {
        "clusters": f"clusters ({pieces.method})",
        "column": f"values of {pieces.column!r}",
        "ranges": f"ranges of {pieces.column!r} at {', '.join(f'{edge:g}' for edge in pieces.edges)}",
        "confusion": "groups of classes that a dense model confuses",
    }[pieces.by]
    return f"one piece for each expert: {how}" + (f", overlap {pieces.overlap:g}" if pieces.overlap else "")


def _gate_sentence(config: MixtureConfig, training: TrainingConfig) -> str:
    gate = config.gate
    units = f"{'-'.join(map(str, gate.hidden)) or 'linear'} units" if gate.kind == "dense" else gate.kind
    order = {
        Strategy.JOINT: "trained with the experts",
        Strategy.STAGED: "trained after the experts",
        Strategy.EM: "fitted to the responsibilities",
    }[training.strategy]
    chosen = "" if gate.top_k is None else f", the {gate.top_k} strongest count"
    seen = f", sees {', '.join(gate.features)}" if gate.features else ""
    return f"{units}{chosen}{seen}, {order}"


def _part(expert: ExpertConfig) -> str:
    options = ", ".join(f"{key}={_shown(value)}" for key, value in expert.options.items())
    hidden = "-".join(map(str, expert.hidden)) or "linear"
    layered = expert.kind in ("dense", "conv1d", "conv2d", "gru", "lstm")
    return " ".join(filter(None, (expert.kind, hidden if layered else "", f"({options})" if options else "")))


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _figure(score: Score) -> str:
    return "-" if not score.rows else f"{score.value:.4f}" if score.metric == "accuracy" else f"{score.value:.4g}"


def _sentence(score: Score) -> str:
    if score.correct is not None:
        return f"accuracy {score.value:.4f} ({score.correct} of {score.rows} rows)"
    explained = "" if score.r2 is None else f", R² {score.r2:.3f}"
    return f"RMSE {score.value:.4g}{explained} ({score.rows} rows)"
