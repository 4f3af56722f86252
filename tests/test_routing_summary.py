"""What ``moe-edge inspect --data`` says of a gate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.routing_summary import summarise_routing


def test_a_hand_made_gate():
    weights = np.array([[1, 0, 0], [0.55, 0.45, 0], [0.2, 0.3, 0.5], [0.0, 0.005, 0.995]])
    summary = summarise_routing(weights)
    assert [expert.strongest_rows for expert in summary.experts] == [2, 0, 2]
    assert [expert.needed_rows for expert in summary.experts] == [3, 2, 2]
    assert summary.experts_per_row == pytest.approx((1 + 2 + 3 + 1) / 4)
    assert summary.close_rows == 0
    assert summarise_routing(weights, mass=0.5).experts_per_row == pytest.approx(1)
    assert summarise_routing(np.array([[0.5, 0.45, 0.05]])).close_rows == 1


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 50), experts=st.integers(2, 9), seed=st.integers(0, 999))
def test_counts_add_up(rows, experts, seed):
    weights = np.random.default_rng(seed).dirichlet(np.ones(experts), rows)
    summary = summarise_routing(weights)
    assert sum(expert.strongest_rows for expert in summary.experts) == rows
    assert sum(expert.mean_weight for expert in summary.experts) == pytest.approx(1)
    assert sum(expert.needed_rows for expert in summary.experts) == pytest.approx(summary.experts_per_row * rows)


@pytest.mark.parametrize("shape", [(0, 3), (4, 1), (4,)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="expected routing weights"):
        summarise_routing(np.ones(shape))
