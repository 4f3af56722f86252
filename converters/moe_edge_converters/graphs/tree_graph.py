"""Emit an ensemble of trees as an exact float graph: all trees are walked at once, a level a step, by GATHER.

A step is ``node = child[node] + (x[feature[node]] > threshold[node])``; the leaves' values are gathered and summed. A
forest of 100 trees of depth 8 takes 11 us a row (``benchmarks/forest.py``), as matrices 212 us.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex, add_signature, new_model
from moe_edge_converters.spec import GraphNetwork

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_WORTH = 1.25
"""A faster layout may take this many times the bytes of the smallest one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeSpec:
    """Trees as arrays, T of them with N nodes; see ``moe_edge.training.tree_layers.TreeEnsemble``.

    Attributes:
        num_trees: T; the roots are the first nodes.
        depth: Steps of the walk.
        feature, child: int32 (N,); leaves are their own child.
        threshold: float32 (N,); infinite in leaves.
        values: float32 (N, W).
        base: float32 (S,), added to the sums.
        link: ``linear``, ``sigmoid`` or ``softmax``.
        constants: Numbers that follow the answer.
        columns: Which values of answer and constants are given; None for all.
    """

    num_trees: int
    depth: int
    feature: Ints
    child: Ints
    threshold: Floats
    values: Floats
    base: Floats
    link: str = "linear"
    constants: tuple[float, ...] = ()
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """One step's tables, by the place that a tree's walk has come to.

    Attributes:
        feature: int32 (n,).
        threshold: float32 (n,).
        child: int32 (n,), the left one's place in the next level; None where that is twice the place.
    """

    feature: Ints
    threshold: Floats
    child: Ints | None

    @property
    def num_bytes(self) -> int:
        """Bytes of the tables."""
        return sum(table.nbytes for table in (self.feature, self.threshold, self.child) if table is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """A layout of the nodes: one table a level, or one for all of them.

    Attributes:
        levels: What each step looks up.
        values: float32 (leaves, W), by the place after the last step.
    """

    levels: tuple[Level, ...]
    values: Floats

    @property
    def num_bytes(self) -> int:
        """Bytes of everything."""
        tables = {id(level.feature): level.num_bytes for level in self.levels}
        return self.values.nbytes + sum(tables.values())


def build_tree_network(trees: TreeSpec, input_shape: Sequence[int]) -> GraphNetwork:
    """Write an ensemble as a model of its own, for the mixture's graph to take in; never quantized.

    Args:
        trees: The ensemble.
        input_shape: Shape of a row of features, without the batch; flattened.
    """
    model = new_model("moe-edge trees")
    builder = GraphBuilder(model, "trees")
    x = builder.input("features", input_shape)
    features = builder.flatten(x, name="flat")
    out = _add_answer(builder, _add_sums(builder, features, trees), trees)
    builder.output("output", out)
    add_signature(model, "serving_default", builder.index, {"features": x}, {"output": out})
    return GraphNetwork(
        model=pack(model),
        num_outputs=builder.shape(out)[1],
        ends_in_softmax=trees.link == "softmax" and not trees.constants and trees.columns is None,
        float_only=True,
    )


def plan_walk(trees: TreeSpec) -> Walk:
    """The fastest layout whose tables aren't much larger than the smallest one's.

    Fastest first: trees filled up until they are complete, whose children need no table; a table for each level, in
    which the leaves of the levels above stand too; one table for all steps, for deep trees of few nodes.
    """
    candidates = [_level_by_level(trees, complete=False), _one_table(trees)]
    smallest = min(walk.num_bytes for walk in candidates)
    width = 8 * trees.num_trees * (2**trees.depth - 1) + trees.values.itemsize * trees.values.shape[1] * (
        trees.num_trees * 2**trees.depth
    )
    if width <= _WORTH * smallest:
        return _level_by_level(trees, complete=True)
    return next(walk for walk in candidates if walk.num_bytes <= _WORTH * smallest)


def _level_by_level(trees: TreeSpec, *, complete: bool) -> Walk:
    nodes = np.arange(trees.num_trees)
    levels = []
    for _ in range(trees.depth):
        inner = trees.child[nodes] != nodes
        width = np.where(inner | complete, 2, 1)
        places = (np.cumsum(width) - width).astype(np.int32)
        levels.append(
            Level(
                feature=trees.feature[nodes],
                threshold=trees.threshold[nodes],
                child=None if (width == 2).all() else places,
            )
        )
        right = np.repeat(np.where(inner, 1, 0), width) * (np.arange(width.sum()) - np.repeat(places, width))
        nodes = np.repeat(trees.child[nodes], width) + right
    return Walk(levels=tuple(levels), values=trees.values[nodes])


def _one_table(trees: TreeSpec) -> Walk:
    level = Level(feature=trees.feature, threshold=trees.threshold, child=trees.child)
    return Walk(levels=(level,) * trees.depth, values=trees.values)


def _add_sums(builder: GraphBuilder, x: TensorIndex, trees: TreeSpec) -> TensorIndex:
    """Walk, and sum the leaves: (1, S)."""
    walk = plan_walk(trees)
    count, num_sums = trees.num_trees, len(trees.base)
    first = walk.levels[0]
    # The roots are known beforehand: the first step looks nothing up.
    value = builder.gather_columns(x, first.feature[:count].tolist(), name="value_0")
    children = 2 * np.arange(count, dtype=np.int32) if first.child is None else first.child[:count]
    node = _step(
        builder,
        value,
        builder.constant("threshold_0", first.threshold[:count].reshape(1, -1)),
        builder.constant("child_0", children.reshape(1, -1)),
        number=0,
    )
    for number, level in enumerate(walk.levels[1:], start=1):
        feature = builder.gather(builder.constant("features", level.feature), node, name=f"feature_{number}")
        value = builder.gather_in_rows(x, feature, name=f"value_{number}")
        threshold = builder.gather(builder.constant("thresholds", level.threshold), node, name=f"threshold_{number}")
        if level.child is None:
            child = builder.binary("ADD", node, node, name=f"child_{number}")
        else:
            child = builder.gather(builder.constant("children", level.child), node, name=f"child_{number}")
        node = _step(builder, value, threshold, child, number=number)
    leaves = builder.gather(builder.constant("values", walk.values), node, name="leaves")
    rounds = count * walk.values.shape[1] // num_sums
    if builder.shape(leaves) != (1, rounds, num_sums):
        leaves = builder.reshape(leaves, (rounds, num_sums), name="rounds")
    return builder.sum(leaves, 1, name="sums")


def _step(
    builder: GraphBuilder, value: TensorIndex, threshold: TensorIndex, child: TensorIndex, *, number: int
) -> TensorIndex:
    right = builder.binary("GREATER", value, threshold, name=f"right_{number}")
    return builder.binary("ADD", builder.cast(right, np.int32, name=f"offset_{number}"), child, name=f"node_{number}")


def _add_answer(builder: GraphBuilder, out: TensorIndex, trees: TreeSpec) -> TensorIndex:
    """From sums to answers: base, link, constants, columns."""

    def constant(name: str, values: Any) -> TensorIndex:
        return builder.constant(name, np.asarray(values, dtype=np.float32).reshape(1, -1))

    if trees.base.any():
        out = builder.binary("ADD", out, constant("base", trees.base), name="scores")
    if trees.link == "sigmoid":
        out = builder.binary("MUL", out, constant("signs", [-1, 1]), name="both")
    if trees.link != "linear":
        out = builder.activation(out, trees.link, name="probabilities")
    if trees.constants:
        width = builder.shape(out)[1]
        out = builder.pad_columns(out, len(trees.constants), name="padded")
        if any(trees.constants):
            out = builder.binary("ADD", out, constant("constants", [0.0] * width + [*trees.constants]), name="extended")
    if trees.columns is not None:
        out = builder.gather_columns(out, trees.columns, name="columns")
    return out
