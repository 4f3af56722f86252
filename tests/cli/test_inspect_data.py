"""``moe-edge inspect --data``: real files of one and two inputs, whole and routed, to JSON and to a page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main
from moe_edge.config import Combine, Task
from moe_edge.hierarchy import GateTree
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.given_rows import probe_rows
from moe_edge_converters.graphs.gaussian_gate_graph import gaussian_gate_graph
from moe_edge_converters.graphs.hierarchical_gate_graph import hierarchical_gate_graph
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import MixtureSpec, dense_stack


def run(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)], env={"COLUMNS": "200"})


def write(path, spec, **options):
    chosen = ConversionOptions(scheme=Scheme.FLOAT32, **options)
    convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=chosen, schema=None)
    return path


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """y = |x| - 1 by two lines, and a third expert that gets nothing: the model, fused only, and its table."""
    folder = tmp_path_factory.mktemp("line")
    spec = MixtureSpec(
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        input_shape=(1,),
        gate=dense_stack([(np.array([[-8.0, 8.0, 0.0]]), np.array([0.0, 0.0, -30.0]), "softmax")]),
        experts=tuple(
            dense_stack([(np.array([[slope, 0.0]]), np.array([-1.0, -2.0]), "linear")]) for slope in (-1.0, 1.0, 0.1)
        ),
        num_outputs=1,
    )
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 300)
    table = folder / "line.csv"
    lines = [f"{value:.6f},{abs(value) - 1 + 0.1 * rng.normal():.6f}" for value in x]
    table.write_text("\n".join(["x0,y", *lines]))
    whole = write(folder / "fused.tflite", spec, routed=False)
    return write(folder / "line.tflite", spec), whole, table


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """Four quadrants, two classes, an expert each: the model and its table."""
    folder = tmp_path_factory.mktemp("plane")
    x = np.random.default_rng(1).uniform(-1, 1, (300, 2))
    table = folder / "plane.csv"
    lines = [f"{a:.6f},{b:.6f},{int(a * b < 0)}" for a, b in x]
    table.write_text("\n".join(["x0,x1,y", *lines]))
    return write(folder / "plane.tflite", plane_spec()), table


def plane_spec():
    corners = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(2,),
        gate=dense_stack([(5 * corners.T, np.zeros(4), "softmax")]),
        experts=tuple(
            dense_stack([(np.zeros((2, 2)), np.array([3.0, -3.0]) * sign, "softmax")]) for sign in (1, -1, -1, 1)
        ),
        num_outputs=2,
    )


@pytest.fixture(scope="module")
def foreign_file(tmp_path_factory):
    from moe_edge_converters.file_writer import pack
    from moe_edge_converters.graphs.graph import GraphBuilder, new_model

    builder = GraphBuilder(new_model("another tool's"), "main")
    factor = builder.constant("factor", np.full((1, 4), 2, np.float32))
    builder.output("y", builder.binary("MUL", builder.input("x", (4,)), factor, name="product"))
    path = tmp_path_factory.mktemp("foreign") / "foreign.tflite"
    path.write_bytes(pack(builder.model))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_holds_the_diagnosis(line):
    model, _, table = line
    found = json.loads(run(model, "--data", table, "--json").stdout)["diagnosis"]
    assert found["num_rows"] == 300 and found["collapsed"] == [2] and "expert_2 collapsed" in found["advice"][0]
    assert found["effective_experts"] == pytest.approx(2, abs=0.1)
    scores = found["scores"]
    assert scores["metric"] == "rmse" and scores["mixture"] < 0.2 < min(scores["alone"])
    assert scores["own_rows"][2] is None and scores["own_rows"][0] == pytest.approx(0.1, abs=0.05)
    assert scores["gate_picks_best"] > 0.9


def test_people_read_scores_and_advice(line, plane):
    model, table = plane
    result = run(model, "--data", table)
    assert result.exit_code == 0, result.output
    for text in (
        "Routing of 300 rows",
        "Effective number of experts",
        "Mean gate weight by y",
        "accuracy on 300 rows",
        "where the gate prefers it",
        "The gate's choice is the best expert for",
        f"Next: moe-edge predict {model} {table} --explain",
    ):
        assert text in result.output, text
    result = run(line[0], "--data", line[2])
    assert "Advice: expert_2 collapsed" in result.output and "rmse on 300 rows" in result.output


def test_a_fused_only_mixture_density_still_knows_its_experts_means(line):
    model, whole, table = line
    routed, fused = (json.loads(run(file, "--data", table, "--json").stdout)["diagnosis"] for file in (model, whole))
    assert fused["scores"] == routed["scores"]


def test_a_fused_only_classification_says_why_experts_have_no_scores(plane, tmp_path):
    _, table = plane
    whole = write(tmp_path / "fused.tflite", plane_spec(), routed=False)
    page = tmp_path / "report.html"
    result = run(whole, "--data", table, "--report", page)
    assert result.exit_code == 0, result.output
    assert "No scores: experts' own answers can't be had" in result.output and "--fused-only" in page.read_text()


def test_a_table_without_target_has_no_scores(line, tmp_path):
    table = tmp_path / "x.csv"
    table.write_text("x0\n1\n-1\n0.5\n")
    page = tmp_path / "report.html"
    result = run(line[0], "--data", table, "--report", page, "--json")
    found = json.loads(result.stdout)
    assert found["diagnosis"]["scores"] is None and "no target" in found["diagnosis"]["scores_missing"]
    assert found["report"] == str(page) and page.read_text().count("data:image/png;base64,") == 3


def test_the_page_is_one_file_with_the_input_space(line, plane, tmp_path):
    for model, table in ((line[0], line[2]), plane):
        page = tmp_path / f"{model.stem}.html"
        result = run(model, "--data", table, "--report", page)
        assert result.exit_code == 0 and f"Wrote {page}" in result.output, result.output
        text = page.read_text()
        assert text.count("data:image/png;base64,") == 5 and "How the input is divided" in text
        assert 'src="http' not in text and f"moe-edge inspect {model.name} --data {table.name}" in text


def test_wider_tables_have_no_partition(mixture_file, tmp_path):
    table, page = tmp_path / "rows.npy", tmp_path / "wide.html"
    np.save(table, np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32))
    result = run(mixture_file("plain"), "--data", table, "--report", page)
    assert result.exit_code == 0, result.output
    assert "How the input is divided" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--report", "page.html"], 2, "give --data TABLE"),
        (["--data", "TABLE", "--report", "page.png"], 2, "ends in .html"),
        (["--data", "TABLE", "--report", "nowhere/page.html"], 1, "nowhere"),
        (["--data", "EMPTY"], 1, "expected rows"),
        (["--data", "OTHER"], 1, "x0"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(line, here, arguments, code, message):
    (here / "empty.csv").write_text("x0,y\n")
    (here / "other.csv").write_text("a,b\n1,2\n")
    names = {"TABLE": line[2], "EMPTY": "empty.csv", "OTHER": "other.csv"}
    result = run(line[0], *(names.get(argument, argument) for argument in arguments))
    assert result.exit_code == code and message in result.output, result.output
    assert "Traceback" not in result.output


def test_a_foreign_file_has_no_columns_to_read(foreign_file, line):
    result = run(foreign_file, "--data", line[2])
    assert result.exit_code == 1 and "written by moe-edge" in result.output


def test_a_hierarchy_of_gates_is_shown_as_a_tree(plane, tmp_path):
    _, table = plane
    # The root looks at x0; each gate below it at x1.
    kernels = np.array([[[5, -5], [0, 0]], [[0, 0], [5, -5]], [[0, 0], [5, -5]]], dtype=np.float32)
    tree = GateTree.from_nested([[0, 1], [2, 3]])
    gate = hierarchical_gate_graph((2,), tree, [(kernels, np.zeros((3, 2), np.float32))])
    model = write(tmp_path / "tree.tflite", replace(plane_spec(), gate=gate))
    page = tmp_path / "tree.html"
    document = json.loads(run(model, "--data", table, "--report", page, "--json").stdout)
    assert document["diagnosis"]["gate_tree"] == [[0, 1], [2, 3]]
    assert document["diagnosis"]["scores"]["mixture"] > 0.95
    text = page.read_text()
    assert "The hierarchy of gates" in text and text.count("data:image/png;base64,") == 6
    shown = run(model, "--data", table).output
    assert "├─ gate_1" in shown and "└─ expert_3" in shown


def test_a_gaussian_gates_file_is_diagnosed_too(plane, tmp_path):
    _, table = plane
    corners = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) / 2
    gate = gaussian_gate_graph((2,), peak=np.zeros(4), mean=corners, whitening=np.full((4, 2), 3.0))
    model = write(tmp_path / "gaussian.tflite", replace(plane_spec(), gate=gate))
    found = json.loads(run(model, "--data", table, "--json").stdout)["diagnosis"]
    assert found["effective_experts"] > 3.5 and found["scores"]["gate_picks_best"] > 0.9
