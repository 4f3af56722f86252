"""Pictures of a diagnosis: use and sharpness, who speaks for which class, who is best, the input space.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from moe_edge.diagnosis import BINS, Diagnosis
from moe_edge.pictures.canvas import (
    BLUE,
    EXPERT_PALETTE,
    FAINT,
    INK,
    VERMILION,
    expert_colour,
    hide_frame,
    new_figure,
    plain_text,
    readable_on,
    save_figure,
    tick_step,
)

Floats = npt.NDArray[np.floating]
_DASHES = ("-", "--", ":", "-.")
_MOST_CELLS = 400
_ROOM = 0.2
"""Gate weight from which an area has room for its expert's number."""


def draw_usage(diagnosis: Diagnosis, path: Path) -> Path:
    """Draw each expert's mean weight, and histograms of the rows' entropy and margin.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    experts = len(diagnosis.usage)
    figure = new_figure(10.5, 3.4)
    bars, entropy, margin = figure.subplots(1, 3)
    bars.bar(range(experts), diagnosis.usage, color=[expert_colour(index) for index in range(experts)])
    for index in diagnosis.collapsed:
        bars.text(
            index, 0.02 * max(diagnosis.usage), " collapsed", rotation=90, ha="center", fontsize=8, color=VERMILION
        )
    bars.axhline(1 / experts, color=INK, linestyle="--", linewidth=1, label="even use")
    bars.set_ylim(0, 1.25 * max(diagnosis.usage))
    bars.legend(fontsize=8, frameon=False, loc="upper right")
    bars.set_xticks(range(0, experts, tick_step(experts)))
    _name(bars, "Use of the experts", "expert", "mean gate weight")
    edges = np.linspace(0, 1, BINS + 1)[:-1]
    entropy.bar(edges, diagnosis.entropy_histogram, width=1 / BINS, align="edge", color=BLUE, edgecolor="white")
    _name(entropy, "Does the gate choose?", "entropy / log E  (0 one expert, 1 all alike)", "rows")
    margin.bar(edges, diagnosis.margin_histogram, width=1 / BINS, align="edge", color=BLUE, edgecolor="white")
    _name(margin, "Close calls", "difference of the two largest weights", "rows")
    return save_figure(figure, path)


def draw_matrix(
    values: Sequence[Sequence[float]],
    row_names: Sequence[str],
    path: Path,
    *,
    title: str,
    row_title: str,
    column_title: str,
    unit: str,
    counted: bool = False,
) -> Path:
    """Draw a map with one column an expert.

    Args:
        values: (rows, E).
        row_names: Names of the rows.
        path: The PNG to write.
        title: Its title.
        row_title: What the rows are.
        column_title: What the columns are.
        unit: What the colours mean.
        counted: Whether values are whole numbers.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    array = np.asarray(values, dtype=np.float64)
    figure = new_figure(min(12.0, max(5.6, 3.0 + 0.62 * array.shape[1])), 1.8 + 0.36 * min(len(array), 30))
    axes = figure.add_subplot()
    image = axes.imshow(array, cmap="Blues", vmin=0, vmax=max(float(array.max()), 1e-9), aspect="auto")
    step, across = tick_step(len(array), 30), tick_step(array.shape[1])
    axes.set_yticks(range(0, len(array), step), [plain_text(name, 28) for name in row_names][::step])
    axes.set_xticks(range(0, array.shape[1], across))
    if array.size <= _MOST_CELLS and array.shape[1] <= 16:
        for row, line in enumerate(array):
            for column, value in enumerate(line):
                colour = "white" if value > 0.6 * array.max() else INK
                text = ("·" if value == 0 else f"{value:,.0f}") if counted else f"{value:.2f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, label=unit, shrink=0.85)
    axes.set_title(title, fontsize=11, color=INK)
    axes.set_xlabel(column_title)
    axes.set_ylabel(row_title)
    return save_figure(figure, path)


