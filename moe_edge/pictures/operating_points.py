"""The ways to run a model: score against time and against memory, or time alone.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moe_edge.pictures.canvas import BLUE, INK, PALETTE, hide_frame, new_figure, plain_text, save_figure

Point = tuple[str, float, "int | None", "float | None"]
"""Name, microseconds a call, anonymous bytes, score."""


def draw_points(points: Sequence[Point], path: Path, *, score_name: str = "accuracy") -> Path:
    """Draw the score against time and against memory; without scores, bars of the time.

    Raises:
        ValueError: If there are no points.
        MoeEdgeError: If ``path`` can't be written.
    """
    if not points:
        raise ValueError("expected at least one point, got none")
    scored = [point for point in points if point[3] is not None]
    if not scored:
        return _draw_bars(points, path)
    figure = new_figure(11.0, 4.8)
    panels = [("time a call, µs", 1)]
    if any(point[2] for point in scored):
        panels.append(("anonymous memory, KiB", 2))
    row_of_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, place) in zip(row_of_axes, panels, strict=True):
        for index, point in enumerate(scored):
            value = point[place]
            if not isinstance(value, (int, float)) or value <= 0:
                continue  # a logarithmic axis has no zero
            across = value if place == 1 else value / 1024
            # One mark a point and a legend: names written at close points would cover each other.
            axes.plot(
                [across],
                [point[3]],
                "osD^vP"[index // len(PALETTE) % 6],
                color=PALETTE[index % len(PALETTE)],
                markersize=8,
                label=plain_text(point[0], 32),
            )
        axes.set_xscale("log")
        axes.set_xlabel(title, color=INK)
        axes.grid(visible=True, alpha=0.25)
        hide_frame(axes)
    row_of_axes[0].set_ylabel(score_name, color=INK)
    handles, labels = row_of_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    return save_figure(figure, path)


def _draw_bars(points: Sequence[Point], path: Path) -> Path:
    figure = new_figure(9.0, 1.2 + 0.38 * len(points))
    axes = figure.subplots()
    values = [point[1] for point in points]
    bars = axes.barh(range(len(points)), values, color=BLUE, height=0.62)
    axes.bar_label(bars, labels=[f"{value:,.1f}" for value in values], padding=3, fontsize=8.5, color=INK)
    axes.set_xlim(0, max([*values, 1e-9]) * 1.2)
    axes.set_yticks(range(len(points)), [plain_text(point[0], 40) for point in points])
    axes.set_xticks([])
    axes.set_title("time a call, µs", fontsize=10, color=INK)
    axes.invert_yaxis()
    hide_frame(axes, ("top", "right", "bottom"))
    return save_figure(figure, path)
