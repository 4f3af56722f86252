import numpy as np
import pytest

from moe_edge.config import Combine, Task
from moe_edge.training.kinds.kind import ExpertJob
from moe_edge.training.kinds.registry import expert_kind

RNG = np.random.default_rng(4)
X = RNG.normal(size=(200, 3)).astype(np.float32)
CODES = (X[:, 0] > 0).astype(int) + (X[:, 0] > 1)
EVEN = np.ones(len(X))


def job(task, combine, num_outputs):
    return ExpertJob(input_shape=(3,), num_outputs=num_outputs, task=task, combine=combine)


def test_least_squares_is_solved_with_weights():
    y = np.stack([X @ [1.0, -2.0, 0.5] + 3, X[:, 0] ** 2], axis=1).astype(np.float64)
    weights = RNG.uniform(0, 1, len(X))
    model = expert_kind("linear_regression").fit(job(Task.REGRESSION, Combine.GAUSSIAN, 2), X, y, weights)
    design = np.concatenate([X, np.ones((len(X), 1))], axis=1).astype(np.float64)
    root = np.sqrt(weights)[:, None]
    best = np.linalg.lstsq(design * root, y * root, rcond=None)[0]
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(kernel[:, :2], best[:3], atol=1e-5)
    np.testing.assert_allclose(bias[:2], best[3], atol=1e-5)
    np.testing.assert_array_equal(kernel[:, 2:], 0)
    errors = np.sqrt(np.average((design @ best - y) ** 2, axis=0, weights=weights))
    # The first number is met exactly; its sigma stops at the smallest.
    np.testing.assert_allclose(np.exp(bias[2:]), np.maximum(errors, 1e-3), rtol=1e-4)
    assert not model.trainable_weights


@pytest.mark.parametrize("combine", [Combine.PROBABILITIES, Combine.LOGITS])
def test_logistic_regression_answers_with_probabilities_or_logits(combine):
    model = expert_kind("logistic_regression").fit(job(Task.CLASSIFICATION, combine, 4), X, CODES, EVEN)
    got = np.asarray(model(X))
    if combine is Combine.LOGITS:
        got = np.exp(got) / np.exp(got).sum(axis=1, keepdims=True)
    assert (got.argmax(axis=1) == CODES).mean() > 0.9
    assert got[:, 3].max() < 2e-7


def test_one_class_alone_is_certain():
    model = expert_kind("logistic_regression").fit(
        job(Task.CLASSIFICATION, Combine.PROBABILITIES, 3), X, np.ones(len(X), int), EVEN
    )
    assert np.asarray(model(X))[:, 1].min() > 1 - 1e-6


def test_helpful_errors():
    with pytest.raises(ValueError, match="expected a regression"):
        expert_kind("linear_regression").fit(job(Task.CLASSIFICATION, Combine.PROBABILITIES, 3), X, CODES, EVEN)
    with pytest.raises(ValueError, match="expected a classification"):
        expert_kind("logistic_regression").fit(job(Task.REGRESSION, Combine.MEAN, 1), X, CODES, EVEN)
