import numpy as np
import pytest

from moe_edge.training.kinds.kind import GateJob
from moe_edge.training.kinds.registry import gate_kind

KINDS = ("logistic_regression", "decision_tree", "random_forest", "gradient_boosting", "hist_gradient_boosting")
FEW = {"random_forest": {"n_estimators": 20, "max_depth": 4}, "gradient_boosting": {"n_estimators": 20}}
RNG = np.random.default_rng(5)
X = RNG.normal(size=(300, 3)).astype(np.float32)
OWNER = np.where(X[:, 0] > 0.5, 2, np.where(X[:, 0] < -0.5, 0, 3))
"""Expert 1 owns nothing."""


def fit(kind, responsibilities, **job):
    job = GateJob(input_shape=(3,), num_experts=4, **{"options": FEW.get(kind, {}), **job})
    return np.asarray(gate_kind(kind).fit(job, X, responsibilities)(X))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_go_to_who_answers_for_them(kind):
    weights = fit(kind, np.eye(4)[OWNER])
    assert weights.shape == (len(X), 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert (weights.argmax(axis=1) == OWNER).mean() > 0.9
    assert weights[:, 1].max() <= (2e-7 if kind == "logistic_regression" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_shared_rows_are_shared(kind):
    shares = np.tile([0.6, 0.0, 0.1, 0.3], (len(X), 1))
    np.testing.assert_allclose(fit(kind, shares).mean(axis=0), shares[0], atol=0.03)


def test_a_tree_that_only_counts_gives_the_mean_responsibilities():
    shares = RNG.dirichlet([0.5] * 4, len(X))
    got = fit("decision_tree", shares, options={"min_samples_leaf": 4 * len(X) // 2 + 1})
    np.testing.assert_allclose(got, np.tile(shares.mean(axis=0), (len(X), 1)), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_helpful_errors(kind):
    with pytest.raises(ValueError, match=r"expected responsibilities \(300, 4\)"):
        fit(kind, np.ones((300, 3)))
    with pytest.raises(ValueError, match=r"expected z_loss_coef=0, got 0\.1"):
        fit(kind, np.eye(4)[OWNER], z_loss_coef=0.1)
    with pytest.raises(ValueError, match=r"expected temperature=1, got 0\.5"):
        fit(kind, np.eye(4)[OWNER], temperature=0.5)
