"""``moe-edge inspect --data``: real files of one and two inputs, whole and routed, to JSON and to a page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge import Predictor
from moe_edge.cli.main import main
from moe_edge.config import Combine, Task
from moe_edge.errors import DataError
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.given_rows import probe_rows
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
    """Four quadrants, two classes, an expert each."""
    corners = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    spec = MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(2,),
        gate=dense_stack([(5 * corners.T, np.zeros(4), "softmax")]),
        experts=tuple(
            dense_stack([(np.zeros((2, 2)), np.array([3.0, -3.0]) * sign, "softmax")]) for sign in (1, -1, -1, 1)
        ),
        num_outputs=2,
    )
    folder = tmp_path_factory.mktemp("plane")
    x = np.random.default_rng(1).uniform(-1, 1, (300, 2))
    table = folder / "plane.csv"
    lines = [f"{a:.6f},{b:.6f},{int(a * b < 0)}" for a, b in x]
    table.write_text("\n".join(["x0,x1,y", *lines]))
    return write(folder / "plane.tflite", spec), table


def test_json_holds_the_diagnosis(line):
    model, _, table = line
    found = json.loads(run(model, "--data", table, "--json").stdout)["diagnosis"]
    assert found["num_rows"] == 300 and found["collapsed"] == [2] and "expert_2 collapsed" in found["advice"][0]
    assert found["effective_experts"] == pytest.approx(2, abs=0.1)
    scores = found["scores"]
    assert scores["metric"] == "rmse" and scores["mixture"] < 0.2 < min(scores["alone"])
    assert scores["own_rows"][2] is None and scores["own_rows"][0] == pytest.approx(0.1, abs=0.05)
    assert scores["gate_picks_best"] > 0.9


def test_people_read_scores_and_advice(plane):
    model, table = plane
    result = run(model, "--data", table)
    assert result.exit_code == 0, result.output
    for text in (
        "Effective experts",
        "Each expert alone against the mixture (accuracy",
        "better than the gate's choice",
    ):
        assert text in result.output, text


def test_a_fused_only_file_says_why_experts_have_no_scores(line, tmp_path):
    _, whole, table = line
    page = tmp_path / "report.html"
    result = run(whole, "--data", table, "--report", page)
    assert result.exit_code == 0, result.output
    assert "the experts can't run alone" in result.output and "--fused-only" in page.read_text()


def test_a_table_without_target_has_no_scores(line, tmp_path):
    table = tmp_path / "x.csv"
    table.write_text("x0\n1\n-1\n0.5\n")
    found = json.loads(run(line[0], "--data", table, "--json").stdout)["diagnosis"]
    assert found["scores"] is None and "no target" in found["scores_missing"]


def test_the_page_is_one_file_with_the_input_space(line, plane, tmp_path):
    for model, table, pictures in ((line[0], line[2], 4), (*plane, 4)):
        page = tmp_path / f"{model.stem}.html"
        result = run(model, "--data", table, "--report", page)
        assert result.exit_code == 0, result.output
        text = page.read_text()
        assert text.count("data:image/png;base64,") == pictures and "The input space" in text
        assert 'src="http' not in text


def test_report_needs_rows(line, tmp_path):
    assert run(line[0], "--report", tmp_path / "page.html").exit_code == 2


def test_experts_alone_are_the_lines_that_they_were_made_as(line):
    x = np.linspace(-3, 3, 300, dtype=np.float32)[:, None]
    with Predictor(line[0], mass=1) as routed, Predictor(line[0], mode="dense") as dense:
        answers = routed.predict_experts(x)[:, :, 0]
        np.testing.assert_allclose(answers, x * [-1, 1, 0.1] - 1, atol=1e-5)
        np.testing.assert_allclose(answers, dense.predict_raw(x)["expert_means"][:, :, 0], atol=1e-5)
        with pytest.raises(DataError, match="mode routed"):
            dense.predict_experts(x)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The table of |x| and what ``train`` and ``convert`` make of it: a hierarchical and a decision-tree gate."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 300)
    lines = [f"{value:.6f},{abs(value) - 1 + 0.1 * rng.normal():.6f}" for value in x]
    table = folder / "line.csv"
    table.write_text("\n".join(["x0,y", *lines]))
    common = (str(table), "--target", "y", "--expert", "linear", "--num-experts", "4", "--strategy", "em", "--quiet")
    for name, gate in (("hierarchy", "hierarchical"), ("tree", "decision_tree:max_depth=3")):
        model = str(folder / f"{name}.keras")
        result = CliRunner().invoke(main, ["train", *common, "--gate", gate, "--em-iterations", "5", "-o", model])
        assert result.exit_code == 0, result.output
        made = [model, str(table), "-o", str(folder / f"{name}.tflite"), "--scheme", "float32", "--quiet"]
        result = CliRunner().invoke(main, ["convert", *made])
        assert result.exit_code == 0, result.output
    return folder, table


@pytest.mark.parametrize("name", ["hierarchy", "tree"])
def test_a_keras_model_is_diagnosed_like_its_file(trained, name, tmp_path):
    folder, table = trained
    found, pages = [], []
    for suffix in ("keras", "tflite"):
        page = tmp_path / f"{suffix}.html"
        result = run(folder / f"{name}.{suffix}", "--data", table, "--json", "--report", page)
        assert result.exit_code == 0, result.output
        found.append(json.loads(result.stdout)["diagnosis"])
        pages.append(page.read_text())
    assert found[0]["scores"]["alone"] == pytest.approx(found[1]["scores"]["alone"], rel=1e-4)
    assert found[0]["usage"] == pytest.approx(found[1]["usage"], abs=1e-5)
    if name == "hierarchy":
        assert all("The tree of gates" in page for page in pages)
    else:
        assert "What the gate asks" in pages[0] and "inspect MODEL.keras" in pages[1]


def test_people_read_what_a_keras_model_is(trained):
    folder, table = trained
    result = run(folder / "hierarchy.keras", "--data", table)
    assert result.exit_code == 0, result.output
    for text in ("4 linear", "hierarchical", "└─ gate_2", "Effective experts", "Next: moe-edge convert"):
        assert text in result.output, text
    assert "Effective" not in run(folder / "hierarchy.keras").output


def test_a_keras_model_without_columns_is_refused(tmp_path):
    from moe_edge.training import create_moe_model

    create_moe_model(4, 3, 2).save(tmp_path / "plain.keras")
    result = run(tmp_path / "plain.keras")
    assert result.exit_code == 1 and "convert it, and inspect the .tflite" in result.output
