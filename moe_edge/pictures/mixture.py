"""The user's mixture as a drawing: row → experts and gate → weighted sum, lines as thick as experts are used.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from moe_edge.pictures.canvas import BLUE, FAINT, GREEN, INK, ORANGE, PALETTE, new_figure, plain_text, save_figure

MOST_DRAWN = 10
"""Experts drawn one by one; of a larger mixture the most used ones are drawn and the rest counted."""

ROW_X, EXPERT_X, SUM_X, ANSWER_X = 1.1, 4.4, 7.9, 10.1
BOX_HALF = 1.0
STEP = 0.82
"""Height of one expert's place; all lengths are in the drawing's own units, the same on both axes."""
WIDTH = 11.3


@dataclass(frozen=True, kw_only=True)
class MixtureDrawing:
    """What is drawn.

    Attributes:
        feature_names: Names of the columns that a row has.
        answer: What the model answers, such as ``label: one of 10``.
        expert_layers: Units of an expert's layers, output included.
        gate_layers: Units of the gate's layers, the weights included.
        usage: Mean gate weight of each expert, at least two, sums to 1.
        caption: One line under the drawing.
    """

    feature_names: Sequence[str]
    answer: str
    expert_layers: Sequence[int]
    gate_layers: Sequence[int]
    usage: Sequence[float]
    caption: str = ""


def draw_mixture(drawing: MixtureDrawing, path: Path) -> Path:
    """Draw a mixture to a PNG.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    most_used = sorted(range(len(drawing.usage)), key=lambda index: -drawing.usage[index])
    drawn = sorted(most_used[:MOST_DRAWN])
    left_out = most_used[MOST_DRAWN:]
    rows = len(drawn) + bool(left_out)
    lowest = 1.5
    middle = lowest + max(STEP * (rows - 1) / 2, 0.6)
    bottom, top = -0.75, middle + max(STEP * rows / 2, 1.5)
    figure = new_figure(10.5, 10.5 * (top - bottom) / WIDTH)
    axes = figure.add_subplot()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    axes.axis("off")

    names = [plain_text(name, 14) for name in drawing.feature_names]
    listed = names if len(names) <= 4 else [*names[:2], "…", names[-1]]
    _box(axes, ROW_X, middle, "\n".join(["one row", f"{len(names)} features", *listed]), BLUE, half_height=1.15)
    axes.add_patch(Circle((SUM_X, middle), 0.42, facecolor="white", edgecolor=INK, linewidth=1.6, zorder=3))
    axes.text(SUM_X, middle, "Σ", ha="center", va="center", fontsize=17, color=INK, zorder=4)
    axes.text(SUM_X, middle + 0.58, "weighted\nsum", ha="center", va="bottom", fontsize=8.5, color=INK)
    _box(axes, ANSWER_X, middle, plain_text(drawing.answer, 60).replace(": ", ":\n"), GREEN, half_height=0.6)
    _arrow(axes, (SUM_X + 0.42, middle), (ANSWER_X - BOX_HALF, middle), INK, 1.6)

    layers = " → ".join(str(units) for units in drawing.expert_layers)
    for place, index in enumerate(drawn):
        height = middle + STEP * ((rows - 1) / 2 - place)
        share = drawing.usage[index]
        _box(axes, EXPERT_X, height, f"expert {index}\n{layers}", INK, half_height=0.31)
        _arrow(axes, (ROW_X + BOX_HALF, middle), (EXPERT_X - BOX_HALF, height), FAINT, 0.8)
        start, end = (EXPERT_X + BOX_HALF, height), _rim(height, middle)
        _arrow(axes, start, end, PALETTE[place % len(PALETTE)], 0.8 + 12 * share, head=False)
        _label(axes, start, end, f"{share:.0%}")
    if left_out:
        rest = sum(drawing.usage[index] for index in left_out)
        text = f"and {len(left_out)} more experts with {rest:.0%} together"
        axes.text(
            EXPERT_X,
            middle - STEP * (rows - 1) / 2,
            text,
            ha="center",
            va="center",
            fontsize=9,
            style="italic",
            color=INK,
        )

    gate = " → ".join(str(units) for units in drawing.gate_layers)
    _box(axes, EXPERT_X, 0.25, f"gating network\n{gate}", ORANGE, half_height=0.4)
    _arrow(axes, (ROW_X, middle - 1.15), (EXPERT_X - BOX_HALF, 0.25), FAINT, 0.8, bend="angle,angleA=-90,angleB=180")
    _arrow(
        axes,
        (EXPERT_X + BOX_HALF, 0.25),
        (SUM_X, middle - 0.42),
        ORANGE,
        1.6,
        bend="angle,angleA=0,angleB=90",
        dashed=True,
    )
    axes.text(
        EXPERT_X + BOX_HALF + 0.15,
        0.16,
        "routing weights: how much each expert counts for this row",
        ha="left",
        va="top",
        fontsize=8.5,
        color=INK,
    )
    if drawing.caption:
        axes.text(5.65, -0.55, plain_text(drawing.caption, 140), ha="center", va="center", fontsize=9, color=INK)
    return save_figure(figure, path)


def _rim(height: float, middle: float) -> tuple[float, float]:
    """Where the line from an expert meets the circle of the sum, spread over its left half."""
    dx, dy = SUM_X - (EXPERT_X + BOX_HALF), middle - height
    length = (dx**2 + dy**2) ** 0.5
    return SUM_X - 0.42 * dx / length, middle - 0.42 * dy / length


def _box(axes: Axes, x: float, y: float, text: str, colour: str, *, half_height: float) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - BOX_HALF + 0.05, y - half_height + 0.05),
            2 * BOX_HALF - 0.1,
            2 * half_height - 0.1,
            boxstyle="round,pad=0.05",
            facecolor="white",
            edgecolor=colour,
            linewidth=1.6,
            zorder=3,
        )
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=8.5, color=INK, linespacing=1.35, zorder=4)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    width: float,
    *,
    head: bool = True,
    bend: str = "arc3,rad=0",
    dashed: bool = False,
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>" if head else "-",
            mutation_scale=11,
            color=colour,
            linewidth=width,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=bend,
            linestyle="--" if dashed else "-",
            zorder=2,
        )
    )


def _label(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    """Write the usage on its line, near the expert, where lines are still far apart."""
    x = start[0] + 0.22 * (end[0] - start[0])
    y = start[1] + 0.22 * (end[1] - start[1])
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=8.5,
        color=INK,
        zorder=5,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
    )
