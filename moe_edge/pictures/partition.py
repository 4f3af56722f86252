"""How a mixture divides its input space: a line with each expert's own curve, or a plane with each expert's region.

Layer: desktop (pictures).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from moe_edge.diagnosis import best_experts, squared_errors
from moe_edge.file_diagnosis import FileDiagnosis, InputPartition, MixtureAnswers
from moe_edge.pictures.canvas import FAINT, INK, PALETTE, hide_frame, new_figure, plain_text, save_figure
from moe_edge.task import Task

EXPERT_COLOURS = (*PALETTE, "#F0E442", "#777777")
"""Okabe and Ito's colours and a grey; a larger mixture's experts share them, and are told apart by their names."""
_MOST_POINTS = 3000
_MOST_CLASSES = 8
_LEAST_SHOWN = 0.004
"""Share of the plane from which on a region gets its expert's name."""


def expert_colour(index: int) -> str:
    """The colour that stands for an expert in every picture of a diagnosis."""
    return EXPERT_COLOURS[index % len(EXPERT_COLOURS)]


def draw_partition(found: FileDiagnosis, path: Path) -> Path:
    """Draw the input space of one or two numeric columns.

    Args:
        found: A diagnosis with a ``partition``.
        path: The PNG to write.

    Raises:
        ValueError: If the diagnosis has no partition.
        MoeEdgeError: If ``path`` can't be written.
    """
    if found.partition is None:
        raise ValueError("expected a model of one or two numeric columns, which alone has a partition to draw")
    figure = (
        _draw_line(found, found.partition) if len(found.partition.axes) == 1 else _draw_plane(found, found.partition)
    )
    return save_figure(figure, path)


# One column -------------------------------------------------------------------------------------------------------


