"""Pieces of Keras graphs as networks: dense chains as arrays, anything else through TensorFlow's converter."""

import keras
import numpy as np
import pytest

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.graphs.graph import GraphBuilder, new_model, schema
from moe_edge_converters.graphs.network_graph import add_network
from moe_edge_converters.sources.keras_networks import extract_network
from moe_edge_converters.spec import DenseNetwork, GraphNetwork

layers = keras.layers


def extract(*stack, shape=(6,), role="expert_0"):
    """A stack of layers as a network, the Keras model, and rows for it."""
    keras.utils.set_random_seed(1)
    start = keras.Input(shape)
    end = start
    for layer in stack:
        end = layer(end)
    model = keras.Model(start, end)
    rng = np.random.default_rng(2)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    rows = rng.normal(size=(64, *shape)).astype(np.float32)
    return extract_network(start, end, role=role), model, rows


def check(mixtures, network, model, rows):
    """Compare a network's graph with Keras, row by row in batches of 1, 7 and 64."""
    builder = GraphBuilder(new_model("test"), "main")
    builder.output("answer", add_network(builder, builder.input("x", rows.shape[1:]), network, prefix="expert_0/"))
    expected = np.asarray(model(rows, training=False))
    for batch in mixtures.BATCHES:
        got = mixtures.run_by_position(pack(builder.model), rows[:batch])[0]
        np.testing.assert_allclose(got, expected[:batch].reshape(got.shape), atol=1e-5)


def nested():
    return keras.Sequential([layers.Dense(4, activation="relu"), keras.Sequential([layers.Dense(3)])])


DENSE = {
    "plain": lambda: [layers.Dense(5, activation="relu"), layers.Dense(3, activation="softmax")],
    "no bias": lambda: [layers.Dense(5, use_bias=False), layers.Dense(3)],
    "activation layers": lambda: [
        layers.Dense(5), layers.Activation("tanh"), layers.Dense(5), layers.ReLU(), layers.Dense(3), layers.Softmax(),
    ],
    "identities": lambda: [
        layers.GaussianNoise(0.9), layers.Dense(5), layers.Dropout(0.5), layers.Identity(), layers.Dense(3),
    ],
    "nested": lambda: [nested(), layers.Softmax()],
    "sigmoid at the end": lambda: [layers.Dense(5, activation="relu6"), layers.Dense(3, activation="sigmoid")],
}  # fmt: skip

OTHER = {
    "batch normalisation": lambda: [layers.Dense(5), layers.BatchNormalization(), layers.Dense(3)],
    "gelu": lambda: [layers.Dense(5, activation="gelu"), layers.Dense(3, activation="softmax")],
    "two activations": lambda: [layers.Dense(5, activation="relu"), layers.Activation("tanh"), layers.Dense(3)],
    "leaky": lambda: [layers.Dense(5), layers.LeakyReLU(), layers.Dense(3)],
    "normalisation of layers": lambda: [layers.Dense(5), layers.LayerNormalization(), layers.Dense(3)],
    "starts with an activation": lambda: [layers.Activation("tanh"), layers.Dense(3)],
    "reshape": lambda: [layers.Reshape((2, 3)), layers.Dense(4), layers.Flatten(), layers.Dense(3)],
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_chains_become_arrays(mixtures, name):
    network, model, rows = extract(*DENSE[name]())
    assert isinstance(network, DenseNetwork)
    check(mixtures, network, model, rows)


@pytest.mark.parametrize("name", OTHER)
def test_other_architectures_become_graphs(mixtures, name):
    network, model, rows = extract(*OTHER[name]())
    assert isinstance(network, GraphNetwork)
    check(mixtures, network, model, rows)
    assert network.ends_in_softmax == (name == "gelu")


def test_a_branch_becomes_a_graph(mixtures):
    row = keras.Input((6,))
    end = layers.Add()([layers.Dense(3)(row), layers.Dense(3, activation="relu")(row)])
    network = extract_network(row, end, role="expert_0")
    assert isinstance(network, GraphNetwork)
    check(mixtures, network, keras.Model(row, end), np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32))


