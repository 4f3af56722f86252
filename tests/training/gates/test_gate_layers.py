"""Top-k, chosen columns, temperature, and the terms that gates add to the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from moe_edge import routing
from moe_edge.training.gates.gate_layers import RampEntropy, RowEntropy, SelectColumns, Temperature, TopK, ZLoss


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_the_reference(k):
    weights = np.random.default_rng(0).dirichlet(np.ones(5), size=50).astype(np.float32)
    weights[0] = 0.2  # ties go to the lower index
    got = np.array(TopK(k)(weights))
    chosen = np.zeros(weights.shape, dtype=bool)
    np.put_along_axis(chosen, routing.top_k_experts(weights, k), True, axis=1)
    np.testing.assert_allclose(got, routing.renormalise(weights, chosen), atol=1e-6)
    assert ((got > 0).sum(axis=1) == k).all()


def test_gradients_flow_through_the_kept_weights_only():
    weights = tf.Variable([[0.1, 0.5, 0.4]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(TopK(2)(weights) * [[1.0, 2.0, 5.0]])
    gradient = tape.gradient(loss, weights).numpy()[0]
    # d/dw of (2 a + 5 b) / (a + b)
    np.testing.assert_allclose(gradient, [0, (2 - 5) * 0.4 / 0.81, (5 - 2) * 0.5 / 0.81], atol=1e-5)


def test_columns_and_temperature():
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.array(SelectColumns([3, 0, 3])(x)).tolist() == [[3, 0, 3], [7, 4, 7]]
    assert np.array(Temperature(0.5)(x)).tolist() == (x * 2).tolist()
    with pytest.raises(ValueError, match="F > 4"):
        SelectColumns([4])(x)


def test_terms_are_added_in_training_only():
    logits = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    z_loss = ZLoss(0.1)
    assert np.array_equal(z_loss(logits, training=True), logits)
    expected = 0.1 * np.mean(np.log(np.exp(logits.astype(float)).sum(axis=1)) ** 2)
    assert float(z_loss.losses[0]) == pytest.approx(expected, rel=1e-5)
    weights = np.array(keras.ops.softmax(logits))
    entropy = RowEntropy(0.2)
    entropy(weights, training=True)
    expected = 0.2 * np.mean(-(weights * np.log(weights)).sum(axis=1))
    assert float(entropy.losses[0]) == pytest.approx(expected, rel=1e-4)
    for layer in (z_loss, entropy):
        layer(weights, training=False)
        assert not layer.losses


def test_entropy_is_ramped_and_falls():
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    layer = RowEntropy(1.0)
    gate = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4), keras.layers.Softmax(), layer])
    model = keras.Sequential([keras.Input((2,)), gate])
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(float(layer.strength)))

    def entropy():
        weights = model.predict(x, verbose=0)
        return float(-(weights * np.log(weights + 1e-9)).sum(axis=1).mean())

    before = entropy()
    model.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    model.fit(x, epochs=10, batch_size=8, verbose=0, callbacks=[RampEntropy(10), watch])
    assert seen == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1])
    assert entropy() < before / 2


@pytest.mark.parametrize(
    "make",
    [lambda: SelectColumns([]), lambda: SelectColumns([-1]), lambda: Temperature(0), lambda: TopK(0)],
)
def test_impossible_arguments_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_more_chosen_than_there_are_is_refused():
    with pytest.raises(ValueError, match="at least k=4 experts"):
        TopK(4)(np.ones((1, 3), np.float32))
