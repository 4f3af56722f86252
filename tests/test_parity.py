"""Parity reports and thresholds: they measure what they say, and they can fail."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from moe_edge.config import Task
from moe_edge.errors import DataError
from moe_edge.parity import Answers, ParityReport, compare_answers, wilson
from moe_edge.strict import from_dict, to_dict
from moe_edge.thresholds import ParityThresholds, check_parity, rows_allowed

LABELS = ("ant", "bee", "cat")


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def classified(num_rows=400, seed=0):
    """A model that is right on about nine of ten rows, with its routing."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, num_rows)
    logits = rng.normal(size=(num_rows, 3)) + 3.0 * np.eye(3)[targets]
    return Answers(prediction=softmax(logits), routing_weights=softmax(rng.normal(size=(num_rows, 4)))), targets


def compare(keras, tflite, targets, **kwargs):
    return compare_answers(keras, tflite, targets, task=Task.CLASSIFICATION, labels=LABELS, **kwargs)


def flipped(answers, rows):
    """The same answers with the labels of ``rows`` rotated, so that each changes."""
    prediction = np.array(answers.prediction)
    prediction[rows] = np.roll(prediction[rows], 1, axis=1)
    return replace(answers, prediction=prediction)


def test_a_model_equals_itself():
    answers, targets = classified()
    report = compare(answers, answers, targets)
    assert (report.agreement, report.routing_agreement, report.correct_rows_lost) == (1.0, 1.0, 0)
    assert report.max_abs_error == report.mean_abs_error == 0.0
    assert report.route_flip_error is None and report.numeric_error == 0.0
    assert report.metrics[0].keras == report.metrics[0].tflite
    strict = ParityThresholds(max_accuracy_drop=0, min_agreement=1, max_abs_error=0, max_rmse_rise=0)
    assert check_parity(report, strict) == ()


def test_accuracy_and_usage_are_what_numpy_counts():
    answers, targets = classified()
    report = compare(answers, answers, targets)
    assert report.metrics[0].keras.value == np.mean(answers.prediction.argmax(axis=1) == targets)
    np.testing.assert_allclose(report.keras_usage, answers.routing_weights.mean(axis=0))


def test_too_many_changed_labels_fail_with_expected_and_got():
    answers, targets = classified()
    right = np.flatnonzero(answers.prediction.argmax(axis=1) == targets)
    report = compare(answers, flipped(answers, right[:20]), targets)
    drop, agreement = check_parity(report, ParityThresholds())
    assert "at most 0.5 points (2 of 400 rows), got 5.00 points (20 rows)" in drop
    assert "at least 99.00% of rows (at most 4 of 400 different), got 95.00% (20 different)" in agreement


@pytest.mark.parametrize(
    ("num_rows", "changed", "passes"), [(60, 1, True), (60, 2, False), (400, 2, True), (400, 3, False)]
)
def test_one_row_always_passes_and_whole_rows_after_that(num_rows, changed, passes):
    answers, targets = classified(num_rows)
    right = np.flatnonzero(answers.prediction.argmax(axis=1) == targets)
    report = compare(answers, flipped(answers, right[:changed]), targets)
    failures = check_parity(report, ParityThresholds(min_agreement=0.5))
    assert (failures == ()) is passes


def test_a_threshold_of_zero_allows_no_row():
    answers, targets = classified()
    right = np.flatnonzero(answers.prediction.argmax(axis=1) == targets)
    report = compare(answers, flipped(answers, right[:1]), targets)
    assert len(check_parity(report, ParityThresholds(max_accuracy_drop=0, min_agreement=1))) == 2


def test_a_gain_is_no_failure():
    answers, targets = classified()
    right = np.flatnonzero(answers.prediction.argmax(axis=1) == targets)
    report = compare(flipped(answers, right[:50]), answers, targets)
    assert report.correct_rows_lost < 0
    assert check_parity(report, ParityThresholds(min_agreement=0)) == ()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["keras", "tflite"])
