"""A hierarchy of gates as a tree: lines as thick as the rows that take them.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from moe_edge.hierarchy import GateTree
from moe_edge.pictures.canvas import INK, new_figure, save_figure
from moe_edge.pictures.partition import expert_colour

_MOST_TEXTS = 24
"""Experts up to which each line carries its share."""


def draw_gate_tree(tree: GateTree, usage: Sequence[float], path: Path) -> Path:
    """Draw the tree from the root down to the experts.

    Args:
        tree: The gates.
        usage: Mean weight of each expert.
        path: The PNG to write.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    places = _lay_out(tree)
    figure = new_figure(min(14.0, max(5.0, 1.15 * tree.num_experts + 1.0)), 1.2 + 1.15 * tree.depth)
    axes = figure.add_subplot()
    axes.axis("off")
    for node, branches in enumerate(tree.nodes):
        x, y = places["gate", node]
        for number, branch in enumerate(branches):
            child = ("expert", branch.expert) if branch.gate is None else ("gate", branch.gate)
            to_x, to_y = places[child]  # type: ignore[index]
            share = sum(usage[expert] for expert in tree.experts_below(node, number))
            colour = expert_colour(branch.expert) if branch.expert is not None else "#8a8a8a"
            axes.plot(
                [x, to_x],
                [y, to_y],
                color=colour,
                linewidth=0.8 + 13 * share,
                alpha=0.8,
                zorder=1,
                solid_capstyle="round",
            )
            if tree.num_experts <= _MOST_TEXTS:
                _write(axes, 0.45 * x + 0.55 * to_x, 0.45 * y + 0.55 * to_y, f"{share:.0%}", edge="white", size=8.5)
    for node in range(len(tree.nodes)):
        _write(axes, *places["gate", node], f"gate_{node}", edge=INK)
    for expert in range(tree.num_experts):
        _write(axes, *places["expert", expert], f"expert {expert}", edge=expert_colour(expert))
    axes.set_xlim(-0.6, tree.num_experts - 0.4)
    axes.set_ylim(-tree.depth - 0.3, 0.3)
    axes.set_title("The hierarchy of gates, and the share of weight on each branch", fontsize=11, color=INK)
    return save_figure(figure, path)


def _lay_out(tree: GateTree) -> dict[tuple[str, int], tuple[float, float]]:
    """Experts side by side in the tree's order, each gate above the middle of what it leads to."""
    places: dict[tuple[str, int], tuple[float, float]] = {}

    def visit(node: int, depth: int) -> float:
        columns = []
        for branch in tree.nodes[node]:
            if branch.gate is not None:
                columns.append(visit(branch.gate, depth + 1))
            elif branch.expert is not None:
                column = float(sum(kind == "expert" for kind, _ in places))
                places["expert", branch.expert] = (column, -float(depth + 1))
                columns.append(column)
        middle = sum(columns) / len(columns)
        places["gate", node] = (middle, -float(depth))
        return middle

    visit(0, 0)
    return places


def _write(axes: Axes, x: float, y: float, text: str, *, edge: str, size: float = 9.5) -> None:
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=size,
        color=INK,
        zorder=3,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": edge, "linewidth": 1.4},
    )
