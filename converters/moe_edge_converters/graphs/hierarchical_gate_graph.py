"""A hierarchical gate as a float32 graph: every gate's logarithms, summed along each expert's path.

Linear gates are one wide layer; gates with hidden layers of their own are a layer each behind a wide first one.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from moe_edge.hierarchy import GateTree
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, new_model
from moe_edge_converters.spec import HierarchicalNetwork

LOGITS = "gate/all_logits"
"""All gates' logits side by side, (1, gates * max_branches), as the mixture's graph calls them."""

Array = npt.NDArray[np.float32]


def hierarchical_gate_graph(
    input_shape: tuple[int, ...],
    tree: GateTree,
    layers: Sequence[tuple[Array, Array]],
    *,
    activation: str = "relu",
    columns: tuple[int, ...] | None = None,
) -> HierarchicalNetwork:
    """Write the gate.

    Args:
        input_shape: Shape of one row of features, without the batch.
        tree: Where each gate's branches lead.
        layers: Each layer's kernels (N, inputs, units) and biases (N, units) for the N gates; the last layer's units
            are ``tree.max_branches``, with very negative biases where a gate has no such branch.
        activation: Activation of hidden layers.
        columns: Columns of the features that the gates see; None for all.
    """
    num_gates, width = len(tree.nodes), tree.max_branches
    builder = GraphBuilder(new_model("hierarchical gate"), "gate")
    x = builder.flatten(builder.input("features", input_shape), name="flat")
    if columns is not None:
        x = builder.gather_columns(x, columns, name="columns")
    kernels, biases = layers[0]
    logits = builder.fully_connected(
        x,
        np.concatenate([kernel.T for kernel in kernels]),
        biases.reshape(-1),
        activation=activation if len(layers) > 1 else "linear",
        name="all_logits" if len(layers) == 1 else "bank",
    )
    if len(layers) > 1:
        names = [f"node_{node}/layer_0" for node in range(num_gates)]
        pieces = builder.split(logits, num_gates, names=names) if num_gates > 1 else [logits]
        for number, (kernels, biases) in enumerate(layers[1:], start=1):
            last = number == len(layers) - 1
            pieces = [
                builder.fully_connected(
                    piece,
                    kernels[node].T,
                    biases[node],
                    activation="linear" if last else activation,
                    # A tree of one gate has nothing to join.
                    name="all_logits" if last and num_gates == 1 else f"node_{node}/layer_{number}",
                )
                for node, piece in enumerate(pieces)
            ]
        logits = builder.concatenate(pieces, name="all_logits")
    by_gate = builder.reshape(logits, (num_gates, width), name="logits_by_gate")
    logarithms = builder.tensor("logarithms", (1, num_gates, width))
    builder.operator("LOG_SOFTMAX", [by_gate], [logarithms], schema.LogSoftmaxOptionsT())
    flat = builder.reshape(logarithms, (num_gates * width,), name="logarithms_flat")
    none = np.zeros(tree.num_experts, dtype=np.float32)
    summed = builder.fully_connected(flat, tree.path_matrix.T, none, name="summed")
    builder.output("weights_out", builder.softmax(summed, name="weights"))
    return HierarchicalNetwork(
        model=pack(builder.model), num_outputs=tree.num_experts, ends_in_softmax=True, float_only=True, tree=tree
    )
