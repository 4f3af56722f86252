"""Pictures of gates that are trees: a hierarchy of gates, and the questions of a decision tree.

Layer: desktop (pictures).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from moe_edge.diagnosis_subject import SplitNode
from moe_edge.hierarchy import GateTree
from moe_edge.pictures.canvas import FAINT, INK, expert_colour, new_figure, plain_text, readable_on, save_figure

MOST_LEVELS = 5
"""Levels of questions that a picture has room for; what is deeper is said to be there."""
_LEAF_HEIGHT = 0.5
"""Inches."""


@dataclass(eq=False)
class _Box:
    """A node to draw, with its place once that is known.

    Attributes:
        text: What stands in it.
        share: How much comes here, in [0, 1].
        colour: Its face.
        below: Its children, each with what stands on the line to it.
    """

    text: str
    share: float
    colour: str = "white"
    below: list[tuple[str, _Box]] = field(default_factory=list)
    place: float = 0.0

    def arrange(self, leaves: int = 0) -> int:
        """Give places to all leaves from the top down, and to what is above them their middle."""
        if not self.below:
            self.place = float(leaves)
            return leaves + 1
        for _, child in self.below:
            leaves = child.arrange(leaves)
        self.place = float(np.mean([child.place for _, child in self.below]))
        return leaves

    @property
    def depth(self) -> int:
        """Levels below."""
        return 1 + max(child.depth for _, child in self.below) if self.below else 0


def draw_gate_tree(tree: GateTree, shares: tuple[float, ...], path: Path) -> Path:
    """Draw a hierarchy of gates, lines as thick as the branches' mean weight.

    Args:
        tree: The tree.
        shares: Mean weight of each expert.
        path: The PNG to write.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
        ValueError: If there isn't a share for each expert.
    """
    if len(shares) != tree.num_experts:
        raise ValueError(f"expected a share for each of {tree.num_experts} experts, got {len(shares)}")

    def gate(number: int) -> _Box:
        below = []
        for branch in tree.nodes[number]:
            if branch.gate is not None:
                below.append(gate(branch.gate))
            elif branch.expert is not None:
                share = shares[branch.expert]
                below.append(_Box(f"expert_{branch.expert}: {share:.0%}", share, expert_colour(branch.expert)))
        share = sum(child.share for child in below)
        return _Box(f"gate_{number}: {share:.0%}", share, below=[("", child) for child in below])

    return _draw(gate(0), path, title="The tree of gates: lines are as wide as a branch's mean weight", level_width=1.9)


def draw_splits(root: SplitNode, path: Path) -> Path:
    """Draw a decision tree's questions, lines as thick as the rows that go there; leaves in their expert's colour.

    Args:
        root: The tree; levels beyond ``MOST_LEVELS`` are only counted.
        path: The PNG to write.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    total = max(1, root.rows)

    def box(node: SplitNode, level: int) -> _Box:
        share = node.rows / total
        if node.yes is None or node.no is None:
            best = int(np.argmax(node.weights))
            text = f"expert_{best} {node.weights[best]:.0%}\n{node.rows:,} rows"
            return _Box(text, share, expert_colour(best))
        question = plain_text(node.question, 26)
        if level == MOST_LEVELS:
            return _Box(f"{question}\n{node.rows:,} rows\n… {node.depth} deeper", share, "#eeeeee")
        below = [("yes", box(node.yes, level + 1)), ("no", box(node.no, level + 1))]
        return _Box(f"{question}\n{node.rows:,} rows", share, below=below)

    return _draw(
        box(root, 0),
        path,
        title="What the gate asks (yes above, no below): lines are as wide as the rows that go there",
        level_width=1.9,
    )


def _draw(root: _Box, path: Path, *, title: str, level_width: float) -> Path:
    """From left to right: however many leaves there are, the print keeps its size and the page its width."""
    leaves, depth = root.arrange(), root.depth
    figure = new_figure(max(5.0, level_width * (depth + 1)), 0.7 + _LEAF_HEIGHT * leaves)
    axes = figure.add_subplot()
    axes.axis("off")
    _draw_box(axes, root, 0)
    axes.set_xlim(-0.45, depth + 0.45)
    axes.set_ylim(-leaves + 0.4, 0.6)
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    return save_figure(figure, path)


def _draw_box(axes: Axes, box: _Box, level: int) -> None:
    for answer, child in box.below:
        axes.plot(
            [level, level + 1],
            [-box.place, -child.place],
            color=FAINT,
            alpha=0.6,
            linewidth=0.8 + 9 * child.share,
            solid_capstyle="round",
            zorder=1,
        )
        if answer:
            at = (level + 0.52, -box.place - 0.52 * (child.place - box.place))
            paper = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
            axes.text(*at, answer, ha="center", va="center", fontsize=8, color=INK, bbox=paper, zorder=2)
        _draw_box(axes, child, level + 1)
    frame = {"boxstyle": "round,pad=0.35", "facecolor": box.colour, "edgecolor": INK if box.below else "none"}
    axes.text(
        level,
        -box.place,
        box.text,
        ha="center",
        va="center",
        fontsize=8,
        color=readable_on(box.colour),
        bbox=frame | {"linewidth": 0.8},
        zorder=3,
    )
