"""How the gallery's panels are drawn: every number comes from the ``.tflite``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jobs import Job, Picture
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import SubFigure

from moe_edge import Predictor
from moe_edge.pictures.canvas import FAINT, INK, PALETTE, VERMILION, hide_frame, new_figure, save_figure

_GRID = 110
_SIZES = {"classes": 2.6, "regions": 2.5, "line": 2.9, "windows": 2.9, "images": 1.5}
"""Height of a panel, inches."""
_WIDTHS = {"classes": 2.6, "regions": 2.2}
"""Width of a panel with equal axes, inches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A mixture that was trained and converted.

    Attributes:
        job: What it is.
        path: The ``.tflite``.
        x: Held-out rows, float32 (n, d).
        y: Their targets: codes (n,) or numbers (n, 1).
        score: ``97.2 % right`` or ``RMSE 0.21``, of the file on these rows.
    """

    job: Job
    path: Path
    x: np.ndarray
    y: np.ndarray
    score: str


def draw_picture(picture: Picture, made: list[Made], path: Path) -> Path:
    """Draw one picture to a PNG of few bytes."""
    rows = -(-len(made) // picture.columns)
    width = 7.5 if picture.columns == 1 else min(10.5, _WIDTHS.get(picture.style, 3.5) * picture.columns)
    figure = new_figure(width, rows * _SIZES[picture.style] + 0.15)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr]
    panels = np.ravel(figure.subfigures(rows, picture.columns))
    for panel, each in zip(panels, made, strict=False):
        with Predictor(each.path, mode="auto" if "--top-k" in each.job.options else "dense") as predictor:
            _DRAW[picture.style](panel, each, predictor)
    return save_figure(figure, path, colours=160, dpi=120)


def _name(axes: Axes, made: Made) -> None:
    axes.set_title(made.job.name + "\n", loc="left", fontsize=9.5, fontweight="bold", color=INK)
    under = f"{made.score}, {made.path.stat().st_size:,} bytes"
    axes.text(0, 1.03, under, transform=axes.transAxes, fontsize=8, color="#5c5c5c")


def _plane(made: Made, predictor: Predictor) -> tuple[dict[str, np.ndarray], tuple[float, float, float, float]]:
    reach = float(np.abs(made.x).max()) * 1.04
    side = np.linspace(-reach, reach, _GRID, dtype=np.float32)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(side, side)], axis=1)
    raw = predictor.predict_raw(grid)
    return {key: raw[key].reshape(_GRID, _GRID, -1) for key in ("prediction", "routing_weights")}, (
        (-reach, reach, -reach, reach)
    )


def _tidy_plane(axes: Axes, made: Made) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    _name(axes, made)


def _draw_classes(panel: SubFigure, made: Made, predictor: Predictor) -> None:
    axes = panel.subplots()
    raw, extent = _plane(made, predictor)
    colours = ListedColormap(PALETTE[: raw["prediction"].shape[2]])
    shown = {"cmap": colours, "vmin": -0.5, "vmax": colours.N - 0.5}
    axes.imshow(raw["prediction"].argmax(axis=2), origin="lower", extent=extent, alpha=0.42, **shown)
    favourite = raw["routing_weights"].argmax(axis=2)
    for expert in range(raw["routing_weights"].shape[2] - 1):
        if 0 < (favourite == expert).sum() < favourite.size:
            axes.contour(favourite == expert, [0.5], colors="white", linewidths=1.6, extent=extent)
    axes.scatter(made.x[:, 0], made.x[:, 1], c=made.y, s=7, edgecolors="white", linewidths=0.25, **shown)
    _tidy_plane(axes, made)


def _draw_regions(panel: SubFigure, made: Made, predictor: Predictor) -> None:
    axes = panel.subplots()
    raw, extent = _plane(made, predictor)
    weights = raw["routing_weights"]
    colours = np.asarray([_rgb(PALETTE[index]) for index in range(weights.shape[2])])
    # From white, where all experts weigh alike, to the favourite's colour.
    even = 1 / weights.shape[2]
    sure = np.clip((weights.max(axis=2, keepdims=True) - even) / (1 - even), 0, 1) * 0.85
    axes.imshow(1 - sure * (1 - colours[weights.argmax(axis=2)]), origin="lower", extent=extent)
    axes.scatter(made.x[:, 0], made.x[:, 1], s=4, color=INK, alpha=0.6, linewidth=0)
    _tidy_plane(axes, made)


def _draw_line(panel: SubFigure, made: Made, predictor: Predictor) -> None:
    axes, strip = panel.subplots(2, 1, sharex=True, height_ratios=(3.6, 1))
    grid = np.linspace(made.x.min(), made.x.max(), 400, dtype=np.float32)
    raw = predictor.predict_raw(grid[:, None])
    weights, means = raw["routing_weights"], raw["expert_means"][:, :, 0]
    order = np.argsort((weights * grid[:, None]).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-9))
    weights, means = weights[:, order], means[:, order]
    axes.scatter(made.x[:, 0], made.y[:, 0], s=6, color=FAINT, alpha=0.8, linewidth=0)
    if made.job.quantiles:
        low, middle, high = predictor.predict_quantiles(grid[:, None])[:, :, 0].T
        axes.fill_between(grid, low, high, color=PALETTE[0], alpha=0.2, linewidth=0)
        axes.plot(grid, middle, color=PALETTE[0], linewidth=1.5)
        for curve, text in ((low, "5 %"), (middle, "50 %"), (high, "95 %")):
            axes.annotate(
                text, (grid[-1], curve[-1]), (3, -3), textcoords="offset points", fontsize=8, color=PALETTE[0]
            )
        inside = np.mean(
            (made.y[:, 0] >= np.interp(made.x[:, 0], grid, low)) & (made.y[:, 0] <= np.interp(made.x[:, 0], grid, high))
        )
        axes.text(
            0.5,
            0.9,
            f"{inside:.0%} of the held-out rows lie in the band",
            transform=axes.transAxes,
            fontsize=8.5,
            ha="center",
            color=INK,
        )
    else:
        favourite = weights.argmax(axis=1)
        for index in range(weights.shape[1]):
            own = np.where(favourite == index, means[:, index], np.nan)
            axes.plot(grid, own, color=PALETTE[index], linewidth=5, alpha=0.5, solid_capstyle="butt")
        axes.plot(grid, raw["prediction"][:, 0], color=INK, linewidth=1.1)
    strip.stackplot(grid, weights.T, colors=PALETTE[: weights.shape[1]], alpha=0.8, linewidth=0)
    strip.set_ylim(0, 1)
    strip.set_yticks([0, 1])
    strip.set_xlim(float(grid[0]), float(grid[-1]))
    strip.set_xlabel("dose (mg)", fontsize=8.5)
    axes.set_ylabel("reading (mV)", fontsize=8.5)
    strip.set_ylabel("gate", fontsize=8.5)
    for each in (axes, strip):
        each.tick_params(labelsize=8)
        hide_frame(each)
    _name(axes, made)


def _draw_windows(panel: SubFigure, made: Made, predictor: Predictor) -> None:
    axes = panel.subplots()
    classes = len(predictor.labels)
    rows = np.asarray([np.flatnonzero(made.y == code)[0] for code in range(classes)])
    raw = predictor.predict_raw(made.x[rows])
    for place, (row, chances, weights) in enumerate(zip(rows, raw["prediction"], raw["routing_weights"], strict=True)):
        colour = PALETTE[int(weights.argmax())]
        samples = made.x[row].ravel()
        axes.plot(samples / 3.2 - place, color=colour, linewidth=1.6)
        text = (
            f"{predictor.labels[chances.argmax()]} {chances.max():.0%}\nexpert_{weights.argmax()} {weights.max():.0%}"
        )
        axes.text(len(samples) + 0.3, -place, text, fontsize=8, va="center", color=INK)
    axes.set_xlim(-0.5, 1.42 * made.x[0].size)
    axes.set_yticks([])
    axes.set_xticks([0, 12, 23])
    axes.tick_params(labelsize=8)
    axes.set_xlabel("sample", fontsize=8.5, loc="left")
    hide_frame(axes, ("top", "right", "left"))
    _name(axes, made)


def _draw_images(panel: SubFigure, made: Made, predictor: Predictor) -> None:
    across = panel.subplots(1, 10)
    rows = np.asarray([np.flatnonzero(made.y == code)[0] for code in range(10)])
    raw = predictor.predict_raw(made.x[rows])
    for axes, row, chances, weights in zip(across, rows, raw["prediction"], raw["routing_weights"], strict=True):
        axes.imshow(made.x[row].reshape(8, 8), cmap="gray_r")
        axes.set_xticks([])
        axes.set_yticks([])
        answer, truth = int(chances.argmax()), int(made.y[row])
        wrong = answer != truth
        text = f"{predictor.labels[answer]} (is {predictor.labels[truth]})" if wrong else predictor.labels[answer]
        axes.set_title(text, fontsize=9, color=VERMILION if wrong else INK)
        axes.set_xlabel(f"expert_{weights.argmax()}\n{weights.max():.0%}", fontsize=7.5)
        for spine in axes.spines.values():
            spine.set_edgecolor(PALETTE[int(weights.argmax())])
            spine.set_linewidth(3)
    under = f"{made.job.name}: {made.score}, {made.path.stat().st_size:,} bytes"
    panel.suptitle(under, fontsize=9.5, fontweight="bold", color=INK, x=0.02, ha="left")


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


_DRAW: dict[str, Any] = {
    "classes": _draw_classes,
    "regions": _draw_regions,
    "line": _draw_line,
    "windows": _draw_windows,
    "images": _draw_images,
}
