"""Calibration: who is measured on which rows, and ranges that are each expert's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack
from moe_edge_converters.schemes.calibration import (
    MAX_ROWS,
    MIN_ROWS_PER_EXPERT,
    cover_experts,
    measure_ranges,
    thin_rows,
)
from moe_edge_converters.spec import dense_stack


def routing(shares, seed=0):
    """Routing weights with a clear winner a row: expert e wins ``shares[e]`` rows, nobody comes second."""
    winners = np.repeat(np.arange(len(shares)), shares)
    weights = np.zeros((len(winners), len(shares)), np.float32)
    weights[np.arange(len(winners)), winners] = 1
    return np.random.default_rng(seed).permutation(weights)


def test_own_rows_are_those_that_matter_or_nearly_do():
    weights = np.array([[0.6, 0.3, 0.1], [0.5, 0.45, 0.05], [0.34, 0.33, 0.33], [1, 0, 0], [0.1, 0.2, 0.7]], np.float32)
    chosen, coverage = cover_experts(weights, minimum=0)
    np.testing.assert_array_equal(
        chosen,
        [[True, True, False], [True, True, False], [True, True, True], [True, False, False], [False, True, True]],
    )
    assert coverage.own == coverage.used == (4, 4, 2) and coverage.num_rows == 5


def test_rare_experts_are_topped_up_with_the_nearest_rows():
    weights = routing([100, 97, 3])
    # 80 of expert 0's rows come near expert 2; the nearest are taken first.
    near = np.flatnonzero(weights[:, 0] == 1)[:80]
    weights[near, 2] = np.linspace(0.01, 0.3, 80)
    weights[near, 1] = 0.31
    weights[near, 0] = 1 - weights[near, 1] - weights[near, 2]
    chosen, coverage = cover_experts(weights)
    assert coverage.own == (100, 177, 3)
    assert coverage.used == (100, 177, MIN_ROWS_PER_EXPERT)
    taken = np.flatnonzero(chosen[:, 2] & (weights[:, 2] < 1))
    assert set(taken) == set(near[-(MIN_ROWS_PER_EXPERT - 3) :])


def test_a_dead_expert_is_named():
    with pytest.raises(ConversionError, match=r"expert_1 has no calibration row.*200 rows.*got none.*dynamic_w8"):
        cover_experts(routing([120, 0, 80]))


def test_an_expert_that_is_never_strong_is_topped_up_and_named():
    weights = routing([120, 0, 80])
    # A trained gate gives a dying expert a trace of weight, never exactly nothing.
    weights[:, 0] -= 2e-6
    weights[:, 2] -= 2e-6
    weights = np.clip(weights, 0, 1)
    weights[:, 1] = np.linspace(1e-9, 1e-6, 200)
    weights[:, 0] = np.maximum(weights[:, 0], 1e-5)
    weights[:, 2] = np.maximum(weights[:, 2], 1e-5)
    chosen, coverage = cover_experts(weights)
    assert coverage.own[1] == 0 and coverage.used[1] == MIN_ROWS_PER_EXPERT
    assert set(np.flatnonzero(chosen[:, 1])) == set(range(200 - MIN_ROWS_PER_EXPERT, 200))
    (warning,) = coverage.warnings
    assert warning.startswith("expert_1 is among the two strongest for none of 200 calibration rows")


@settings(max_examples=50, deadline=None)
@given(num_rows=st.integers(1, 150), num_experts=st.integers(2, 9), seed=st.integers(0, 999))
def test_every_expert_has_rows_as_far_as_there_are_rows(num_rows, num_experts, seed):
    weights = np.random.default_rng(seed).dirichlet(np.full(num_experts, 0.3), num_rows).astype(np.float32)
    try:
        chosen, coverage = cover_experts(weights)
    except ConversionError:
        assert (weights.max(axis=0) == 0).any()
        return
    assert chosen.sum(axis=0).tolist() == list(coverage.used)
    for own, used in zip(coverage.own, coverage.used, strict=True):
        assert 0 <= own <= used
        assert used >= min(MIN_ROWS_PER_EXPERT, num_rows)
    # The winner of a row always learns from it.
    assert chosen[np.arange(num_rows), weights.argmax(axis=1)].all()


def test_large_tables_are_thinned_evenly():
    rows = np.arange(3 * MAX_ROWS + 7, dtype=np.float32)[:, None]
    thin = thin_rows(rows)
    assert len(thin) == MAX_ROWS and thin[0] == rows[0] and thin[-1] == rows[-1]
    steps = np.diff(thin[:, 0])
    assert steps.min() >= 3 and steps.max() <= 4
    np.testing.assert_array_equal(thin_rows(rows[:MAX_ROWS]), rows[:MAX_ROWS])


def two_halves(mixtures):
    """Expert 0 answers rows with x > 0, expert 1 those with x < 0, so sharply that the other's weight is exactly 0."""
    gate = dense_stack([([[400.0, -400.0]], [0, 0], "softmax")])
    expert = dense_stack([([[1.0, -1.0]], [0, 0], "relu"), (np.eye(2), [0, 0], "softmax")])
    spec = mixtures.make_spec(num_experts=2, num_columns=1, num_outputs=2)
    return mixtures.replace(spec, gate=gate, experts=(expert, expert))


