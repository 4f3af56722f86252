"""A hierarchy of gates (Jordan & Jacobs 1994): a tree whose nodes are gates and whose leaves are experts.

An expert's weight is the product of the branch probabilities along its path. Nodes are numbered from the root,
parents before children, so that node n is the signature and part ``gate_n``.
Layer: shared. Imports NumPy and ``moe_edge.errors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Nested = Any
"""An expert's index, or a list of ``Nested``: what a tree is written as in configurations and files."""


@dataclass(frozen=True)
class Branch:
    """Where one branch of a gate leads: to an ``expert``, or to another ``gate``; the other is None."""

    expert: int | None = None
    gate: int | None = None


@dataclass(frozen=True)
class GateTree:
    """The tree.

    Attributes:
        nodes: The branches of each gate, at least two; gate 0 is the root.
        num_experts: E, leaves of the tree.
    """

    nodes: tuple[tuple[Branch, ...], ...]
    num_experts: int

    @classmethod
    def from_nested(cls, nested: Nested) -> GateTree:
        """Read a tree written as nested lists of experts' indices, such as ``[[0, 1], [2, [3, 4]]]``.

        Raises:
            ValueError: If a gate has fewer than two branches, or the leaves aren't 0 ... E - 1, each once.
        """
        nodes: list[tuple[Branch, ...]] = []
        leaves: list[int] = []

        def visit(part: Any) -> int:
            if not isinstance(part, (list, tuple)) or len(part) < 2:
                raise ValueError(f"expected a gate as a list of at least two branches, got {part!r}")
            number = len(nodes)
            nodes.append(())
            branches = []
            for child in part:
                if type(child) is int:
                    leaves.append(child)
                    branches.append(Branch(expert=child))
                else:
                    branches.append(Branch(gate=visit(child)))
            nodes[number] = tuple(branches)
            return number

        visit(nested)
        if sorted(leaves) != list(range(len(leaves))):
            raise ValueError(f"expected the experts 0 to {len(leaves) - 1}, each once, as leaves, got {leaves}")
        return cls(tuple(nodes), len(leaves))

    @classmethod
    def balanced(cls, num_experts: int, branching: int = 2) -> GateTree:
        """The flattest tree whose gates have at most ``branching`` branches.

        Raises:
            ValueError: If there are fewer than two experts, or branches.
        """
        if num_experts < 2 or branching < 2:
            raise ValueError(f"expected at least 2 experts and 2 branches, got {num_experts} and {branching}")

        def divide(experts: list[int]) -> Nested:
            if len(experts) == 1:
                return experts[0]
            pieces = np.array_split(np.array(experts), min(branching, len(experts)))
            return [divide(piece.tolist()) for piece in pieces]

        return cls.from_nested(divide(list(range(num_experts))))

    def to_nested(self) -> Nested:
        """The tree as nested lists of experts' indices."""

        def write(node: int) -> Nested:
            return [branch.expert if branch.gate is None else write(branch.gate) for branch in self.nodes[node]]

        return write(0)

    def split(self, expert: int) -> GateTree:
        """The tree with a new gate in place of an expert: over that expert and a new one, number E.

        Raises:
            ValueError: If there is no such expert.
        """
        if not 0 <= expert < self.num_experts:
            raise ValueError(f"expected an expert in [0, {self.num_experts}), got {expert}")

        def replace(part: Nested) -> Nested:
            if isinstance(part, list):
                return [replace(child) for child in part]
            return [expert, self.num_experts] if part == expert else part

        return GateTree.from_nested(replace(self.to_nested()))

    @property
    def max_branches(self) -> int:
        """Branches of the widest gate."""
        return max(map(len, self.nodes))

    @property
    def parents(self) -> tuple[int | None, ...]:
        """The gate above each gate; None for the root."""
        above: list[int | None] = [None] * len(self.nodes)
        for number, branches in enumerate(self.nodes):
            for branch in branches:
                if branch.gate is not None:
                    above[branch.gate] = number
        return tuple(above)

    @property
    def depth(self) -> int:
        """Gates on the longest path from the root to an expert."""
        return max(len(path) for path in self.paths)

    @property
    def paths(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each expert the (gate, branch) pairs from the root down to it."""
        found: dict[int, tuple[tuple[int, int], ...]] = {}

        def visit(node: int, path: tuple[tuple[int, int], ...]) -> None:
            for number, branch in enumerate(self.nodes[node]):
                here = (*path, (node, number))
                if branch.gate is not None:
                    visit(branch.gate, here)
                elif branch.expert is not None:
                    found[branch.expert] = here

        visit(0, ())
        return tuple(found[expert] for expert in range(self.num_experts))

    @property
    def path_matrix(self) -> npt.NDArray[np.float32]:
        """1 where a branch lies on an expert's path: float32 (gates * max_branches, E), branches padded."""
        width = self.max_branches
        matrix = np.zeros((len(self.nodes) * width, self.num_experts), dtype=np.float32)
        for expert, path in enumerate(self.paths):
            for node, branch in path:
                matrix[node * width + branch, expert] = 1.0
        return matrix

    def experts_below(self, node: int, branch: int) -> tuple[int, ...]:
        """The experts that a branch of a gate leads to."""
        return tuple(expert for expert, path in enumerate(self.paths) if (node, branch) in path)

    def expert_weights(self, branch_probabilities: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Multiply along the paths: the reference that graphs and runtimes are tested against.

        Args:
            branch_probabilities: For each gate, (n, branches).

        Returns:
            float64 (n, E).
        """
        columns = []
        for path in self.paths:
            weight = np.ones(len(branch_probabilities[0]), dtype=np.float64)
            for node, branch in path:
                weight = weight * branch_probabilities[node][:, branch]
            columns.append(weight)
        return np.stack(columns, axis=1)

    def describe(self, usage: Sequence[float] | None = None) -> str:
        """The tree as text, a line each gate and expert, with shares of the rows where usage is known.

        Args:
            usage: Mean weight of each expert.
        """

        def share(experts: Sequence[int]) -> str:
            return "" if usage is None else f" {sum(usage[expert] for expert in experts):.0%}"

        lines = ["gate_0"]

        def visit(node: int, indent: str) -> None:
            branches = self.nodes[node]
            for number, branch in enumerate(branches):
                last = number == len(branches) - 1
                name = f"expert_{branch.expert}" if branch.gate is None else f"gate_{branch.gate}"
                lines.append(f"{indent}{'└─' if last else '├─'} {name}{share(self.experts_below(node, number))}")
                if branch.gate is not None:
                    visit(branch.gate, indent + ("   " if last else "│  "))

        visit(0, "")
        return "\n".join(lines)
