"""``moe-edge predict`` and ``benchmark`` on files whose gate is a hierarchy or a density."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge import Predictor
from moe_edge.cli.main import main
from moe_edge.config import Combine, Task
from moe_edge.hierarchy import GateTree
from moe_edge_converters.conversion import ConversionOptions, convert_spec
from moe_edge_converters.graphs.gaussian_gate_graph import gaussian_gate_graph
from moe_edge_converters.graphs.hierarchical_gate_graph import hierarchical_gate_graph
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import MixtureSpec, dense_stack

FEATURES, EXPERTS = 3, 4


def run(command, *arguments):
    return CliRunner().invoke(main, [command, *map(str, arguments)])


def make_gate(kind):
    rng = np.random.default_rng(0)
    if kind == "gaussian":
        shape = (EXPERTS, FEATURES)
        parts = {"peak": rng.normal(size=EXPERTS), "mean": rng.normal(size=shape), "whitening": np.ones(shape)}
        return gaussian_gate_graph((FEATURES,), **parts)
    tree = GateTree.balanced(EXPERTS)
    layer = (rng.normal(size=(3, FEATURES, 2)).astype(np.float32), np.zeros((3, 2), np.float32))
    return hierarchical_gate_graph((FEATURES,), tree, [layer])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file for each gate, and rows, the last one far off."""
    folder, rng = tmp_path_factory.mktemp("gates"), np.random.default_rng(1)
    rows = rng.normal(size=(200, FEATURES)).astype(np.float32)
    layers = [[(rng.normal(size=(FEATURES, 2)), rng.normal(size=2), "softmax")] for _ in range(EXPERTS)]
    found = {}
    for kind in ("gaussian", "hierarchical"):
        spec = MixtureSpec(
            task=Task.CLASSIFICATION,
            combine=Combine.PROBABILITIES,
            input_shape=(FEATURES,),
            gate=make_gate(kind),
            experts=tuple(map(dense_stack, layers)),
            num_outputs=2,
        )
        found[kind] = folder / f"{kind}.tflite"
        options = ConversionOptions(scheme=Scheme.FLOAT32)
        convert_spec(spec, found[kind], reference=None, rows=rows, options=options)
    np.save(folder / "x.npy", np.concatenate([rows[:5], np.full((1, FEATURES), 30, np.float32)]))
    return found, folder / "x.npy"


@pytest.mark.parametrize("how", [(), ("--top-k", "1")])
def test_explain_says_which_rows_are_unusual(files, how):
    found, rows = files
    result = run("predict", found["gaussian"], rows, "--explain", *how, "-q")
    assert result.exit_code == 0, result.output
    lines = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(lines[0])[-2:] == ["gate_log_density", "unusual"] and lines[-1]["unusual"] == "yes"
    with Predictor(found["gaussian"]) as predictor:
        explanation = predictor.explain(np.load(rows))
    assert [line["unusual"] == "yes" for line in lines] == explanation.is_unusual.tolist()
    densities = [float(line["gate_log_density"]) for line in lines]
    np.testing.assert_allclose(densities, explanation.gate_log_density, rtol=1e-5)
    document = json.loads(run("predict", found["gaussian"], rows, "--explain", *how, "--json").stdout)
    assert document["rows"][-1]["unusual"] is True
    assert "unusual" not in run("predict", found["gaussian"], rows, "-q").stdout


def test_branches_answer_like_the_whole_gate(files):
    found, rows = files
    whole, branches = (
        run("predict", found["hierarchical"], rows, "--top-k", "2", *more, "-q") for more in ((), ("--branches",))
    )
    assert whole.exit_code == branches.exit_code == 0
    a, b = (list(csv.DictReader(io.StringIO(side.stdout))) for side in (whole, branches))
    assert [row["label"] for row in a] == [row["label"] for row in b]
    np.testing.assert_allclose([float(r["confidence"]) for r in a], [float(r["confidence"]) for r in b], rtol=1e-5)


def test_branches_need_a_hierarchy(files):
    found, rows = files
    result = run("predict", found["gaussian"], rows, "--top-k", "2", "--branches")
    assert result.exit_code == 1 and "expected a hierarchical gate" in result.output
    assert run("predict", found["hierarchical"], rows, "--mode", "dense", "--branches").exit_code == 2


def test_benchmark_measures_branches_where_there_are_some(files):
    found, _ = files
    names = {}
    for kind, path in found.items():
        fast = ("--rounds", "1", "--milliseconds", "1", "--batches", "1", "--top-k", "1", "--mass", "0.9")
        result = run("benchmark", path, *fast, "--json")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert not document["refused"]
        names[kind] = {entry["name"]: entry for entry in document["results"]}
    assert "routed top-1, by branches" not in names["gaussian"]
    entry = names["hierarchical"]["routed top-1, by branches"]
    assert entry["experts_per_row"] == 1 and entry["python_overhead_us"] is None
