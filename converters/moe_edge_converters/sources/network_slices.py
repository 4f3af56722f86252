"""Turn linear forms of a graph's tensors into networks: dense layers where it is a chain of them, else a graph.

A form may ask for a few values of a tensor that holds several experts' side by side: only what those values need is
taken, layer by layer.
Layer: desktop (converters).
"""

from __future__ import annotations

import numpy as np

from moe_edge_converters.sources.float_graph import Array, FloatGraph, Node
from moe_edge_converters.sources.linear_forms import LINEAR, WEIGHTED, Form, FormPuller, Matrix, WeightUse
from moe_edge_converters.spec import DenseLayer, DenseNetwork

DENSE_ACTIVATIONS = {
    "RELU": "relu",
    "RELU6": "relu6",
    "TANH": "tanh",
    "LOGISTIC": "sigmoid",
    "SOFTMAX": "softmax",
}
"""Operator to the activation of a dense layer."""

_DENSE_KINDS = LINEAR | set(DENSE_ACTIVATIONS)
_MAX_VALUES = 1 << 24
"""Values of one float64 matrix (128 MiB) beyond which a network is taken as a graph instead of as dense layers."""


def is_identity(matrix: Matrix) -> bool:
    """Whether a matrix changes nothing."""
    rows, columns = matrix.shape
    return rows == columns and bool((matrix == np.eye(rows)).all())


def softmax_group(graph: FloatGraph, tensor: int, indices: Array) -> bool:
    """Whether flat ``indices`` are exactly one group of values that a SOFTMAX normalises together, in order."""
    size = graph.shapes[tensor][-1]
    start = int(indices[0])
    return len(indices) == size and start % size == 0 and bool((indices == np.arange(start, start + size)).all())


def needed_columns(matrix: Matrix) -> Array:
    """Flat indices of the values that a matrix doesn't ignore."""
    return np.flatnonzero(matrix.any(axis=0))


def dense_network(puller: FormPuller, form: Form, features: int, *, whole: bool, use: WeightUse) -> DenseNetwork | None:
    """Read a form as a chain of dense layers from ``features``.

    Args:
        puller: Of the graph.
        form: K values to answer with.
        features: Where the chain starts.
        whole: Keep hidden values that later layers ignore, because they belong to nobody else.
        use: Told of the weights.

    Returns:
        The network; None where the form is no such chain.
    """
    graph = puller.graph
    between = graph.ancestors(form.parts, stop=features) - {features}
    if any(graph.producers[tensor].kind not in _DENSE_KINDS for tensor in between if tensor in graph.producers):
        return None
    layers: list[DenseLayer] = []
    activation = "linear"
    while True:
        before = set(form.parts)
        form = _pull_layer(puller, form, features, use)
        if len(form.parts) != 1:
            return None
        tensor, matrix = next(iter(form.parts.items()))
        if tensor == features:
            layers.append(_layer(matrix, form.offset, activation))
            return DenseNetwork(layers=tuple(reversed(layers)))
        node = graph.producers.get(tensor)
        columns = np.arange(graph.size(tensor)) if whole else needed_columns(matrix)
        if node is None or len(columns) * graph.size(tensor) > _MAX_VALUES:
            return None
        kernel = matrix[:, columns]
        if activation != "linear" or form.offset.any() or not is_identity(kernel):
            layers.append(_layer(kernel, form.offset, activation))
        if node.kind in WEIGHTED and before != {tensor}:
            # A layer without activation: its weights are a layer of their own.
            activation, source = "linear", tensor
        elif node.kind in DENSE_ACTIVATIONS:
            activation, source = DENSE_ACTIVATIONS[node.kind], node.inputs[0]
            if activation == "softmax" and (layers or not softmax_group(graph, tensor, columns)):
                return None
        else:
            return None
        form = puller.identity(source, columns)


def _pull_layer(puller: FormPuller, form: Form, features: int, use: WeightUse) -> Form:
    """Pull through one layer's weights at most: the product of two layers could be far larger than both."""

    def unweighted(node: Node) -> bool:
        return node.kind in LINEAR - WEIGHTED and features not in node.outputs

    form = puller.pull(form, unweighted)
    if len(form.parts) != 1 or features in form.parts:
        return form
    node = puller.graph.producers.get(next(iter(form.parts)))
    if node is None or node.kind not in WEIGHTED:
        return form
    return puller.pull(puller.pull(form, lambda other: other is node, use=use), unweighted)


def _layer(matrix: Matrix, offset: Matrix, activation: str) -> DenseLayer:
    return DenseLayer(
        kernel=np.ascontiguousarray(matrix.T, dtype=np.float32),
        bias=offset.astype(np.float32),
        activation=activation,
    )
