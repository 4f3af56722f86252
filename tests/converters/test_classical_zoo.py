"""Mixtures of experts as a dozen people would spell them in plain Keras, and models that only look like one.

Every builder gives the model and, apart from it, the gate's own softmax: the converter has to find the latter itself.
"""

import functools
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from keras import layers, ops

from moe_edge import Predictor
from moe_edge.cli.main import main
from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge_converters import convert

ROWS, FEATURES, CLASSES = 256, 10, 3


def gate_of(x, experts, hidden=8):
    return layers.Dense(experts, activation="softmax")(layers.Dense(hidden, activation="relu")(x))


def sequential(units=12, activation="softmax"):
    return keras.Sequential([layers.Dense(units, activation="relu"), layers.Dense(CLASSES, activation=activation)])


def lambda_reduce_sum():
    """The guide's own: sub-models, stacked and summed inside a Lambda."""
    x = keras.Input((FEATURES,))
    g = gate_of(x, 4)
    answers = [sequential()(x) for _ in range(4)]
    mix = layers.Lambda(lambda t: tf.reduce_sum(tf.expand_dims(t[0], -1) * tf.stack(t[1:], axis=1), axis=1))
    return keras.Model(x, mix([g, *answers])), keras.Model(x, g)


@keras.saving.register_keras_serializable("zoo")
class LoopMixture(keras.Model):
    """A subclassed model: a Python loop, from the last expert to the first; batch norm and dropout in the gate."""

    def __init__(self, num_experts=3, **kwargs):
        super().__init__(**kwargs)
        self.num_experts = num_experts
        self.experts = [sequential(10) for _ in range(num_experts)]
        self.gate = keras.Sequential(
            [layers.Dense(8), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.2),
             layers.Dense(num_experts), layers.Softmax()]
        )  # fmt: skip

    def call(self, inputs, training=None):
        weights = self.gate(inputs, training=training)
        total = 0.0
        for index in reversed(range(self.num_experts)):
            total = total + weights[:, index, None] * self.experts[index](inputs)
        return total

    def get_config(self):
        return {**super().get_config(), "num_experts": self.num_experts}


def subclassed_loop():
    model = LoopMixture()
    model(np.zeros((1, FEATURES), np.float32))
    return model, model.gate


def dot_on_the_last_axis():
    """Answers stacked on the last axis, ``Dot`` with a gate that has a temperature."""
    x = keras.Input((FEATURES,))
    g = layers.Softmax()(layers.Dense(5)(x) / 1.7)
    stack = ops.stack([sequential(9)(x) for _ in range(5)], axis=-1)
    return keras.Model(x, layers.Dot(axes=(2, 1))([stack, g])), keras.Model(x, g)


@keras.saving.register_keras_serializable("zoo")
class EinsumMix(layers.Layer):
    def call(self, weights, answers):
        return ops.einsum("be,ebk->bk", weights, ops.stack(answers, axis=0))


def einsum_layer():
    """A custom layer's einsum over answers stacked on axis 0; the experts are plain layers, of tanh."""
    x = layers.Input((FEATURES,))
    g = gate_of(x, 3)
    answers = [layers.Dense(CLASSES, "softmax")(layers.Dense(8, "tanh")(x)) for _ in range(3)]
    return keras.Model(x, EinsumMix()(g, answers)), keras.Model(x, g)


def multiply_and_add():
    """``Multiply`` with slices of the gate, ``Add`` over the list; experts of unequal depth."""
    x = keras.Input((FEATURES,))
    g = gate_of(x, 3)
    answers = []
    for depth in range(3):
        h = x
        for _ in range(depth):
            h = layers.LeakyReLU()(layers.Dense(7)(h))
        answers.append(layers.Softmax()(layers.Dense(CLASSES)(h)))
    weighted = [layers.Multiply()([g[:, i : i + 1], answer]) for i, answer in enumerate(answers)]
    return keras.Model(x, layers.Add()(weighted)), keras.Model(x, g)


def batch_matmul():
    """(n, 1, E) times (n, E, K), squeezed; logits are mixed and the softmax comes after; standardised first."""
    x = keras.Input((FEATURES,))
    standardise = layers.Normalization()
    standardise.adapt(table()[0])
    h = standardise(x)
    g = gate_of(h, 4)
    stack = ops.stack([sequential(8, None)(h) for _ in range(4)], axis=1)
    mixed = ops.squeeze(ops.matmul(ops.expand_dims(g, 1), stack), axis=1)
    return keras.Model(x, layers.Softmax()(mixed)), keras.Model(x, g)


