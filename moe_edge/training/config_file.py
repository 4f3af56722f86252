"""One declarative file for a whole training: read strictly, written with the meaning of every option beside it.

What a file (or the command line) says is *settings*: nested plain values of ``JobConfig``, of which any may be missing.
``complete_job`` fills in what is missing; some defaults depend on the task and on the number of rows.
Layer: desktop (training). Imports tomlkit when a file is read or written, never Keras.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from moe_edge.config import Combine, GateConfig, Recipe, Task, TrainingConfig
from moe_edge.errors import DataError, require
from moe_edge.job_config import JobConfig
from moe_edge.strict import check_partial, from_dict, to_dict
from moe_edge.training.config_text import render_settings
from moe_edge.training.kinds.row_sizes import AXES, row_sizes
from moe_edge.training.recipes import competitive_training

Settings = dict[str, Any]

ARCHIVE_MEMBER = "moe_edge/config.json"
"""Where a ``.keras`` file holds its configuration."""


def read_settings(path: Path | str) -> Settings:
    """Read a ``.toml`` file, or what a ``.keras`` file was trained with.

    Args:
        path: The file. In ``[[mixture.experts]]``, ``count = n`` stands for n such experts.

    Raises:
        DataError: If it is missing, no TOML, or a key is unknown or ill-typed; names the nearest key.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"expected a configuration file, but there is no file {path}")
    content = _read_archive(path) if path.suffix.lower() == ".keras" else _read_toml(path)
    try:
        return check_settings(content)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def check_settings(settings: Mapping[str, Any]) -> Settings:
    """Check keys and types, and write experts out one by one.

    Raises:
        ValueError: If a key is unknown or a value has the wrong type.
    """
    mixture = settings.get("mixture")
    if isinstance(mixture, Mapping) and isinstance(mixture.get("experts"), (list, tuple)):
        settings = {**settings, "mixture": {**mixture, "experts": _counted(mixture["experts"])}}
    check_partial(JobConfig, settings, where="config")
    return dict(settings)


