"""A gap restarts the window: no window ever spans one, and nothing else is lost."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import Sample
from windows import WindowCutter


def cut(samples, steps=10, hop=5):
    cutter = WindowCutter(steps=steps, hop=hop, rate=50)
    return cutter, [window for window in map(cutter.push, samples) if window is not None]


def test_windows_slide_by_the_hop(stream):
    samples = stream(7.0, 23)
    cutter, windows = cut(samples)
    rows = np.array([sample.values for sample in samples], dtype=np.float32)
    np.testing.assert_array_equal(windows, [rows[0:10], rows[5:15], rows[10:20]])
    assert (cutter.gaps, cutter.missing, cutter.lost, cutter.samples) == (0, 0, 0, 23)


def test_one_missing_sample_restarts_the_window(stream):
    samples = stream(0.0, 24)
    del samples[12]
    cutter, windows = cut(samples)
    assert len(windows) == 2 and (cutter.gaps, cutter.missing) == (1, 1)
    np.testing.assert_array_equal(windows[1], np.array([s.values for s in samples[12:22]], dtype=np.float32))
    assert cutter.lost == 2  # the two after the first window's end


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_one_gap(stream, bad):
    samples = stream(0.0, 30)
    for index in (11, 12, 13):
        samples[index] = Sample(samples[index].time, (*samples[index].values[:5], bad))
    cutter, windows = cut(samples)
    assert cutter.gaps == 1 and cutter.missing == 3 and len(windows) == 1 + (30 - 14 - 10) // 5 + 1
    assert np.isfinite(windows).all()


def test_times_that_repeat_or_run_backwards_restart_the_window(stream):
    for start in (0.0, 0.36, -5.0):
        cutter, windows = cut([*stream(0.0, 19), *stream(start, 9)])
        assert len(windows) == 2 and cutter.gaps == 1


def test_jitter_is_no_gap(stream):
    random = np.random.default_rng(0)
    samples = [Sample(each.time + random.uniform(-0.004, 0.004), each.values) for each in stream(0.0, 500)]
    assert cut(samples)[0].gaps == 0


@settings(max_examples=60, deadline=None)
@given(runs=st.lists(st.integers(1, 60), min_size=1, max_size=8), steps=st.integers(2, 20), data=st.data())
def test_every_run_gives_the_windows_it_holds(runs, steps, data):
    hop = data.draw(st.integers(1, steps))
    clock, samples = 0.0, []
    for run in runs:
        samples += [Sample(clock + index / 50, (float(len(samples)),) * 6) for index in range(run)]
        clock += run / 50 + 0.5
    cutter, windows = cut(samples, steps, hop)
    assert len(windows) == sum((run - steps) // hop + 1 for run in runs if run >= steps)
    assert cutter.gaps == len(runs) - 1 and cutter.missing == 25 * (len(runs) - 1)


def test_a_hop_beyond_the_window_is_refused():
    with pytest.raises(ValueError, match="expected a hop from 1 to 10 samples, got 11"):
        WindowCutter(steps=10, hop=11, rate=50)
