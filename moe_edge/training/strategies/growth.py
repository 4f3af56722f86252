"""Grow a hierarchical gate within EM: two experts first, then the one that carries the largest loss is split in two.

A balanced tree puts clusters side by side in no order, and its linear gates can't tell them apart; a grown one divides
what lies together. Linear experts, 600 rows of a line broken into pieces, noise 0.1, median test RMSE of 4 seeds,
balanced against grown: 8 pieces of one input 1.32 and 0.44; 5 pieces 1.03 and 0.24. Where the pieces lie along one of
two inputs, so that clusters miss them, nothing is gained: 6 pieces 0.72 and 0.73. Growing takes 2 to 3 times as long.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from moe_edge.hierarchy import GateTree
from moe_edge.training.gates.hierarchical_gate import grow_hierarchy
from moe_edge.training.kinds.gates import HierarchicalGateKind
from moe_edge.training.strategies.problem import Problem

GROWTH_STEPS = 5
"""EM steps between one split and the next."""
Array = npt.NDArray[np.float64]


class GrowingRun(Protocol):
    """An EM of as many experts as there are by now."""

    def step(self) -> int:
        """One E step and one M step."""

    def shares_and_likelihoods(self) -> tuple[Array, Array]:
        """Responsibilities and experts' log-likelihoods of the training rows, each (n, E)."""


def asks_growth(problem: Problem) -> bool:
    """Whether the gate is a hierarchy that is to be grown.

    Raises:
        ValueError: If a finished tree is given as well.
    """
    gate = problem.config.gate
    if gate.kind != HierarchicalGateKind.name or not gate.options.get("grow"):
        return False
    if gate.options.get("tree"):
        raise ValueError("hierarchical: expected grow=true or a tree, got both")
    return True


def grow(
    problem: Problem, features: npt.NDArray[np.float32], start: Callable[[Problem, Array], GrowingRun]
) -> tuple[Problem, Array]:
    """Grow the tree to the configured number of experts.

    Args:
        problem: What is to be learnt.
        features: Of the training rows, (n, ...).
        start: Starts the EM of a problem from memberships (n, E).

    Returns:
        The problem with the finished tree, and the memberships (n, E) to start its EM from.
    """
    rows = features.reshape(len(features), -1)
    shares = np.ones((len(rows), 1))

    def fit(tree: GateTree, split: int | None) -> Array:
        nonlocal shares
        shares = _split(rows, shares, split or 0, seed=problem.training.seed)
        run = start(_with_tree(problem, tree), shares)
        for _ in range(GROWTH_STEPS):
            run.step()
        shares, logs = run.shares_and_likelihoods()
        own = (shares * logs).sum(axis=0)
        # Above the best expert's: densities have no zero, and a busy good expert must not seem the worst.
        best = (own / np.maximum(shares.sum(axis=0), 1.0)).max()
        return np.asarray(best * shares.sum(axis=0) - own)

    tree = grow_hierarchy(fit, problem.config.gate.num_experts)
    return _with_tree(problem, tree), shares


def _split(rows: npt.NDArray[np.float32], shares: Array, expert: int, *, seed: int) -> Array:
    """The memberships with one expert's rows in two clusters; the second is the new last expert's."""
    from sklearn.cluster import KMeans

    found = KMeans(2, n_init=4, random_state=seed).fit(rows, sample_weight=shares[:, expert] + 1e-9)
    second = found.labels_ == 1
    divided = np.concatenate([shares, (shares[:, expert] * second)[:, None]], axis=1)
    divided[second, expert] = 0
    return divided


def _with_tree(problem: Problem, tree: GateTree) -> Problem:
    """The problem of as many experts as the tree has."""
    config, count = problem.config, tree.num_experts
    options = {name: value for name, value in config.gate.options.items() if name != "grow"}
    gate = replace(
        config.gate,
        num_experts=count,
        options={**options, "tree": tree.to_nested()},
        top_k=config.gate.top_k if count == config.gate.num_experts else None,
    )
    return replace(problem, config=replace(config, experts=config.experts[:count], gate=gate))
