import numpy as np
import pytest

from moe_edge.config import Combine, Task
from moe_edge.training.kinds.kind import ExpertJob
from moe_edge.training.kinds.registry import expert_kind

KINDS = ("decision_tree", "random_forest", "gradient_boosting", "hist_gradient_boosting")
SMALL = {
    "decision_tree": {"max_depth": 4},
    "random_forest": {"n_estimators": 15, "max_depth": 5},
    "gradient_boosting": {"n_estimators": 15},
    "hist_gradient_boosting": {"max_iter": 15, "min_samples_leaf": 5},
}
RNG = np.random.default_rng(3)
X = RNG.normal(size=(240, 4)).astype(np.float32)
CODES = (X[:, 0] > 0).astype(int) + 2 * (X[:, 1] > 0)
NUMBERS = np.stack([np.tanh(3 * X[:, 0]), X[:, 1] * X[:, 2]], axis=1).astype(np.float64)
EVEN = np.ones(len(X))


def job(kind, task=Task.CLASSIFICATION, combine=Combine.PROBABILITIES, **change):
    numbers = {"num_outputs": 4 if task is Task.CLASSIFICATION else 2, "options": SMALL[kind], "input_shape": (4,)}
    return ExpertJob(task=task, combine=combine, **{**numbers, **change})


def answers(model, x=X):
    return np.asarray(model(x))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_classes(kind):
    model = expert_kind(kind).fit(job(kind), X, CODES, EVEN)
    got = answers(model)
    assert got.shape == (len(X), 4)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)
    assert (got.argmax(axis=1) == CODES).mean() > 0.95
    assert not model.trainable_weights


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_weight_teach_nothing(kind):
    weights = np.where(CODES == 3, 0.0, RNG.uniform(0.5, 1, len(X)))
    with_all = expert_kind(kind).fit(job(kind), X, CODES, weights)
    kept = CODES != 3
    without = expert_kind(kind).fit(job(kind), X[kept], CODES[kept], weights[kept])
    np.testing.assert_array_equal(answers(with_all), answers(without))
    np.testing.assert_array_equal(answers(with_all)[:, 3], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_decide_where_rows_disagree(kind):
    twice = np.concatenate([X, X])
    codes = np.concatenate([np.zeros(len(X), int), np.ones(len(X), int)])
    weights = np.where(codes == 1, 9.0, 1.0)
    model = expert_kind(kind).fit(job(kind, num_outputs=2), twice, codes, weights)
    assert answers(model)[:, 1].mean() == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_alone_is_certain(kind):
    model = expert_kind(kind).fit(job(kind), X, np.full(len(X), 2), EVEN)
    np.testing.assert_array_equal(answers(model), np.tile([0, 0, 1, 0], (len(X), 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_several_numbers_and_their_sigma(kind):
    weights = RNG.uniform(0.1, 1, len(X))
    model = expert_kind(kind).fit(job(kind, Task.REGRESSION, Combine.GAUSSIAN), X, NUMBERS, weights)
    got = answers(model)
    assert got.shape == (len(X), 4)
    errors = np.sqrt(np.average((got[:, :2] - NUMBERS) ** 2, axis=0, weights=weights))
    assert (errors < 0.8 * NUMBERS.std(axis=0)).all()
    np.testing.assert_allclose(np.exp(got[:, 2:]), np.tile(errors, (len(X), 1)), rtol=1e-4)
    mean = expert_kind(kind).fit(job(kind, Task.REGRESSION, Combine.MEAN), X, NUMBERS, weights)
    np.testing.assert_allclose(answers(mean), got[:, :2], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_expert(kind):
    first, second = (expert_kind(kind).fit(job(kind, seed=5), X, CODES, EVEN) for _ in range(2))
    np.testing.assert_array_equal(answers(first), answers(second))


def test_seeds_tell_forests_apart():
    first, second = (
        expert_kind("random_forest").fit(job("random_forest", seed=seed), X, CODES, EVEN) for seed in (0, 1)
    )
    assert abs(answers(first) - answers(second)).max() > 0.01


def test_no_limit_of_depth():
    limited, free = (
        expert_kind("decision_tree").fit(job("decision_tree", options={"max_depth": depth}), X, CODES, EVEN)
        for depth in (1, 0)
    )
    assert limited.layers[-1].depth == 1 < free.layers[-1].depth


def test_rows_of_any_shape():
    model = expert_kind("decision_tree").fit(job("decision_tree", input_shape=(2, 2)), X.reshape(-1, 2, 2), CODES, EVEN)
    flat = expert_kind("decision_tree").fit(job("decision_tree"), X, CODES, EVEN)
    np.testing.assert_array_equal(answers(model, X.reshape(-1, 2, 2)), answers(flat))


@pytest.mark.parametrize("kind", KINDS)
def test_helpful_errors(kind):
    with pytest.raises(ValueError, match="expected combine=probabilities, got logits"):
        expert_kind(kind).fit(job(kind, combine=Combine.LOGITS), X, CODES, EVEN)
    with pytest.raises(ValueError, match="unknown option 'criterion'"):
        expert_kind(kind).fit(job(kind, options={"criterion": "gini"}), X, CODES, EVEN)
    with pytest.raises(ValueError, match="not all 0"):
        expert_kind(kind).fit(job(kind), X, CODES, 0 * EVEN)
