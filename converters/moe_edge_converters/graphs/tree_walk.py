"""How the nodes of many trees lie in tables, so that a walk through all of them is fast and small.

Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe_edge_converters.spec import FloatArray

Ints = npt.NDArray[np.int32]

_WORTH = 1.25
"""A faster layout may take this many times the bytes of the smallest one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeTables:
    """T trees of N inner nodes and L places of leaves; see ``moe_edge.training.estimators.tree_layers.TreeEnsemble``.

    Attributes:
        feature: int32 (N,): column of ``x``, or of ``-x`` after the F columns of ``x``.
        threshold: float32 (N,).
        first_child: int32 (N,): next node where the value isn't above the threshold; else the one after it.
        roots: int32 (T,).
        values: float32 (L, W).
        columns: int32 (V,), which sum each answer comes from.
        scale, offset: float32 (V,).
        first_leaf: Place of the first node that has an answer.
        depth: Steps to the deepest leaf.
        num_groups: Sums that the trees take turns in; more than one only where W is 1.
        negated: Whether some nodes look at ``-x``.
        link: ``linear``, ``sigmoid``, ``softmax`` or ``exp``.
    """

    feature: Ints
    threshold: FloatArray
    first_child: Ints
    roots: Ints
    values: FloatArray
    columns: Ints
    scale: FloatArray
    offset: FloatArray
    first_leaf: int
    depth: int
    num_groups: int
    negated: bool
    link: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """What one step looks up, by the place that a tree's walk has come to.

    Attributes:
        feature: int32 (n,).
        threshold: float32 (n,).
        child: int32 (n,), the first child's place in the next level; None where that is twice the place.
    """

    feature: Ints
    threshold: FloatArray
    child: Ints | None

    @property
    def num_bytes(self) -> int:
        """Bytes of the tables."""
        return self.feature.nbytes + self.threshold.nbytes + (0 if self.child is None else self.child.nbytes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """A layout.

    Attributes:
        levels: What each step looks up; the same tables for all steps, or a level's own.
        roots: Where the trees start in the first level, int32 (T,); None for its places in order.
        values: float32 (L, W), by the place after the last step, less ``first_leaf``.
        first_leaf: The first place that has an answer.
    """

    levels: tuple[Level, ...]
    roots: Ints | None
    values: FloatArray
    first_leaf: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of all tables."""
        return self.values.nbytes + sum({id(level): level.num_bytes for level in self.levels}.values())


def plan_walk(tables: TreeTables) -> Walk:
    """The fastest layout that isn't much larger than the smallest one.

    Fastest first: trees filled up until they are complete, whose children need no table; a table for each level, in
    which the leaves of the levels above stand too; one table for all steps, for deep trees of few nodes.
    """
    one = _one_table(tables)
    # Counted before they are laid out: places may be far more than a file should have bytes.
    in_levels, filled_up = _level_bytes(tables), _complete_bytes(tables)
    if filled_up <= _WORTH * min(one.num_bytes, in_levels):
        return _level_by_level(tables, complete=True)
    return _level_by_level(tables, complete=False) if in_levels <= _WORTH * one.num_bytes else one


def _one_table(tables: TreeTables) -> Walk:
    level = Level(feature=tables.feature, threshold=tables.threshold, child=tables.first_child)
    steps = max(1, tables.depth)
    return Walk(levels=(level,) * steps, roots=tables.roots, values=tables.values, first_leaf=tables.first_leaf)


def _complete_bytes(tables: TreeTables) -> int:
    """Bytes of trees that all have every node of every level."""
    leaves: int = len(tables.roots) << max(1, tables.depth)
    return int(8 * (leaves - len(tables.roots)) + 4 * leaves * tables.values.shape[1])


def _level_bytes(tables: TreeTables) -> int:
    """Bytes of a table for each level, at most."""
    nodes, total = tables.roots, 0
    for _ in range(max(1, tables.depth)):
        total += 12 * len(nodes)
        nodes = _next_level(tables, nodes, complete=False)
    return int(total + 4 * len(nodes) * tables.values.shape[1])


def _next_level(tables: TreeTables, nodes: Ints, *, complete: bool) -> Ints:
    """The nodes below, side by side; a leaf stands for itself, once, or twice where trees are filled up."""
    child = tables.first_child[nodes]
    inner = child != nodes
    width = np.where(inner | complete, 2, 1)
    second = np.arange(int(width.sum())) - np.repeat(np.cumsum(width) - width, width)
    below: Ints = (np.repeat(child, width) + np.where(np.repeat(inner, width), second, 0)).astype(np.int32)
    return below


def _level_by_level(tables: TreeTables, *, complete: bool) -> Walk:
    nodes, levels = tables.roots, []
    for _ in range(max(1, tables.depth)):
        width = np.where((tables.first_child[nodes] != nodes) | complete, 2, 1)
        places = (np.cumsum(width) - width).astype(np.int32)
        child = None if (width == 2).all() else places
        levels.append(Level(feature=tables.feature[nodes], threshold=tables.threshold[nodes], child=child))
        nodes = _next_level(tables, nodes, complete=complete)
    return Walk(levels=tuple(levels), roots=None, values=tables.values[nodes - tables.first_leaf])
