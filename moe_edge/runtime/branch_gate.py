"""Run a hierarchical gate branch by branch: only the gates on the way to the experts that will run.

The likeliest branch is followed first. A weight only shrinks on its way down the tree, so experts are met in the order
of their weights, and the search ends when as many are found as run, or their weights reach the mass.
It pays where the gate is large, since each gate on the way is a run of its own, so the whole gate is the default.
Measured on x86-64, LiteRT with XNNPACK, one row, top_k = 1, binary trees, time by branches over time of the whole gate:
linear gates of 64 features 2.3 (8 and 64 experts) and 7.5 (256 experts); gates with a hidden layer 1.0 (64 features,
64 units, 64 experts) and 0.11 (256 features, 128 units, 256 experts: 8 million weights).
Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_edge.runtime.modes import Plan, branch_signature

if TYPE_CHECKING:
    import numpy.typing as npt

    from moe_edge.hierarchy import GateTree
    from moe_edge.runtime.subgraphs import SubgraphRunner

_GATE, _EXPERT = 0, 1
_SUM_ERROR = 1e-9

_Frontier = list[tuple[float, int, int]]


class BranchGate:
    """Gives routing weights and features like the signature ``gate``; weights of experts not looked for are 0.

    Not safe for concurrent use.
    """

    def __init__(
        self, plan: Plan, open_signature: Callable[[str, Sequence[str], Sequence[str]], SubgraphRunner]
    ) -> None:
        """Open the root; the other gates wait for their first row.

        Args:
            plan: What will run; ``plan.branches`` is the tree.
            open_signature: Opens a signature with these inputs and outputs.
        """
        if plan.branches is None:
            raise ValueError("expected a plan with branches, got one without")
        self._tree: GateTree = plan.branches
        self._open = open_signature
        self._root = open_signature(branch_signature(0), ("x",), ("branch_probabilities", "features"))
        self._gates: list[SubgraphRunner | None] = [None] * len(self._tree.nodes)
        self._trained = plan.trained_top_k
        self._limit = plan.trained_top_k or plan.max_experts
        # With a trained top_k, the mass counts weights scaled to it, which needs all of them.
        self._mass = None if plan.mass is None or plan.trained_top_k else plan.mass - _SUM_ERROR

    def run(self, rows: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        """Routing weights, float32 (n, E), and features (n, ...), for rows (n, ...)."""
        probabilities, features = self._root.run(rows)
        # The runtime's own memory; experts read the features later.
        features = features.copy()
        weights = np.zeros((len(rows), self._tree.num_experts), dtype=np.float32)
        frontiers: list[_Frontier] = [[] for _ in range(len(rows))]
        found = [0] * len(rows)
        self._follow(0, probabilities, [1.0] * len(rows), frontiers)
        waiting = list(range(len(rows)))
        while waiting:
            by_gate: dict[int, list[tuple[int, float]]] = {}
            for row in waiting:
                step = self._next_gate(row, frontiers[row], weights, found)
                if step is not None:
                    by_gate.setdefault(step[0], []).append((row, step[1]))
            waiting = []
            for node, arrivals in by_gate.items():
                here = [row for row, _ in arrivals]
                gate = self._gates[node] or self._gate(node)
                given = features if len(rows) == 1 else features[here]
                self._follow(
                    node, gate.run(given)[0], [weight for _, weight in arrivals], [frontiers[row] for row in here]
                )
                waiting.extend(here)
        if self._trained is not None:
            weights /= weights.sum(axis=1, keepdims=True)
        return [weights, features]

    def _follow(
        self, node: int, probabilities: npt.NDArray[np.float32], arriving: list[float], frontiers: list[_Frontier]
    ) -> None:
        """Put a gate's branches on the frontiers of the rows that reached it."""
        branches = self._tree.nodes[node]
        for shares, weight, frontier in zip(probabilities.tolist(), arriving, frontiers, strict=True):
            # Padding behind a narrow gate's branches has no branch.
            for branch, share in zip(branches, shares, strict=False):
                if branch.gate is not None:
                    # Of equal weights a gate comes first: an expert of a lower index may stand behind it.
                    heapq.heappush(frontier, (-weight * share, _GATE, branch.gate))
                elif branch.expert is not None:
                    heapq.heappush(frontier, (-weight * share, _EXPERT, branch.expert))

    def _next_gate(
        self, row: int, frontier: _Frontier, weights: npt.NDArray[np.float32], found: list[int]
    ) -> tuple[int, float] | None:
        """Take experts off a row's frontier up to the next gate; None when the row has what it needs."""
        total = float(weights[row].sum(dtype=np.float64)) if self._mass is not None else 0.0
        while frontier and found[row] < self._limit and (self._mass is None or total < self._mass):
            negative, kind, index = heapq.heappop(frontier)
            if kind == _GATE:
                return index, -negative
            weights[row, index] = -negative
            total -= negative
            found[row] += 1
        return None

    def _gate(self, node: int) -> SubgraphRunner:
        runner = self._gates[node] = self._open(branch_signature(node), ("features",), ("branch_probabilities",))
        return runner
