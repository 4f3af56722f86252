"""What ``convert`` takes: models in memory, .keras files with classes of their own, SavedModel folders; and refusals."""

import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from keras import layers, ops

from moe_edge.cli.main import main
from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError, ModelFileError
from moe_edge.runtime.predictor import Predictor
from moe_edge.schema import numbered_schema
from moe_edge.training.builders import create_moe_model
from moe_edge_converters.conversion import convert
from moe_edge_converters.sources.source import open_source, read_source
from moe_edge_converters.sources.tracing import TracedModel, row_shape, trace_keras

E, K, D = 3, 4, 5

MODULE = """
    import keras
    from keras import layers, ops

    class LoopMixture(keras.Model):
        def __init__(self, num_experts=3, **kwargs):
            super().__init__(**kwargs)
            self.num_experts = num_experts
            self.gate = layers.Dense(num_experts)
            self.experts = [layers.Dense(4, activation="softmax") for _ in range(num_experts)]

        def build(self, shape):
            for layer in (self.gate, *self.experts):
                layer.build(shape)
            self.built = True

        def call(self, x):
            weights = ops.softmax(self.gate(x))
            return sum(weights[:, e : e + 1] * part(x) for e, part in enumerate(self.experts))

        def get_config(self):
            return {**super().get_config(), "num_experts": self.num_experts}
"""


def functional(mix=None, inputs=None):
    keras.utils.set_random_seed(3)
    x = inputs if inputs is not None else keras.Input((D,))
    weights = layers.Dense(E, activation="softmax")(x)
    answers = [layers.Dense(K, activation="softmax")(layers.Dense(6, activation="relu")(x)) for _ in range(E)]
    if mix is not None:
        return keras.Model(x, mix([weights, *answers]))
    return keras.Model(x, ops.sum(ops.stack(answers, axis=1) * weights[..., None], axis=1))


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(50, D)).astype(np.float32)


@pytest.fixture
def custom(tmp_path, monkeypatch):
    """A saved model whose class stands, unregistered, in a module beside it; and the module's name."""
    name = f"mixture_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(name)
    keras.utils.set_random_seed(4)
    model = module.LoopMixture()
    model(np.zeros((2, D), np.float32))
    model.save(tmp_path / "custom.keras")
    del sys.modules[name]
    return name, tmp_path / "custom.keras", model


def test_a_class_of_the_users_own_module_is_loaded_when_the_module_is_named(custom, rows):
    name, path, model = custom
    with pytest.raises(ModelFileError, match=f"--import {name}"):
        open_source(path)
    loaded = open_source(path, custom_modules=[name])
    source = read_source(loaded.model)
    assert source.spec.num_experts == E
    np.testing.assert_allclose(source.predict(rows), np.asarray(model(rows)), atol=1e-6)


def test_a_lambda_is_loaded_only_when_the_file_is_trusted_and_finds_its_names(tmp_path, rows):
    mix = layers.Lambda(lambda t: tf.reduce_sum(t[0][:, :, None] * tf.stack(t[1:], axis=1), axis=1))
    model = functional(mix)
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(ModelFileError, match="--unsafe-load"):
        open_source(tmp_path / "lambda.keras")
    source = read_source(open_source(tmp_path / "lambda.keras", unsafe=True).model)
    assert source.spec.combine is Combine.PROBABILITIES
    np.testing.assert_allclose(source.predict(rows), np.asarray(model(rows)), atol=1e-6)


