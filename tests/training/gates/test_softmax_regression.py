"""Softmax regression onto soft targets: the optimum, not somewhere near it."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from moe_edge.training.gates.softmax_regression import fit_softmax_regression


def test_soft_targets_of_a_linear_gate_are_recovered():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    targets = softmax(x @ rng.normal(size=(3, 4)) + rng.normal(size=4), axis=1)
    found = fit_softmax_regression(x, targets, ridge=1e-9)
    np.testing.assert_allclose(softmax(x @ found.kernel + found.bias, axis=1), targets, atol=2e-3)


def test_equals_scikit_learns_with_the_same_ridge():
    rng = np.random.default_rng(1)
    x, codes = rng.normal(size=(300, 3)), rng.integers(0, 3, size=300)
    ridge = 0.01
    other = LogisticRegression(C=1 / (ridge * len(x)), tol=1e-8, max_iter=1000).fit(x, codes)
    found = fit_softmax_regression(x, np.eye(3)[codes], ridge=ridge)
    np.testing.assert_allclose(softmax(x @ found.kernel + found.bias, axis=1), other.predict_proba(x), atol=2e-4)


def test_rows_count_as_much_as_their_targets():
    rng = np.random.default_rng(2)
    x, targets = rng.normal(size=(80, 2)), rng.dirichlet(np.ones(3), size=80)
    repeated = fit_softmax_regression(np.concatenate([x, x[:40]]), np.concatenate([targets, targets[:40]]))
    weighted = fit_softmax_regression(x, targets * np.where(np.arange(80) < 40, 2, 1)[:, None])
    np.testing.assert_allclose(weighted.kernel, repeated.kernel, atol=1e-3)


def test_a_start_at_the_optimum_stays_there():
    rng = np.random.default_rng(3)
    x, targets = rng.normal(size=(80, 2)), rng.dirichlet(np.ones(3), size=80)
    first = fit_softmax_regression(x, targets)
    np.testing.assert_allclose(fit_softmax_regression(x, targets, start=first).kernel, first.kernel, atol=1e-3)


@pytest.mark.parametrize(
    ("x", "targets"), [((3, 2), (4, 2)), ((3,), (3, 2)), ((3, 2), None)], ids=["rows differ", "flat", "all zero"]
)
def test_impossible_rows_are_refused(x, targets):
    wanted = np.zeros((3, 2)) if targets is None else np.ones(targets)
    with pytest.raises(ValueError, match="expected"):
        fit_softmax_regression(np.ones(x), wanted)