def wide_dense():
    """All experts are one wide layer, reshaped to (E, K)."""
    x = keras.Input((FEATURES,))
    g = layers.Dense(4, activation="softmax")(x)
    answers = layers.Softmax()(layers.Reshape((4, CLASSES))(layers.Dense(4 * CLASSES)(x)))
    mixed = ops.sum(layers.Reshape((4, 1))(g) * answers, axis=1)
    return keras.Model(x, mixed), keras.Model(x, g)


@keras.saving.register_keras_serializable("zoo")
class StackedExperts(layers.Layer):
    """All experts' weights in one tensor a layer, and the gate, and the sum."""

    def __init__(self, num_experts=4, hidden=8, outputs=CLASSES, **kwargs):
        super().__init__(**kwargs)
        self.sizes = num_experts, hidden, outputs
        self.gate = layers.Dense(num_experts, activation="softmax")

    def build(self, shape):
        experts, hidden, outputs = self.sizes
        self.w1 = self.add_weight(shape=(experts, shape[-1], hidden), initializer="glorot_normal")
        self.b1 = self.add_weight(shape=(experts, hidden), initializer="zeros")
        self.w2 = self.add_weight(shape=(experts, hidden, outputs), initializer="glorot_normal")
        self.b2 = self.add_weight(shape=(experts, outputs), initializer="zeros")
        self.gate.build(shape)

    def call(self, x):
        hidden = ops.relu(ops.einsum("bi,eih->beh", x, self.w1) + self.b1)
        answers = ops.softmax(ops.einsum("beh,eho->beo", hidden, self.w2) + self.b2, axis=-1)
        return ops.einsum("be,beo->bo", self.gate(x), answers)

    def get_config(self):
        experts, hidden, outputs = self.sizes
        return {**super().get_config(), "num_experts": experts, "hidden": hidden, "outputs": outputs}


def stacked_weights():
    mixture = StackedExperts()
    model = keras.Sequential([keras.Input((FEATURES,)), mixture])
    return model, keras.Sequential([keras.Input((FEATURES,)), mixture.gate])


def repeat_and_permute():
    """As written before there was ``keras.ops``: RepeatVector, Permute, Concatenate of Reshapes, and a shared trunk."""
    x = keras.Input((FEATURES,))
    trunk = layers.Dense(12, activation="relu")(x)
    g = layers.Dense(3, activation="softmax")(trunk)
    answers = [layers.Reshape((1, CLASSES))(sequential(6)(trunk)) for _ in range(3)]
    weights = layers.Permute((2, 1))(layers.RepeatVector(CLASSES)(g))
    weighted = layers.Multiply()([layers.Concatenate(axis=1)(answers), weights])
    return keras.Model(x, layers.Lambda(lambda t: t[:, 0] + t[:, 1] + t[:, 2])(weighted)), keras.Model(x, g)


def convolutional():
    """Small images: rescaled, convolutional experts, a gate on a pooled image."""
    x = keras.Input((8, 8, 1))
    h = layers.Rescaling(0.5, offset=0.1)(x)
    g = gate_of(layers.Flatten()(layers.MaxPooling2D()(h)), 3)
    answers = []
    for _ in range(3):
        c = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(h)
        answers.append(layers.Dense(CLASSES, activation="softmax")(layers.Flatten()(c)))
    stack = layers.Lambda(lambda t: tf.stack(t, axis=1))(answers)
    return keras.Model(x, layers.Dot(axes=1)([g, stack])), keras.Model(x, g)


def one_number():
    """Regression: each expert is one number; they are concatenated to (n, E), multiplied and summed."""
    x = keras.Input((FEATURES,))
    g = gate_of(x, 4)
    answers = layers.Concatenate()([layers.Dense(1)(layers.Dense(8, "relu")(x)) for _ in range(4)])
    return keras.Model(x, ops.sum(g * answers, axis=-1, keepdims=True)), keras.Model(x, g)


def two_numbers():
    """Regression: several linear outputs, weighted and summed with Python's own ``sum``; a trained batch norm first."""
    x = keras.Input((FEATURES,))
    h = layers.BatchNormalization()(x)
    g = gate_of(h, 3)
    answers = [layers.Dense(2)(layers.Dense(8, activation="elu")(h)) for _ in range(3)]
    return keras.Model(x, sum(ops.expand_dims(g[:, i], 1) * answer for i, answer in enumerate(answers))), keras.Model(
        x, g
    )


