"""The check of a written file: it can fail, and it says how."""

import numpy as np
import pytest

from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge_converters.answer_check import LOSSLESS_TOLERANCE, check_answers, run_plain


@pytest.fixture(scope="module")
def shipped(mixture_file):
    """A float32 file, rows, and the file's own answers."""
    content = mixture_file("plain").read_bytes()
    rows = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    return content, rows, run_plain(content, rows)


def check(shipped, expected=None, *, lossless=True):
    content, rows, answers = shipped
    expected = answers if expected is None else expected
    return check_answers(content, rows, expected, task=Task.CLASSIFICATION, lossless=lossless)


def test_a_file_agrees_with_itself(shipped):
    result = check(shipped)
    assert (result.num_rows, result.top1_agreement) == (50, 1.0) and result.max_abs_error < 1e-6


def test_a_difference_beyond_rounding_fails_a_lossless_file_only(shipped):
    expected = shipped[2].copy()
    expected[7, 1] += 3 * LOSSLESS_TOLERANCE
    with pytest.raises(ConversionError, match=r"the float32 file differs from its source by 0\.0003"):
        check(shipped, expected)
    assert check(shipped, expected, lossless=False).max_abs_error == pytest.approx(3 * LOSSLESS_TOLERANCE, rel=0.05)


def test_agreement_counts_rows(shipped):
    expected = shipped[2].copy()
    expected[:5] = np.roll(expected[:5], 1, axis=1)
    assert check(shipped, expected, lossless=False).top1_agreement == pytest.approx(0.9)


def test_a_regressions_difference_is_told_against_the_spread(shipped):
    content, rows, answers = shipped
    expected = answers.copy()
    expected[:, 0] += 0.1 * np.where(np.arange(50) % 2, 1, -1)
    result = check_answers(content, rows, expected, task=Task.REGRESSION, lossless=False)
    assert result.spread_share == pytest.approx(0.1 / expected[:, 0].std(), rel=1e-3)
    assert check(shipped).spread_share is None, "classes have no spread"
    same = np.broadcast_to(answers[:1], answers.shape)
    assert check_answers(content, rows, same, task=Task.REGRESSION, lossless=False).spread_share is None


def test_shapes_and_nan_fail(shipped):
    with pytest.raises(ConversionError, match="expected answers of shape"):
        check(shipped, shipped[2][:, :2])
    expected = shipped[2].copy()
    expected[3] = np.nan
    with pytest.raises(ConversionError, match="the source model answers with NaN"):
        check(shipped, expected, lossless=False)


def test_a_regression_has_no_agreement(mixture_file):
    content = mixture_file("regression").read_bytes()
    rows = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    answers = run_plain(content, rows)
    result = check_answers(content, rows, answers, task=Task.REGRESSION, lossless=True)
    assert result.top1_agreement is None
