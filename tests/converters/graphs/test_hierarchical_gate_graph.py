"""The hierarchical gate's graph against products along paths, and each gate alone against its own softmax."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax

from moe_edge.hierarchy import GateTree
from moe_edge_converters.graphs.hierarchical_gate_graph import hierarchical_gate_graph

TREES = [[0, 1], [0, [1, [4, 2, 3]]], [[0, 1], [2, 3], [4, 5]]]


def make_layers(rng, tree, sizes):
    gates, width = len(tree.nodes), tree.max_branches
    sizes = [*sizes, width]
    layers = [
        (rng.normal(size=(gates, fan_in, units)).astype(np.float32), rng.normal(size=(gates, units)).astype(np.float32))
        for fan_in, units in pairwise(sizes)
    ]
    for node, branches in enumerate(tree.nodes):
        layers[-1][0][node, :, len(branches) :] = 0
        layers[-1][1][node, len(branches) :] = -1e4
    return layers


def branch_probabilities(tree, layers, rows):
    shares = []
    for node, branches in enumerate(tree.nodes):
        out = rows.astype(float)
        for number, (kernel, bias) in enumerate(layers):
            out = out @ kernel[node] + bias[node]
            out = np.maximum(out, 0) if number < len(layers) - 1 else out
        shares.append(softmax(out, axis=1)[:, : len(branches)])
    return shares


@pytest.mark.parametrize("nested", TREES, ids=str)
@pytest.mark.parametrize("hidden", [[], [5], [5, 4]], ids=str)
@pytest.mark.parametrize("delegate", [True, False])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_equals_products_along_paths(mixtures, nested, hidden, delegate, batch):
    tree, rng = GateTree.from_nested(nested), np.random.default_rng(0)
    layers = make_layers(rng, tree, [3, *hidden])
    rows = rng.normal(size=(batch, 4)).astype(np.float32)
    network = hierarchical_gate_graph((4,), tree, layers, columns=(3, 0, 1))
    (weights,) = mixtures.run_by_position(network.model, rows, delegate=delegate)
    expected = tree.expert_weights(branch_probabilities(tree, layers, rows[:, [3, 0, 1]]))
    np.testing.assert_allclose(weights, expected, atol=1e-5)


@pytest.mark.parametrize("nested", TREES, ids=str)
@pytest.mark.parametrize("hidden", [[], [5], [5, 4]], ids=str)
@pytest.mark.parametrize("preprocess", [None, True])
def test_each_gate_alone_gives_its_branches(mixtures, nested, hidden, preprocess, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    from moe_edge_converters.conversion import ConversionOptions, convert_spec
    from moe_edge_converters.schemes.scheme import Scheme

    tree, rng = GateTree.from_nested(nested), np.random.default_rng(0)
    layers = make_layers(rng, tree, [6, *hidden])
    spec = mixtures.make_spec(num_experts=tree.num_experts, preprocess=preprocess)
    spec = mixtures.replace(spec, gate=hierarchical_gate_graph((6,), tree, layers))
    rows = mixtures.make_rows(spec, 20)
    path = tmp_path / "m.tflite"
    options = ConversionOptions(scheme=Scheme.FLOAT32)
    result = convert_spec(spec, path, reference=None, rows=rows, options=options)
    interpreter = Interpreter(str(path))
    features = rows if spec.preprocess is None else spec.preprocess.apply(rows)
    expected = branch_probabilities(tree, layers, features)
    for node, branches in enumerate(tree.nodes):
        run = interpreter.get_signature_runner(f"gate_{node}")
        got = run(x=rows) if node == 0 else run(features=features)
        assert got["branch_probabilities"].shape == (20, tree.max_branches)
        np.testing.assert_allclose(got["branch_probabilities"][:, : len(branches)], expected[node], atol=1e-5)
        assert (got["branch_probabilities"][:, len(branches) :] == 0).all()
        if node == 0:
            np.testing.assert_allclose(got["features"], features, atol=1e-6)
    parts = {part.id: part for part in result.manifest.parts}
    assert [parts[f"gate_{node}"].parent for node in range(len(tree.nodes))] == [
        "gate" if parent is None else f"gate_{parent}" for parent in tree.parents
    ]
    assert result.manifest.extras["gate_tree"] == nested


def test_gates_alone_add_no_weights(mixtures):
    from moe_edge_converters.assembly import assemble
    from moe_edge_converters.conversion import ConversionOptions, describe_file
    from moe_edge_converters.schemes.scheme import Scheme

    tree = GateTree.balanced(8)
    layers = make_layers(np.random.default_rng(0), tree, [6, 64])
    spec = mixtures.replace(mixtures.make_spec(num_experts=8), gate=hierarchical_gate_graph((6,), tree, layers))
    sizes = []
    for routed in (True, False):
        options = ConversionOptions(scheme=Scheme.FLOAT32, routed=routed)
        assembly = assemble(spec, options, None)
        manifest = describe_file(spec, options, schema=None, coverage=None, float_content=assembly.float_content)
        sizes.append(len(assembly.to_bytes(manifest)))
    weights = 4 * sum(kernel.size + bias.size for kernel, bias in layers)
    # Seven gates as signatures of their own cost tables, about 1.5 kB each with the experts, but no second copy.
    assert sizes[0] - sizes[1] < 30_000 and weights > 14_000