def merge_settings(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """Settings in which ``over`` has the last word, key by key.

    Experts are one thing: a list of them takes the place of experts that are alike, and the other way round; options
    of a kind belong to that kind.
    """
    merged = _merge(base, over)
    if "mixture" in base and "mixture" in over:
        mine, given = merged["mixture"], over["mixture"]
        if "experts" in given:
            mine.pop("expert", None) if "expert" not in given else None
            if "num_experts" not in given.get("gate", {}):
                mine.get("gate", {}).pop("num_experts", None)
        elif "kind" in given.get("expert", {}):
            mine.pop("experts", None)
    return merged


def complete_job(settings: Mapping[str, Any], *, task: Task, num_rows: int) -> JobConfig:
    """Fill in what the settings leave open.

    Args:
        settings: What was asked for.
        task: What the target's values say, where the settings don't.
        num_rows: Training rows.

    Raises:
        ValueError: If values don't fit each other.
    """
    mixture, training = dict(settings.get("mixture", {})), dict(settings.get("training", {}))
    task = Task(mixture.get("task", task))
    gate = dict(mixture.get("gate", {}))
    recipe = Recipe(training.get("recipe", Recipe.COMPETITIVE))
    if mixture.get("experts"):
        gate.setdefault("num_experts", len(mixture["experts"]))
    if recipe is Recipe.CLASSICAL:
        gate.setdefault("load_balancing_coef", 0.0)
    default = Combine.PROBABILITIES if task is Task.CLASSIFICATION else Combine.GAUSSIAN
    experts = mixture.get("experts") or [mixture.get("expert", {})]
    linear = all(expert.get("kind", "dense") == "linear" for expert in experts)
    base = TrainingConfig.classical()
    if recipe is not Recipe.CLASSICAL:
        base = competitive_training(num_rows, linear_experts=linear)
    return from_dict(
        JobConfig,
        {
            **settings,
            "mixture": {"combine": default.value, **mixture, "task": task.value, "gate": gate},
            "training": {**_without_none(to_dict(base)), **training},
        },
        where="config",
    )


def job_settings(job: JobConfig) -> Settings:
    """All of a job's values as settings, defaults included."""
    return dict(_without_none(to_dict(job)))


def write_job(job: JobConfig, path: Path | str) -> None:
    """Write a file that ``read_job`` reads back as an equal job; every option stands in it, with its meaning."""
    Path(path).write_text(render_settings(job_settings(job)), encoding="utf-8")


def read_job(path: Path | str) -> JobConfig:
    """Read a file whose missing values are the configurations' own defaults.

    Raises:
        DataError: As ``read_settings``, and if values don't fit each other.
    """
    settings = read_settings(path)
    mixture = settings.get("mixture", {})
    if mixture.get("experts") and "num_experts" not in mixture.get("gate", {}):
        gate = {**mixture.get("gate", {}), "num_experts": len(mixture["experts"])}
        settings = {**settings, "mixture": {**mixture, "gate": gate}}
    try:
        return from_dict(JobConfig, settings, where="config")
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def with_row_shape(job: JobConfig, row_shape: tuple[int, ...] | None) -> JobConfig:
    """Tell convolutional and recurrent parts how a flat row's features lie, where the job doesn't say.

    Args:
        job: The job.
        row_shape: Shape of a row before it was laid flat; None or one-dimensional changes nothing.
    """
    if row_shape is None or len(row_shape) < 2:
        return job
    shape = list(row_shape)

    def told(part: Any) -> Any:
        takes = part.kind in AXES and len(shape) in (len(AXES[part.kind]), len(AXES[part.kind]) - 1)
        if not takes or part.options.get("shape"):
            return part
        return replace(part, options={**part.options, "shape": shape})

    mixture = job.mixture
    if mixture.trunk is not None:
        # What comes after a trunk sees the trunk's features, which have no shape.
        return replace(job, mixture=replace(mixture, trunk=told(mixture.trunk)))
    experts = tuple(told(expert) for expert in mixture.experts)
    return replace(job, mixture=replace(mixture, expert=told(mixture.expert), experts=experts))


def check_row_shapes(job: JobConfig, num_features: int) -> None:
    """Check that convolutional and recurrent parts are told how a flat row's features lie, and that it fits.

    Args:
        job: The job, after ``with_row_shape``.
        num_features: Features of a row after the preprocessing.

    Raises:
        ValueError: As of ``row_sizes``.
    """
    trunk = job.mixture.trunk
    width = num_features
    if trunk is not None:
        if trunk.kind in AXES:
            row_sizes(trunk.kind, trunk.options.get("shape", ()), (num_features,))
        width = trunk.units
    for expert in job.mixture.all_experts:
        if expert.kind in AXES:
            row_sizes(expert.kind, expert.options.get("shape", ()), (width,))


def num_experts(settings: Mapping[str, Any]) -> int:
    """Experts that the settings ask for."""
    mixture = settings.get("mixture", {})
    experts = mixture.get("experts")
    return len(experts) if experts else int(mixture.get("gate", {}).get("num_experts", GateConfig().num_experts))


def _read_toml(path: Path) -> Settings:
    require("tomlkit", extra="desktop", purpose="read configuration files")
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return dict(tomlkit.parse(path.read_text(encoding="utf-8")).unwrap())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, got byte 0x{error.object[error.start]:02x}") from error
    except (TOMLKitError, ValueError) as error:
        raise DataError(
            f"{path}: expected TOML, got: {error}; moe-edge train --print-config writes a file to start from"
        ) from error


def _read_archive(path: Path) -> Settings:
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(ARCHIVE_MEMBER))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise DataError(f"{path}: expected a model that moe-edge trained, which says how, got: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a table of settings in {ARCHIVE_MEMBER}")
    return dict(_without_none(content))


def _counted(experts: Any) -> list[Any]:
    listed = []
    for index, expert in enumerate(experts):
        if not isinstance(expert, Mapping):
            raise ValueError(f"config.mixture.experts[{index}]: expected a table, got {type(expert).__name__}")
        count = expert.get("count", 1)
        if type(count) is not int or count < 1:
            raise ValueError(f"config.mixture.experts[{index}].count: expected a whole number >= 1, got {count!r}")
        listed += [{key: value for key, value in expert.items() if key != "count"}] * count
    return listed


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    merged = {key: _merge(value, {}) if isinstance(value, Mapping) else value for key, value in base.items()}
    changed = "kind" in over and over["kind"] != base.get("kind")
    if changed:
        merged.pop("options", None)
    for key, value in over.items():
        mine = merged.get(key)
        merged[key] = _merge(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return merged


def _without_none(value: Any) -> Any:
    """The same without keys whose value is None: that is every such key's default, and TOML has no word for it."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value
