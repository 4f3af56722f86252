"""The picture of the S-shaped curve: who is in charge where, how far from one line, the borders, a tree gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from moe_edge.pictures.canvas import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    hide_frame,
    new_figure,
    save_figure,
)

Floats = npt.NDArray[np.floating]
EXPERTS = (BLUE, ORANGE, GREEN)
NAMES = ("bottom", "middle", "top")
POSITION, READING = "position (mm)", "reading (V)"
_HALF_WAY = 0.42
"""Millimetres that a zoom shows to each side of a border."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What one file answers along the curve, and how well on held-out rows.

    Attributes:
        grid: (m,) positions, rising.
        dense: (m,) the mixture's answer, all experts weighed.
        hard: (m,) the answer of the one expert that the gate prefers.
        experts: (m, 3) each expert's own answer, in the order of the curve.
        weights: (m, 3) the gate's weights; rows sum to 1.
        dense_ratio: RMSE on held-out rows as a share of one line's.
        hard_ratio: The same with one expert a row.
        num_bytes: Of the file.
    """

    grid: Floats
    dense: Floats
    hard: Floats
    experts: Floats
    weights: Floats
    dense_ratio: float
    hard_ratio: float
    num_bytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """What is drawn.

    Attributes:
        x: (n,) positions.
        y: (n,) readings.
        line: Slope and intercept of the one line.
        line_rmse: Its RMSE, volts.
        noise: Standard deviation of the readings' noise, volts.
        borders: Where the pieces really meet.
        overlap: As configured for the mixture ``overlap``.
        most: Share of the one line's RMSE that is allowed.
        answers: ``joint``, ``staged``, ``em``, ``no overlap``, ``overlap``, ``tree gate``.
    """

    x: Floats
    y: Floats
    line: tuple[float, float]
    line_rmse: float
    noise: float
    borders: tuple[float, float]
    overlap: float
    most: float
    answers: Mapping[str, Answers]


def draw(drawing: Drawing, path: Path) -> Path:
    """Draw the four panels to a PNG."""
    figure = new_figure(13, 9.4)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr]
    above, below = figure.subfigures(2, 1, height_ratios=(1.12, 1))
    left, right = above.subfigures(1, 2, width_ratios=(2.15, 1))
    _draw_curve(left, drawing)
    _draw_ratios(right.add_subplot(), drawing)
    borders, tree = below.subfigures(1, 2, width_ratios=(2.15, 1))
    _draw_borders(borders, drawing)
    _draw_tree_gate(tree, drawing)
    return save_figure(figure, path, colours=128)


def _draw_curve(figure: SubFigure, drawing: Drawing) -> None:
    answers = drawing.answers["em"]
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=(5.2, 1))
    _title(axes, "Three straight lines and a gate, against one line", "trained by em, answers of the .tflite")
    _scatter(axes, drawing)
    ends = np.asarray([answers.grid[0], answers.grid[-1]])
    axes.plot(ends, drawing.line[0] * ends + drawing.line[1], color=VERMILION, linewidth=1.6, linestyle=(0, (5, 3)))
    _draw_lines(axes, answers)
    axes.plot(answers.grid, answers.dense, color=INK, linewidth=1.3)
    low, high = float(drawing.y.min()), float(drawing.y.max())
    axes.set_ylim(low - 0.6, high + 0.45)
    note = {"fontsize": 10, "ha": "center", "fontweight": "bold"}
    axes.text(-1.75, _at(answers, -1.75) - 0.5, "bottom expert", color=EXPERTS[0], **note)
    axes.text(-0.28, _at(answers, 0.0) + 0.22, "middle\nexpert", color=_dark(ORANGE), **{**note, "ha": "right"})
    axes.text(1.9, _at(answers, 1.9) - 0.52, "top expert", color=EXPERTS[2], **note)
    spot = 2.3
    axes.annotate(
        f"one line: RMSE {drawing.line_rmse:.2f} V",
        (spot, drawing.line[0] * spot + drawing.line[1]),
        (1.55, low + 2.7),
        color=VERMILION,
        fontsize=10,
        arrowprops={"arrowstyle": "-", "color": VERMILION, "linewidth": 0.8},
    )
    axes.annotate(
        f"mixture: RMSE {answers.dense_ratio * drawing.line_rmse:.3f} V\n(the noise has {drawing.noise:.2f} V)",
        (0.35, _at(answers, 0.35)),
        (0.95, low + 1.0),
        color=INK,
        fontsize=10,
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8},
    )
    axes.set_ylabel(READING)
    _draw_strip(strip, answers)


def _draw_ratios(axes: Axes, drawing: Drawing) -> None:
    names = ("joint", "staged", "em")
    _title(axes, "Held-out RMSE, one line's = 1", "three strategies, every expert or only the best one")
    floor = drawing.noise / drawing.line_rmse
    axes.axvspan(0, floor, color="#ececec", linewidth=0)
    axes.text(floor / 2, -0.62, "noise", ha="center", va="center", fontsize=9, color="#6a6a6a")
    axes.axvline(drawing.most, color=VERMILION, linewidth=1.2, linestyle=(0, (5, 3)))
    axes.text(drawing.most - 0.004, -0.62, "one fifth", ha="right", va="center", fontsize=9, color=VERMILION)
    for row, name in enumerate(names):
        each = drawing.answers[name]
        for place, value, colour, what in (
            (row - 0.17, each.dense_ratio, BLUE, "all weighed"),
            (row + 0.17, each.hard_ratio, PURPLE, "one expert"),
        ):
            axes.barh(place, value, height=0.3, color=colour, zorder=2)
            axes.text(0.006, place, f"{what}  {value:.3f}", va="center", fontsize=9, color="white", zorder=3)
    axes.set_yticks(range(len(names)), names, fontsize=10.5)
    axes.set_ylim(len(names) - 0.45, -0.85)
    axes.set_xlim(0, drawing.most * 1.12)
    axes.set_xlabel("share of one line's RMSE")
    axes.tick_params(axis="y", length=0)
    hide_frame(axes, ("top", "right", "left"))


def _draw_borders(figure: SubFigure, drawing: Drawing) -> None:
    columns = figure.subplots(2, 2, sharex="col", height_ratios=(3.2, 1))
    none, shared = drawing.answers["no overlap"], drawing.answers["overlap"]
    for column, border in enumerate(drawing.borders):
        axes, strip = columns[0, column], columns[1, column]
        inside = np.abs(none.grid - border) <= _HALF_WAY
        grid = none.grid[inside]
        near = np.abs(drawing.x - border) <= _HALF_WAY
        axes.scatter(drawing.x[near], drawing.y[near], s=13, color=FAINT, alpha=0.7, linewidth=0)
        for answers, colour, style in ((none, INK, "-"), (shared, PURPLE, (0, (4, 1.6)))):
            axes.plot(grid, answers.dense[inside], color=colour, linewidth=2, linestyle=style)
            strip.plot(grid, answers.weights[inside, 1], color=colour, linewidth=2, linestyle=style)
        for each in (axes, strip):
            each.axvline(border, color=FAINT, linewidth=0.9, linestyle=":")
            hide_frame(each)
        strip.set_ylim(-0.05, 1.08)
        strip.set_yticks([0, 0.5, 1])
        strip.set_xlabel(POSITION)
        strip.set_xlim(float(grid[0]), float(grid[-1]))
        errors = [_rmse_at(drawing, answers, near) for answers in (none, shared)]
        place = ((0.03, 0.96), (0.97, 0.16))[column]
        for line, (text, colour) in enumerate(
            (
                (f"pieces apart: RMSE here {errors[0]:.3f} V", INK),
                (f"overlap {drawing.overlap:g}: {errors[1]:.3f} V", PURPLE),
            )
        ):
            axes.text(
                place[0],
                place[1] - 0.1 * line,
                text,
                transform=axes.transAxes,
                ha=("left", "right")[column],
                va="top",
                fontsize=10,
                color=colour,
                fontweight="bold",
            )
        _title(
            axes,
            ("Where bottom meets middle", "Where middle meets top")[column],
            "staged on pieces given by hand, apart or overlapping" if column == 0 else "the dotted line is the border",
        )
    columns[0, 0].set_ylabel(READING)
    columns[1, 0].set_ylabel("weight of\nthe middle")


def _draw_tree_gate(figure: SubFigure, drawing: Drawing) -> None:
    answers = drawing.answers["tree gate"]
    axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    _title(axes, "A decision tree as the gate", "two questions: borders are steps")
    _scatter(axes, drawing)
    _draw_lines(axes, answers)
    axes.plot(answers.grid, answers.dense, color=INK, linewidth=1.3)
    axes.text(
        0.97,
        0.06,
        f"RMSE {answers.dense_ratio:.3f} of one line's",
        transform=axes.transAxes,
        ha="right",
        fontsize=10,
        fontweight="bold",
        color=INK,
    )
    axes.set_ylabel(READING)
    _draw_strip(strip, answers)


def _scatter(axes: Axes, drawing: Drawing) -> None:
    axes.scatter(drawing.x, drawing.y, s=9, color=FAINT, alpha=0.55, linewidth=0, zorder=1)


def _draw_lines(axes: Axes, answers: Answers) -> None:
    """Each expert's line: bold where it is in charge, thin a little beyond, where it would be wrong."""
    strongest = answers.weights.argmax(axis=1)
    for index, colour in enumerate(EXPERTS):
        own = np.where(strongest == index, answers.experts[:, index], np.nan)
        axes.plot(answers.grid, own, color=colour, linewidth=7, alpha=0.5, solid_capstyle="butt", zorder=2)
        reach = answers.grid[strongest == index]
        near = (answers.grid > reach[0] - 0.4) & (answers.grid < reach[-1] + 0.4)
        beyond = np.where(near & (strongest != index), answers.experts[:, index], np.nan)
        axes.plot(answers.grid, beyond, color=colour, linewidth=1.1, linestyle=":", zorder=2)
    hide_frame(axes)


