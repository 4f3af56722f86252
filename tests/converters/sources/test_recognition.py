"""Classical mixtures built with plain Keras, each spelled differently, are recognised and answer as before."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError
from moe_edge.runtime.predictor import Predictor
from moe_edge_converters.conversion import convert
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.fused_graph import build_fused_graph
from moe_edge_converters.sources.recognition import recognise_mixture, run_graph
from moe_edge_converters.sources.tracing import trace_keras
from moe_edge_converters.spec import DenseNetwork, GraphNetwork
from shared.keras_parts import D, E, K, expert, gate, row, weigh


def lambda_sum():
    x = row()
    stacked = layers.Lambda(lambda answers: ops.stack(answers, axis=1))([expert(x) for _ in range(E)])
    mix = layers.Lambda(lambda pair: ops.sum(pair[0][..., None] * pair[1], axis=1))
    return keras.Model(x, mix([gate(x), stacked]))


def multiply_add():
    x = row()
    weights = gate(x)
    terms = [layers.Multiply()([expert(x), weights[:, e : e + 1]]) for e in range(E)]
    return keras.Model(x, layers.Add()(terms))


def dot():
    x = row()
    answers = layers.Concatenate(axis=1)([layers.Reshape((1, K))(expert(x)) for _ in range(E)])
    return keras.Model(x, layers.Dot(axes=(1, 1))([gate(x), answers]))


def einsum_of_logits():
    x = row()
    answers = ops.stack([expert(x, "linear") for _ in range(E)], axis=1)
    return keras.Model(x, layers.Softmax()(ops.einsum("be,bek->bk", gate(x), answers)))


def stack_on_the_last_axis():
    x = row()
    answers = ops.stack([expert(x, "linear", outputs=1) for _ in range(E)], axis=-1)
    return keras.Model(x, ops.sum(answers * gate(x)[:, None, :], axis=-1))


def matrix_product():
    x = row()
    answers = ops.stack([expert(x) for _ in range(E)], axis=1)
    return keras.Model(x, ops.squeeze(ops.matmul(ops.expand_dims(gate(x), 1), answers), 1))


def one_wide_layer():
    x = row()
    hidden = layers.Dense(12, activation="relu")(x)
    answers = layers.Softmax()(layers.Reshape((E, K))(layers.Dense(E * K)(hidden)))
    return keras.Model(x, ops.sum(answers * gate(x)[..., None], axis=1))


class Loop(keras.Model):
    """Experts and gate as sub-models, mixed in a Python loop."""

    def __init__(self):
        super().__init__()
        self.experts = [
            keras.Sequential(
                [
                    layers.Dense(9, activation="relu"),
                    layers.BatchNormalization(),
                    layers.Dropout(0.3),
                    layers.Dense(K, activation="softmax"),
                ]
            )
            for _ in range(E)
        ]
        self.gate = keras.Sequential([layers.Dropout(0.1), layers.Dense(8, activation="tanh"), layers.Dense(E)])

    def call(self, x, training=False):
        weights = ops.softmax(self.gate(x, training=training))
        answer = 0.0
        for index, part in enumerate(self.experts):
            answer = answer + weights[:, index : index + 1] * part(x, training=training)
        return answer


def subclassed():
    model = Loop()
    model(np.zeros((2, D), np.float32))
    return model


class Stacked(layers.Layer):
    """All experts' layers as one tensor of weights."""

    def __init__(self, units, activation):
        super().__init__()
        self.units, self.activation = units, keras.activations.get(activation)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(E, shape[-1], self.units), initializer="glorot_uniform")
        self.bias = self.add_weight(shape=(E, self.units), initializer="normal")

    def call(self, x):
        form = "bi,eio->beo" if len(x.shape) == 2 else "bei,eio->beo"
        return self.activation(ops.einsum(form, x, self.kernel) + self.bias)


def stacked_weights(activation="relu"):
    x = row()
    answers = Stacked(K, "softmax")(Stacked(7, activation)(x))
    return keras.Model(x, ops.einsum("be,bek->bk", gate(x), answers))


def stacked_weights_with_silu():
    return stacked_weights("silu")


def images():
    x = row(8, 8, 1)

    def part():
        maps = layers.Conv2D(4, 3, activation="relu")(x)
        return layers.Dense(K, activation="softmax")(layers.GlobalAveragePooling2D()(maps))

    return keras.Model(x, weigh(gate(layers.Flatten()(x)), [part() for _ in range(E)]))


def trunk():
    x = row()
    scaled = layers.Normalization(mean=[1.0] * D, variance=[4.0] * D)(x)
    hidden = layers.Dense(10, activation="relu")(scaled)
    return keras.Model(x, weigh(gate(hidden), [expert(hidden, hidden=(5,) * depth) for depth in range(E)]))


def different_features():
    x = row()
    return keras.Model(x, weigh(gate(x[:, :3]), [expert(x[:, 2:]) for _ in range(E)]))


def rescaled_images():
    x = row(6, 6, 1)
    flat = layers.Flatten()(layers.Rescaling(1 / 255.0)(x))
    return keras.Model(x, weigh(gate(flat), [expert(flat) for _ in range(E)]))


