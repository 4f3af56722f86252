"""A hierarchical gate run branch by branch answers like the whole gate, and runs only the gates that it needs."""

from itertools import pairwise

import numpy as np
import pytest

from moe_edge import Predictor, routing
from moe_edge.errors import ModelFileError
from moe_edge.hierarchy import GateTree

NUM_FEATURES = 5
TOLERANCE = 1e-6


def write(path, nested, *, hidden=(), top_k=None, seed=0):
    from moe_edge.config import Combine, Task
    from moe_edge_converters.conversion import ConversionOptions, convert_spec
    from moe_edge_converters.graphs.hierarchical_gate_graph import hierarchical_gate_graph
    from moe_edge_converters.schemes.scheme import Scheme
    from moe_edge_converters.spec import MixtureSpec, dense_stack

    rng, tree = np.random.default_rng(seed), GateTree.from_nested(nested)
    gates, sizes = len(tree.nodes), [NUM_FEATURES, *hidden, tree.max_branches]
    layers = [
        (rng.normal(size=(gates, fan_in, units)).astype(np.float32), rng.normal(size=(gates, units)).astype(np.float32))
        for fan_in, units in pairwise(sizes)
    ]
    for node, branches in enumerate(tree.nodes):
        layers[-1][0][node, :, len(branches) :] = 0
        layers[-1][1][node, len(branches) :] = -1e4
    experts = [dense_stack([(rng.normal(size=(NUM_FEATURES, 3)), rng.normal(size=3), "softmax")]) for _ in tree.paths]
    spec = MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(NUM_FEATURES,),
        gate=hierarchical_gate_graph((NUM_FEATURES,), tree, layers),
        experts=tuple(experts),
        num_outputs=3,
        top_k=top_k,
    )
    options = ConversionOptions(scheme=Scheme.FLOAT32)
    convert_spec(spec, path, reference=None, rows=None, options=options)
    return path


ROWS = np.random.default_rng(7).normal(size=(300, NUM_FEATURES)).astype(np.float32)
TREES = {"binary": GateTree.balanced(8).to_nested(), "uneven": [0, [1, [2, 3, 4]]], "flat": [0, 1, 2, 3, 4]}


@pytest.fixture(scope="module", params=[*TREES, "hidden", "trained"])
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("branches") / "m.tflite"
    name = request.param
    nested = TREES.get(name, TREES["binary"])
    return write(path, nested, hidden=(6,) if name == "hidden" else (), top_k=3 if name == "trained" else None)


@pytest.mark.parametrize(
    "how",
    [{"top_k": 1}, {"top_k": 2}, {"mass": 0.7}, {"mass": 0.99}, {"mass": 1.0}, {"mass": 0.9, "max_experts": 2}],
    ids=str,
)
def test_answers_are_the_whole_gates(file, how):
    with Predictor(file, mode="routed", **how) as whole, Predictor(file, branches=True, **how) as branches:
        assert branches.mode == "routed"
        expected, got = whole.predict_raw(ROWS), branches.predict_raw(ROWS)
        assert got.keys() == expected.keys()
        np.testing.assert_array_equal(got["experts_run"], expected["experts_run"])
        for name in ("prediction", "routing_weights"):
            np.testing.assert_allclose(got[name], expected[name], atol=TOLERANCE)
        for row in ROWS[:20]:
            np.testing.assert_allclose(branches.predict_proba(row), whole.predict_proba(row), atol=TOLERANCE)


# Not "trained": the mass of a trained top-k is that of the scaled weights, tested above.
@pytest.mark.parametrize("file", [*TREES, "hidden"], indirect=True)
def test_the_reference_in_numpy_chooses_the_same_experts(file):
    with Predictor(file, mode="dense") as dense, Predictor(file, branches=True, mass=0.8) as branches:
        weights = dense.predict_raw(ROWS)["routing_weights"]
        got = branches.predict_raw(ROWS)["routing_weights"]
    chosen = routing.experts_for_mass(weights, 0.8)
    np.testing.assert_array_equal(got > 0, chosen)
    np.testing.assert_allclose(got, routing.renormalise(weights, chosen), atol=1e-5)


def test_only_the_gates_on_the_way_run(tmp_path, monkeypatch):
    from moe_edge.runtime.branch_gate import BranchGate

    opened = []
    original = BranchGate._gate
    monkeypatch.setattr(BranchGate, "_gate", lambda self, node: (opened.append(node), original(self, node))[1])
    with Predictor(write(tmp_path / "m.tflite", TREES["binary"]), branches=True, top_k=1) as predictor:
        predictor.predict(ROWS[:1])
    # Three levels of a tree of seven gates: the root, and one or two more where the runner-up has to be looked at.
    assert 2 <= len(opened) < 6


def test_files_without_a_tree_are_refused(mixture_file):
    with pytest.raises(ModelFileError, match="expected a hierarchical gate"):
        Predictor(mixture_file("plain"), branches=True, top_k=1)


def test_branches_in_mode_dense_contradict_each_other(tmp_path):
    with pytest.raises(ValueError, match="expected no branches in mode dense"):
        Predictor(write(tmp_path / "m.tflite", [0, 1]), mode="dense", branches=True)
