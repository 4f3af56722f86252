import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.training.layers import (
    LoadBalancing,
    Preprocess,
    StackedDense,
    StackExperts,
    TargetScale,
    WeightedSum,
)
from moe_edge.training.regression_layers import GaussianExperts, GaussianMixture


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("activation", ["relu", "linear", "softmax", "tanh"])
@pytest.mark.parametrize("stacked", [False, True])
def test_stacked_experts_equal_separate_dense_layers(activation, stacked):
    random = np.random.default_rng(0)
    x = random.normal(size=(7, 3, 6) if stacked else (7, 6)).astype(np.float32)
    layer = StackedDense(3, 5, activation)
    answer = numbers(layer(x))
    for expert in range(3):
        dense = keras.layers.Dense(5, activation=activation)
        dense.build((None, 6))
        dense.set_weights([numbers(layer.kernel)[expert], random.normal(size=5) * 0])
        np.testing.assert_allclose(answer[:, expert], numbers(dense(x[:, expert] if stacked else x)), atol=1e-6)


def test_each_expert_starts_as_a_dense_layer_of_its_own():
    keras.utils.set_random_seed(0)
    layer = StackedDense(40, 30)
    layer.build((None, 20))
    kernel = numbers(layer.kernel)
    limit = np.sqrt(6 / (20 + 30))
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    assert np.abs(np.corrcoef(kernel.reshape(40, -1)) - np.eye(40)).max() < 0.3


def test_stacked_experts_refuse_inputs_of_other_experts():
    with pytest.raises(ValueError, match=r"expected inputs \(B, 3, d\)"):
        StackedDense(3, 2).build((None, 4, 5))


ROWS = st.lists(
    st.lists(st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6, width=32)), min_size=3, max_size=3),
    min_size=1,
    max_size=5,
)


@settings(max_examples=30)
@given(ROWS)
def test_preprocessing_does_what_its_attributes_say(rows):
    x = np.array(rows, np.float32)
    x[:, 1] = np.where(np.isnan(x[:, 1]), np.nan, np.abs(x[:, 1]) % 4 // 1)
    fill, mean, inverse, low, high = ([1.0, -2.0], [10.0, 0.5], [0.5, 1e-3], [-3.0, -1.0], [2.0, 1.5])
    layer = Preprocess([0, 2], fill, mean, inverse, low, high, [[1, 3]])
    v = x[:, [0, 2]]
    v = np.where(np.isnan(v), np.float32(fill), v)
    z = np.clip((v - np.float32(mean)) * np.float32(inverse), low, high)
    one_hot = (x[:, 1:2] == np.arange(3)).astype(np.float32)
    np.testing.assert_allclose(numbers(layer(x)), np.hstack([z, one_hot]), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape(x.shape) == (len(x), 5)


def test_preprocessing_refuses_lists_of_other_lengths():
    with pytest.raises(ValueError, match="one fill, mean"):
        Preprocess([0, 1], [0.0], [0.0], [1.0], [0.0], [1.0])


def test_balance_is_nothing_when_even_and_the_worst_when_one_does_all():
    for weights, expected in ((np.full((8, 4), 0.25), 0.0), (np.eye(4)[[1] * 8], 3.0)):
        layer = LoadBalancing(0.5)
        assert np.array_equal(numbers(layer(weights.astype(np.float32))), weights)
        assert float(numbers(layer.losses[0])) == pytest.approx(0.5 * expected)
    silent = LoadBalancing(0.0)
    silent(np.eye(4, dtype=np.float32))
    assert silent.losses == []


def test_experts_are_stacked_on_axis_1_and_summed_by_weight():
    random = np.random.default_rng(1)
    answers = [random.normal(size=(6, 2)).astype(np.float32) for _ in range(3)]
    gate = random.dirichlet(np.ones(3), 6).astype(np.float32)
    stacked = StackExperts()(answers)
    assert stacked.shape == (6, 3, 2)
    expected = sum(gate[:, [i]] * answers[i] for i in range(3))
    np.testing.assert_allclose(numbers(WeightedSum()([gate, stacked])), expected, atol=1e-6)
    with pytest.raises(ValueError, match="stack the experts on axis 1"):
        WeightedSum()([keras.Input((3,)), keras.Input((2,))])


def test_gaussian_experts_come_in_the_targets_unit_with_bounded_sigma():
    layer = GaussianExperts(2, [100.0, 0.0], [10.0, 2.0], min_sigma=0.1, max_sigma=5.0)
    raw = np.array([[[1.0, -1.0, 0.0, 100.0]], [[0.0, 0.0, -100.0, np.log(3)]]], np.float32)
    np.testing.assert_allclose(numbers(layer(raw)), [[[110, -2, 10, 10]], [[100, 0, 1, 6]]], rtol=1e-5)


def test_the_mixtures_moments_are_those_of_samples_even_far_from_zero():
    random = np.random.default_rng(0)
    gate = np.array([[0.2, 0.5, 0.3]], np.float32)
    mu, sigma = np.array([1e4 - 1, 1e4, 1e4 + 2]), np.array([0.1, 0.5, 0.2])
    parameters = np.stack([mu, sigma], axis=-1)[None].astype(np.float32)
    mean, spread = GaussianMixture(1)([gate, parameters])
    expert = random.choice(3, 400_000, p=[0.2, 0.5, 0.3])
    samples = random.normal(mu[expert], sigma[expert])
    assert float(mean[0, 0]) == pytest.approx(samples.mean(), rel=1e-6)
    assert float(spread[0, 0]) == pytest.approx(samples.std(), rel=0.01)


@pytest.mark.parametrize(
    "layer",
    [
        Preprocess([0], [0.0], [0.0], [1.0], [-1.0], [1.0], [[1, 2]]),
        StackedDense(2, 3, "relu"),
        StackExperts(),
        LoadBalancing(0.1),
        WeightedSum(),
        TargetScale([2.0], [1.0]),
        GaussianExperts(1, [0.0], [1.0]),
        GaussianMixture(1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_read_back_from_their_config(layer):
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert again.get_config() == layer.get_config()
    assert config["registered_name"].startswith("moe_edge>")
