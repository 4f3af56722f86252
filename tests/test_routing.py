from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from moe_edge.config import Combine
from moe_edge.routing import combine, experts_for_mass, mixture_moments, renormalise, top_k_experts

MANY = settings(max_examples=100, deadline=None)


@st.composite
def weights(draw):
    """Rows on the simplex, float32, zeros and ties among them."""
    rows, experts = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    raw = draw(hnp.arrays(np.float64, (rows, experts), elements=st.sampled_from([0.0, 1e-6, 0.1, 0.5, 0.5, 1.0, 3.0])))
    raw[:, 0] += raw.sum(axis=1) == 0
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


@MANY
@given(weights(), st.data())
def test_top_k_are_the_heaviest_in_order(routing_weights, data):
    k = data.draw(st.integers(1, routing_weights.shape[1]))
    indices = top_k_experts(routing_weights, k)
    assert indices.shape == (len(routing_weights), k)
    for row, chosen in zip(routing_weights, indices, strict=True):
        assert len(set(chosen.tolist())) == k
        assert sorted(row, reverse=True)[:k] == [row[index] for index in chosen]
        order = [(-row[index], index) for index in chosen]
        assert order == sorted(order)  # of equal weights, the lower index first


@MANY
@given(weights(), st.floats(0.01, 1.0))
def test_mass_takes_the_fewest_experts_that_hold_it(routing_weights, mass):
    chosen = experts_for_mass(routing_weights, mass)
    held = np.where(chosen, routing_weights.astype(np.float64), 0).sum(axis=1)
    whole = routing_weights.astype(np.float64).sum(axis=1)
    assert (held >= np.minimum(mass, whole) - 1e-8).all()
    counts = chosen.sum(axis=1)
    assert (counts >= 1).all()
    for row, count in zip(routing_weights.astype(np.float64), counts, strict=True):
        # One expert fewer, the heaviest ones, would not do.
        assert count == 1 or np.sort(row)[::-1][: count - 1].sum() < mass


@MANY
@given(weights(), st.floats(0.01, 1.0))
def test_renormalised_weights_are_a_distribution_over_the_chosen(routing_weights, mass):
    chosen = experts_for_mass(routing_weights, mass)
    scaled = renormalise(routing_weights, chosen)
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-12)
    assert (scaled[~chosen] == 0).all()
    everyone = np.ones_like(chosen)
    np.testing.assert_allclose(renormalise(routing_weights, everyone), routing_weights, atol=1e-6)


def test_weights_too_small_to_add_are_still_shared():
    tiny = np.asarray([[1e-40, 3e-40, 0, 0], [0, 0, 0, 1]])
    chosen = np.asarray([[True, True, False, False], [True, True, False, False]])
    np.testing.assert_allclose(renormalise(tiny, chosen), [[0.25, 0.75, 0, 0], [0.5, 0.5, 0, 0]])


@MANY
@given(weights(), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_combining_by_hand(routing_weights, outputs, seed):
    rng = np.random.default_rng(seed)
    rows, experts = routing_weights.shape
    answers = rng.dirichlet(np.ones(outputs), size=(rows, experts))
    mixed = combine(routing_weights, answers, Combine.PROBABILITIES)
    by_hand = np.stack(
        [
            sum(g * answer for g, answer in zip(gs, row, strict=True))
            for gs, row in zip(routing_weights, answers, strict=True)
        ]
    )
    np.testing.assert_allclose(mixed, by_hand, atol=1e-12)
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(combine(routing_weights, answers, Combine.MEAN), mixed)
    logits = combine(routing_weights, answers * 1000, Combine.LOGITS)
    np.testing.assert_allclose(logits.sum(axis=1), 1)
    np.testing.assert_array_equal(logits.argmax(axis=1), mixed.argmax(axis=1))


def test_moments_of_a_mixture_are_those_of_its_samples():
    rng = np.random.default_rng(0)
    g, mu, sigma = (
        np.asarray([[0.2, 0.5, 0.3]]),
        np.asarray([[[-2.0], [0.5], [4.0]]]),
        np.asarray([[[0.3], [1.0], [2.0]]]),
    )
    expert = rng.choice(3, size=400_000, p=g[0])
    samples = rng.normal(mu[0, expert, 0], sigma[0, expert, 0])
    moments = mixture_moments(g, mu, sigma)
    # Standard error of the mean: 2.7 / sqrt(400000) = 0.004; five of them.
    np.testing.assert_allclose(moments.mean[0, 0], samples.mean(), atol=0.021)
    np.testing.assert_allclose(moments.sigma[0, 0], samples.std(), atol=0.021)
    np.testing.assert_array_equal(combine(g, np.concatenate([mu, sigma], axis=2), Combine.GAUSSIAN), moments.mean)


def test_one_expert_alone_is_the_mixture():
    moments = mixture_moments(np.asarray([[0.0, 1.0]]), np.asarray([[[9.0], [2.0]]]), np.asarray([[[5.0], [0.5]]]))
    assert (moments.mean[0, 0], moments.sigma[0, 0]) == (2.0, 0.5)


@pytest.mark.parametrize(
    "call",
    [
        lambda w: top_k_experts(w, 0),
        lambda w: top_k_experts(w, 4),
        lambda w: top_k_experts(w[0], 1),
        lambda w: experts_for_mass(w, 0),
        lambda w: experts_for_mass(w, 1.5),
        lambda w: experts_for_mass(w, float("nan")),
        lambda w: renormalise(w, np.zeros((2, 3), dtype=bool)),
        lambda w: renormalise(w, np.ones((1, 3), dtype=bool)),
        lambda w: combine(w, np.ones((2, 4, 1)), Combine.MEAN),
        lambda w: combine(w, np.ones((2, 3, 3)), Combine.GAUSSIAN),
        lambda w: mixture_moments(w, np.ones((2, 3, 1)), np.ones((2, 3, 2))),
    ],
)
def test_wrong_shapes_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call(np.full((2, 3), 1 / 3))
