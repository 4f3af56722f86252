"""The terminal view: what the model says, which experts speak, and whether the sensor still sits as it should."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.align import Align
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

ALARM_TEXTS = {
    "turned": "the sensor sits turned",
    "gate": "experts are used otherwise than in training",
    "unsure": "the model is less sure than it should be",
}
_MARKS = "▁▂▃▄▅▆▇█"


def draw(snapshot: dict[str, Any], notices: list[str]) -> RenderableType:
    """The whole view.

    Args:
        snapshot: Of ``Session.snapshot``.
        notices: The last messages.
    """
    answer = snapshot["answer"]
    if answer is None:
        return Panel(Align.center(Text("waiting for a first window")), title=snapshot["source"], box=box.ROUNDED)
    parts: list[RenderableType] = [
        _headline(answer),
        _bars(snapshot, answer),
        _drift(snapshot, answer),
        _history(snapshot),
    ]
    parts += [Text(f"! {notice}", style="yellow") for notice in notices]
    return Panel(Group(*parts), title=f"moe-edge · {snapshot['source']}", subtitle=_counters(snapshot), box=box.ROUNDED)


def _headline(answer: dict[str, Any]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=24)
    grid.add_column(width=40)
    grid.add_column()
    truth = f"  (it is {answer['truth']})" if answer["truth"] else ""
    grid.add_row(
        Text(answer["label"], style="bold"),
        ProgressBar(total=1, completed=answer["confidence"], width=40, complete_style="green"),
        Text(f"{answer['confidence']:4.0%}{truth}"),
    )
    return grid


def _bars(snapshot: dict[str, Any], answer: dict[str, Any]) -> RenderableType:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("expert", "weight in this window", "", "in training"):
        table.add_column(name)
    for index, (weight, usage) in enumerate(zip(answer["weights"], snapshot["usage"], strict=True)):
        style = "bold cyan" if index == answer["expert"] else "cyan"
        bar = ProgressBar(total=1, completed=weight, width=30, complete_style=style, finished_style=style)
        table.add_row(Text(f"expert_{index}", style=style), bar, f"{weight:4.0%}", f"{usage:4.0%}")
    return table


def _drift(snapshot: dict[str, Any], answer: dict[str, Any]) -> RenderableType:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("drift", "last windows", "alarm above", "state"):
        table.add_column(name, justify="left" if name in ("drift", "state") else "right")
    for name, threshold in snapshot["thresholds"].items():
        if name in answer["alarms"]:
            turn = f" {answer['turn']}" if name == "turned" and answer["turn"] else ""
            state = Text(f"ALARM: {ALARM_TEXTS[name]}{turn}", style="bold red")
        elif not answer["drift_ready"]:
            state = Text(f"collecting, {answer['drift_seen']} of {snapshot['drift_windows']}", style="dim")
        else:
            state = Text("as usual", style="green")
        table.add_row(name, f"{answer['figures'][name]:.2f}", f"{threshold:.2f}", state)
    return table


def _history(snapshot: dict[str, Any]) -> RenderableType:
    """The last windows' confidence, red under an alarm."""
    line = Text("confidence  ")
    for each in snapshot["history"]:
        mark = _MARKS[min(len(_MARKS) - 1, int(each["confidence"] * len(_MARKS)))]
        line.append(mark, style="red" if each["alarm"] else "green")
    return line


def _counters(snapshot: dict[str, Any]) -> str:
    counters = snapshot["counters"]
    return (
        f"{counters['windows']:,} windows · {snapshot['windows_per_second']:.1f} a second · "
        f"{counters['gaps']:,} gaps · {counters['alarms']} alarms · {counters['restarts']} restarts"
    )