def _draw_line(found: FileDiagnosis, partition: InputPartition) -> Figure:
    figure = new_figure(9.2, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    x, answers = partition.axes[0], partition.answers
    if found.manifest.task is Task.REGRESSION:
        _draw_curves(upper, found, x, answers)
    else:
        _draw_probabilities(upper, found, x, answers)
    experts = answers.weights.shape[1]
    bottom = np.zeros(len(x))
    for index in range(experts):
        top = bottom + answers.weights[:, index]
        lower.fill_between(x, bottom, top, color=expert_colour(index), alpha=0.75, linewidth=0)
        bottom = top
    lower.set_xlim(x[0], x[-1])
    lower.set_ylim(0, 1)
    lower.set_ylabel("gate weights")
    lower.set_xlabel(plain_text(partition.columns[0], 40))
    for axes in (upper, lower):
        hide_frame(axes)
    return figure


def _draw_curves(axes: Axes, found: FileDiagnosis, x: npt.NDArray[np.float64], answers: MixtureAnswers) -> None:
    """The first output: rows, each expert's curve as strong as its weight, the mixture's, and where 90 % lie."""
    labels = found.manifest.schema.labels
    if answers.interval is not None:
        axes.fill_between(
            x,
            answers.interval[:, 0, 0],
            answers.interval[:, 1, 0],
            color="#dddddd",
            linewidth=0,
            label="90 % of the probability",
        )
    shown = answers.prediction[:, :1]
    if found.target is not None:
        rows = _some(len(found.features))
        y = np.asarray(found.target, dtype=np.float64).reshape(len(found.features), -1)[rows, 0]
        axes.scatter(
            found.features.reshape(len(found.features), -1)[rows, 0],
            y,
            s=7,
            color=FAINT,
            alpha=0.6,
            linewidths=0,
            label=f"{len(found.features):,} rows",
            zorder=1,
        )
        shown = np.concatenate([shown, y[:, None].astype(np.float32)])
    low, high = float(shown.min()), float(shown.max())
    margin = 0.12 * max(high - low, 1e-12)
    if answers.experts is not None:
        for index in range(answers.weights.shape[1]):
            curve = answers.experts[:, index, 0].astype(np.float64)
            colour = expert_colour(index)
            axes.plot(x, curve, color=colour, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7, zorder=2)
            points = np.stack([x, curve], axis=1)
            pieces = np.stack([points[:-1], points[1:]], axis=1)
            widths = 7.0 * answers.weights[:-1, index]
            axes.add_collection(LineCollection(list(pieces), colors=colour, linewidths=widths, alpha=0.75, zorder=3))
            axes.plot([], [], color=colour, linewidth=4, alpha=0.75, label=f"expert {index}")
    axes.plot(x, answers.prediction[:, 0], color=INK, linewidth=1.4, label="mixture", zorder=4)
    axes.set_ylim(low - margin, high + margin)
    axes.set_ylabel(plain_text(labels[0], 30))
    note = "  (thick: where it counts, dashed: elsewhere)" if answers.experts is not None else ""
    axes.set_title(f"Each expert's own answer{note}", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=8.5, ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_probabilities(axes: Axes, found: FileDiagnosis, x: npt.NDArray[np.float64], answers: MixtureAnswers) -> None:
    labels = found.manifest.schema.labels
    styles = ("-", "--", "-.", ":")
    for code, label in enumerate(labels[:_MOST_CLASSES]):
        axes.plot(
            x,
            answers.prediction[:, code],
            color=INK,
            linestyle=styles[code % 4],
            linewidth=1 + code // 4,
            label=plain_text(label, 20),
        )
    if found.target is not None:
        rows = _some(len(found.features))
        codes = np.asarray(found.target, dtype=np.int64)[rows]
        values = found.features.reshape(len(found.features), -1)[rows, 0]
        for code in range(min(len(labels), _MOST_CLASSES)):
            there = values[codes == code]
            axes.plot(there, np.full(len(there), -0.05 - 0.05 * code), "|", color=FAINT, markersize=6)
    for index in range(answers.weights.shape[1]):
        axes.plot([], [], color=expert_colour(index), linewidth=6, alpha=0.75, label=f"expert {index}")
    axes.set_ylabel("probability by the mixture")
    axes.set_title("The mixture's answer, and which experts give it", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))


# Two columns ------------------------------------------------------------------------------------------------------


def _draw_plane(found: FileDiagnosis, partition: InputPartition) -> Figure:
    best = None
    if found.target is not None and found.answers.experts is not None:
        errors = squared_errors(found.answers.experts, found.target, found.manifest.task)
        best = best_experts(found.answers.weights, errors)
    panels = 2 if best is None else 3
    figure = new_figure(4.3 * panels + 0.9, 4.5)
    axes = figure.subplots(1, panels, sharex=True, sharey=True)
    _draw_regions(axes[0], partition)
    _draw_answer(figure, axes[1], found, partition)
    points = _points(found)
    rows = _some(len(points))
    axes[0].scatter(points[rows, 0], points[rows, 1], s=3, color=INK, alpha=0.35, linewidths=0)
    if best is not None:
        colours = [expert_colour(index) for index in best[rows]]
        axes[2].scatter(points[rows, 0], points[rows, 1], s=9, c=colours, alpha=0.85, linewidths=0)
        axes[2].set_title("Best expert for each row", fontsize=11, color=INK)
    for place, one in enumerate(axes):
        one.set_xlabel(plain_text(partition.columns[0], 30))
        if place == 0:
            one.set_ylabel(plain_text(partition.columns[1], 30))
        one.set_xlim(partition.axes[0][[0, -1]])
        one.set_ylim(partition.axes[1][[0, -1]])
    experts = partition.answers.weights.shape[1]
    handles = [
        Line2D([], [], marker="s", markersize=8, linestyle="", color=expert_colour(index), label=f"expert {index}")
        for index in range(min(experts, len(EXPERT_COLOURS)))
    ]
    if experts <= len(EXPERT_COLOURS):
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _draw_regions(axes: Axes, partition: InputPartition) -> None:
    """Each point in the colour of its strongest expert, the paler the less the gate is sure."""
    shape = tuple(len(axis) for axis in partition.axes)
    weights = partition.answers.weights.astype(np.float64)
    experts = weights.shape[1]
    strongest, largest = weights.argmax(axis=1), weights.max(axis=1)
    colours = np.array([to_rgb(expert_colour(index)) for index in range(experts)])
    depth = 0.2 + 0.65 * np.clip((largest - 1 / experts) / (1 - 1 / experts), 0, 1)
    image = 1 - depth[:, None] * (1 - colours[strongest])
    x, y = partition.axes
    # Rows of an image run along y.
    axes.imshow(
        image.reshape(*shape, 3).transpose(1, 0, 2),
        origin="lower",
        extent=(x[0], x[-1], y[0], y[-1]),
        aspect="auto",
        interpolation="nearest",
    )
    regions = strongest.reshape(shape).T
    for index in np.unique(regions):
        inside = regions == index
        if inside.any() and not inside.all():
            axes.contour(x, y, inside.astype(float), levels=[0.5], colors="white", linewidths=1.1)
        _name_region(axes, partition, inside, f"expert {index}")
    axes.set_title("Expert that the gate gives most  (pale: unsure)", fontsize=11, color=INK)


def _draw_answer(figure: Figure, axes: Axes, found: FileDiagnosis, partition: InputPartition) -> None:
    shape = tuple(len(axis) for axis in partition.axes)
    labels = found.manifest.schema.labels
    x, y = partition.axes
    points, rows = _points(found), _some(len(found.features))
    if found.manifest.task is Task.REGRESSION:
        values = partition.answers.prediction[:, 0].reshape(shape).T
        truth = None
        if found.target is not None:
            truth = np.asarray(found.target, dtype=np.float64).reshape(len(points), -1)[rows, 0]
        # One scale for answers and truth, so that a colour that stands out is an error.
        seen = values.ravel() if truth is None else np.concatenate([values.ravel(), truth])
        low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
        norm = Normalize(low, high)
        filled = axes.contourf(x, y, values, levels=MaxNLocator(16).tick_values(low, high), cmap="cividis", norm=norm)
        figure.colorbar(filled, ax=axes, label=plain_text(labels[0], 30), shrink=0.9)
        if truth is not None:
            u, v = points[rows].T
            axes.scatter(u, v, c=truth, s=10, cmap="cividis", norm=norm, edgecolor="white", linewidths=0.3)
        axes.set_title(
            f"The mixture's answer{'; rows: the truth' if found.target is not None else ''}", fontsize=11, color=INK
        )
        return
    codes = partition.answers.prediction.argmax(axis=1).reshape(shape).T
    greys = ListedColormap([str(0.95 - 0.4 * code / max(len(labels) - 1, 1)) for code in range(len(labels))])
    axes.pcolormesh(x, y, codes, cmap=greys, vmin=-0.5, vmax=len(labels) - 0.5, shading="nearest", rasterized=True)
    for code in np.unique(codes):
        inside = codes == code
        _name_region(axes, partition, inside, plain_text(labels[code], 16))
    title = "The mixture's answer"
    if found.target is not None:
        wrong = found.answers.prediction.argmax(axis=1) != np.asarray(found.target, dtype=np.int64)
        for mask, colour, size in ((~wrong, INK, 3), (wrong, "#D55E00", 16)):
            chosen = rows[mask[rows]]
            axes.scatter(
                points[chosen, 0],
                points[chosen, 1],
                s=size,
                color=colour,
                alpha=0.4 if size < 10 else 0.9,
                linewidths=0,
            )
        title += "  (large orange: wrong)"
    axes.set_title(title, fontsize=11, color=INK)


def _name_region(axes: Axes, partition: InputPartition, inside: npt.NDArray[np.bool_], name: str) -> None:
    """Write a name well inside each connected piece of a region, which need not hold its own centre."""
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "alpha": 0.82, "linewidth": 0}
    x, y = partition.axes
    pieces, count = ndimage.label(inside)
    for number in range(1, count + 1):
        piece = pieces == number
        if piece.mean() < _LEAST_SHOWN:
            continue
        depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        axes.text(float(x[column]), float(y[row]), name, ha="center", va="center", fontsize=9, color=INK, bbox=box)


def _points(found: FileDiagnosis) -> npt.NDArray[np.float64]:
    return found.features.reshape(len(found.features), -1).astype(np.float64)


def _some(count: int) -> npt.NDArray[np.intp]:
    """At most so many rows, evenly over the table: more would be one blot."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(np.intp))