def test_separable_and_pooled_images(mixtures):
    network, model, rows = extract(
        layers.SeparableConv2D(4, 3, padding="same", activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, activation="softmax"),
        shape=(6, 6, 2),
    )
    assert isinstance(network, GraphNetwork) and network.ends_in_softmax
    check(mixtures, network, model, rows)


def test_flattened_images_are_dense(mixtures):
    network, model, rows = extract(layers.Flatten(), layers.Dense(3, activation="softmax"), shape=(2, 3, 1))
    assert isinstance(network, DenseNetwork)
    check(mixtures, network, model, rows)


def test_unrolled_recurrence(mixtures):
    network, model, rows = extract(layers.SimpleRNN(4, unroll=True), layers.Dense(3), shape=(5, 2))
    check(mixtures, network, model, rows)


IMAGES = {
    "transformer block": (
        (5, 8),
        lambda x: layers.Flatten()(layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))),
    ),
    "time series": ((9, 2), lambda x: layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3, activation="relu")(x))),
    "enlarged": ((4, 4, 1), lambda x: layers.Flatten()(layers.UpSampling2D()(x))),
    "permuted": ((2, 3), lambda x: layers.Flatten()(layers.Permute((2, 1))(x))),
    "last step": ((5, 2), lambda x: x[:, -1, :]),
    "squeeze and excite": (
        (4, 4, 6),
        lambda x: layers.GlobalAveragePooling2D()(
            layers.Multiply()([x, layers.Dense(6, "sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))])
        ),
    ),
    "a prime number of units": ((97,), lambda x: layers.Dense(97, "gelu")(x) + layers.Dense(97)(x)),
    "a prime number of pixels": ((97, 1), lambda x: layers.Flatten()(layers.MaxPooling1D(2)(layers.ReLU()(x)))),
}


@pytest.mark.parametrize("name", IMAGES)
def test_pieces_that_fold_a_batch_of_one_hold_in_any_batch(mixtures, name):
    shape, body = IMAGES[name]
    keras.utils.set_random_seed(4)
    start = keras.Input(shape)
    end = layers.Dense(3)(body(start))
    model = keras.Model(start, end)
    network = extract_network(start, end, role="expert_0")
    check(mixtures, network, model, np.random.default_rng(0).normal(size=(64, *shape)).astype(np.float32))


def test_a_size_that_needs_the_number_of_rows_is_refused():
    """TRANSPOSE_CONV takes its output's shape, batch included, as a constant."""
    with pytest.raises(ConversionError, match=r"expert_4 (can't be written for any number of rows|answers otherwise)"):
        extract(
            layers.Conv2DTranspose(2, 2, strides=2), layers.Flatten(), layers.Dense(3), shape=(4, 4, 1), role="expert_4"
        )


def test_loops_are_refused_with_the_way_out():
    with pytest.raises(ConversionError, match=r"expert_2.*(control flow|builtin operators)"):
        extract(layers.GRU(4), layers.Dense(3), shape=(5, 2), role="expert_2")


def test_nothing_with_weights_is_refused():
    with pytest.raises(ConversionError, match="the gate: expected at least one layer with weights"):
        extract(layers.Dropout(0.5), role="the gate")


def test_operators_outside_the_builtins_are_named():
    class Digamma(layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.math.digamma(x)

    with pytest.raises(ConversionError, match=r"expert_1 can't be written with TFLite's builtin operators.*Digamma"):
        extract(layers.Dense(4), Digamma(), layers.Dense(3), role="expert_1")


def test_every_reshape_leaves_the_batch_free():
    network, _, _ = extract(*OTHER["reshape"]())
    model = read_model(network.model)
    graph = model.subgraphs[0]
    shapes = [
        np.frombuffer(bytes(model.buffers[graph.tensors[operator.inputs[1]].buffer].data), np.int32)
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.RESHAPE
    ]
    assert shapes and all(shape[0] == -1 for shape in shapes)