@pytest.mark.parametrize("part", ["prediction", "routing_weights"])
def test_one_value_that_is_not_finite_fails_on_either_side(poison, side, part):
    answers, targets = classified()
    values = np.array(getattr(answers, part))
    values[7, 1] = poison
    bad = replace(answers, **{part: values})
    report = compare(bad, answers, targets) if side == "keras" else compare(answers, bad, targets)
    failures = check_parity(report, ParityThresholds(max_abs_error=1e9))
    assert "NaN or infinity" in failures[0] and "1 row" in failures[0]
    assert "largest difference" in failures[-1]
    assert math.isnan(report.max_abs_error) and report.agreeing_rows == 399
    assert report.worst_rows[0].row == 8


def test_errors_split_into_route_flips_and_numeric_error():
    answers, targets = classified(100)
    routing, prediction = np.array(answers.routing_weights), np.array(answers.prediction)
    routing[:10] = np.roll(routing[:10], 1, axis=1)
    prediction[:10] += 0.2
    prediction[10:] += 0.001
    report = compare(answers, Answers(prediction=prediction, routing_weights=routing), targets)
    assert report.routing_agreement == 0.9
    assert report.route_flip_error == pytest.approx(0.2) and report.numeric_error == pytest.approx(0.001)


def test_worst_rows_are_named_by_their_number_in_the_table():
    answers, targets = classified(50)
    prediction = np.array(answers.prediction)
    prediction[3] = np.roll(prediction[3], 1)
    numbers = np.arange(50) * 10 + 5
    report = compare(answers, replace(answers, prediction=prediction), targets, row_numbers=numbers, num_worst=2)
    assert report.worst_rows[0].row == 35 and len(report.worst_rows) == 2
    assert report.worst_rows[0].target == LABELS[targets[3]]
    assert report.worst_rows[0].abs_error == report.max_abs_error


def regressed(seed=0, num_rows=500):
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=(num_rows, 2)) * (1.0, 1000.0)
    prediction = targets + rng.normal(size=(num_rows, 2)) * (0.1, 300.0)
    return Answers(prediction=prediction, routing_weights=softmax(rng.normal(size=(num_rows, 3)))), targets


def regress(keras, tflite, targets):
    return compare_answers(keras, tflite, targets, task=Task.REGRESSION, labels=("small", "large"))


def test_regression_scores_each_output_in_its_own_unit():
    answers, targets = regressed()
    report = regress(answers, answers, targets)
    scores = {(metric.name, metric.output): metric.keras for metric in report.metrics}
    errors = answers.prediction - targets
    for k, output in enumerate(("small", "large")):
        rmse, r2 = scores["rmse", output], scores["r2", output]
        assert rmse.value == pytest.approx(np.sqrt(np.mean(errors[:, k] ** 2)))
        assert r2.value == pytest.approx(1 - np.mean(errors[:, k] ** 2) / targets[:, k].var())
        assert rmse.low < rmse.value < rmse.high and r2.low < r2.value < r2.high <= 1
    assert report.agreement is None and report.correct_rows_lost is None


def test_regression_intervals_hold_the_truth_about_as_often_as_they_say():
    inside = {"rmse": 0, "r2": 0}
    for seed in range(200):
        answers, targets = regressed(seed, num_rows=300)
        for metric in regress(answers, answers, targets).metrics[:2]:
            true = {"rmse": 0.1, "r2": 0.99}[metric.name]
            inside[metric.name] += metric.keras.low <= true <= metric.keras.high
    assert all(180 <= count <= 199 for count in inside.values()), inside


def test_a_bad_small_output_fails_although_the_large_one_is_fine():
    answers, targets = regressed()
    prediction = np.array(answers.prediction)
    prediction[:, 0] += 0.05
    failures = check_parity(regress(answers, replace(answers, prediction=prediction), targets), ParityThresholds())
    assert len(failures) == 1 and "RMSE of small" in failures[0] and "5 % above" in failures[0]


def test_nan_fails_a_regression():
    answers, targets = regressed()
    prediction = np.array(answers.prediction)
    prediction[0, 1] = math.nan
    failures = check_parity(regress(answers, replace(answers, prediction=prediction), targets), ParityThresholds())
    assert any("NaN or infinity" in failure for failure in failures)
    assert any("RMSE of large" in failure for failure in failures)


def test_a_constant_target_leaves_r2_undefined_without_a_warning():
    answers, targets = regressed(num_rows=5)
    report = regress(answers, answers, np.ones_like(targets))
    assert math.isnan(report.metrics[1].keras.value)


