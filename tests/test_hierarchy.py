"""Trees of gates: what they are read from, paths, products, splitting, and the text that shows them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_edge.hierarchy import GateTree


@given(num_experts=st.integers(2, 40), branching=st.integers(2, 5))
def test_a_balanced_tree_reads_back_and_its_weights_are_a_distribution(num_experts, branching):
    tree = GateTree.balanced(num_experts, branching)
    assert GateTree.from_nested(tree.to_nested()) == tree
    assert tree.max_branches <= branching
    assert branching ** (tree.depth - 1) < num_experts <= branching**tree.depth
    rng = np.random.default_rng(0)
    shares = [rng.dirichlet(np.ones(len(branches)), size=5) for branches in tree.nodes]
    weights = tree.expert_weights(shares)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    for expert, path in enumerate(tree.paths):
        product = np.prod([shares[node][:, branch] for node, branch in path], axis=0)
        np.testing.assert_allclose(weights[:, expert], product)


def test_paths_parents_and_leaves_of_an_uneven_tree():
    tree = GateTree.from_nested([0, [1, [4, 2, 3]]])
    assert tree.parents == (None, 0, 1)
    assert tree.paths[0] == ((0, 0),)
    assert tree.paths[2] == ((0, 1), (1, 1), (2, 1))
    assert tree.experts_below(0, 1) == (1, 2, 3, 4)
    assert tree.depth == 3 and tree.max_branches == 3
    assert tree.path_matrix.sum(axis=0).tolist() == [1, 2, 3, 3, 3]


def test_a_split_puts_a_gate_in_an_experts_place():
    assert GateTree.from_nested([0, [1, 2]]).split(1).to_nested() == [0, [[1, 3], 2]]
    with pytest.raises(ValueError, match=r"expected an expert in \[0, 3\), got 3"):
        GateTree.from_nested([0, [1, 2]]).split(3)


def test_describe_draws_the_tree():
    text = GateTree.from_nested([[0, 1], 2]).describe([0.5, 0.25, 0.25])
    assert text.splitlines() == [
        "gate_0",
        "├─ gate_1 75%",
        "│  ├─ expert_0 50%",
        "│  └─ expert_1 25%",
        "└─ expert_2 25%",
    ]


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ([0], "at least two branches"),
        ([0, [1]], "at least two branches"),
        ([0, 0], "each once"),
        ([0, 2], "each once"),
        ([0, "1"], "at least two branches"),
        ([0, True], "at least two branches"),
        (3, "at least two branches"),
    ],
)
def test_what_is_no_tree_is_refused(nested, message):
    with pytest.raises(ValueError, match=message):
        GateTree.from_nested(nested)
