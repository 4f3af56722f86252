"""Decision trees as a graph of builtin operators: all trees walk one level at a time, by GATHER.

Per level: which feature, which threshold, that feature's value, is it above, the next node. A forest costs a few
operators a level whatever its trees (Nakandala et al. 2020, arXiv 2010.04804, compare it with other forms). A row's own
value is picked by GATHER with ``batch_dims``: 7 levels of 100 trees over 64 features by an index into the flattened
batch took 1.04 times as long for one row, 1.12 times for 64 (x86-64, LiteRT 2.3, one thread, best of 20 rounds).
Layer: desktop (converters).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex, new_model, operator_code
from moe_edge_converters.graphs.tree_walk import TreeTables, Walk, plan_walk
from moe_edge_converters.spec import GraphNetwork

Ints = npt.NDArray[np.int32]

_BATCHED_GATHER = 5
"""Version of GATHER that knows ``batch_dims``."""


def tree_network(tables: TreeTables, num_features: int) -> GraphNetwork:
    """Emit an ensemble of trees as a graph of its own, float32 (1, F) to (1, V), any batch by resizing."""
    model = new_model("an ensemble of decision trees")
    builder = GraphBuilder(model, "trees")
    x = builder.input("features", (num_features,))
    walk = plan_walk(tables)
    node = _walk(builder, _both_signs(builder, x, num_features) if tables.negated else x, walk)
    answer = _answer(builder, _sums(builder, node, walk, tables), tables)
    builder.subgraph.outputs.append(answer)
    return GraphNetwork(
        model=pack(model),
        num_outputs=len(tables.columns),
        ends_in_softmax=tables.link == "softmax",
        float_only=True,
    )


def _both_signs(builder: GraphBuilder, x: TensorIndex, num_features: int) -> TensorIndex:
    negative = builder.tensor("negative", (1, num_features))
    builder.operator("NEG", [x], [negative], schema.NegOptionsT())
    return builder.concatenate([x, negative], name="both_signs")


def _walk(builder: GraphBuilder, x: TensorIndex, walk: Walk) -> TensorIndex:
    """The leaf that each tree ends in, int32 (1, T)."""
    # The first step's features, thresholds and children are the roots' own. A forest of single leaves steps once, to
    # where it is: the answer needs a batch.
    first = walk.levels[0]
    start = slice(None) if walk.roots is None else walk.roots
    value = builder.gather_columns(x, first.feature[start].tolist(), name="level_0/value")
    threshold = builder.constant("level_0/threshold", first.threshold[start][None])
    places = 2 * np.arange(len(first.feature), dtype=np.int32) if first.child is None else first.child
    node = _step(builder, value, threshold, builder.constant("level_0/child", places[start][None]), name="level_0")
    for number, level in enumerate(walk.levels[1:], start=1):
        name = f"level_{number}"
        features = builder.constant(f"{name}/features", level.feature)
        feature = _gather(builder, features, node, name=f"{name}/feature", dtype=np.int32)
        value = _gather(builder, x, feature, name=f"{name}/value", batched=True)
        threshold = _gather(builder, builder.constant(f"{name}/thresholds", level.threshold), node, name=f"{name}/at")
        if level.child is None:
            child = builder.binary("ADD", node, node, name=f"{name}/child", dtype=np.int32)
        else:
            children = builder.constant(f"{name}/children", level.child)
            child = _gather(builder, children, node, name=f"{name}/child", dtype=np.int32)
        node = _step(builder, value, threshold, child, name=name)
    return node


def _step(
    builder: GraphBuilder, value: TensorIndex, threshold: TensorIndex, child: TensorIndex, *, name: str
) -> TensorIndex:
    shape = builder.shape(value)
    above = builder.tensor(f"{name}/above", shape, np.bool_)
    builder.operator("GREATER", [value, threshold], [above], schema.GreaterOptionsT())
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = schema.TensorType.BOOL, schema.TensorType.INT32
    second = builder.tensor(f"{name}/second", shape, np.int32)
    builder.operator("CAST", [above], [second], options)
    return builder.binary("ADD", child, second, name=f"{name}/node", dtype=np.int32)


def _gather(
    builder: GraphBuilder,
    table: TensorIndex,
    places: TensorIndex,
    *,
    name: str,
    dtype: Any = np.float32,
    batched: bool = False,
) -> TensorIndex:
    """Pick by place from a constant table (n, ...), or, batched, from each row's own values."""
    options = schema.GatherOptionsT()
    options.axis = options.batchDims = int(batched)
    inner = builder.shape(table)[2 if batched else 1 :]
    out = builder.tensor(name, (*builder.shape(places), *inner), dtype)
    builder.operator("GATHER", [table, places], [out], options)
    if batched:
        builder.subgraph.operators[-1].opcodeIndex = operator_code(builder.model, "GATHER", _BATCHED_GATHER)
    return out


def _sums(builder: GraphBuilder, node: TensorIndex, walk: Walk, tables: TreeTables) -> TensorIndex:
    """The trees' answers, added: float32 (1, num_groups * W)."""
    if walk.first_leaf:
        first = builder.constant("first_leaf", np.full((1, 1), walk.first_leaf, dtype=np.int32))
        node = builder.binary("SUB", node, first, name="leaf", dtype=np.int32)
    size = walk.values.shape[1]
    values = walk.values if size > 1 else walk.values[:, 0]
    leaves = _gather(builder, builder.constant("values", values), node, name="leaves")
    if size == 1:
        shape = (len(tables.roots) // tables.num_groups, tables.num_groups)
        leaves = builder.reshape(leaves, shape, name="leaves_by_group")
    return builder.sum(leaves, 1, name="sums")


def _answer(builder: GraphBuilder, sums: TensorIndex, tables: TreeTables) -> TensorIndex:
    """``link(sums[:, columns] * scale + offset)``, without what changes nothing."""
    out = sums
    if tables.columns.tolist() != list(range(builder.shape(sums)[1])):
        out = builder.gather_columns(out, tables.columns.tolist(), name="columns")
    if (tables.scale != 1).any():
        out = builder.binary("MUL", out, builder.constant("scale", tables.scale[None]), name="scaled")
    if tables.offset.any():
        out = builder.binary("ADD", out, builder.constant("offset", tables.offset[None]), name="shifted")
    if tables.link == "exp":
        return builder.unary("EXP", out, name="exp")
    return builder.activation(out, tables.link, name="link")
