"""Every layout of a forest leads every row to the same leaf."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.training.estimators.tree_arrays import Tree, pack_trees
from moe_edge_converters.graphs import tree_walk
from moe_edge_converters.graphs.tree_walk import TreeTables, plan_walk

F = 3


def grown(rng, depth, *, ends):
    """A tree of random splits; each node is a leaf early with the chance ``ends``."""
    feature, threshold, left, right = [], [], [], []

    def grow(level):
        node = len(feature)
        for column in (feature, threshold, left, right):
            column.append(-1)
        if level < depth and (level == 0 or rng.random() >= ends):
            feature[node], threshold[node] = int(rng.integers(F)), float(rng.integers(-2, 3))
            left[node], right[node] = grow(level + 1), grow(level + 1)
        return node

    grow(0)
    return Tree(
        feature=np.array(feature),
        threshold=np.array(threshold, np.float64),
        left=np.array(left),
        right=np.array(right),
        missing_left=rng.random(len(feature)) < 0.5,
        values=np.arange(len(feature), dtype=np.float64).reshape(-1, 1),
    )


def tables_of(trees):
    arrays = pack_trees(trees, F)
    names = ("feature", "threshold", "first_child", "roots", "values", "first_leaf", "depth", "negated")
    return TreeTables(
        **{name: getattr(arrays, name) for name in names},
        columns=np.zeros(1, np.int32),
        scale=np.ones(1, np.float32),
        offset=np.zeros(1, np.float32),
        num_groups=1,
        link="linear",
    )


def follow(walk, row):
    """The trees' answers along a layout's tables."""
    first = walk.levels[0]
    node = np.arange(len(first.feature)) if walk.roots is None else walk.roots
    for level in walk.levels:
        child = 2 * node if level.child is None else level.child[node]
        node = child + (row[level.feature[node]] > level.threshold[node])
    return walk.values[node - walk.first_leaf, 0]


def answer(tree, row):
    node = 0
    while tree.left[node] >= 0:
        value = row[tree.feature[node]]
        goes_left = tree.missing_left[node] if np.isnan(value) else value <= tree.threshold[node]
        node = tree.left[node] if goes_left else tree.right[node]
    return tree.values[node, 0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(0, 6), ends=st.sampled_from([0.0, 0.3, 0.7]))
def test_all_layouts_lead_to_the_estimator_s_leaf(seed, depth, ends):
    rng = np.random.default_rng(seed)
    trees = [grown(rng, int(rng.integers(depth + 1)), ends=ends) for _ in range(4)]
    tables = tables_of(trees)
    layouts = [
        plan_walk(tables),
        tree_walk._one_table(tables),
        *(tree_walk._level_by_level(tables, complete=complete) for complete in (False, True)),
    ]
    for _ in range(20):
        row = rng.integers(-2, 3, F).astype(np.float32)
        row[rng.random(F) < 0.2] = np.nan
        seen = np.concatenate([row, -row])
        for layout in layouts:
            np.testing.assert_array_equal(follow(layout, seen), [answer(tree, row) for tree in trees])


@pytest.mark.parametrize(("ends", "kind"), [(0.0, "complete"), (0.15, "levels")])
def test_bushy_trees_get_tables_a_level(ends, kind):
    rng = np.random.default_rng(1)
    walk = plan_walk(tables_of([grown(rng, 7, ends=ends) for _ in range(8)]))
    assert walk.roots is None
    assert all(level.child is None for level in walk.levels) == (kind == "complete")


def test_deep_thin_trees_share_one_table():
    count = 40
    chain = Tree(
        feature=np.tile([0, -1], count).astype(int)[: 2 * count - 1],
        threshold=np.arange(2 * count - 1, dtype=np.float64),
        left=np.array([node + 1 if node % 2 == 0 and node < 2 * count - 2 else -1 for node in range(2 * count - 1)]),
        right=np.array([node + 2 if node % 2 == 0 and node < 2 * count - 2 else -1 for node in range(2 * count - 1)]),
        missing_left=np.ones(2 * count - 1, bool),
        values=np.arange(2 * count - 1, dtype=np.float64).reshape(-1, 1),
    )
    tables = tables_of([chain])
    walk = plan_walk(tables)
    assert walk.levels[0] is walk.levels[-1]
    assert walk.num_bytes < 2000
    for value in (-1.0, 2.5, 4.0, 1000.0):
        row = np.array([value, 0, 0], np.float32)
        assert follow(walk, row) == answer(chain, row)