def draw_line_partition(
    x: Floats,
    weights: Floats,
    path: Path,
    *,
    names: tuple[str, str],
    prediction: Floats | None = None,
    answers: Floats | None = None,
    rows: tuple[Floats, Floats] | None = None,
) -> Path:
    """Draw a mixture of one numeric input: data, experts and mixture above, gate weights below.

    Args:
        x: (m,), rising.
        weights: (m, E).
        path: The PNG to write.
        names: Of the input and of the output.
        prediction: (m,), the mixture's number; None for classes.
        answers: (m, E), each expert's number.
        rows: x and y of the table's rows.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    figure = new_figure(9, 6 if prediction is not None else 3.2)
    if prediction is None:
        below = figure.add_subplot()
    else:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
        if rows is not None:
            above.scatter(*rows, s=7, color=FAINT, alpha=0.5, linewidth=0, label="rows")
        strongest = weights.argmax(axis=1)
        for index in range(weights.shape[1]):
            if answers is not None:
                style = _DASHES[index // len(EXPERT_PALETTE) % len(_DASHES)]
                colour = expert_colour(index)
                above.plot(x, answers[:, index], color=colour, linewidth=1, alpha=0.4, linestyle=style)
                own = np.where(strongest == index, answers[:, index], np.nan)
                above.plot(x, own, color=colour, linewidth=3, linestyle=style, label=f"expert_{index}")
        above.plot(x, prediction, color=INK, linewidth=1.4, linestyle="--", label="mixture")
        known = prediction if rows is None else np.concatenate([prediction, rows[1]])
        pad = 0.1 * float(np.ptp(known)) or 1.0
        above.set_ylim(float(known.min()) - pad, float(known.max()) + pad)
        above.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        _name(above, "Each expert and the mixture (bold: where the gate prefers the expert)", "", names[1])
    below.stackplot(x, weights.T, colors=[expert_colour(index) for index in range(weights.shape[1])], alpha=0.85)
    tops = weights.cumsum(axis=1)
    for index in range(weights.shape[1]):
        # The middle of where it has most, so that the number stands inside the picture.
        place = int(np.median(np.flatnonzero(weights[:, index] >= 0.8 * weights[:, index].max())))
        if weights[place, index] > _ROOM:
            middle = float(tops[place, index] - weights[place, index] / 2)
            _number(below, index, float(x[place]), middle)
    below.set_ylim(0, 1)
    below.set_xlim(float(x[0]), float(x[-1]))
    _name(below, "What the gate gives each expert", names[0], "gate weight")
    if prediction is None or answers is None:
        below.legend(
            handles=[Patch(color=expert_colour(i), label=f"expert_{i}") for i in range(weights.shape[1])],
            fontsize=8,
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
        )
    return save_figure(figure, path)


def draw_plane_partition(
    first: Floats, second: Floats, weights: Floats, path: Path, *, names: tuple[str, str], rows: Floats
) -> Path:
    """Draw which expert the gate prefers over two numeric inputs; paler where the choice is close.

    Args:
        first: (a,), the first input.
        second: (b,), the second input.
        weights: (b, a, E).
        path: The PNG to write.
        names: Of the inputs.
        rows: (n, 2), the table's rows.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    figure = new_figure(7.6, 5.6)
    axes = figure.add_subplot()
    experts = weights.shape[2]
    strongest = weights.argmax(axis=2)
    axes.imshow(
        strongest,
        origin="lower",
        extent=(float(first[0]), float(first[-1]), float(second[0]), float(second[-1])),
        aspect="auto",
        cmap=ListedColormap([expert_colour(index) for index in range(experts)]),
        vmin=-0.5,
        vmax=experts - 0.5,
        alpha=np.clip(weights.max(axis=2) * 0.75, 0.15, 0.75),
        interpolation="nearest",
    )
    axes.scatter(rows[:, 0], rows[:, 1], s=6, color=INK, alpha=0.45, linewidth=0)
    present = np.unique(strongest).tolist()
    for index in present:
        down, across = _middle(strongest == index)
        _number(axes, index, float(first[across]), float(second[down]))
    handles = [Patch(color=expert_colour(index), alpha=0.75, label=f"expert_{index}") for index in present]
    absent = sorted(set(range(experts)) - set(present))
    if absent:
        handles.append(Patch(color="none", label=f"first nowhere: {', '.join(map(str, absent))}"))
    axes.legend(handles=handles, fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _name(axes, "The expert that the gate prefers (paler: less sure); dots are rows", *names)
    return save_figure(figure, path)


def _middle(region: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """The point of a region that is furthest from its border: where a label has most room."""
    inside, place = np.pad(region, 1), (0, 0)
    while inside.any():
        place = tuple(np.argwhere(inside)[0])
        inside = inside & (
            np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1)
        )
    return int(place[0]) - 1, int(place[1]) - 1


def _number(axes: Axes, index: int, x: float, y: float) -> None:
    """An expert's number where it speaks, for who can't tell the colours."""
    colour = expert_colour(index)
    box = {"boxstyle": "circle,pad=0.25", "facecolor": colour, "edgecolor": "white", "linewidth": 0.8}
    axes.text(x, y, str(index), ha="center", va="center", fontsize=8, color=readable_on(colour), bbox=box, zorder=4)


def _name(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=11, color=INK)
    axes.set_xlabel(plain_text(across, 60))
    axes.set_ylabel(plain_text(up, 40))
    hide_frame(axes)
