"""Turn a piece of a functional Keras graph, from one tensor to another, into a network of the mixture.

A stack of dense layers becomes arrays; any other architecture goes through TensorFlow's own converter.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.graphs.graph import FUSED_ACTIVATIONS, UNARY_ACTIVATIONS
from moe_edge_converters.graphs.tree_graph import tree_network
from moe_edge_converters.graphs.tree_walk import TreeTables
from moe_edge_converters.sources.batch_axis import choose_probe, free_probed_batch
from moe_edge_converters.sources.tensorflow_graphs import quiet_tensorflow, write_graph
from moe_edge_converters.spec import DenseLayer, DenseNetwork, GraphNetwork, Network

_ACTIVATIONS = {*FUSED_ACTIVATIONS, *UNARY_ACTIVATIONS, "softmax"}
_INFERENCE_IDENTITIES = {
    *("Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
    *("Identity", "InputLayer", "ActivityRegularization", "LoadBalancing"),
    *("RowEntropy", "ZLoss"),
}

_CHECK_ROWS = 3
"""Rows on which a converted piece is compared with Keras, and one."""


def is_identity(operation: Any) -> bool:
    """Whether a Keras layer hands its input on unchanged at inference."""
    return type(operation).__name__ in _INFERENCE_IDENTITIES


class _NotDenseError(Exception):
    """The piece holds something else than dense layers."""


def extract_network(start: Any, end: Any, *, role: str) -> Network:
    """Turn the piece between two Keras tensors into a network.

    Args:
        start: The Keras tensor that the piece takes.
        end: The Keras tensor that it gives, of shape (batch, outputs).
        role: What it is, for messages: ``the gate``, ``expert_2``.

    Raises:
        ConversionError: If it can't be converted with TFLite's builtin operators.
    """
    trees = _only_trees(start, end)
    if trees is not None:
        return tree_network(_tree_arrays(trees), int(start.shape[-1]))
    try:
        layers = list(_dense_layers(start, end))
    except _NotDenseError:
        return convert_graph(start, end, role=role)
    if not layers:
        raise ConversionError(
            f"{role}: expected at least one layer with weights between its input and output, got none"
        )
    return DenseNetwork(layers=tuple(layers))


def _only_trees(start: Any, end: Any) -> Any:
    """The ``TreeEnsemble`` layer that is all there is between two tensors; None where it isn't so."""
    found = None
    tensor = end
    while tensor is not start:
        operation, node_index, _ = tensor._keras_history
        sources = operation._inbound_nodes[node_index].input_tensors
        if len(sources) != 1:
            return None
        kind = type(operation).__name__
        if kind in ("Sequential", "Functional"):
            if len(operation.inputs) != 1 or len(operation.outputs) != 1:
                return None
            inner = _only_trees(operation.inputs[0], operation.outputs[0])
        else:
            own = kind == "TreeEnsemble" and type(operation).__module__.startswith("moe_edge.")
            inner = operation if own else None
        if inner is None and kind not in _INFERENCE_IDENTITIES:
            return None
        if inner is not None and found is not None:
            return None
        found = found if inner is None else inner
        tensor = sources[0]
    return found


def _tree_arrays(layer: Any) -> TreeTables:
    held = ("feature", "threshold", "first_child", "roots", "values", "columns", "scale", "offset")
    return TreeTables(
        **{name: np.asarray(getattr(layer, name)) for name in held},
        first_leaf=layer.first_leaf,
        depth=layer.depth,
        num_groups=layer.num_groups,
        negated=layer.negated,
        link=layer.link,
    )


def _holds_trees(piece: Any) -> bool:
    """Whether some layer of a model, at any depth, is a ``TreeEnsemble``."""
    return any(
        type(layer).__name__ == "TreeEnsemble" or (hasattr(layer, "layers") and _holds_trees(layer))
        for layer in piece.layers
    )


def _dense_layers(start: Any, end: Any) -> list[DenseLayer]:
    """Walk back from ``end`` to ``start``, which must be a plain chain of dense layers and activations."""
    chain = []
    tensor = end
    while tensor is not start:
        operation, node_index, _ = tensor._keras_history
        sources = operation._inbound_nodes[node_index].input_tensors
        if len(sources) != 1:
            raise _NotDenseError
        chain.append(operation)
        tensor = sources[0]
    layers: list[DenseLayer] = []
    for operation in reversed(chain):
        _append_operation(layers, operation)
    return layers


