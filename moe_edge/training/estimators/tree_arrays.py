"""Decision trees as flat arrays that a device walks without a branch: one index a tree, one step a level.

The two children of a node lie side by side, so that a step is ``first_child[node] + (value > threshold[node])``. A leaf
that is reached early points to itself. All trees share the arrays; a node's place is its name.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_SMALLEST = np.finfo(np.float32).tiny
"""The smallest normal float32; many hosts take what lies between it and 0 for 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """One binary tree; a row goes left where ``x[feature] <= threshold``.

    Attributes:
        feature: Feature of each node, int (n,).
        threshold: float64 (n,).
        left, right: Children, int (n,); -1 at leaves.
        missing_left: Whether a missing value (NaN) goes left, bool (n,).
        values: What each node answers, float64 (n, W); only leaves' count.
    """

    feature: npt.NDArray[Any]
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[Any]
    right: npt.NDArray[Any]
    missing_left: npt.NDArray[np.bool_]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeArrays:
    """An ensemble of T trees in shared arrays; N nodes that can still be left, L places of leaves.

    Attributes:
        feature: int32 (N,): column of ``x``; F more than it for a column of ``-x``.
        threshold: float32 (N,).
        first_child: int32 (N,): where a value not above the threshold (or NaN) goes; the place after it otherwise.
        roots: int32 (T,).
        values: float32 (L, W): answers of the nodes from ``first_leaf`` on.
        first_leaf: Place of the first node that has an answer.
        depth: Steps from a root to the deepest leaf.
        negated: Whether some nodes look at ``-x``.
    """

    feature: Ints
    threshold: Floats
    first_child: Ints
    roots: Ints
    values: Floats
    first_leaf: int
    depth: int
    negated: bool


def constant_tree(values: Sequence[float]) -> Tree:
    """A tree that is a single leaf."""
    return Tree(
        feature=np.zeros(1, np.int64),
        threshold=np.zeros(1),
        left=np.full(1, -1),
        right=np.full(1, -1),
        missing_left=np.ones(1, np.bool_),
        values=np.asarray(values, dtype=np.float64).reshape(1, -1),
    )


def round_thresholds(thresholds: npt.NDArray[np.float64]) -> Floats:
    """The largest float32 not above each float64 threshold.

    So ``x <= threshold`` is the same for every float32 x; subnormal numbers count as 0, as most hosts take them.
    """
    limit = np.finfo(np.float32).max
    rounded = np.where(np.isfinite(thresholds), np.clip(thresholds, -limit, limit), thresholds).astype(np.float32)
    with np.errstate(over="ignore"):  # the next after the largest number is infinity, as it should
        rounded = np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    small = np.abs(rounded) < _SMALLEST
    normal: Floats = np.where(small, np.where(rounded < 0, -_SMALLEST, np.float32(0)), rounded).astype(np.float32)
    return normal


def next_above(thresholds: Floats) -> Floats:
    """The next float32 above each, subnormal numbers left out."""
    with np.errstate(over="ignore"):
        above = np.nextafter(thresholds, np.float32(np.inf))
    small = (np.abs(above) < _SMALLEST) & (above != 0)
    normal: Floats = np.where(small, np.where(thresholds < 0, np.float32(0), _SMALLEST), above).astype(np.float32)
    return normal


def pack_trees(trees: Sequence[Tree], num_features: int) -> TreeArrays:
    """Put trees into shared arrays.

    A comparison with NaN is false, so NaN goes to the first child. Where it has to go right, the node asks
    ``-x > -(next float above the threshold)`` instead, which is ``x <= threshold``, with its children swapped.

    Args:
        trees: The trees, all with answers of W values.
        num_features: F, features of a row.
    """
    levels = [_levels(tree) for tree in trees]
    depth = max(int(level.max()) for level in levels)
    places = _number_nodes(trees, levels, depth)
    total = sum(len(tree.feature) for tree in trees)
    deepest = sum(int((level == depth).sum()) for level in levels) if depth else 0
    # Leaves of the last level are never left: they need an answer only. A single leaf needs no step at all.
    num_nodes = total - deepest
    feature, child = np.zeros(num_nodes, np.int32), np.arange(num_nodes, dtype=np.int32)
    threshold = np.full(num_nodes, np.inf, dtype=np.float32)
    answers = np.zeros((total, trees[0].values.shape[1]), np.float32)
    first_leaf, negated = total, False
    for tree, place in zip(trees, places, strict=True):
        inner = tree.left >= 0
        leaves = place[~inner]
        answers[leaves] = tree.values[~inner]
        first_leaf = min(first_leaf, int(leaves.min()))
        swapped = inner & ~tree.missing_left
        negated |= bool(swapped.any())
        rounded = round_thresholds(tree.threshold[inner])
        turned = swapped[inner]
        feature[place[inner]] = tree.feature[inner] + num_features * turned
        threshold[place[inner]] = np.where(turned, -next_above(rounded), rounded)
        child[place[inner]] = place[np.where(turned, tree.right[inner], tree.left[inner])]
    return TreeArrays(
        feature=feature,
        threshold=threshold,
        first_child=child,
        roots=np.array([place[0] for place in places], dtype=np.int32),
        values=answers[first_leaf:],
        first_leaf=first_leaf,
        depth=depth,
        negated=negated,
    )


def _levels(tree: Tree) -> npt.NDArray[np.int64]:
    """Each node's distance from the root."""
    level = np.zeros(len(tree.feature), np.int64)
    nodes = np.array([0])
    while len(nodes):
        inner = nodes[tree.left[nodes] >= 0]
        children = np.concatenate([tree.left[inner], tree.right[inner]]).astype(np.int64)
        level[children] = np.tile(level[inner] + 1, 2)
        nodes = children
    return level


def _number_nodes(
    trees: Sequence[Tree], levels: Sequence[npt.NDArray[np.int64]], depth: int
) -> list[npt.NDArray[np.int64]]:
    """Give every node a place, children side by side.

    First what is no leaf, last the leaves of the deepest level: so answers are stored for few inner nodes, and no
    steps for the leaves that end every walk.
    """
    groups: list[list[tuple[int, int, int]]] = [[] for _ in range(6)]
    for number, (tree, level) in enumerate(zip(trees, levels, strict=True)):
        leaf = tree.left < 0
        groups[2 if leaf[0] else 0].append((number, 0, -1))
        for node in np.flatnonzero(~leaf):
            first, second = int(tree.left[node]), int(tree.right[node])
            if not tree.missing_left[node]:
                first, second = second, first
            count = int(leaf[first]) + int(leaf[second])
            last = level[first] == depth
            groups[5 if last else (1, 3, 4)[count]].append((number, first, second))
    places = [np.zeros(len(tree.feature), np.int64) for tree in trees]
    place = 0
    for number, first, second in (entry for group in groups for entry in group):
        places[number][first] = place
        place += 1
        if second >= 0:
            places[number][second] = place
            place += 1
    return places