def _draw_strip(axes: Axes, answers: Answers) -> None:
    axes.stackplot(answers.grid, answers.weights.T, colors=EXPERTS, alpha=0.8, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1])
    axes.set_xlim(float(answers.grid[0]), float(answers.grid[-1]))
    for index, name in enumerate(NAMES):
        middle = float(np.average(answers.grid, weights=answers.weights[:, index]))
        axes.text(middle, 0.5, name, ha="center", va="center", color="white" if index != 1 else INK, fontsize=9.5)
    axes.set_xlabel(POSITION)
    axes.set_ylabel("gate\nweights")
    hide_frame(axes)


def _title(axes: Axes, title: str, under: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=12.5, fontweight="bold", color=INK)
    axes.text(0, 1.025, under, transform=axes.transAxes, fontsize=9.5, color="#5c5c5c", va="bottom")


def _at(answers: Answers, x: float) -> float:
    return float(np.interp(x, answers.grid, answers.dense))


def _rmse_at(drawing: Drawing, answers: Answers, rows: npt.NDArray[np.bool_]) -> float:
    guessed = np.interp(drawing.x[rows], answers.grid, answers.dense)
    return float(np.sqrt(np.mean((guessed - drawing.y[rows]) ** 2)))


def _dark(colour: str) -> str:
    """The orange is too pale for text on white."""
    return "#9a6a00" if colour == ORANGE else colour