def _append_operation(layers: list[DenseLayer], operation: Any) -> None:
    kind = type(operation).__name__
    if kind in ("Sequential", "Functional"):
        if len(operation.inputs) != 1 or len(operation.outputs) != 1:
            raise _NotDenseError
        layers.extend(_dense_layers(operation.inputs[0], operation.outputs[0]))
    elif kind == "Dense":
        kernel = np.asarray(operation.kernel)
        bias = np.zeros(kernel.shape[1], np.float32) if operation.bias is None else np.asarray(operation.bias)
        layers.append(
            DenseLayer(
                kernel=kernel.astype(np.float32),
                bias=bias.astype(np.float32),
                activation=_activation(operation.activation),
            )
        )
    elif kind in ("Activation", "Softmax", "ReLU"):
        _append_activation(layers, operation, kind)
    elif kind == "Temperature" and layers and layers[-1].activation == "linear":
        last, factor = layers.pop(), np.float32(1 / operation.temperature)
        layers.append(DenseLayer(kernel=last.kernel * factor, bias=last.bias * factor))
    elif kind == "Flatten":
        if len(operation.input.shape) != 2 and layers:
            raise _NotDenseError
    elif kind not in _INFERENCE_IDENTITIES:
        raise _NotDenseError


def _append_activation(layers: list[DenseLayer], operation: Any, kind: str) -> None:
    """Fold an activation layer into the dense layer before it."""
    if not layers or layers[-1].activation != "linear":
        raise _NotDenseError
    if kind == "Activation":
        activation = _activation(operation.activation)
    elif kind == "Softmax":
        if operation.axis not in (-1, 1):
            raise _NotDenseError
        activation = "softmax"
    else:
        config = operation.get_config()
        if config["negative_slope"] or config["threshold"] or config["max_value"] not in (None, 6.0):
            raise _NotDenseError
        activation = "relu6" if config["max_value"] else "relu"
    last = layers.pop()
    layers.append(DenseLayer(kernel=last.kernel, bias=last.bias, activation=activation))


def _activation(activation: Any) -> str:
    name = getattr(activation, "__name__", "")
    if name not in _ACTIVATIONS:
        raise _NotDenseError
    return str(name)


def convert_graph(start: Any, end: Any, *, role: str) -> GraphNetwork:
    """Convert any architecture between two Keras tensors with TensorFlow's converter, builtin operators only.

    Raises:
        ConversionError: With the converter's first complaint.
    """
    import keras
    import tensorflow as tf

    piece = keras.Model(start, end)
    probe = choose_probe(_sizes(piece))
    signature = tf.TensorSpec([probe, *start.shape[1:]], tf.float32, name="features")
    with quiet_tensorflow():
        function = tf.function(lambda features: piece(features, training=False)).get_concrete_function(signature)
        model = read_model(write_graph(function, subject=role))
    graph = model.subgraphs[0]
    free_probed_batch(model, probe)
    content = pack(model)
    _check_rows(content, piece, role=role)
    last = graph.operators[-1] if graph.operators else None
    softmax = (
        last is not None
        and list(last.outputs) == list(graph.outputs)
        and model.operatorCodes[last.opcodeIndex].builtinCode == schema.BuiltinOperator.SOFTMAX
    )
    return GraphNetwork(
        model=content, num_outputs=int(end.shape[-1]), ends_in_softmax=bool(softmax), float_only=_holds_trees(piece)
    )


def _sizes(piece: Any) -> Iterator[int]:
    """Every size that may stand in the piece's graph, but the batch's."""
    for weight in piece.weights:
        yield from map(int, weight.shape)
    for operation in piece.operations:
        for node in operation._inbound_nodes:
            for tensor in node.output_tensors:
                yield from (int(size) for size in tensor.shape[1:] if size is not None)
        if hasattr(operation, "operations"):
            yield from _sizes(operation)


def _check_rows(content: bytes, piece: Any, *, role: str) -> None:
    """Compare the converted piece with Keras for one row and for several.

    Raises:
        ConversionError: If it fails on several rows, or answers otherwise than Keras.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    shape = [int(size) for size in piece.inputs[0].shape[1:]]
    features = np.random.default_rng(0).normal(size=(_CHECK_ROWS, *shape)).astype(np.float32)
    expected = np.asarray(piece(features, training=False))
    # The plain kernels are the strictest: a delegate may get along with sizes that they refuse.
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    place = interpreter.get_input_details()[0]["index"]
    for count in (1, _CHECK_ROWS):
        try:
            interpreter.resize_tensor_input(place, [count, *shape])
            interpreter.allocate_tensors()
            interpreter.set_tensor(place, features[:count])
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConversionError(
                f"{role} can't be written for any number of rows: expected answers for {count}, got {reason[:200]}; "
                "use layers whose answer for a row doesn't need the number of rows"
            ) from error
        got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        scale = max(1.0, float(np.nanmax(np.abs(expected), initial=0.0)))
        if got.size != expected[:count].size or not np.allclose(
            got.reshape(count, -1), expected[:count].reshape(count, -1), rtol=0, atol=1e-3 * scale, equal_nan=True
        ):
            raise ConversionError(
                f"{role} answers otherwise than Keras for {count} rows once written with TFLite's operators; "
                "use other layers"
            )
