"""Models that only look like a mixture aren't mistaken for one, and one message says which step is missing."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from moe_edge.errors import ConversionError
from moe_edge.runtime.predictor import Predictor
from moe_edge_converters.conversion import convert
from moe_edge_converters.sources.recognition import recognise_mixture
from moe_edge_converters.sources.source import PLAIN
from moe_edge_converters.sources.tracing import trace_keras
from shared.keras_parts import D, E, K, expert, gate, row, weigh


def attention():
    x = row(5, 6)
    values = layers.Dense(7)(x)
    weights = layers.Softmax(axis=1)(layers.Dense(1)(x))
    return keras.Model(x, layers.Dense(K, activation="softmax")(ops.sum(values * weights, 1)))


def attention_of_the_row_itself():
    x = row(5, K)
    weights = ops.softmax(layers.Dense(1)(x)[..., 0])
    return keras.Model(x, ops.sum(x * weights[..., None], 1))


def self_attention():
    x = row(5, 6)
    hidden = layers.MultiHeadAttention(2, 4)(x, x)
    return keras.Model(x, layers.Dense(K, activation="softmax")(layers.GlobalAveragePooling1D()(hidden)))


def squeeze_and_excitation(closing="sigmoid"):
    x = row(8, 8, 3)
    maps = layers.Conv2D(6, 3, activation="relu")(x)
    scale = layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(maps))
    maps = maps * layers.Dense(6, activation=closing)(scale)[:, None, None, :]
    return keras.Model(x, layers.Dense(K, activation="softmax")(layers.GlobalAveragePooling2D()(maps)))


def softmax_over_channels():
    return squeeze_and_excitation("softmax")


def softmax_over_hidden_units():
    x = row()
    return keras.Model(x, layers.Dense(K)(layers.Dense(6)(x) * layers.Dense(6, activation="softmax")(x)))


def ensemble_mean():
    x = row()
    return keras.Model(x, layers.Average()([expert(x) for _ in range(E)]))


def plain_classifier():
    x = row()
    return keras.Model(x, expert(x))


def sigmoid_gate():
    x = row()
    return keras.Model(x, weigh(layers.Dense(E, activation="sigmoid")(x), [expert(x) for _ in range(E)]))


def mixture_in_the_middle():
    x = row()
    return keras.Model(x, expert(weigh(gate(x), [expert(x, "relu") for _ in range(E)])))


class LearnedWeights(layers.Layer):
    def build(self, shape):
        self.logits = self.add_weight(shape=(E,))

    def call(self, answers):
        return ops.sum(answers * ops.softmax(self.logits)[None, :, None], 1)


def same_weights_for_every_row():
    x = row()
    return keras.Model(x, LearnedWeights()(ops.stack([expert(x) for _ in range(E)], 1)))


def one_network_many_times():
    x = row()
    shared = keras.Sequential([layers.Dense(9, activation="relu"), layers.Dense(K, activation="softmax")])
    answers = [shared(x[:, e : e + 5]) for e in range(E)]
    return keras.Model(x, weigh(gate(x), answers))


def build(builder, seed=0):
    """Build a model with seeded weights, biases and batch statistics that matter."""
    keras.utils.set_random_seed(seed)
    model = builder()
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("bias", "beta", "gamma", "moving_mean"):
            weight.assign(weight + rng.normal(size=weight.shape) * 0.3)
    return model


LOOK_ALIKES = {
    attention: "shares all its weights with the others, as in attention",
    attention_of_the_row_itself: "as in attention",
    self_attention: "no gate",
    squeeze_and_excitation: "no gate",
    softmax_over_channels: "isn't followed by a weighted sum",
    softmax_over_hidden_units: "isn't followed by a weighted sum",
    ensemble_mean: "no gate",
    plain_classifier: "no gate",
    sigmoid_gate: "no gate",
    mixture_in_the_middle: "doesn't reach the output",
    same_weights_for_every_row: "no gate",
    one_network_many_times: "shares all its weights",
}


@pytest.mark.parametrize("builder", [pytest.param(b, id=b.__name__) for b in LOOK_ALIKES])
def test_a_look_alike_is_no_mixture_and_the_missing_step_is_named(builder):
    with pytest.raises(ConversionError) as caught:
        recognise_mixture(trace_keras(build(builder)).content)
    assert LOOK_ALIKES[builder] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("builder", [attention, squeeze_and_excitation, ensemble_mean], ids=lambda b: b.__name__)
def test_what_is_no_mixture_is_converted_whole_when_asked(builder, tmp_path):
    model = build(builder)
    rows = np.random.default_rng(1).normal(size=(60, *model.inputs[0].shape[1:])).astype(np.float32)
    path = tmp_path / "m.tflite"
    with pytest.raises(ConversionError, match="--no-fuse"):
        convert(model, path, calibration=rows, scheme="float32")
    assert not path.exists()
    result = convert(model, path, calibration=rows, scheme="float32", fuse=False)
    assert result.manifest.num_experts == 1 and not result.manifest.combine.routable
    assert result.manifest.provenance["form"] == PLAIN
    expected = np.asarray(model(rows))
    with Predictor(path) as predictor:
        np.testing.assert_allclose(predictor.predict_raw(rows)["prediction"], expected, atol=1e-5)
        assert list(predictor.predict(rows)) == [str(k) for k in expected.argmax(1)]


def test_the_whole_model_quantizes_with_its_softmax_in_float(tmp_path):
    model = build(plain_classifier)
    rows = np.random.default_rng(1).normal(size=(200, D)).astype(np.float32)
    result = convert(model, tmp_path / "m.tflite", calibration=rows, scheme="w8a8", fuse=False)
    assert result.check.top1_agreement > 0.95
    np.testing.assert_allclose(result.check.predictions.sum(axis=1), 1, atol=1e-5)
