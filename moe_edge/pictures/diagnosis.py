"""What a diagnosis shows: experts' use and scores, the gate's sharpness, and who is best where the gate sends rows.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from moe_edge.diagnosis import BINS, COLLAPSED, Diagnosis, ExpertScores
from moe_edge.pictures.canvas import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    hide_frame,
    new_figure,
    plain_text,
    save_figure,
)
from moe_edge.pictures.heatmaps import draw_counts
from moe_edge.routing_summary import CLOSE_MARGIN

MOST_EXPERTS = 32
"""Experts drawn one by one; of a larger mixture the most used ones."""


def draw_experts(diagnosis: Diagnosis, path: Path, *, unit: str = "") -> Path:
    """Draw each expert's mean weight and, where known, its own scores beside the mixture's.

    Args:
        diagnosis: What to draw.
        path: The PNG to write.
        unit: The target's name, for the axis of an error.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    drawn = drawn_experts(diagnosis.usage)
    scores = diagnosis.scores
    panels = 1 if scores is None else 2
    figure = new_figure(5.2 * panels + 0.6, max(2.6, 1.5 + 0.34 * len(drawn)))
    axes = figure.add_subplot(1, panels, 1)
    _draw_usage(axes, diagnosis, drawn)
    if scores is not None:
        _draw_scores(figure.add_subplot(1, panels, 2, sharey=axes), scores, drawn, unit)
    return save_figure(figure, path)


def draw_routing(diagnosis: Diagnosis, path: Path) -> Path:
    """Draw how sharp the gate is: histograms of a row's entropy and of the margin of its two strongest experts.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    figure = new_figure(10.4, 3.4)
    edges = np.linspace(0, 1, BINS + 1)
    experts = len(diagnosis.usage)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    left.stairs(diagnosis.entropy_histogram, edges, fill=True, color=SKY)
    mean = diagnosis.mean_entropy / np.log(experts)
    left.axvline(mean, color=INK, linewidth=1.2)
    left.set_title(
        f"Entropy of the gate: a row needs {diagnosis.effective_per_row:.1f} experts", fontsize=11, color=INK
    )
    left.set_xlabel(f"entropy / log {experts}:  0 = one expert,  1 = all {experts} alike;  line: mean")
    right.stairs(diagnosis.margin_histogram, edges, fill=True, color=SKY)
    right.axvspan(0, CLOSE_MARGIN, color=ORANGE, alpha=0.25, linewidth=0)
    right.set_title("Margin of the gate's two strongest experts", fontsize=11, color=INK)
    right.set_xlabel("difference of their weights;  shaded: close calls")
    for axes in (left, right):
        axes.set_ylabel("rows")
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        hide_frame(axes)
    return save_figure(figure, path)


def draw_best_experts(scores: ExpertScores, usage: Sequence[float], path: Path) -> Path:
    """Draw which expert is best for the rows that the gate gives to each.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    drawn = drawn_experts(usage)
    counts = np.asarray(scores.best_rows, dtype=np.int64)[np.ix_(drawn, drawn)]
    names = [f"{index}" for index in drawn]
    return draw_counts(
        counts,
        names,
        path,
        title=f"The gate's choice is the best expert for {scores.gate_picks_best:.0%} of the rows",
        row_title="expert that the gate gives most",
        column_title="expert with the smallest error",
    )


def drawn_experts(usage: Sequence[float]) -> list[int]:
    """The most used experts, by index."""
    order = sorted(range(len(usage)), key=lambda index: (-usage[index], index))
    return sorted(order[:MOST_EXPERTS])


def _draw_usage(axes: Axes, diagnosis: Diagnosis, drawn: Sequence[int]) -> None:
    shares = [diagnosis.usage[index] for index in drawn]
    places = np.arange(len(drawn))
    dead = [index in diagnosis.collapsed for index in drawn]
    axes.barh(places, shares, height=0.64, color=[VERMILION if one else BLUE for one in dead])
    total = len(diagnosis.usage)
    axes.axvline(1 / total, color=FAINT, linewidth=1, linestyle="--", zorder=0)
    axes.set_yticks(places, [f"expert {index}" for index in drawn])
    axes.invert_yaxis()
    axes.set_xlim(0, max(*shares, 1 / total) * 1.18)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    for place, (share, one) in enumerate(zip(shares, dead, strict=True)):
        text = f"{share:.1%}" + (f"  collapsed (< {COLLAPSED:.0%} of an even share)" if one else "")
        box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0}
        axes.annotate(
            text, (share, place), (3, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK, bbox=box
        )
    used = f"{diagnosis.effective_experts:.1f} of {total} experts in use"
    axes.set_title(f"Use of each expert: {used}", fontsize=11, color=INK)
    axes.set_xlabel(f"mean gate weight over {diagnosis.num_rows:,} rows;  dashed: an even share")
    hide_frame(axes)


def _draw_scores(axes: Axes, scores: ExpertScores, drawn: Sequence[int], unit: str) -> None:
    places = np.arange(len(drawn))
    alone = [scores.alone[index] for index in drawn]
    own = [_or_nan(scores.own_rows[index]) for index in drawn]
    there = [_or_nan(scores.mixture_there[index]) for index in drawn]
    for place, first, second in zip(places, alone, own, strict=True):
        axes.plot([first, second], [place, place], color="#d0d0d0", linewidth=2, zorder=1)
    axes.axvline(scores.mixture, color=GREEN, linewidth=1.4, label="mixture, all rows")
    axes.scatter(
        there, places, marker="|", s=150, linewidths=2.2, color=GREEN, zorder=3, label="mixture, expert's rows"
    )
    axes.scatter(
        alone,
        places,
        marker="o",
        s=42,
        facecolor="white",
        edgecolor=ORANGE,
        linewidths=1.6,
        zorder=2,
        label="expert alone, all rows",
    )
    axes.scatter(own, places, marker="o", s=42, color=ORANGE, zorder=4, label="expert, on its own rows")
    axes.tick_params(labelleft=False)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    if scores.metric == "accuracy":
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("accuracy, more is better")
    elif scores.metric == "rmse":
        axes.set_xlabel(f"RMSE of {plain_text(unit)}, less is better" if unit else "RMSE, less is better")
    else:
        axes.set_xlabel("error in standard deviations of the targets (RMS), less is better")
    title = f"Mixture {_shown(scores, scores.mixture)}, best single expert for each row {_shown(scores, scores.oracle)}"
    axes.set_title(title, fontsize=11, color=INK)
    figure = axes.figure
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False, fontsize=8.5)
    hide_frame(axes)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _shown(scores: ExpertScores, value: float) -> str:
    return f"{value:.1%}" if scores.metric == "accuracy" else f"{value:.3g}"


def group_means(diagnosis: Diagnosis) -> npt.NDArray[np.float64]:
    """Mean weights (groups, E)."""
    return np.asarray(diagnosis.usage_by_group, dtype=np.float64)
