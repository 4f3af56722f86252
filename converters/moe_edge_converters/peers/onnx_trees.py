"""Write an ensemble of trees as an ONNX graph of one TreeEnsembleClassifier, the operator that ONNX has for it.

Layer: desktop (converters). Imports onnx.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from moe_edge.errors import ConversionError
from moe_edge_converters.graphs.tree_graph import TreeSpec
from moe_edge_converters.peers.onnx_graph import BATCH, IR_VERSION, OPSET

_ML_OPSET = 3


def build_onnx_trees(trees: TreeSpec, num_features: int) -> bytes:
    """Write a forest with the input ``x`` (N, F) and the output ``prediction`` (N, K).

    Args:
        trees: A forest whose leaves hold a value for each class.
        num_features: F.

    Raises:
        ConversionError: If it has a link, constants or leaves of one value.
    """
    num_classes = trees.values.shape[1]
    if trees.link != "linear" or trees.constants or trees.columns or trees.base.any() or num_classes < 2:
        raise ConversionError("expected a forest that averages probabilities, got another ensemble; measure without")
    owners, ids = _number_nodes(trees)
    inner = trees.child != np.arange(len(trees.child))
    # ONNX Runtime takes the first node of each run of one tree's nodes for a root.
    order = np.argsort(owners, kind="stable")
    leaves = order[~inner[order]]
    right = np.minimum(trees.child + 1, len(ids) - 1)
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "prediction"],
        domain="ai.onnx.ml",
        post_transform="NONE",
        classlabels_int64s=list(range(num_classes)),
        nodes_treeids=owners[order].tolist(),
        nodes_nodeids=ids[order].tolist(),
        nodes_featureids=trees.feature[order].tolist(),
        nodes_values=np.where(inner, trees.threshold, 0)[order].tolist(),
        nodes_modes=["BRANCH_LEQ" if branches else "LEAF" for branches in inner[order]],
        nodes_truenodeids=np.where(inner, ids[trees.child], 0)[order].tolist(),
        nodes_falsenodeids=np.where(inner, ids[right], 0)[order].tolist(),
        nodes_missing_value_tracks_true=[0] * len(ids),
        class_treeids=np.repeat(owners[leaves], num_classes).tolist(),
        class_nodeids=np.repeat(ids[leaves], num_classes).tolist(),
        class_ids=np.tile(np.arange(num_classes), len(leaves)).tolist(),
        class_weights=trees.values[leaves].reshape(-1).tolist(),
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, num_features])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [BATCH, num_classes])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _number_nodes(trees: TreeSpec) -> tuple[np.ndarray, np.ndarray]:
    """Each node's tree, and its number in that tree: parents stand before their children."""
    owners = np.zeros(len(trees.child), dtype=np.int64)
    owners[: trees.num_trees] = np.arange(trees.num_trees)
    for node, child in enumerate(trees.child):
        if child != node:
            owners[child : child + 2] = owners[node]
    ids = np.zeros_like(owners)
    for tree in range(trees.num_trees):
        own = owners == tree
        ids[own] = np.arange(int(own.sum()))
    return owners, ids