def test_the_report_survives_json():
    answers, targets = classified(20)
    report = compare(answers, flipped(answers, [1, 2]), targets)
    assert from_dict(ParityReport, json.loads(json.dumps(to_dict(report)))) == report


@pytest.mark.parametrize(
    ("prediction", "routing", "targets"),
    [
        ((0, 3), (0, 4), (0,)),
        ((5, 2), (5, 4), (5,)),
        ((5, 3), (4, 4), (5,)),
        ((5, 3), (5, 4), (5, 2)),
        ((5, 3), (5, 4), (4,)),
    ],
)
def test_shapes_that_do_not_fit_are_the_users_error(prediction, routing, targets):
    answers = Answers(prediction=np.zeros(prediction), routing_weights=np.zeros(routing))
    with pytest.raises(DataError, match="expected"):
        compare(answers, answers, np.zeros(targets))


def test_a_file_of_another_mixture_is_refused():
    answers, targets = classified(5)
    other = Answers(prediction=answers.prediction, routing_weights=np.ones((5, 7)) / 7)
    with pytest.raises(DataError, match="converted from this model"):
        compare(answers, other, targets)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_wilson_contains_its_share_and_stays_a_share(trials, share):
    successes = round(share * trials)
    score = wilson(successes, trials)
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert score.low < score.high


def test_wilson_agrees_with_a_published_value():
    # 81 of 263: Newcombe 1998 (Statistics in Medicine 17), table I, method 3: 0.2553 to 0.3662.
    score = wilson(81, 263)
    assert (round(score.low, 4), round(score.high, 4)) == (0.2553, 0.3662)


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_allowed_rows_never_exceed_the_share_by_more_than_one_row(share, num_rows):
    allowed = rows_allowed(share, num_rows)
    assert (allowed == 0) is (share == 0)
    assert allowed <= max(1, share * num_rows + 1e-6) and allowed >= math.floor(share * num_rows)


def test_one_percent_of_a_hundred_rows_is_one_row():
    assert [rows_allowed(1 - 0.99, rows) for rows in (100, 200, 300, 540)] == [1, 2, 3, 5]


@pytest.mark.parametrize(
    "wrong", [{"max_accuracy_drop": -1}, {"min_agreement": 99}, {"max_abs_error": -0.1}, {"max_rmse_rise": math.nan}]
)
def test_thresholds_that_exist_are_valid(wrong):
    with pytest.raises(ValueError, match="expected"):
        ParityThresholds(**wrong)


def gaussian(rows=4000, *, sigma=1.0, seed=0):
    """Answers of one Gaussian whose sigma is right when it is 1, and the targets."""
    targets = np.random.default_rng(seed).normal(size=rows) * [[3.0], [1.0]]
    z = targets.T / (np.array([3.0, 1.0]) * sigma)
    return Answers(
        prediction=np.zeros((rows, 2)),
        routing_weights=np.ones((rows, 1)),
        log_density=norm.logpdf(z).sum(axis=1) - np.log(3 * sigma * sigma),
        probability_below=norm.cdf(z),
    ), targets.T


def test_likelihood_and_coverage_tell_right_sigmas_from_narrow_ones():
    right, targets = gaussian()
    narrow, _ = gaussian(sigma=0.5)
    report = compare_answers(right, narrow, targets, task=Task.REGRESSION, labels=("a", "b"))
    found = {(metric.name, metric.output): metric for metric in report.metrics}
    entropy = 2 * 0.5 * math.log(2 * math.pi * math.e) + math.log(3)
    assert found["nll", ""].keras.low < entropy < found["nll", ""].keras.high
    assert found["nll", ""].tflite.low > found["nll", ""].keras.high
    for output in ("a", "b"):
        for percent in (50, 90):
            metric = found[f"coverage_{percent}", output]
            assert metric.keras.low < percent / 100 < metric.keras.high
            half = norm.ppf(0.5 + percent / 200) * 0.5
            assert metric.tflite.value == pytest.approx(2 * norm.cdf(half) - 1, abs=0.025)


def test_a_side_without_distribution_leaves_likelihood_out():
    whole, targets = gaussian(50)
    bare = replace(whole, log_density=None, probability_below=None)
    for pair in ((whole, bare), (bare, whole)):
        names = {m.name for m in compare_answers(*pair, targets, task=Task.REGRESSION, labels=("a", "b")).metrics}
        assert names == {"rmse", "r2"}