def test_ranges_are_each_experts_own(mixtures):
    spec = two_halves(mixtures)
    # Expert 0 sees rows up to 3, expert 1 rows down to -50: a shared range would be 17 times too wide for expert 0.
    rows = np.concatenate([np.linspace(0.5, 3, 300), np.linspace(-50, -1, 300)]).astype(np.float32)[:, None]
    rows = np.random.default_rng(0).permutation(rows)
    ranges, coverage = measure_ranges(pack(mixtures.fuse(spec)[0]), rows)
    assert coverage.own == coverage.used == (300, 300)
    assert ranges["expert_0/dense_0"]["max"].item() == pytest.approx(3)
    assert ranges["expert_1/dense_0"]["max"].item() == pytest.approx(50)
    # The shared input, the gate and the bank are measured on all rows.
    assert (ranges["x"]["min"].item(), ranges["x"]["max"].item()) == (-50, 3)
    assert ranges["bank_0/dense_0"]["max"].item() == pytest.approx(50)


def test_ranges_are_plain_minimum_and_maximum_whatever_the_order(mixtures):
    spec = mixtures.make_spec(preprocess=True)
    rows = mixtures.make_rows(spec, 700, missing=0.1)
    content = pack(mixtures.fuse(spec)[0])
    ranges, coverage = measure_ranges(content, rows)
    shuffled, again = measure_ranges(content, rows[::-1].copy())
    assert coverage == again and ranges.keys() == shuffled.keys()
    for name, entry in ranges.items():
        for end in ("min", "max"):
            np.testing.assert_allclose(entry[end], shuffled[name][end], rtol=1e-5, atol=1e-6, err_msg=name)
        assert np.isfinite(entry["min"]).all() and entry["min"] <= entry["max"]
    features = spec.preprocess.apply(rows)
    assert ranges["preprocess/clipped"]["max"].item() == pytest.approx(features.max())
    weights = mixtures.reference(spec, rows).routing_weights
    assert ranges["routing_weights"]["min"].item() == pytest.approx(weights.min(), rel=1e-3)


def test_a_dead_expert_stops_the_measurement(mixtures):
    spec = two_halves(mixtures)
    with pytest.raises(ConversionError, match="expert_1 has no calibration row"):
        measure_ranges(pack(mixtures.fuse(spec)[0]), np.linspace(4, 9, 50, dtype=np.float32)[:, None])


def test_progress_counts_every_row_once(mixtures):
    spec = mixtures.make_spec()
    counted = []
    measure_ranges(
        pack(mixtures.fuse(spec)[0]), mixtures.make_rows(spec, 300), progress=lambda rows, note: counted.append(rows)
    )
    assert sum(counted) == 300


@pytest.mark.parametrize("count", [1, 2, 255, 257])
def test_any_number_of_rows(mixtures, count):
    spec = mixtures.make_spec(num_experts=2)
    rows = mixtures.make_rows(spec, count)
    ranges, coverage = measure_ranges(pack(mixtures.fuse(spec)[0]), rows)
    assert coverage.num_rows == count and max(coverage.used) <= count
    assert (ranges["x"]["min"].item(), ranges["x"]["max"].item()) == (rows.min(), rows.max())
