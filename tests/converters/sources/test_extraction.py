"""Extraction: the mixture read out of a Keras model answers like the model, whatever it is built of."""

import keras
import numpy as np
import pytest

from moe_edge.config import Combine, ExpertConfig, GateConfig, MixtureConfig, Task
from moe_edge.errors import ConversionError
from moe_edge.training import Preprocess, StackExperts, WeightedSum, build_mixture, create_moe_model
from moe_edge_converters.file_writer import pack
from moe_edge_converters.sources.extraction import extract_mixture
from moe_edge_converters.spec import DenseNetwork, GraphNetwork

ROWS = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
IMAGES = ROWS.reshape(64, 4, 4, 1)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(3)


def shake(model, scale=0.5):
    """Give every weight, biases included, a value of its own: zeros would hide a swapped bias."""
    rng = np.random.default_rng(5)
    for weight in model.trainable_weights:
        weight.assign(weight + scale * rng.normal(size=weight.shape) / np.sqrt(max(1, weight.shape[0])))
    return model


def check(mixtures, model, rows=ROWS, tolerance=1e-5):
    """Compare the extracted mixture's graph with Keras in batches of 1, 7 and 64; returns the mixture."""
    spec = extract_mixture(model)
    content = pack(mixtures.fuse(spec)[0])
    expected = np.asarray(model(rows, training=False))
    for batch in mixtures.BATCHES:
        got = mixtures.run_by_position(content, rows[:batch])[0]
        np.testing.assert_allclose(got, expected[:batch], atol=tolerance * max(1, np.abs(expected).max()))
    assert expected.std(axis=0).max() > 0.01
    return spec


@pytest.mark.parametrize(
    "combine",
    [Combine.PROBABILITIES, Combine.LOGITS, Combine.GAUSSIAN, Combine.MEAN],
    ids=lambda combine: combine.value,
)
def test_built_mixtures(mixtures, combine):
    regression = combine in (Combine.GAUSSIAN, Combine.MEAN)
    config = MixtureConfig(
        task=Task.REGRESSION if regression else Task.CLASSIFICATION,
        combine=combine,
        expert=ExpertConfig(hidden=(8, 5), activation="tanh"),
        gate=GateConfig(num_experts=3, hidden=(7,)),
    )
    target = {"target_mean": [3.0, -50.0], "target_scale": [0.5, 20.0]} if regression else {}
    spec = check(mixtures, shake(build_mixture(config, 16, 2, **target)))
    assert (spec.task, spec.combine, spec.num_experts, spec.num_outputs) == (config.task, combine, 3, 2)
    assert all(isinstance(network, DenseNetwork) for network in (spec.gate, *spec.experts))
    assert [layer.activation for layer in spec.experts[0].layers[:-1]] == ["tanh", "tanh"]
    if regression:
        np.testing.assert_array_equal(spec.head.shift, [3, -50])
        np.testing.assert_array_equal(spec.head.scale, [0.5, 20])


def test_one_layer_experts_and_gate(mixtures):
    config = MixtureConfig(expert=ExpertConfig(hidden=()), gate=GateConfig(num_experts=4, hidden=()))
    spec = check(mixtures, shake(build_mixture(config, 16, 3)))
    assert [len(network.layers) for network in (spec.gate, *spec.experts)] == [1] * 5


def test_preprocessing_with_missing_values_and_categories(mixtures):
    preprocess = Preprocess(
        [3, 0], [1.5, 10.0], [1.0, 12.0], [2.0, 0.01], [-2.0, -3.0], [2.5, 3.0], [[2, 3], [1, 2]], name="preprocess"
    )
    rng = np.random.default_rng(0)
    rows = np.stack(
        [rng.normal(12, 100, 64), rng.integers(0, 2, 64), rng.integers(0, 3, 64), rng.normal(1, 0.5, 64)], axis=1
    ).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    model = build_mixture(MixtureConfig(gate=GateConfig(num_experts=3)), 4, 2, preprocess=preprocess)
    spec = check(mixtures, shake(model), rows)
    assert spec.preprocess is not None and spec.preprocess.num_features == 7
    assert spec.preprocess.numeric == (3, 0) and spec.preprocess.categorical == ((2, 3), (1, 2))


def test_sub_models(mixtures):
    spec = check(mixtures, shake(create_moe_model(16, 10, 5)))
    assert spec.combine is Combine.PROBABILITIES
    assert [expert.shapes for expert in spec.experts] == [((16, 64, "relu"), (64, 32, "relu"), (32, 10, "softmax"))] * 5


def test_experts_of_different_sizes(mixtures):
    sizes = iter([4, 9, 4])

    def expert(input_dim, output_dim):
        layers = keras.layers
        units = next(sizes)
        return keras.Sequential(
            [
                keras.Input((input_dim,)),
                layers.Dense(units, use_bias=False),
                layers.ReLU(max_value=6),
                layers.Dropout(0.5),
                layers.Dense(output_dim),
                layers.Softmax(),
            ]
        )

    spec = check(mixtures, shake(create_moe_model(16, 3, 3, expert=expert, load_balancing_coef=0.1)))
    assert [expert.shapes[0] for expert in spec.experts] == [(16, 4, "relu6"), (16, 9, "relu6"), (16, 4, "relu6")]


