"""Trees as arrays: many of them numbered as one forest, thresholds rounded so that float32 rows take the same branches.

T is the number of trees, N the number of their nodes, W the values of a leaf.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """One tree as estimators keep it: a row goes left where ``x[feature] <= threshold``.

    Attributes:
        feature: Column that a node looks at, int (n,).
        threshold: float64 (n,).
        left: Left child, int (n,), below 0 in leaves.
        right: Right child, int (n,).
        values: What a leaf answers, float64 (n, W).
    """

    feature: npt.NDArray[Any]
    threshold: npt.NDArray[np.float64]
    left: npt.NDArray[Any]
    right: npt.NDArray[Any]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Forest:
    """T trees as one list of nodes, level by level: roots first, then their children.

    A row starts at each root and goes to ``child``, or to the node after it where ``x[feature] > threshold``. Leaves
    lead to themselves: their threshold is infinite, so trees of unequal depth take equally many steps.

    Attributes:
        num_trees: T.
        depth: Steps from the roots to the lowest leaf, at least 1.
        feature: int32 (N,).
        threshold: float32 (N,).
        child: int32 (N,).
        values: float32 (N, W); nodes that aren't leaves have zeros.
    """

    num_trees: int
    depth: int
    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    child: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]


def leaf(values: Sequence[float] | npt.NDArray[np.float64]) -> Tree:
    """A tree that answers every row with the same values."""
    none = np.full(1, -1)
    return Tree(
        feature=np.zeros(1, int),
        threshold=np.zeros(1),
        left=none,
        right=none,
        values=np.asarray(values, dtype=np.float64).reshape(1, -1),
    )


def plant(trees: Sequence[Tree]) -> Forest:
    """Number the nodes of many trees as one forest."""
    starts = np.cumsum([0, *(len(tree.feature) for tree in trees)])
    left = np.concatenate([_moved(tree.left, start) for tree, start in zip(trees, starts, strict=False)])
    right = np.concatenate([_moved(tree.right, start) for tree, start in zip(trees, starts, strict=False)])
    levels = [starts[:-1]]
    children = []
    count = len(trees)
    while True:
        level = levels[-1]
        inner = left[level] >= 0
        child = np.arange(count - len(level), count)
        child[inner] = count + 2 * np.arange(int(inner.sum()))
        children.append(child)
        if not inner.any():
            break
        levels.append(np.stack([left[level[inner]], right[level[inner]]], axis=1).reshape(-1))
        count += len(levels[-1])
    order = np.concatenate(levels)
    leaves = left[order] < 0
    feature = np.where(leaves, 0, np.concatenate([tree.feature for tree in trees])[order])
    threshold = np.concatenate([tree.threshold for tree in trees])[order]
    values = np.concatenate([tree.values for tree in trees])[order]
    return Forest(
        num_trees=len(trees),
        depth=max(1, len(levels) - 1),
        feature=feature.astype(np.int32),
        threshold=np.where(leaves, np.float32(np.inf), float32_below(threshold)),
        child=np.concatenate(children).astype(np.int32),
        values=np.where(leaves[:, None], values, 0.0).astype(np.float32),
    )


def float32_below(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that isn't above each threshold: ``x > threshold`` holds for the same float32 ``x``.

    Subnormal numbers count as 0, because runtimes take them for 0: a threshold between 0 and the smallest normal number
    becomes 0, one just below 0 the largest negative normal number.
    """
    with np.errstate(over="ignore", under="ignore"):
        nearest = threshold.astype(np.float32)
    below = np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    below = np.where((threshold >= 0) & (threshold < _SMALLEST_NORMAL), np.float32(0), below)
    below = np.where((threshold < 0) & (threshold > -_SMALLEST_NORMAL), np.float32(-_SMALLEST_NORMAL), below)
    return below.astype(np.float32)


def _moved(children: npt.NDArray[Any], start: int) -> npt.NDArray[np.int64]:
    moved = np.asarray(children, dtype=np.int64)
    return np.where(moved < 0, -1, moved + start)
