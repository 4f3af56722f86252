"""Heat maps: which experts speak for which class, and where the file and Keras give different labels.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from moe_edge.pictures.canvas import INK, SKY, new_figure, plain_text, save_figure, tick_step

MOST_CELL_TEXTS = 400
"""Cells that get their number written; more would not be readable."""
MOST_CELL_COLUMNS = 16


def draw_usage_by_class(
    routing_weights: npt.ArrayLike,
    classes: npt.ArrayLike,
    labels: Sequence[str],
    path: Path,
    *,
    row_title: str = "class",
) -> Path:
    """Draw the mean gate weight of each expert over the rows of each class.

    Args:
        routing_weights: Shape (rows, num_experts).
        classes: Codes into ``labels``, shape (rows,). For a regression: codes of the target's quarters.
        labels: Names of the classes.
        path: The PNG to write.
        row_title: What the rows of the map are.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    weights = np.asarray(routing_weights, dtype=np.float64)
    codes = np.asarray(classes)
    present = [code for code in range(len(labels)) if (codes == code).any()]
    means = np.array([weights[codes == code].mean(axis=0) for code in present])
    return draw_usage(means, [labels[code] for code in present], path, row_title=row_title)


def draw_usage(
    means: npt.NDArray[np.float64],
    names: Sequence[str],
    path: Path,
    *,
    row_title: str = "class",
    title: str = "Which experts speak for which class",
) -> Path:
    """Draw the mean gate weight of each expert for each group of rows.

    Args:
        means: Shape (groups, num_experts).
        names: Names of the groups.
        path: The PNG to write.
        row_title: What the rows of the map are.
        title: Heading.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    figure = new_figure(min(12.0, max(5.2, 2.2 + 0.62 * means.shape[1])), 1.6 + 0.36 * len(names))
    axes = figure.add_subplot()
    experts = [f"{index}" for index in range(means.shape[1])]
    _heat_map(figure, axes, means, names, experts, colours="Blues", unit="mean gate weight")
    axes.set_xlabel("expert")
    axes.set_ylabel(plain_text(row_title, 30))
    axes.set_title(title, fontsize=11, color=INK)
    if means.size <= MOST_CELL_TEXTS and means.shape[1] <= MOST_CELL_COLUMNS:
        _write_cells(axes, means, [[f"{value:.2f}" for value in row] for row in means], means.max() / 2)
    return save_figure(figure, path)


def draw_counts(
    counts: npt.NDArray[np.int64],
    names: Sequence[str],
    path: Path,
    *,
    title: str,
    row_title: str,
    column_title: str,
) -> Path:
    """Draw a square table of counts, each row's cells coloured by their share of it.

    Args:
        counts: Shape (names, names).
        names: Names of rows and columns.
        path: The PNG to write.
        title: Heading.
        row_title: What the rows are.
        column_title: What the columns are.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(9.5, max(3.4, 1.9 + 0.5 * len(names)))
    figure = new_figure(side + 1.6, side)
    axes = figure.add_subplot()
    _heat_map(figure, axes, shares, names, names, colours="Blues", unit="share of the line's rows")
    axes.set_xlabel(column_title)
    axes.set_ylabel(row_title)
    axes.set_title(title, fontsize=11, color=INK)
    if len(names) <= MOST_CELL_COLUMNS:
        _write_cells(axes, shares, [[f"{count:,}" if count else "" for count in row] for row in counts], 0.5)
    return save_figure(figure, path)


def draw_confusion(
    keras_codes: npt.ArrayLike, tflite_codes: npt.ArrayLike, labels: Sequence[str], path: Path, *, scheme: str
) -> Path:
    """Draw how often the file answers one label where Keras answers another.

    Rows that agree lie on the diagonal; colours show rows that don't, so that a single one is seen among thousands.

    Args:
        keras_codes: Labels that Keras gave, as codes, shape (rows,).
        tflite_codes: Labels that the file gave, shape (rows,).
        labels: Names of the classes.
        path: The PNG to write.
        scheme: The file's scheme, for the title.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (np.asarray(keras_codes), np.asarray(tflite_codes)), 1)
    different = counts.astype(np.float64)
    np.fill_diagonal(different, 0)
    side = min(9.0, 2.6 + 0.42 * len(labels))
    figure = new_figure(side + 0.6, side)
    axes = figure.add_subplot()
    _heat_map(
        figure, axes, different, labels, labels, colours="Oranges", unit="rows with different labels", counted=True
    )
    # Rows that agree get a pale mark of their own, where there are too many classes for numbers.
    for code in np.flatnonzero(np.diag(counts)):
        axes.add_patch(Rectangle((code - 0.5, code - 0.5), 1, 1, facecolor=SKY, alpha=0.35, linewidth=0))
    axes.set_xlabel(f"label by the {scheme} file")
    axes.set_ylabel("label by Keras")
    changed = int(different.sum())
    axes.set_title(f"{counts.sum() - changed} of {counts.sum()} rows get the same label", fontsize=11, color=INK)
    if counts.size <= MOST_CELL_TEXTS:
        texts = [[str(count) if count else "" for count in row] for row in counts]
        _write_cells(axes, different, texts, max(1.0, different.max()) / 2)
    return save_figure(figure, path)


def _heat_map(
    figure: Figure,
    axes: Axes,
    values: npt.NDArray[np.float64],
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    colours: str,
    unit: str,
    counted: bool = False,
) -> None:
    image = axes.imshow(values, cmap=colours, vmin=0, vmax=max(float(values.max()), 1e-9), aspect="auto")
    names = [plain_text(name, 14) for name in column_names]
    step = tick_step(len(names))
    axes.set_xticks(range(0, len(names), step), names[::step])
    if max(len(name) for name in names) > 3:
        axes.tick_params(axis="x", rotation=45)
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")
            tick.set_rotation_mode("anchor")
    step = tick_step(len(row_names), 30)
    axes.set_yticks(range(0, len(row_names), step), [plain_text(name, 18) for name in row_names][::step])
    axes.set_xticks(np.arange(-0.5, values.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, values.shape[0]), minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    bar = figure.colorbar(image, ax=axes, label=unit, shrink=0.85)
    if values.max() == 0:
        bar.set_ticks([0])  # nothing to scale: ticks of 1e-9 would puzzle
    elif counted:
        bar.locator = MaxNLocator(integer=True)
        bar.update_ticks()


def _write_cells(axes: Axes, values: npt.NDArray[np.float64], texts: Sequence[Sequence[str]], dark_from: float) -> None:
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            colour = "white" if values[row, column] > dark_from * 1.2 else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
