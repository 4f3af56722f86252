"""Quantiles and densities of Gaussian mixtures against scipy's normal, and from files, whole and routed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm

from moe_edge import Predictor
from moe_edge.errors import DataError
from moe_edge.runtime import mixture_density
from moe_edge.runtime.mixture_density import MixtureDensity, normal_cdf

LEVELS = (0.01, 0.05, 0.5, 0.95, 0.999)


def make(seed: int, rows: int, experts: int, outputs: int, *, spread: float = 1.0, narrow: float = 0.1):
    rng = np.random.default_rng(seed)
    return MixtureDensity(
        weights=rng.dirichlet(np.ones(experts), rows),
        means=rng.normal(size=(rows, experts, outputs)) * spread,
        sigmas=narrow * np.exp(rng.uniform(0, 3, size=(rows, experts, outputs))),
    )


def scipy_cdf(density: MixtureDensity, row: int, output: int, y: float) -> float:
    return float(density.weights[row] @ norm.cdf(y, density.means[row, :, output], density.sigmas[row, :, output]))


def test_the_cumulative_normal_is_scipys_to_the_last_digits():
    z = np.linspace(-30, 9, 2001)
    np.testing.assert_allclose(normal_cdf(z), norm.cdf(z), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    experts=st.integers(1, 6),
    outputs=st.integers(1, 3),
    spread=st.sampled_from([0.0, 1.0, 1e3, 1e6]),
    narrow=st.sampled_from([1e-6, 0.1, 100.0]),
)
def test_quantiles_are_scipys_and_rise(seed, experts, outputs, spread, narrow):
    density = make(seed, 2, experts, outputs, spread=spread, narrow=narrow)
    found = density.quantiles(LEVELS)
    assert found.shape == (2, len(LEVELS), outputs) and found.dtype == np.float32
    assert (np.diff(found, axis=1) >= 0).all()
    low, high = (density.means - 40 * density.sigmas).min(), (density.means + 40 * density.sigmas).max()
    for row in range(2):
        for output in range(outputs):
            for place, level in enumerate(LEVELS):
                value = float(found[row, place, output])
                # A step of float32 is the most that the answer may be off: the level lies between its two sides.
                slack = max(2 * float(np.spacing(np.float32(abs(value)))), 1e-7 * density.sigmas[row].min())
                below, above = (scipy_cdf(density, row, output, value + side * slack) for side in (-1, 1))
                assert below - 1e-9 <= level <= above + 1e-9
                if spread <= 1 and narrow >= 0.1:
                    exact = brentq(lambda y, r=row, o=output, q=level: scipy_cdf(density, r, o, y) - q, low, high)
                    assert value == pytest.approx(exact, rel=1e-6, abs=1e-6 * density.sigmas[row].max())


def test_density_and_moments_are_scipys():
    density = make(3, 50, 4, 2)
    y = np.random.default_rng(4).normal(size=(50, 2)) * 3
    parts = norm.logpdf(y[:, None], density.means, density.sigmas)
    logs = np.log(density.weights)
    np.testing.assert_allclose(density.log_density(y), logsumexp(parts + logs[:, :, None], axis=1), rtol=1e-12)
    np.testing.assert_allclose(density.joint_log_density(y), logsumexp(parts.sum(axis=2) + logs, axis=1), rtol=1e-12)
    np.testing.assert_allclose(density.cdf(y)[7, 1], scipy_cdf(density, 7, 1, y[7, 1]), rtol=1e-12)
    rng = np.random.default_rng(5)
    chosen = rng.choice(4, size=200_000, p=density.weights[0])
    drawn = rng.normal(density.means[0, chosen, 0], density.sigmas[0, chosen, 0])
    assert density.mean[0, 0] == pytest.approx(drawn.mean(), abs=0.02)
    assert density.std[0, 0] == pytest.approx(drawn.std(), rel=0.02)


def test_experts_that_did_not_run_count_nothing_whatever_they_hold():
    alone = MixtureDensity(weights=np.ones((1, 1)), means=np.full((1, 1, 1), 5.0), sigmas=np.full((1, 1, 1), 2.0))
    beside = MixtureDensity(
        weights=np.array([[1.0, 0.0]]), means=np.array([[[5.0], [np.inf]]]), sigmas=np.array([[[2.0], [np.nan]]])
    )
    np.testing.assert_array_equal(alone.quantiles(LEVELS), beside.quantiles(LEVELS))
    np.testing.assert_allclose(alone.quantiles(LEVELS)[0, :, 0], norm.ppf(LEVELS, 5, 2), rtol=1e-6)
    np.testing.assert_allclose(beside.log_density([[6.0]]), norm.logpdf([[6.0]], 5, 2))


def test_far_apart_components_leave_no_quantile_crossing():
    density = MixtureDensity(
        weights=np.array([[0.5, 0.5]]), means=np.array([[[-1e5], [1e5]]]), sigmas=np.full((1, 2, 1), 1e-3)
    )
    low, middle, high = density.quantiles((0.05, 0.5, 0.95))[0, :, 0]
    assert (low, high) == pytest.approx((-1e5, 1e5), rel=1e-6) and low <= middle <= high


def test_rows_without_numbers_stay_without():
    density = MixtureDensity(
        weights=np.array([[1.0], [1.0]]), means=np.array([[[np.nan]], [[0.0]]]), sigmas=np.ones((2, 1, 1))
    )
    found = density.quantiles((0.5,))
    assert np.isnan(found[0]).all() and found[1, 0, 0] == 0


def test_many_rows_are_answered_like_one(monkeypatch):
    density = make(7, 30, 4, 2, spread=3.0)
    whole = density.quantiles(LEVELS)
    monkeypatch.setattr(mixture_density, "_MOST_VALUES", 100)
    np.testing.assert_array_equal(density.quantiles(LEVELS), whole)
    assert make(7, 0, 4, 2).quantiles(LEVELS).shape == (0, len(LEVELS), 2)


def test_a_row_that_no_expert_counts_for_has_no_quantile():
    density = MixtureDensity(weights=np.zeros((1, 2)), means=np.ones((1, 2, 1)), sigmas=np.ones((1, 2, 1)))
    assert np.isnan(density.quantiles((0.5,))).all()


@pytest.mark.parametrize("levels", [(), (0.0,), (0.5, 1.0), (float("nan"),)])
def test_levels_outside_are_refused(levels):
    with pytest.raises(ValueError, match="quantile level"):
        make(0, 1, 2, 1).quantiles(levels)


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic_w8", "w8a8"])
def test_a_files_density_has_the_files_moments_whole_and_routed(mixture_file, scheme):
    path = mixture_file("regression", scheme=scheme)
    x = np.random.default_rng(2).normal(size=(30, 6)).astype(np.float32)
    with (
        Predictor(path, mode="dense") as dense,
        Predictor(path, mass=1) as whole,
        Predictor(path, top_k=1) as single,
    ):
        raw, density = dense.predict_raw(x), dense.predict_distribution(x)
        np.testing.assert_allclose(density.mean, raw["prediction"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(density.std, raw["sigma"], rtol=1e-4)
        quantiles = dense.predict_quantiles(x)
        assert quantiles.shape == (30, 3, 1) and (np.diff(quantiles, axis=1) > 0).all()
        np.testing.assert_allclose(whole.predict_quantiles(x), quantiles, rtol=1e-5, atol=1e-5)
        ran = single.predict_raw(x)
        expected = norm.ppf([[0.05, 0.95]], ran["prediction"], ran["sigma"])
        np.testing.assert_allclose(single.predict_quantiles(x, (0.05, 0.95))[:, :, 0], expected, rtol=1e-4, atol=1e-5)
        interval = dense.predict_quantiles(x[:1], (0.05, 0.95))[0, :, 0]
        assert f"(90 %: {interval[0]:.4g} to {interval[1]:.4g})" in str(dense.explain(x[0]))


def test_a_classification_has_no_quantiles(mixture_file):
    with Predictor(mixture_file("plain")) as predictor, pytest.raises(DataError, match="use predict_proba"):
        predictor.predict_quantiles(np.zeros((1, 64), np.float32))


def test_the_old_runtime_gives_the_same_quantiles(mixture_file, old_runtime_python, tmp_path):
    path = mixture_file("regression", scheme="w8a8")
    x = np.random.default_rng(3).normal(size=(20, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    script = (
        "import sys, numpy as np; from moe_edge import Predictor; x = np.load(sys.argv[2])\n"
        "dense, routed = Predictor(sys.argv[1], mode='dense'), Predictor(sys.argv[1], top_k=2)\n"
        "assert dense.backend == 'tflite-runtime' and 'scipy' not in sys.modules\n"
        "np.savez(sys.argv[3], dense=dense.predict_quantiles(x), routed=routed.predict_quantiles(x))"
    )
    command = [str(old_runtime_python), "-c", script, str(path), str(tmp_path / "x.npy"), str(tmp_path / "q.npz")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "q.npz") as found:
        for name, options in (("dense", {"mode": "dense"}), ("routed", {"top_k": 2})):
            with Predictor(path, **options) as predictor:
                # Runtimes round an int8 activation differently in its last step: a hundredth of the answers' range.
                wanted = predictor.predict_quantiles(x)
                np.testing.assert_allclose(found[name], wanted, atol=0.01 * np.ptp(wanted))