def attention_pooling():
    """A softmax over positions weighs what one shared layer says of each of them."""
    x = keras.Input((6, 5))
    weights = layers.Softmax(axis=1)(layers.Dense(1)(x))
    pooled = ops.sum(weights * layers.Dense(8, activation="relu")(x), axis=1)
    return keras.Model(x, layers.Dense(CLASSES, activation="softmax")(pooled)), None


def squeeze_and_excitation():
    x = keras.Input((8, 8, 1))
    h = layers.Conv2D(6, 3, activation="relu")(x)
    weights = layers.Dense(6, "sigmoid")(layers.Dense(3, "relu")(layers.GlobalAveragePooling2D()(h)))
    h = layers.GlobalAveragePooling2D()(h * layers.Reshape((1, 1, 6))(weights))
    return keras.Model(x, layers.Dense(CLASSES, activation="softmax")(h)), None


def ensemble_mean():
    x = keras.Input((FEATURES,))
    return keras.Model(x, layers.Average()([sequential()(x) for _ in range(4)])), None


def plain_classifier():
    x = keras.Input((FEATURES,))
    return keras.Model(x, sequential()(x)), None


MIXTURES = {
    lambda_reduce_sum: 4, subclassed_loop: 3, dot_on_the_last_axis: 5, einsum_layer: 3, multiply_and_add: 3,
    batch_matmul: 4, wide_dense: 4, stacked_weights: 4, repeat_and_permute: 3, convolutional: 3,
    one_number: 4, two_numbers: 3,
}  # fmt: skip
REGRESSION = {one_number: 1, two_numbers: 2}
LOOK_ALIKES = {
    # What the message must say is missing.
    attention_pooling: r"6 values .* aren't 6 experts",
    squeeze_and_excitation: r"no gate: no softmax",
    ensemble_mean: r"no gate: no softmax",
    plain_classifier: r"no gate: no softmax",
}
all_mixtures = pytest.mark.parametrize("build", MIXTURES, ids=lambda build: build.__name__)
look_alikes = pytest.mark.parametrize("build", LOOK_ALIKES, ids=lambda build: build.__name__)


def table(shape=(FEATURES,)):
    """Rows around three centres, and their classes."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, CLASSES, ROWS)
    centres = rng.normal(size=(CLASSES, *shape)) * 1.5 / len(shape) ** 2
    return (centres[y] + rng.normal(size=(ROWS, *shape))).astype(np.float32), y


@functools.cache
def trained(build):
    """The model after a few steps, the gate that is part of it, and the rows; made once."""
    keras.utils.set_random_seed(11)
    model, gate = build()
    x, y = table((FEATURES,) if build is subclassed_loop else model.input_shape[1:])
    loss = "sparse_categorical_crossentropy"
    if build in REGRESSION:
        loss = "mse"
        y = np.stack([np.sin(x[:, 0]) * x[:, 1], np.abs(x[:, 2])], axis=1)[:, : REGRESSION[build]]
    model.compile(keras.optimizers.Adam(0.02), loss)
    model.fit(x, y, batch_size=32, epochs=6, verbose=0)
    return model, gate, x


def check_answers(path, build):
    """The file answers as Keras does, with the gate's own softmax in the gate's own order."""
    model, gate, x = trained(build)
    with Predictor(path) as predictor:
        assert predictor.num_experts == MIXTURES[build]
        raw = predictor.predict_raw(x)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(raw["prediction"], expected, atol=1e-5, rtol=1e-5)
    weights = np.asarray(gate(x, training=False))
    assert weights.std(axis=0).max() > 0.02, "the test's gate must tell rows apart"
    np.testing.assert_allclose(raw["routing_weights"], weights, atol=1e-5)


@all_mixtures
def test_a_mixture_however_spelled_is_fused(build, tmp_path):
    model, _, x = trained(build)
    result = convert(model, tmp_path / "m.tflite", calibration=x, scheme="float32")
    assert result.manifest.num_experts == MIXTURES[build]
    assert result.manifest.task is (Task.REGRESSION if build in REGRESSION else Task.CLASSIFICATION)
    check_answers(result.path, build)


@all_mixtures
def test_a_mixture_however_spelled_quantizes(build, tmp_path):
    model, _, x = trained(build)
    result = convert(model, tmp_path / "m.tflite", calibration=x, scheme="w8a8")
    assert result.manifest.num_experts == MIXTURES[build]
    prediction = Predictor(result.path).predict_raw(x)["prediction"]
    expected = model.predict(x, verbose=0)
    if build in REGRESSION:
        assert np.sqrt(np.mean((prediction - expected) ** 2)) < 0.05 * expected.std()
    else:
        assert np.mean(prediction.argmax(1) == expected.argmax(1)) >= 0.95


@look_alikes
def test_a_look_alike_is_refused_with_the_missing_step(build, tmp_path):
    model, _, x = trained(build)
    with pytest.raises(ConversionError) as caught:
        convert(model, tmp_path / "m.tflite", calibration=x, scheme="float32")
    message = str(caught.value)
    assert re.search(LOOK_ALIKES[build], message), message
    assert "--no-fuse" in message and "fuse=False" in message, message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


@look_alikes
def test_a_look_alike_converts_plainly(build, tmp_path):
    model, _, x = trained(build)
    result = convert(model, tmp_path / "m.tflite", calibration=x, scheme="float32", fuse=False)
    prediction = Predictor(result.path).predict_raw(x)["prediction"]
    np.testing.assert_allclose(prediction, model.predict(x, verbose=0), atol=1e-5, rtol=1e-5)


def command(*arguments):
    result = CliRunner().invoke(main, ["convert", *map(str, arguments)])
    return result, " ".join(result.output.split())


CUSTOM = """
import keras
from keras import ops


