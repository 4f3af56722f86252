"""Recognise a Keras piece that is an ensemble of trees, and read its arrays.

Layer: desktop (converters). Imports Keras only through the model that it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from moe_edge_converters.graphs.tree_graph import TreeSpec, build_tree_network
from moe_edge_converters.spec import GraphNetwork

TREES = "TreeEnsemble"
"""The layer's class (``moe_edge.training.tree_layers``)."""

_BEFORE = {"InputLayer", "Flatten", "Identity", "Dropout"}
_AFTER = {"InputLayer", "Identity", "LoadBalancing", "ActivityRegularization"}
"""Layers that leave rows, or answers, as they are."""


def tree_network(start: Any, end: Any) -> GraphNetwork | None:
    """The piece between two Keras tensors as a walk by GATHER; None if it isn't one layer of trees.

    Columns may be chosen before the trees (``SelectColumns``).
    """
    operations = _chain(start, end)
    if operations is None:
        return None
    kinds = [type(operation).__name__ for operation in operations]
    if kinds.count(TREES) != 1:
        return None
    place = kinds.index(TREES)
    columns = np.arange(int(np.prod([int(size) for size in start.shape[1:]])), dtype=np.int32)
    for operation, kind in zip(operations[:place], kinds, strict=False):
        if kind == "SelectColumns":
            columns = columns[operation.indices]
        elif kind not in _BEFORE:
            return None
    if not _AFTER.issuperset(kinds[place + 1 :]):
        return None
    trees = tree_spec(operations[place])
    trees = replace(trees, feature=columns[trees.feature])
    return build_tree_network(trees, [int(size) for size in start.shape[1:]])


def tree_spec(layer: Any) -> TreeSpec:
    """The arrays of a ``TreeEnsemble`` layer."""
    return TreeSpec(
        num_trees=layer.num_trees,
        depth=layer.depth,
        feature=np.asarray(layer.feature),
        child=np.asarray(layer.child),
        threshold=np.asarray(layer.threshold),
        values=np.asarray(layer.values),
        base=np.asarray(layer.base),
        link=layer.link,
        constants=tuple(layer.constants),
        columns=None if layer.columns is None else tuple(layer.columns),
    )


def holds_trees(model: Any) -> bool:
    """Whether a Keras model has a layer of trees anywhere inside."""
    return any(
        type(layer).__name__ == TREES or (hasattr(layer, "layers") and holds_trees(layer)) for layer in model.layers
    )


def _chain(start: Any, end: Any) -> list[Any] | None:
    """The operations from one tensor to another, those of sub-models in their place; None if there are branches."""
    found: list[Any] = []
    tensor = end
    while tensor is not start:
        operation, node_index, _ = tensor._keras_history
        sources = operation._inbound_nodes[node_index].input_tensors
        if len(sources) != 1:
            return None
        inner = list(_inside(operation))
        if None in inner:
            return None
        found.extend(reversed(inner))
        tensor = sources[0]
    return found[::-1]


def _inside(operation: Any) -> Iterator[Any]:
    """An operation itself, or those of a sub-model from first to last; None if it branches."""
    if not hasattr(operation, "layers"):
        yield operation
        return
    if len(operation.inputs) != 1 or len(operation.outputs) != 1:
        yield None
        return
    chain = _chain(operation.inputs[0], operation.outputs[0])
    yield from [None] if chain is None else chain
