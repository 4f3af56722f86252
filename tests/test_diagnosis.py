"""A diagnosis says what was built into the rows: use, sharpness, who is best, collapse."""

from __future__ import annotations

import numpy as np
import pytest

from moe_edge.diagnosis import diagnose
from moe_edge.task import Task


def test_hard_even_and_collapsed_gates():
    hard = diagnose(np.eye(4)[[0, 1, 2, 3] * 5], task=Task.REGRESSION, labels=("y",))
    assert hard.effective_experts == pytest.approx(4) and hard.effective_per_row == pytest.approx(1)
    assert hard.entropy_histogram[0] == hard.margin_histogram[-1] == 20 and not hard.collapsed and not hard.advice
    even = diagnose(np.full((10, 4), 0.25), task=Task.REGRESSION, labels=("y",))
    assert even.effective_per_row == pytest.approx(4) and even.mean_entropy == pytest.approx(np.log(4))
    assert even.entropy_histogram[-1] == even.margin_histogram[0] == 10
    assert "hardly chooses" in even.advice[0]
    dead = diagnose(np.tile([0.5, 0.5, 0.0], (10, 1)), task=Task.REGRESSION, labels=("y",))
    assert dead.collapsed == (2,) and "expert_2 collapsed" in dead.advice[0] and "2 experts" in dead.advice[0]
    one = diagnose(np.tile([1.0, 0.0], (10, 1)), task=Task.REGRESSION, labels=("y",))
    assert "one expert does all the work" in one.advice[0]


def test_who_is_best_in_a_regression():
    weights = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    target = np.array([[0.0], [1.0], [2.0], [3.0]])
    answers = np.array([[0.0, 9], [3, 1], [9, 2], [9, 3]])[:, :, None]
    found = diagnose(
        weights, task=Task.REGRESSION, labels=("y",), target=target, prediction=target + 1.0, expert_answers=answers
    )
    scores = found.scores
    assert scores is not None and scores.metric == "rmse" and scores.mixture == 1.0 and scores.oracle == 0.0
    assert scores.best_rows == ((1, 1), (0, 2)) and scores.gate_picks_best == 0.75
    assert scores.own_rows == (pytest.approx(np.sqrt(2)), 0.0)
    assert len(found.groups) == 4 and found.usage_by_group[0] == (0.9, 0.1)


def test_who_is_right_in_a_classification():
    weights = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    answers = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.1, 0.9]], [[1, 0], [0.3, 0.7]]])
    target = np.array([0, 1, 1])
    prediction = np.einsum("ne,nek->nk", weights, answers)
    found = diagnose(
        weights,
        task=Task.CLASSIFICATION,
        labels=("a", "b"),
        target=target,
        prediction=prediction,
        expert_answers=answers,
    )
    scores = found.scores
    assert scores is not None and scores.metric == "accuracy"
    assert scores.alone == (pytest.approx(1 / 3), pytest.approx(2 / 3)) and scores.oracle == 1.0
    assert scores.mixture == pytest.approx(2 / 3) and scores.best_rows == ((1, 1), (0, 1))
    assert found.groups == ("a", "b") and found.usage_by_group[0] == (0.9, 0.1)


def test_no_target_no_scores_and_the_reason():
    found = diagnose(np.full((3, 2), 0.5), task=Task.CLASSIFICATION, labels=("a", "b"))
    assert found.scores is None and "no target" in found.scores_missing and not found.groups


@pytest.mark.parametrize("shape", [(0, 2), (3, 1), (3,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="expected routing weights"):
        diagnose(np.ones(shape), task=Task.REGRESSION, labels=("y",))


@pytest.mark.parametrize(("rows", "advised"), [(20, False), (20_000, True)])
def test_one_expert_is_advised_only_beyond_chance(rows, advised):
    """Expert 0 errs a hundredth less than the mixture: chance among few rows, certain among many."""
    rng = np.random.default_rng(3)
    target = rng.normal(size=(rows, 1))
    answers = np.stack([target + rng.normal(size=(rows, 1)), target + 9], axis=1)
    found = diagnose(
        rng.dirichlet([0.1, 0.1], rows),
        task=Task.REGRESSION,
        labels=("y",),
        target=target,
        prediction=target + 1.05 * rng.normal(size=(rows, 1)),
        expert_answers=answers,
    )
    assert found.scores is not None and (found.scores.better_alone == 0) == advised
    assert any("beyond chance" in advice for advice in found.advice) == advised
