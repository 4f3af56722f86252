"""The hierarchical gate's layer against products along paths, and how a tree grows."""

import numpy as np
import pytest
from scipy.special import softmax

from moe_edge.hierarchy import GateTree
from moe_edge.training.gates.hierarchical_gate import HierarchicalGate, grow_hierarchy

TREES = [[0, 1], [0, [1, [4, 2, 3]]], [[0, 1], [2, 3], [4, 5]]]


@pytest.mark.parametrize("tree", TREES, ids=str)
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)], ids=str)
def test_an_experts_weight_is_the_product_along_its_path(tree, hidden):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    layer = HierarchicalGate(tree, hidden, "tanh", temperature=0.7)
    layer(x)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    shares = []
    for node, branches in enumerate(layer.gate_tree.nodes):
        out = x.astype(float)
        for number, (kernel, bias) in enumerate(zip(layer.kernels, layer.biases, strict=True)):
            out = out @ np.array(kernel[node]) + np.array(bias[node])
            out = np.tanh(out) if number < len(hidden) else out
        shares.append(softmax(out[:, : len(branches)] / 0.7, axis=1))
    expected = layer.gate_tree.expert_weights(shares)
    np.testing.assert_allclose(softmax(np.array(layer(x)), axis=1), expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(np.array(layer(x))), expected, atol=1e-5)


def test_growth_splits_the_worst_expert_until_there_are_enough():
    seen = []

    def fit(tree, split):
        seen.append((tree.to_nested(), split))
        losses = np.ones(tree.num_experts)
        losses[1] = 5.0 if tree.num_experts < 4 else 0.0
        return losses

    tree = grow_hierarchy(fit, 5)
    assert [split for _, split in seen] == [None, 1, 1, 0]
    assert seen[1][0] == [0, [1, 2]]
    assert seen[2][0] == [0, [[1, 3], 2]]
    assert tree == GateTree.from_nested(seen[-1][0]) and tree.num_experts == 5


def test_growth_refuses_losses_that_fit_no_tree():
    with pytest.raises(ValueError, match="a finite loss for each of 2 experts"):
        grow_hierarchy(lambda tree, split: np.array([1.0]), 3)
    with pytest.raises(ValueError, match="a finite loss"):
        grow_hierarchy(lambda tree, split: np.array([1.0, np.nan]), 3)
