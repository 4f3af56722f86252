"""The Gaussian gate's graph against float64 NumPy, for any sizes, also where a naive form would lose its digits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from moe_edge_converters.graphs.gaussian_gate_graph import gaussian_gate_graph


def make(rng, num_experts, num_features, *, full, far=0.0, narrow=1.0):
    mean = rng.normal(size=(num_experts, num_features)) * narrow + far
    if full:
        whitening = np.tril(rng.normal(size=(num_experts, num_features, num_features)) * 0.3, -1)
        whitening = whitening + np.eye(num_features)
    else:
        whitening = rng.uniform(0.5, 2, size=(num_experts, num_features)) / narrow
    # Stored in float32, computed with in float64: the reference has the graph's own numbers.
    return rng.normal(size=num_experts), mean.astype(np.float32).astype(float), whitening


def reference(rows, peak, mean, whitening, temperature):
    distance = rows.astype(float)[:, None, :] - mean
    white = distance * whitening if whitening.ndim == 2 else np.einsum("nef,egf->neg", distance, whitening)
    logits = peak - 0.5 * (white**2).sum(axis=2)
    return softmax(logits / temperature, axis=1), logsumexp(logits, axis=1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.tuples(st.integers(2, 9), st.integers(1, 9)),
    full=st.booleans(),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    run=st.tuples(st.sampled_from([1, 7, 64]), st.booleans()),
)
def test_equals_numpy(mixtures, sizes, full, temperature, run):
    (num_experts, num_features), (batch, delegate) = sizes, run
    rng = np.random.default_rng(num_experts * 10 + num_features)
    peak, mean, whitening = make(rng, num_experts, num_features, full=full)
    rows = (rng.normal(size=(batch, num_features)) * 2).astype(np.float32)
    network = gaussian_gate_graph((num_features,), peak=peak, mean=mean, whitening=whitening, temperature=temperature)
    weights, density = mixtures.run_by_position(network.model, rows, delegate=delegate)
    expected_weights, expected_density = reference(rows, peak, mean, whitening, temperature)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-5)
    np.testing.assert_allclose(density, expected_density, rtol=1e-5, atol=1e-5)


def test_narrow_densities_far_from_zero_keep_their_digits(mixtures):
    """At 100 standard deviations from 0, [x, x^2] through one layer would be off by about 1e-3 in the logits."""
    rng = np.random.default_rng(0)
    peak, mean, whitening = make(rng, 4, 3, full=False, far=2.0, narrow=0.02)
    rows = (2.0 + 0.02 * rng.normal(size=(50, 3))).astype(np.float32)
    network = gaussian_gate_graph((3,), peak=peak, mean=mean, whitening=whitening)
    weights, density = mixtures.run_by_position(network.model, rows)
    expected = reference(rows, peak, mean, whitening, 1.0)
    np.testing.assert_allclose(weights, expected[0], atol=1e-5)
    np.testing.assert_allclose(density, expected[1], atol=2e-5)


@pytest.mark.parametrize("distance", [1e3, 1e6])
def test_rows_far_from_everything_have_finite_answers(mixtures, distance):
    peak, mean, whitening = make(np.random.default_rng(0), 3, 2, full=False)
    network = gaussian_gate_graph((2,), peak=peak, mean=mean, whitening=whitening)
    weights, density = mixtures.run_by_position(network.model, np.full((1, 2), distance, np.float32))
    assert weights.sum() == pytest.approx(1) and np.isfinite(density).all() and density[0, 0] < -1e5
