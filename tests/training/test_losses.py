import keras
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from moe_edge.training.losses import (
    CompetitiveCrossentropy,
    GaussianMixtureLikelihood,
    PackExperts,
    ScaledSquaredError,
    SmoothedCrossentropy,
)
from moe_edge.training.metrics import PackedAccuracy, PackedRmse

RANDOM = np.random.default_rng(0)
GATE = RANDOM.dirichlet(np.ones(3), 20).astype(np.float32)
PROBABILITIES = RANDOM.dirichlet(np.ones(4), (20, 3)).astype(np.float32)
CODES = RANDOM.integers(0, 4, 20)
PACKED = np.concatenate([PROBABILITIES, GATE[..., None]], axis=-1)


def number(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


def test_packing_puts_the_weight_last():
    assert np.array_equal(keras.ops.convert_to_numpy(PackExperts()([GATE, PROBABILITIES])), PACKED)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_two_terms_of_the_competitive_loss(smoothing):
    wanted = np.eye(4)[CODES] * (1 - smoothing) + smoothing / 4
    together = -(wanted * np.log(np.einsum("be,bek->bk", GATE, PROBABILITIES))).sum(1).mean()
    alone = -(GATE * np.einsum("bk,bek->be", wanted, np.log(PROBABILITIES))).sum(1).mean()
    for weight in (0.0, 0.5, 1.0):
        loss = number(CompetitiveCrossentropy(weight, smoothing)(CODES, PACKED))
        assert loss == pytest.approx((1 - weight) * together + weight * alone, rel=1e-4)
    blend = np.einsum("be,bek->bk", GATE, PROBABILITIES)
    assert number(SmoothedCrossentropy(smoothing)(CODES, blend)) == pytest.approx(together, rel=1e-4)


def test_certain_and_wrong_costs_much_but_stays_finite():
    packed = np.zeros((1, 2, 3), np.float32)
    packed[:, :, 0] = 1
    packed[:, 0, 2] = 1
    loss = number(CompetitiveCrossentropy(0.5)(np.array([1]), packed))
    assert 10 < loss < 20


def test_the_mixtures_likelihood_is_scipys():
    mu, sigma = RANDOM.normal(50, 9, (20, 3, 2)), RANDOM.uniform(1, 5, (20, 3, 2))
    y = RANDOM.normal(50, 9, (20, 2))
    packed = np.concatenate([mu, sigma, GATE[..., None]], axis=-1).astype(np.float32)
    scale = [9.0, 4.0]
    density = norm.logpdf(y[:, None], mu, sigma).sum(-1) + np.log(scale).sum()
    expected = -logsumexp(np.log(GATE) + density, axis=1).mean()
    assert number(GaussianMixtureLikelihood(scale)(y, packed)) == pytest.approx(expected, rel=1e-4)
    rmse = PackedRmse()
    rmse.update_state(y, packed)
    mean = np.einsum("be,bek->bk", GATE, mu)
    assert number(rmse.result()) == pytest.approx(np.sqrt(((mean - y) ** 2).mean()), rel=1e-4)


def test_the_squared_error_is_that_of_standardised_targets():
    y, answer = RANDOM.normal(size=(20, 2)) * [1, 100], np.zeros((20, 2), np.float32)
    expected = ((y / [1, 100]) ** 2).mean()
    assert number(ScaledSquaredError([1.0, 100.0])(y, answer)) == pytest.approx(expected, rel=1e-5)


def test_accuracy_while_training_is_that_of_the_weighted_sum():
    metric = PackedAccuracy()
    metric.update_state(CODES, PACKED)
    expected = (np.einsum("be,bek->bk", GATE, PROBABILITIES).argmax(1) == CODES).mean()
    assert number(metric.result()) == pytest.approx(expected)