def softmax_by_hand():
    x = row()
    logits = layers.Dense(E)(x)
    powers = ops.exp(logits - ops.max(logits, -1, keepdims=True))
    return keras.Model(x, weigh(powers / ops.sum(powers, -1, keepdims=True), [expert(x) for _ in range(E)]))


def top_k():
    x = row()
    weights = gate(x)
    best, _ = ops.top_k(weights, 2)
    kept = ops.cast(weights >= best[:, 1:2], "float32") * weights
    return keras.Model(x, weigh(kept / ops.sum(kept, -1, keepdims=True), [expert(x) for _ in range(E)]))


def residual_experts():
    x = row()

    def part():
        hidden = layers.Dense(8, activation="gelu")(x)
        return layers.Dense(K)(layers.LayerNormalization()(hidden + layers.Dense(8)(x)))

    answers = ops.stack([part() for _ in range(E)], axis=2)
    return keras.Model(x, ops.sum(answers * gate(x)[:, None, :], axis=-1))


def dense_after_the_sum():
    x = row()
    mixed = weigh(gate(x), [expert(x, "relu", outputs=9) for _ in range(E)])
    return keras.Model(x, layers.Dense(K, activation="softmax")(mixed))


def sigmoids():
    x = row()
    weights = gate(x, 2)
    first, second = expert(x, "sigmoid", outputs=1), expert(x, "sigmoid", outputs=1)
    return keras.Model(x, first * weights[:, :1] + second * weights[:, 1:])


def scaled_answer():
    x = row()
    mixed = weigh(gate(x), [expert(x, "linear", outputs=2) for _ in range(E)])
    return keras.Model(x, layers.Rescaling(25.0, 3.0)(mixed))


def mixture_of_mixtures():
    x = row()

    def inner():
        return weigh(gate(x, 3), [expert(x) for _ in range(3)])

    return keras.Model(x, weigh(gate(x, 2), [inner() for _ in range(2)]))


def recurrent():
    x = row(5, 3)
    answers = [layers.Dense(K)(layers.SimpleRNN(4, unroll=True)(x)) for _ in range(E)]
    return keras.Model(x, weigh(gate(layers.Flatten()(x)), answers))


def embedded_codes():
    x = keras.Input((5,), dtype="int32")
    features = layers.Flatten()(layers.Embedding(10, 4)(x))
    return keras.Model(x, weigh(gate(features), [expert(features) for _ in range(E)]))


def build(builder, seed=0):
    """Build a model with seeded weights, biases and batch statistics that matter."""
    keras.utils.set_random_seed(seed)
    model = builder()
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("bias", "beta", "gamma", "moving_mean"):
            weight.assign(weight + rng.normal(size=weight.shape) * 0.3)
    return model


def rows_for(model, count=40, seed=1):
    """Rows of a kind that the model takes."""
    rng = np.random.default_rng(seed)
    inputs = getattr(model, "inputs", None)
    shape = tuple(inputs[0].shape[1:]) if inputs else (D,)
    if inputs and "int" in inputs[0].dtype:
        return rng.integers(0, 10, size=(count, *shape)).astype(np.float32)
    return rng.normal(size=(count, *shape)).astype(np.float32)


PROBABILITIES, MEAN, LOGITS = Combine.PROBABILITIES, Combine.MEAN, Combine.LOGITS
MIXTURES = {
    lambda_sum: (PROBABILITIES, DenseNetwork),
    multiply_add: (PROBABILITIES, DenseNetwork),
    dot: (PROBABILITIES, DenseNetwork),
    einsum_of_logits: (LOGITS, DenseNetwork),
    stack_on_the_last_axis: (MEAN, DenseNetwork),
    matrix_product: (PROBABILITIES, DenseNetwork),
    one_wide_layer: (PROBABILITIES, DenseNetwork),
    subclassed: (PROBABILITIES, DenseNetwork),
    stacked_weights: (PROBABILITIES, DenseNetwork),
    stacked_weights_with_silu: (PROBABILITIES, GraphNetwork),
    images: (PROBABILITIES, GraphNetwork),
    trunk: (PROBABILITIES, DenseNetwork),
    different_features: (PROBABILITIES, DenseNetwork),
    rescaled_images: (PROBABILITIES, DenseNetwork),
    softmax_by_hand: (PROBABILITIES, DenseNetwork),
    top_k: (PROBABILITIES, DenseNetwork),
    residual_experts: (MEAN, GraphNetwork),
    dense_after_the_sum: (LOGITS, DenseNetwork),
    sigmoids: (PROBABILITIES, DenseNetwork),
    scaled_answer: (MEAN, DenseNetwork),
    mixture_of_mixtures: (PROBABILITIES, GraphNetwork),
    recurrent: (MEAN, GraphNetwork),
    embedded_codes: (PROBABILITIES, DenseNetwork),
}


def named(builders):
    return [pytest.param(builder, id=builder.__name__) for builder in builders]


