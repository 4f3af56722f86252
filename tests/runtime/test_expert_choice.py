from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from moe_edge import routing
from moe_edge.runtime.expert_choice import ExpertChoice
from moe_edge.runtime.modes import Plan

WEIGHTS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=st.integers(1, 64).map(lambda v: v / 64)
).map(lambda weights: (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


@given(WEIGHTS, st.floats(0.01, 0.99), st.integers(1, 12))
def test_by_mass_the_experts_are_those_of_the_reference(weights, mass, limit):
    limit = min(limit, weights.shape[1])
    choice = ExpertChoice(Plan(routed=True, mass=mass, max_experts=limit, exact_weights=False))
    mask = routing.experts_for_mass(weights, mass)
    best = routing.top_k_experts(weights, limit)
    capped = np.zeros_like(mask)
    np.put_along_axis(capped, best, True, axis=1)
    _compare(choice, weights, best, mask & capped)


@given(WEIGHTS, st.integers(1, 12))
def test_by_number_the_experts_are_those_of_the_reference(weights, k):
    k = min(k, weights.shape[1])
    choice = ExpertChoice(Plan(routed=True, max_experts=k, exact_weights=False))
    best = routing.top_k_experts(weights, k)
    mask = np.zeros(weights.shape, dtype=bool)
    np.put_along_axis(mask, best, True, axis=1)
    _compare(choice, weights, best, mask)


def _compare(choice, weights, best, mask):
    shares = routing.renormalise(weights, mask)
    pairs = choice.for_rows(weights)
    np.testing.assert_array_equal(pairs.counts, mask.sum(axis=1))
    np.testing.assert_array_equal(pairs.rows, np.repeat(np.arange(len(weights)), pairs.counts))
    for row, (start, count) in enumerate(zip(pairs.starts, pairs.counts, strict=True)):
        np.testing.assert_array_equal(pairs.experts[start : start + count], best[row][:count])
        np.testing.assert_allclose(pairs.shares[start : start + count], shares[row][best[row][:count]], rtol=1e-6)
        experts, single = choice.for_row(weights[row].copy())
        assert experts == best[row][:count].tolist()
        np.testing.assert_allclose(single, shares[row][experts], rtol=1e-6)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_gate_that_gives_nothing_to_anyone_still_gets_an_answer(limit):
    choice = ExpertChoice(Plan(routed=True, max_experts=limit, exact_weights=False))
    assert choice.for_row(np.zeros(3, dtype=np.float32)) == ([0], [1.0])
    pairs = choice.for_rows(np.zeros((2, 3), dtype=np.float32))
    np.testing.assert_array_equal(pairs.counts, 1)
    np.testing.assert_array_equal(pairs.shares, 1)


def test_no_number_ends_too():
    choice = ExpertChoice(Plan(routed=True, mass=0.9, max_experts=3, exact_weights=False))
    experts, _ = choice.for_row(np.full(3, np.nan, dtype=np.float32))
    assert 1 <= len(experts) <= 3
