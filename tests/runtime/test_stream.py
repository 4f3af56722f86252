from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_edge import Predictor
from moe_edge.errors import DataError
from moe_edge.runtime.stream import slide_windows


@given(st.integers(0, 40), st.integers(1, 6), st.integers(1, 3), st.none() | st.integers(1, 9))
def test_windows_are_slices_of_the_stream(length, window, channels, hop):
    samples = np.arange(length * channels, dtype=np.float32).reshape(length, channels)
    found = [view.copy() for view in slide_windows(samples, input_shape=(window * channels,), hop=hop)]
    starts = range(0, length - window + 1, hop or window)
    assert len(found) == len(starts)
    for start, view in zip(starts, found, strict=True):
        np.testing.assert_array_equal(view, samples[start : start + window].reshape(-1))


def test_windows_have_the_shape_of_a_row():
    samples = np.random.default_rng(0).normal(size=(10, 3))
    found = [view.copy() for view in slide_windows(samples, input_shape=(4, 3), hop=2)]
    np.testing.assert_array_equal(found, [samples[i : i + 4].astype(np.float32) for i in (0, 2, 4, 6)])


def test_an_endless_stream_is_answered_as_it_comes(mixture_file):
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield np.sin(number / 5)

    with Predictor(mixture_file("plain")) as predictor:
        answers = list(itertools.islice(predictor.stream(endless(), hop=16), 3))
        assert len(taken) == 64 + 2 * 16
        signal = np.sin(np.arange(96) / 5).astype(np.float32)
        for place, answer in enumerate(answers):
            expected = predictor.explain(signal[16 * place : 16 * place + 64])
            np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
            assert len(answer) == 1


@pytest.mark.parametrize(
    ("samples", "shape", "message"),
    [
        ([[1, 2], [1, 2, 3]], (8,), "sample 2: expected 2 channels like the first, got 3"),
        ([[1, 2, 3]], (8,), r"divisor of 8 channels.*got 3"),
        ([[1, 2]], (4, 3), "samples of 3 channels.*got 2"),
        (["a"], (8,), "sample 1: expected a number"),
        ([[[1]]], (8,), "sample 1: expected a number"),
        ([[]], (8,), "sample 1: expected a number"),
    ],
)
def test_samples_that_do_not_fit_are_named(samples, shape, message):
    with pytest.raises(DataError, match=message):
        list(slide_windows(samples, input_shape=shape))


@pytest.mark.parametrize("hop", [0, -1, 1.5, True])
def test_a_hop_that_goes_nowhere_is_refused_at_once(hop):
    with pytest.raises(ValueError, match="whole number of samples"):
        slide_windows([], input_shape=(4,), hop=hop)
