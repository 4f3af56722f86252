"""The Gaussian gate: its closed-form fit, its density against SciPy's, its floors."""

import keras
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from moe_edge.training.gates.gaussian_gate import (
    MIN_SCALE,
    VARIANCE_FLOOR,
    GateLogDensity,
    GaussianGate,
    fit_components,
)

MEANS = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
COVARIANCES = np.array([[[0.5, 0.0], [0.0, 1.0]], [[1.0, 0.6], [0.6, 0.8]], [[0.3, -0.2], [-0.2, 0.4]]])
PRIORS = np.array([0.5, 0.3, 0.2])


def draw(count, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, size=count, p=PRIORS)
    noise = np.einsum("nij,nj->ni", np.linalg.cholesky(COVARIANCES)[codes], rng.normal(size=(count, 2)))
    return MEANS[codes] + noise, np.eye(3)[codes]


def covariances_of(components):
    whitening = components.whitening
    if whitening.ndim == 2:
        whitening = np.stack([np.diag(row) for row in whitening])
    return np.linalg.inv(np.einsum("eji,ejk->eik", whitening, whitening))


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_known_mixture_is_recovered(covariance):
    found = fit_components(*draw(20_000), covariance)
    np.testing.assert_allclose(np.exp(found.log_prior), PRIORS, atol=0.02)
    np.testing.assert_allclose(found.mean, MEANS, atol=0.05)
    wanted = COVARIANCES if covariance == "full" else COVARIANCES * np.eye(2)
    np.testing.assert_allclose(covariances_of(found), wanted, atol=0.05)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_gate_and_density_are_scipys(covariance):
    x, responsibilities = draw(500)
    found = fit_components(x, responsibilities, covariance)
    gate = GaussianGate(3, covariance)
    rows = x.astype(np.float32)
    gate(rows)
    gate.assign(found)
    joint = np.stack(
        [
            np.exp(log_prior) * multivariate_normal(mean, matrix).pdf(rows.astype(float))
            for log_prior, mean, matrix in zip(found.log_prior, found.mean, covariances_of(found), strict=True)
        ],
        axis=1,
    )
    np.testing.assert_allclose(np.exp(found.log_joint(rows)), joint, rtol=1e-6)
    weights = keras.ops.softmax(gate(rows))
    np.testing.assert_allclose(weights, joint / joint.sum(axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(np.array(GateLogDensity(gate)(rows))[:, 0], np.log(joint.sum(axis=1)), atol=2e-5)
    back = gate.components()
    for name in ("log_prior", "mean", "whitening"):
        np.testing.assert_allclose(getattr(back, name), getattr(found, name), rtol=1e-5, atol=1e-6)


def test_weighted_rows_count_like_repeated_ones():
    x, responsibilities = draw(60)
    twice = fit_components(np.concatenate([x, x[:30]]), np.concatenate([responsibilities, responsibilities[:30]]))
    weighted = responsibilities * np.where(np.arange(60) < 30, 2, 1)[:, None]
    np.testing.assert_allclose(fit_components(x, weighted).mean, twice.mean)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_floors_hold_where_rows_say_nothing(covariance):
    x, responsibilities = draw(200)
    x = np.column_stack([x, np.full(200, 7.0)])  # a column that never varies
    responsibilities[:] = 0
    responsibilities[:5, 0] = 1  # five equal rows
    responsibilities[5:, 1] = 1  # and nobody for the third expert
    x[:5] = x[0]
    found = fit_components(x, responsibilities, covariance)
    variances = np.einsum("eii->ei", covariances_of(found))
    floor = np.maximum(VARIANCE_FLOOR * x.var(axis=0), MIN_SCALE**2)
    np.testing.assert_allclose(variances[0], floor, rtol=1e-6)
    np.testing.assert_allclose(found.mean[2], x.mean(axis=0))
    assert np.exp(found.log_prior[2]) < 1e-5
    assert np.isfinite(found.log_joint(x)).all()


def test_trains_by_gradient():
    keras.utils.set_random_seed(0)
    x, targets = draw(400)
    model = keras.Sequential([keras.Input((2,)), GaussianGate(3), keras.layers.Softmax()])
    model.compile(keras.optimizers.Adam(0.05), "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.fit(x.astype(np.float32), targets, epochs=15, batch_size=50, verbose=0)
    assert model.evaluate(x.astype(np.float32), targets, verbose=0)[1] > 0.93


def test_no_digits_are_lost_far_from_zero():
    """Two narrow densities side by side, 50 standard deviations of all rows away from 0."""
    x = np.array([[50.0], [50.02], [50.04], [50.06]])
    gate = GaussianGate(2)
    gate(x.astype(np.float32))
    gate.assign(fit_components(x, np.eye(2)[[0, 0, 1, 1]]))
    row = np.array([[50.03]], dtype=np.float32)
    exact = gate.components().log_joint(row)
    np.testing.assert_allclose(
        np.array(gate(row))[:, 0] - np.array(gate(row))[:, 1], exact[:, 0] - exact[:, 1], atol=1e-4
    )


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="covariance among diagonal, full"):
        GaussianGate(3, "spherical")
    with pytest.raises(ValueError, match="not all 0"):
        fit_components(np.ones((3, 1)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"expected x \(n, F\)"):
        fit_components(np.ones((3, 1)), np.ones((4, 2)))
