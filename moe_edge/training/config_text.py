"""Settings as TOML text: each option with its meaning, taken from the configurations' own docstrings.

Options that are set are live lines; the others stand there with their default, commented out (``#key = value``).
Layer: desktop (training). Imports tomlkit when called.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

from moe_edge.config import ExpertConfig, GateConfig, MixtureConfig, TrainingConfig, TrunkConfig
from moe_edge.errors import require
from moe_edge.job_config import JobConfig
from moe_edge.strict import nested_dataclass, to_dict
from moe_edge.training.kinds.registry import EXPERTS, GATES, NEURAL_EXPERTS

_WIDTH = 110

_DEPENDS: Mapping[tuple[type, str], str] = {
    (MixtureConfig, "task"): "read off the target",
    (MixtureConfig, "combine"): "probabilities, or gaussian for a regression",
    (GateConfig, "num_experts"): "as many as mixture.experts, where those are listed",
    (GateConfig, "load_balancing_coef"): "0.1 * max(1, num_experts / 8); classical: 0",
    (TrainingConfig, "epochs"): "100, or 300 below 1000 rows; classical: 10",
    (TrainingConfig, "batch_size"): "64, or 32 below 1000 rows; classical: 32",
    (TrainingConfig, "learning_rate"): "0.002, or 0.01 when all experts are linear; classical: 0.001",
    (TrainingConfig, "label_smoothing"): "0.1; classical: 0",
    (TrainingConfig, "competitive_weight"): "0.5; classical: 0",
}
"""Defaults that depend on something."""

_HEAD = """\
# What `moe-edge train DATA --config FILE` reads. Unknown keys are errors; options on the command line come first.
# Options that are commented out (#key = value) have the value shown, their default.
"""


_SUMMARIES: Mapping[type, str] = {ExpertConfig: "What every expert is, where all are alike."}
_EXPERT_LIST = (
    "Where experts differ: one such table for each expert, or for each group of equal ones with count = N.",
    "Leave these tables out where all experts are alike: [mixture.expert] then says what they are.",
)
"""What a docstring can't say of a table that stands for one expert or for all."""


def render_settings(settings: Mapping[str, Any]) -> str:
    """Settings as a TOML file of all options; what is set is live, the rest commented out.

    Args:
        settings: Checked settings, experts written out one by one.
    """
    require("tomlkit", extra="desktop", purpose="write configuration files")
    lines = [_HEAD]
    for section in dataclasses.fields(JobConfig):
        cls = get_type_hints(JobConfig)[section.name]
        lines += _table(cls, section.name, settings.get(section.name, {}))
    return "\n".join(lines).rstrip() + "\n"


def meanings(cls: type[Any]) -> dict[str, str]:
    """What a dataclass's docstring says of each attribute, one line each."""
    doc = inspect.getdoc(cls) or ""
    section = doc.partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name, text = start.groups()
            found[name] = text.strip()
        elif name and line.strip():
            found[name] += " " + line.strip()
    return {key: text.replace("``", "") for key, text in found.items()}


def _table(cls: Any, name: str, given: Mapping[str, Any] | None, *, header: str = "[{}]") -> Iterator[str]:
    """The lines of one table and of those within it; of a table that isn't there when ``given`` is None."""
    live = given is not None
    values = given or {}
    hints, texts = get_type_hints(cls), meanings(cls)
    listed = header == "[[{}]]"
    summary = (inspect.getdoc(cls) or "").splitlines()[0]
    yield from [f"# {line}" for line in (_EXPERT_LIST if listed else [_SUMMARIES.get(cls, summary)])]
    yield ("" if live else "#") + header.format(name)
    later = []
    for field in dataclasses.fields(cls):
        if nested_dataclass(hints[field.name]) is not None or hints[field.name] == tuple[ExpertConfig, ...]:
            later.append(field)
            continue
        depends = _DEPENDS.get((cls, field.name))
        comment = texts[field.name] + _choices(hints[field.name]) + (f" [default: {depends}]" if depends else "")
        if field.name == "kind":
            comment = f"One of {', '.join(_kinds(cls))}."
        yield from textwrap.wrap(comment, _WIDTH, initial_indent="# ", subsequent_indent="#   ")
        if field.name in values:
            yield f"{field.name} = {_value(values[field.name])}"
        else:
            yield f"#{field.name} = {_value(_default(field))}".replace('= ""', "=")
    if listed and not live:
        yield "# How many experts of this kind."
        yield "#count = 1"
    elif "count" in values:
        yield f"count = {values['count']}"
    yield ""
    for field in later:
        inner = nested_dataclass(hints[field.name])
        place = f"{name}.{field.name}"
        if inner is None:
            experts = _grouped(values.get(field.name, ()))
            yield from _table(ExpertConfig, place, experts[0] if experts else None, header="[[{}]]")
            for expert in experts[1:]:
                yield f"[[{place}]]"
                yield from (f"{key} = {_value(value)}" for key, value in expert.items())
                yield ""
            continue
        optional = field.default is None
        yield from _table(inner, place, values.get(field.name, None if optional else {}))


def _choices(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f" One of {', '.join(str(member.value) for member in hint)}."
    return ""


def _kinds(cls: Any) -> Iterable[str]:
    return {GateConfig: tuple(GATES), TrunkConfig: NEURAL_EXPERTS}.get(cls, tuple(EXPERTS))


def _grouped(experts: Any) -> list[dict[str, Any]]:
    """Neighbours that are alike as one table with a count."""
    groups: list[dict[str, Any]] = []
    for expert in experts:
        if groups and {key: value for key, value in groups[-1].items() if key != "count"} == expert:
            groups[-1]["count"] = groups[-1].get("count", 1) + 1
        else:
            groups.append(dict(expert))
    return groups


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return to_dict(field.default_factory())
    return to_dict(field.default)


def _value(value: Any) -> str:
    import tomlkit

    if value is None:
        return '""'
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return str(table.as_string())
    return str(tomlkit.item(value).as_string())