def test_a_saved_model_folder_is_converted(tmp_path, rows):
    model = functional()
    model.export(tmp_path / "saved", verbose=False)
    convert(tmp_path / "saved", tmp_path / "m.tflite", calibration=rows, scheme="float32")
    with Predictor(tmp_path / "m.tflite") as predictor:
        assert predictor.num_experts == E and predictor.manifest.provenance["source"] == "saved"
        np.testing.assert_allclose(predictor.predict_raw(rows)["prediction"], np.asarray(model(rows)), atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_saved_model_for_a_fixed_number_of_rows(batch, tmp_path, rows):
    model = functional()
    function = tf.function(model).get_concrete_function(tf.TensorSpec([batch, D], tf.float32, name="x"))
    tf.saved_model.save(model, tmp_path / "saved", signatures=function)
    if batch == 1:
        source = read_source(tmp_path / "saved")
        np.testing.assert_allclose(source.predict(rows), np.asarray(model(rows)), atol=1e-5)
    else:
        with pytest.raises(ConversionError, match="any number of rows, got one for 4"):
            read_source(tmp_path / "saved")


def test_a_saved_model_that_runs_python_is_refused_unread(tmp_path):
    class Calls(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, D], tf.float32)])
        def serve(self, x):
            return tf.py_function(lambda rows: rows, [x], tf.float32)

    module = Calls()
    tf.saved_model.save(module, tmp_path / "saved", signatures=module.serve)
    with pytest.raises(ModelFileError, match="EagerPyFunc"):
        open_source(tmp_path / "saved")


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"not a graph"])
def test_a_damaged_saved_model_is_one_line(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises((ModelFileError, ConversionError)) as caught:
        open_source(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_saved_model_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"without saved_model\.pb"):
        open_source(tmp_path)


def test_our_own_models_are_read_layer_by_layer(rows):
    source = read_source(create_moe_model(D, K, E))
    assert source.probe is None and len(source.spec.experts[0].layers) == 3


def test_a_users_layer_of_our_layers_name_is_not_taken_for_ours(rows):
    class WeightedSum(layers.Layer):
        def call(self, tensors):
            return ops.sum(tensors[0][:, :, None] * ops.stack(tensors[1:], axis=1), axis=1)

    model = functional(WeightedSum())
    source = read_source(model, rows=rows)
    assert source.probe is not None and source.spec.num_experts == E


def test_the_schema_decides_the_task_of_summed_logits():
    x = keras.Input((D,))
    weights = layers.Dense(E, activation="softmax")(x)
    answers = ops.stack([layers.Dense(K)(x) for _ in range(E)], axis=1)
    model = keras.Model(x, ops.sum(answers * weights[..., None], axis=1))
    assert read_source(model).spec.task is Task.REGRESSION
    spec = read_source(model, schema=numbered_schema(D, K, Task.CLASSIFICATION)).spec
    assert spec.task is Task.CLASSIFICATION and spec.combine is Combine.MEAN


def test_what_has_no_single_row_of_a_known_shape_is_refused():
    class Uncalled(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ConversionError, match="call it on one batch"):
        row_shape(Uncalled())
    first, second = keras.Input((D,)), keras.Input((D,))
    with pytest.raises(ConversionError, match="one input"):
        trace_keras(keras.Model([first, second], first + second))
    with pytest.raises(ConversionError, match="fixed shape"):
        row_shape(keras.Model(keras_input := keras.Input((None, 3)), layers.Dense(2)(keras_input)))
    with pytest.raises(ConversionError, match="one output"):
        trace_keras(keras.Model(first, [layers.Dense(2)(first), layers.Dense(2)(first)]))


def test_a_model_that_mixes_rows_is_refused():
    x = keras.Input((D,))
    model = keras.Model(x, layers.Lambda(lambda t: ops.reshape(t, (-1, 1)), output_shape=(1,))(x))
    with pytest.raises(ConversionError, match="one answer a row"):
        read_source(model)


def test_a_traced_model_knows_its_rows(rows):
    traced = trace_keras(functional())
    assert isinstance(traced, TracedModel) and row_shape(traced) == (D,)
    np.testing.assert_allclose(traced.predict(rows), np.asarray(functional()(rows)), atol=1e-6)


def test_nothing_is_written_when_the_numbers_differ(tmp_path, rows, monkeypatch):
    traced = trace_keras(functional())
    off = TracedModel(content=traced.content, predict=lambda x: traced.predict(x) + 1e-3, input_shape=(D,))
    with pytest.raises(ConversionError, match="differs from the source model"):
        convert(off, tmp_path / "m.tflite", calibration=rows, scheme="float32")
    assert not (tmp_path / "m.tflite").exists()


def test_the_command_converts_them_all(custom, tmp_path):
    name, path, _ = custom
    functional().export(tmp_path / "saved", verbose=False)
    keras.Model(x := keras.Input((D,)), layers.Dense(K, activation="softmax")(x)).save(tmp_path / "plain.keras")
    run = CliRunner().invoke
    options = ["--scheme", "float32", "-o", str(tmp_path / "o.tflite")]
    for arguments in ([path, "--import", name], [tmp_path / "saved"], [tmp_path / "plain.keras", "--no-fuse"]):
        result = run(main, ["convert", *map(str, arguments), *options])
        assert result.exit_code == 0, result.output
        assert f"Next: moe-edge validate {arguments[0]}" in result.output
    result = run(main, ["convert", str(tmp_path / "plain.keras"), *options])
    assert result.exit_code == 1 and "there is no gate" in result.output and "--no-fuse" in result.output
