"""Experts and gates fitted to weighted rows: what weights change, absent classes, sigmas, options, refusals."""

import numpy as np
import pytest
from sklearn import ensemble, linear_model, tree

from moe_edge.config import Combine, Task
from moe_edge.training.kinds.kind import ExpertJob, GateJob
from moe_edge.training.kinds.registry import EXPERTS, GATES, expert_kind, gate_kind

F = 4
TREES = ("decision_tree", "random_forest", "gradient_boosting", "hist_gradient_boosting")
CLASSIFIERS = (*TREES, "logistic_regression")
REGRESSORS = (*TREES, "linear_regression")
OPTIONS = {
    "random_forest": {"n_estimators": 6},
    "gradient_boosting": {"n_estimators": 6},
    "hist_gradient_boosting": {"max_iter": 6},
}


def job_of(name, task, combine, num_outputs, **options):
    return ExpertJob(
        input_shape=(F,),
        num_outputs=num_outputs,
        task=task,
        combine=combine,
        options={**OPTIONS.get(name, {}), **options},
        seed=7,
    )


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, F)).astype(np.float32)
    y = np.digitize(x[:, 0] + x[:, 1] ** 2, [0.0, 1.0])
    weights = rng.random(300)
    weights[y == 1] = 0
    return x, y, weights


def test_names_are_the_registry_s():
    for name in ("linear_regression", *CLASSIFIERS):
        assert name in EXPERTS
        assert expert_kind(name).name == name
    for name in CLASSIFIERS:
        assert name in GATES
        assert gate_kind(name).name == name


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_without_weight_get_no_probability(name, rows):
    x, y, weights = rows
    job = job_of(name, Task.CLASSIFICATION, Combine.PROBABILITIES, 4)
    model = expert_kind(name).fit(job, x, y, weights)
    answers = np.asarray(model(x))
    assert answers.shape == (300, 4)
    assert not model.trainable_weights
    assert answers[:, [1, 3]].max() <= 2e-7
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    kept = weights > 0
    assert (answers.argmax(axis=1) == y)[kept].mean() > 0.8
    single = np.asarray(expert_kind(name).fit(job, x, np.full(300, 2), np.ones(300))(x))
    np.testing.assert_allclose(single, np.eye(4)[[2] * 300], atol=1e-6)


def test_forest_is_scikit_learn_s_of_the_same_seed(rows):
    x, y, weights = rows
    job = job_of("random_forest", Task.CLASSIFICATION, Combine.PROBABILITIES, 3, max_depth=3)
    got = np.asarray(expert_kind("random_forest").fit(job, x, y, weights)(x))
    kept = weights > 0
    scaled = weights[kept] / weights[kept].mean()
    forest = ensemble.RandomForestClassifier(6, max_depth=3, random_state=7).fit(x[kept], y[kept], scaled)
    np.testing.assert_allclose(got[:, [0, 2]], forest.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", REGRESSORS)
def test_gaussian_answers_hold_the_weighted_residuals(name, outputs, rows):
    x, _, weights = rows
    y = np.stack([x[:, 0] * x[:, 1], np.sin(x[:, 2])], axis=1)[:, :outputs].astype(np.float64)
    means = np.asarray(expert_kind(name).fit(job_of(name, Task.REGRESSION, Combine.MEAN, outputs), x, y, weights)(x))
    assert means.shape == (300, outputs)
    job = job_of(name, Task.REGRESSION, Combine.GAUSSIAN, outputs)
    both = np.asarray(expert_kind(name).fit(job, x, y, weights)(x))
    np.testing.assert_allclose(both[:, :outputs], means, atol=1e-5)
    sigma = np.sqrt(np.average((means - y) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose(np.exp(both[:, outputs:]), np.tile(sigma, (300, 1)), rtol=1e-4)


def test_linear_regression_is_weighted_least_squares(rows):
    x, _, weights = rows
    y = x @ np.array([[1.0], [2.0], [0.0], [-1.0]]) + 0.5 * x[:, :1] ** 2
    job = job_of("linear_regression", Task.REGRESSION, Combine.MEAN, 1)
    got = np.asarray(expert_kind("linear_regression").fit(job, x, y, weights)(x))
    expected = linear_model.LinearRegression().fit(x.astype(np.float64), y, weights).predict(x)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_gate_learns_who_answers_and_leaves_idle_experts_out(name, rows):
    x = rows[0]
    shares = np.zeros((300, 4))
    shares[x[:, 0] < 0, 0], shares[x[:, 0] >= 0, 2] = 0.9, 0.9
    shares[:, 3] = 0.1
    job = GateJob(input_shape=(F,), num_experts=4, options=OPTIONS.get(name, {}), seed=1)
    model = gate_kind(name).fit(job, x, shares)
    weights = np.asarray(model(x))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert weights[:, 1].max() <= 2e-7
    assert (weights.argmax(axis=1) == np.where(x[:, 0] < 0, 0, 2)).mean() > 0.95
    np.testing.assert_allclose(weights[:, 3].mean(), 0.1, atol=0.05)


def test_tree_gate_is_the_weighted_tree(rows):
    x = rows[0]
    shares = np.random.default_rng(1).dirichlet([1, 1, 1], size=300)
    job = GateJob(input_shape=(F,), num_experts=3, options={"max_depth": 2}, seed=1)
    got = np.asarray(gate_kind("decision_tree").fit(job, x, shares)(x))
    fitted = tree.DecisionTreeClassifier(max_depth=2, min_samples_leaf=5, random_state=1)
    fitted.fit(np.repeat(x, 3, axis=0), np.tile([0, 1, 2], 300), shares.reshape(-1) * 3)
    np.testing.assert_allclose(got, fitted.predict_proba(x), atol=1e-5)


def test_refusals(rows):
    x, y, weights = rows
    job = job_of("decision_tree", Task.CLASSIFICATION, Combine.PROBABILITIES, 3, depth=3)
    with pytest.raises(ValueError, match=r"unknown option 'depth'.*max_depth"):
        expert_kind("decision_tree").fit(job, x, y, weights)
    job = job_of("decision_tree", Task.CLASSIFICATION, Combine.PROBABILITIES, 3)
    with pytest.raises(ValueError, match="not all 0"):
        expert_kind("decision_tree").fit(job, x, y, np.zeros(300))
    with pytest.raises(ValueError, match="combine=probabilities"):
        job = job_of("decision_tree", Task.CLASSIFICATION, Combine.LOGITS, 3)
        expert_kind("decision_tree").fit(job, x, y, weights)
    with pytest.raises(ValueError, match=r"is for regression.*use logistic_regression"):
        job = job_of("linear_regression", Task.CLASSIFICATION, Combine.PROBABILITIES, 3)
        expert_kind("linear_regression").fit(job, x, y, weights)
    gate_job = GateJob(input_shape=(F,), num_experts=3)
    with pytest.raises(ValueError, match=r"shape \(300, 3\), got \(300, 2\)"):
        gate_kind("decision_tree").fit(gate_job, x, np.full((300, 2), 0.5))
    with pytest.raises(ValueError, match="sum to 1"):
        gate_kind("decision_tree").fit(gate_job, x, np.full((300, 3), 0.5))
