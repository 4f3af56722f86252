"""Draw the ladder of ``--scheme auto``: what each candidate weighs, and how well it answers.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moe_edge.config import Task
from moe_edge.pictures.canvas import FAINT, GREEN, INK, VERMILION, hide_frame, new_figure, plain_text, save_figure


def draw_ladder(rungs: Sequence[Mapping[str, Any]], path: Path, *, task: Task) -> Path:
    """Draw candidates as points, bytes against the metric on validation rows.

    Args:
        rungs: ``Ladder.record()``: schemes, bytes, metric, accepted, chosen.
        path: The PNG to write.
        task: Tells whether the metric is an accuracy or an RMSE.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    for rung in rungs:
        colour = GREEN if rung["accepted"] else VERMILION
        size = 130 if rung["chosen"] else 45
        axes.scatter(
            rung["bytes"] / 1000, rung["metric"], s=size, color=colour, edgecolors=INK, linewidths=0.8, zorder=3
        )
    chosen = next(rung for rung in rungs if rung["chosen"])
    largest = max(rungs, key=lambda rung: rung["bytes"])
    share = chosen["bytes"] / largest["bytes"]
    axes.axhline(largest["metric"], color=FAINT, linewidth=1, linestyle="--", zorder=1)
    axes.annotate(
        f"chosen: {plain_text(chosen['schemes'], 48)}\n{chosen['bytes']:,} bytes, {share:.0%} of the largest",
        (chosen["bytes"] / 1000, chosen["metric"]),
        xytext=(14, 22),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": INK},
        color=INK,
        fontsize=9,
    )
    axes.set_xlim(left=0)
    axes.margins(y=0.35)
    axes.set_xlabel("file without manifest, kB")
    axes.set_ylabel("validation accuracy" if task is Task.CLASSIFICATION else "validation RMSE")
    axes.set_title("Ladder of schemes: green is within the budget, dashed is float32", fontsize=11, loc="left")
    hide_frame(axes)
    return save_figure(figure, path)
