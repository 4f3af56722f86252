"""The graph builder: names, shared constants, and operators that hold in any batch."""

import numpy as np
import pytest

from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.graphs.graph import GraphBuilder, new_model, operator_code

ROWS = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)


@pytest.fixture
def builder():
    return GraphBuilder(new_model("test"), "main")


def run(mixtures, builder, output, rows=ROWS):
    builder.output("answer", output)
    return mixtures.run_by_position(pack(builder.model), rows)[0]


def softmax(values):
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("linear", lambda x: x),
        ("relu", lambda x: np.maximum(x, 0)),
        ("relu6", lambda x: np.clip(x, 0, 6)),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("softmax", softmax),
    ],
)
def test_fully_connected(mixtures, builder, activation, function):
    rng = np.random.default_rng(1)
    weights, bias = 4 * rng.normal(size=(5, 6)), rng.normal(size=5)
    out = builder.fully_connected(builder.input("x", (6,)), weights, bias, activation=activation, name="layer")
    assert builder.shape(out) == (1, 5)
    np.testing.assert_allclose(run(mixtures, builder, out), function(ROWS @ weights.T + bias), atol=1e-5)


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6", "tanh", "sigmoid", "softmax"])
def test_activation_alone(mixtures, builder, activation):
    out = builder.activation(builder.input("x", (6,)), activation, name="layer")
    got = run(mixtures, builder, out) if activation != "linear" else ROWS
    assert got.shape == ROWS.shape and np.isfinite(got).all()
    assert builder.shape(out) == (1, 6)


def test_splits_and_concatenations_undo_each_other(mixtures, builder):
    pieces = builder.split(builder.input("x", (6,)), 3, names=["a", "b", "c"])
    assert [builder.shape(piece) for piece in pieces] == [(1, 2)] * 3
    np.testing.assert_array_equal(
        run(mixtures, builder, builder.concatenate(pieces[::-1], name="joined")), ROWS[:, [4, 5, 2, 3, 0, 1]]
    )


def test_reshapes_leave_the_batch_free(mixtures, builder):
    shaped = builder.reshape(builder.input("x", (6,)), (2, 3), name="shaped")
    np.testing.assert_allclose(
        run(mixtures, builder, builder.sum(shaped, 1, name="sum")), ROWS.reshape(7, 2, 3).sum(axis=1), atol=1e-6
    )


def test_flatten_adds_nothing_to_what_is_flat(builder):
    x = builder.input("x", (6,))
    assert builder.flatten(x, name="flat") == x and not builder.subgraph.operators
    image = builder.input("image", (2, 3))
    assert builder.shape(builder.flatten(image, name="flat")) == (1, 6)


def test_columns_in_any_order_with_repeats(mixtures, builder):
    out = builder.gather_columns(builder.input("x", (6,)), [5, 0, 5], name="picked")
    np.testing.assert_array_equal(run(mixtures, builder, out), ROWS[:, [5, 0, 5]])


@pytest.mark.parametrize(
    ("operator", "function"),
    [("ADD", np.add), ("SUB", np.subtract), ("MUL", np.multiply), ("MINIMUM", np.minimum), ("MAXIMUM", np.maximum)],
)
def test_arithmetic_broadcasts(mixtures, builder, operator, function):
    other = np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 6)
    out = builder.binary(operator, builder.input("x", (6,)), builder.constant("c", other), name="out")
    np.testing.assert_allclose(run(mixtures, builder, out), function(ROWS, other), atol=1e-6)


def test_equal_constants_are_stored_once_by_value_shape_and_dtype(builder):
    first = builder.constant("a", np.zeros(4, np.float32))
    assert builder.constant("b", np.zeros(4, np.float32)) == first
    assert builder.constant("c", np.zeros((1, 4), np.float32)) != first
    assert builder.constant("d", np.zeros(4, np.int32)) != first


def test_constants_are_copies(mixtures, builder):
    """A caller that reuses its array doesn't change the graph."""
    values = np.ones((1, 6), np.float32)
    constant = builder.constant("c", values)
    values[:] = 9
    out = builder.binary("MUL", builder.input("x", (6,)), constant, name="out")
    np.testing.assert_array_equal(run(mixtures, builder, out), ROWS)


def test_names_are_unique(builder):
    tensors = [builder.tensor("same", (1, 2)) for _ in range(3)]
    names = [builder.subgraph.tensors[tensor].name for tensor in tensors]
    assert names == ["same", "same_1", "same_2"]


def test_operator_codes_are_shared_and_readable_by_old_readers():
    model = new_model("test")
    first = operator_code(model, "FULLY_CONNECTED")
    assert operator_code(model, "FULLY_CONNECTED") == first != operator_code(model, "FULLY_CONNECTED", version=4)
    # Readers older than the 32-bit field see 127, "look in the other field".
    assert model.operatorCodes[operator_code(model, "SIGN")].builtinCode > 127
    for code in model.operatorCodes:
        assert code.deprecatedBuiltinCode == min(code.builtinCode, 127)


def test_buffer_0_is_the_empty_one(builder):
    builder.constant("c", np.ones(4, np.float32))
    builder.output("answer", builder.input("x", (6,)))
    model = read_model(pack(builder.model))
    assert model.buffers[0].data is None or len(model.buffers[0].data) == 0
    assert model.version == 3


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6", "tanh", "softmax"])
def test_biased_is_an_activation_of_the_sum(mixtures, builder, activation):
    bias = np.linspace(-1, 1, 6, dtype=np.float32).reshape(1, 6)
    out = builder.biased(builder.input("x", (6,)), builder.constant("bias", bias), activation=activation, name="layer")
    fused = activation in ("linear", "relu", "relu6")
    assert len(builder.subgraph.operators) == (1 if fused else 2)
    functions = {
        "linear": lambda x: x,
        "relu": lambda x: np.maximum(x, 0),
        "relu6": lambda x: np.clip(x, 0, 6),
        "tanh": np.tanh,
        "softmax": softmax,
    }
    np.testing.assert_allclose(run(mixtures, builder, out), functions[activation](ROWS + bias), atol=1e-6)


def test_a_summed_axis_can_stay(mixtures, builder):
    out = builder.sum(builder.input("x", (6,)), 1, keep_dims=True, name="total")
    assert builder.shape(out) == (1, 1)
    np.testing.assert_allclose(run(mixtures, builder, out), ROWS.sum(axis=1, keepdims=True), rtol=1e-5)


def test_one_hot_of_indices_in_any_batch(mixtures, builder):
    _, indices = builder.top_k(builder.input("x", (6,)), 2, names=("largest", "places"))
    out = builder.one_hot(indices, 6, name="ones")
    assert builder.shape(out) == (1, 2, 6)
    np.testing.assert_array_equal(run(mixtures, builder, out), np.eye(6)[np.argsort(-ROWS, axis=1)[:, :2]])