@keras.saving.register_keras_serializable("my_layers")
class WeightedSum(keras.layers.Layer):
    def call(self, inputs):
        weights, *answers = inputs
        return ops.sum(weights[:, None, :] * ops.stack(answers, axis=-1), axis=-1)
"""


def test_a_saved_file_with_a_layer_of_its_own(tmp_path):
    """As its author would: the module lies in the folder where the command runs, in a process of its own."""
    (tmp_path / "my_layers.py").write_text(CUSTOM, encoding="utf-8")
    scope = {"__name__": "my_layers"}
    exec(CUSTOM, scope)
    keras.utils.set_random_seed(3)
    x = keras.Input((FEATURES,))
    g = gate_of(x, 3)
    model = keras.Model(x, scope["WeightedSum"]()([g, *(sequential(6)(x) for _ in range(3))]))
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    rows, labels = table()
    model.fit(rows, labels, verbose=0)
    model.save(tmp_path / "m.keras")

    moe_edge = Path(sys.executable).with_name("moe-edge")
    arguments = ["convert", "m.keras", "--import", "my_layers", "--scheme", "float32", "-q"]
    done = subprocess.run([str(moe_edge), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    raw = Predictor(tmp_path / "m.tflite").predict_raw(rows)
    np.testing.assert_allclose(raw["prediction"], model.predict(rows, verbose=0), atol=1e-5)
    np.testing.assert_allclose(raw["routing_weights"], keras.Model(x, g).predict(rows, verbose=0), atol=1e-5)


@pytest.mark.parametrize("build", [lambda_reduce_sum, repeat_and_permute], ids=lambda build: build.__name__)
def test_a_saved_lambda_is_loaded_only_when_trusted(build, tmp_path):
    """One lambda names a module, ``tf``, which Keras doesn't keep, and the other names none."""
    trained(build)[0].save(tmp_path / "m.keras")
    result, text = command(tmp_path / "m.keras", "--scheme", "float32")
    assert result.exit_code == 1
    assert "--unsafe-load" in text
    assert not (tmp_path / "m.tflite").exists()
    result, text = command(tmp_path / "m.keras", "--scheme", "float32", "--unsafe-load")
    assert result.exit_code == 0, text
    check_answers(tmp_path / "m.tflite", build)


@pytest.mark.parametrize("build", [subclassed_loop, dot_on_the_last_axis], ids=lambda build: build.__name__)
def test_a_saved_model_folder(build, tmp_path):
    trained(build)[0].export(tmp_path / "saved", verbose=False)
    result, text = command(tmp_path / "saved", "--scheme", "float32", "-o", tmp_path / "m.tflite")
    assert result.exit_code == 0, text
    check_answers(tmp_path / "m.tflite", build)


def test_no_fuse_on_the_command_line(tmp_path):
    model, _, x = trained(ensemble_mean)
    model.save(tmp_path / "m.keras")
    result, text = command(tmp_path / "m.keras", "--scheme", "float32")
    assert result.exit_code == 1
    assert "--no-fuse" in text
    result, text = command(tmp_path / "m.keras", "--scheme", "float32", "--no-fuse")
    assert result.exit_code == 0, text
    prediction = Predictor(tmp_path / "m.tflite").predict_raw(x)["prediction"]
    np.testing.assert_allclose(prediction, model.predict(x, verbose=0), atol=1e-5)
