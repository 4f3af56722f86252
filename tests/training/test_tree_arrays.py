import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_edge.training.tree_arrays import Tree, float32_below, leaf, plant

FLOAT32 = st.floats(width=32, allow_nan=False, allow_subnormal=False)
"""What rows hold; runtimes take subnormal numbers for 0."""


@given(threshold=st.floats(allow_nan=False), row=FLOAT32)
def test_rounded_thresholds_send_any_row_the_same_way(threshold, row):
    below = float32_below(np.array([threshold]))[0]
    assert (np.float32(row) > below) == (row > threshold)


@given(row=FLOAT32, ulps=st.integers(-2, 2))
def test_rounded_thresholds_send_their_neighbours_the_same_way(row, ulps):
    threshold = row
    for _ in range(abs(ulps)):
        threshold = float(np.nextafter(threshold, np.inf * ulps))
    assert (np.float32(row) > float32_below(np.array([threshold]))[0]) == (row > threshold)


def test_no_threshold_is_subnormal():
    tiny = float(np.finfo(np.float32).tiny)
    below = float32_below(np.array([1e-50, 0.0, -1e-50, tiny, -tiny, tiny / 2]))
    np.testing.assert_array_equal(below, np.array([0, 0, -tiny, tiny, -tiny, 0], dtype=np.float32))


def test_roots_come_first_children_stand_together_and_leaves_lead_to_themselves():
    stump = Tree(
        feature=np.array([2, -2, -2]),
        threshold=np.array([0.5, -2.0, -2.0]),
        left=np.array([2, -1, -1]),
        right=np.array([1, -1, -1]),
        values=np.array([[9.0], [1.0], [2.0]]),
    )
    forest = plant([leaf([7.0]), stump])
    assert (forest.num_trees, forest.depth) == (2, 1)
    np.testing.assert_array_equal(forest.feature, [0, 2, 0, 0])
    np.testing.assert_array_equal(forest.child, [0, 2, 2, 3])
    np.testing.assert_array_equal(forest.threshold, np.array([np.inf, 0.5, np.inf, np.inf], dtype=np.float32))
    np.testing.assert_array_equal(forest.values[:, 0], [7, 0, 2, 1])