@pytest.mark.parametrize("builder", named(MIXTURES))
def test_a_mixture_is_recognised_however_it_is_spelled(builder):
    model = build(builder)
    rows = rows_for(model)
    spec = recognise_mixture(trace_keras(model).content)
    combine, kind = MIXTURES[builder]
    assert spec.combine is combine
    assert {type(expert) for expert in spec.experts} == {kind}
    fused, _ = build_fused_graph(spec, ["float32"] * spec.num_experts)
    expected = np.asarray(model(rows))
    np.testing.assert_allclose(run_graph(pack(fused), rows), expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("builder", named([multiply_add, subclassed, stacked_weights, trunk]))
def test_the_gate_sends_rows_where_the_model_does(builder):
    model = build(builder)
    rows = rows_for(model)
    spec = recognise_mixture(trace_keras(model).content)
    fused, layout = build_fused_graph(spec, ["float32"] * spec.num_experts)
    graph = pack(fused)
    # Each expert alone, by a gate that sends every row to it, must be what the mixture adds up.
    from moe_edge_converters.sources.float_graph import FloatGraph, GraphRunner

    parsed = FloatGraph(graph)
    runner = GraphRunner(parsed)
    index = {parsed.tensors[i].name.decode(): i for i in range(len(parsed.tensors))}
    for row_, expected in zip(rows, np.asarray(model(rows)), strict=True):
        values = runner.run(row_)
        weights = values[index["routing_weights"]].reshape(-1)
        assert weights.shape == (E,) and abs(weights.sum() - 1) < 1e-5
        answers = values[index[layout.stacked]].reshape(E, -1)
        if spec.combine is Combine.PROBABILITIES:
            powers = np.exp(answers - answers.max(axis=1, keepdims=True))
            answers = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(weights @ answers, expected, atol=1e-5)


@pytest.mark.parametrize("builder", named([multiply_add, images, recurrent, embedded_codes, top_k]))
def test_a_recognised_mixture_is_written_and_answers_rows_in_any_number(builder, tmp_path):
    model = build(builder)
    rows = rows_for(model)
    convert(model, tmp_path / "m.tflite", calibration=rows, scheme="float32")
    expected = np.asarray(model(rows))
    with Predictor(tmp_path / "m.tflite") as predictor:
        np.testing.assert_allclose(predictor.predict_raw(rows)["prediction"], expected, atol=1e-5)
        np.testing.assert_allclose(predictor.predict_raw(rows[0])["prediction"], expected[:1], atol=1e-5)


def test_stacked_weights_become_one_expert_each_with_its_own_slice():
    model = build(stacked_weights)
    spec = recognise_mixture(trace_keras(model).content)
    first = next(layer for layer in model.layers if isinstance(layer, Stacked))
    for index, expert_ in enumerate(spec.experts):
        np.testing.assert_allclose(expert_.layers[0].kernel, np.asarray(first.kernel)[index], atol=1e-6)
        np.testing.assert_allclose(expert_.layers[0].bias, np.asarray(first.bias)[index], atol=1e-6)


def test_what_gate_and_experts_share_is_a_trunk_that_is_stored_once():
    spec = recognise_mixture(trace_keras(build(trunk)).content)
    assert spec.trunk is not None and spec.trunk.num_outputs == 10
    assert [len(expert_.layers) for expert_ in spec.experts] == [1, 2, 3, 4]
    assert recognise_mixture(trace_keras(build(multiply_add)).content).trunk is None


def test_the_task_follows_from_the_answers():
    tasks = {b: recognise_mixture(trace_keras(build(b)).content).task for b in (dot, scaled_answer, sigmoids)}
    assert tasks == {dot: Task.CLASSIFICATION, scaled_answer: Task.REGRESSION, sigmoids: Task.REGRESSION}


def test_many_experts_are_told_apart():
    def many():
        x = row(16)
        return keras.Model(x, weigh(gate(x, 40), [expert(x, hidden=(4,)) for _ in range(40)]))

    spec = recognise_mixture(trace_keras(build(many)).content)
    assert spec.num_experts == 40
    assert len({expert_.layers[0].kernel.tobytes() for expert_ in spec.experts}) == 40


def test_large_raw_columns_are_no_reason_to_doubt_the_numbers():
    model = build(multiply_add)
    rows = rows_for(model) * 1000
    assert recognise_mixture(trace_keras(model).content, rows).num_experts == E


def test_a_model_that_answers_with_nan_is_refused():
    model = build(multiply_add)
    model.weights[0].assign(model.weights[0] * np.nan)
    with pytest.raises(ConversionError, match="NaN or infinity"):
        recognise_mixture(trace_keras(model).content)


@pytest.mark.parametrize("scheme", ["w8a8", "w4"])
def test_an_embedding_keeps_every_code_when_experts_are_quantized(scheme, tmp_path):
    model = build(embedded_codes)
    rows = rows_for(model, 200)
    convert(model, tmp_path / "m.tflite", calibration=rows, scheme=scheme)
    expected = np.asarray(model(rows))
    with Predictor(tmp_path / "m.tflite") as predictor:
        assert (predictor.predict_raw(rows)["prediction"].argmax(1) == expected.argmax(1)).mean() > 0.9