def conv_expert(input_dim, output_dim):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_dim),
            layers.Conv2D(3, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(6, activation="gelu"),
            layers.Dense(output_dim, activation="softmax"),
        ]
    )


def image_gate(input_dim, num_experts):
    layers = keras.layers
    return keras.Sequential([keras.Input(input_dim), layers.Flatten(), layers.Dense(num_experts, activation="softmax")])


def test_convolutional_experts(mixtures):
    model = shake(create_moe_model((4, 4, 1), 5, 2, expert=conv_expert, gate=image_gate))
    spec = check(mixtures, model, IMAGES)
    assert spec.input_shape == (4, 4, 1)
    assert all(isinstance(expert, GraphNetwork) and expert.ends_in_softmax for expert in spec.experts)
    assert isinstance(spec.gate, DenseNetwork)


def test_a_convolutional_expert_beside_a_dense_one(mixtures):
    builders = iter([conv_expert, image_gate])

    def expert(input_dim, output_dim):
        return next(builders)(input_dim, output_dim)

    model = create_moe_model((4, 4, 1), 5, 2, expert=expert, gate=image_gate)
    spec = check(mixtures, shake(model), IMAGES)
    assert [type(expert) for expert in spec.experts] == [GraphNetwork, DenseNetwork]


def test_convolutional_experts_quantize(mixtures):
    model = shake(create_moe_model((4, 4, 1), 5, 2, expert=conv_expert, gate=image_gate))
    rows = np.random.default_rng(1).normal(size=(200, 4, 4, 1)).astype(np.float32)
    content, _ = mixtures.quantize_spec(extract_mixture(model), "w8a8", rows)
    expected = np.asarray(model(rows, training=False))
    single = np.concatenate([mixtures.run_by_position(content, row[None])[0] for row in rows[:64]])
    for batch in mixtures.BATCHES:
        got = mixtures.run_by_position(content, rows[:batch])[0]
        np.testing.assert_allclose(got, single[:batch], atol=0.02)
        np.testing.assert_allclose(got, expected[:batch], atol=0.08)


def test_logit_experts_followed_by_a_softmax(mixtures):
    """The functional API by hand, without the project's builders."""
    row = keras.Input((16,))
    gate = keras.layers.Dense(3, activation="softmax")(row)
    experts = [keras.layers.Dense(4)(keras.layers.Dense(6, activation="relu")(row)) for _ in range(3)]
    mixed = WeightedSum()([gate, StackExperts()(experts)])
    spec = check(mixtures, shake(keras.Model(row, keras.layers.Activation("softmax")(mixed))))
    assert spec.combine is Combine.LOGITS


def test_number_experts_without_a_softmax_are_a_mean(mixtures):
    def expert(input_dim, output_dim):
        return keras.Sequential([keras.Input((input_dim,)), keras.layers.Dense(output_dim)])

    spec = check(mixtures, shake(create_moe_model(16, 2, 3, expert=expert)))
    assert (spec.combine, spec.task) == (Combine.MEAN, Task.REGRESSION)


def test_layers_used_by_two_models_are_read_for_the_model_at_hand(mixtures):
    """A combining layer called twice has two inputs; each model's own counts."""
    zeros, ones = [0.0] * 16, [1.0] * 16
    shared = Preprocess(list(range(16)), zeros, zeros, ones, [-1.0] * 16, ones, [])
    stack, combine = StackExperts(), WeightedSum()

    def mixture():
        row = keras.Input((16,))
        features = shared(row)
        gate = keras.layers.Dense(2, activation="softmax")(features)
        experts = [keras.layers.Dense(3, activation="softmax")(features) for _ in range(2)]
        return keras.Model(row, combine([gate, stack(experts)]))

    for model in [mixture(), mixture()]:
        assert check(mixtures, shake(model)).preprocess is not None


def test_a_model_that_was_called_in_a_larger_one(mixtures):
    model = shake(create_moe_model(16, 3, 2))
    outer = keras.Input((16,))
    keras.Model(outer, keras.layers.Dense(1)(model(outer)))
    check(mixtures, model)


def dense(shape=(16,), units=3):
    return keras.Sequential([keras.Input(shape), keras.layers.Dense(units, activation="softmax")])


def two_inputs():
    left, right = keras.Input((4,)), keras.Input((4,))
    return keras.Model([left, right], keras.layers.Add()([left, right]))


def uncombined():
    row = keras.Input((16,))
    return keras.Model(row, keras.layers.Softmax()(keras.layers.Dense(3)(row)))


@pytest.mark.parametrize("build", [dense, two_inputs, uncombined], ids=lambda build: build.__name__)
def test_a_model_that_is_no_mixture_is_refused(build):
    with pytest.raises(ConversionError, match=r"expected a mixture of experts.*build it with .*create_moe_model"):
        extract_mixture(build())


def test_foreign_stacked_layers_are_refused():
    row = keras.Input((16,))
    gate = keras.layers.Dense(3, activation="softmax")(row)
    stacked = keras.layers.Reshape((3, 4))(keras.layers.Dense(12)(row))
    model = keras.Model(row, WeightedSum()([gate, stacked]))
    with pytest.raises(ConversionError, match=r"expected stacked experts.*Reshape.*create_moe_model"):
        extract_mixture(model)
