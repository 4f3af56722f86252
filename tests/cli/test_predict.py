from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge import Predictor
from moe_edge.cli.main import main

TABLE = "note,price,colour,height\nx,4200,red,1.8\n,NA,blue,\n,9000,,1.2\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text(TABLE)
    return path


def run(*arguments, **options):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)], **options)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_classification(mixture_file, table):
    model = mixture_file("table", scheme="w8a8")
    result = run(model, table)
    assert result.exit_code == 0, result.stderr
    rows = read(result.stdout)
    assert list(rows[0]) == ["label", "confidence", "p(bad)", "p(good)"]
    with Predictor(model) as predictor:
        expected = predictor.explain([["1.8", "red", "4200"], ["", "blue", "NA"], ["1.2", "", "9000"]])
    assert [row["label"] for row in rows] == expected.labels.tolist()
    np.testing.assert_allclose(
        [[float(row["p(bad)"]), float(row["p(good)"])] for row in rows], expected.probabilities, rtol=1e-6
    )
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], expected.confidence, rtol=1e-6)
    assert "3 rows answered (litert)" in result.stderr


def test_explain_adds_the_weight_of_each_expert(mixture_file, table):
    rows = read(run(mixture_file("table"), table, "--explain", "-q").stdout)
    assert list(rows[0])[-3:] == ["expert_0", "expert_1", "expert_2"]
    for row in rows:
        assert sum(float(row[f"expert_{index}"]) for index in range(3)) == pytest.approx(1, abs=1e-5)


def test_regression(mixture_file, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(4, 6)))
    rows = read(run(mixture_file("regression"), tmp_path / "x.npy").stdout)
    assert list(rows[0]) == ["prediction", "sigma"] and len(rows) == 4
    assert all(float(row["sigma"]) > 0 for row in rows)


def test_output_file_json_and_standard_input_agree(mixture_file, table, tmp_path):
    model = mixture_file("table")
    direct = run(model, table, "--quiet")
    assert direct.stderr == ""
    assert run(model, "-", input=TABLE).stdout == direct.stdout
    written = run(model, table, "-o", tmp_path / "out.csv")
    assert written.stdout == "" and "Wrote 3 rows" in written.stderr
    assert (tmp_path / "out.csv").read_text() == direct.stdout
    document = json.loads(run(model, table, "--json").stdout)
    assert document["backend"] == "litert"
    shown = [
        {key: value if key == "label" else f"{value:.7g}" for key, value in row.items()} for row in document["rows"]
    ]
    assert shown == read(direct.stdout)
    document = json.loads(run(model, table, "--json", "-o", tmp_path / "out.csv").stdout)
    assert document["num_rows"] == 3 and document["output"].endswith("out.csv")


def test_bad_rows_leave_no_output(mixture_file, tmp_path):
    (tmp_path / "bad.csv").write_text("height,colour,price\n" + "1,red,2\n" * 2000 + "1,rde,2\n")
    result = run(mixture_file("table"), tmp_path / "bad.csv", "-o", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert "line 2002: row 2001, column 'colour'" in result.stderr and "did you mean 'red'" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a header line"),
        ("height,colour,price\n", "expected rows to answer, got none"),
        ("height,colour\n1,red\n", "missing column 'price'"),
    ],
)
def test_tables_without_answers(mixture_file, tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    result = run(mixture_file("table"), tmp_path / "t.csv")
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_wrong_files(mixture_file, table, tmp_path):
    model = mixture_file("table")
    for arguments, code, message in (
        ((table, table), 1, "another kind of file"),
        ((tmp_path / "none.tflite", table), 2, "does not exist"),
        ((model, tmp_path / "none.csv"), 2, "does not exist"),
        ((model, table, "-o", table), 1, "output file of its own"),
        ((model, table, "-o", tmp_path / "no" / "out.csv"), 1, "there is no folder"),
        ((model, table, "--backend", "onnx"), 2, "auto"),
    ):
        result = run(*arguments)
        assert result.exit_code == code, result.output
        assert message in result.stderr
    assert table.read_text() == TABLE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output(mixture_file, table):
    command = [
        sys.executable,
        "-c",
        "from moe_edge.cli.main import main; main()",
        "predict",
        "-q",
        mixture_file("table"),
        table,
    ]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert "Error: can't write to standard output: No space left on device" in result.stderr
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="closes a pipe")
def test_a_reader_that_stops_early(mixture_file, tmp_path):
    (tmp_path / "long.csv").write_text("height,colour,price\n" + "1,red,2\n" * 20000)
    command = [
        sys.executable,
        "-c",
        "from moe_edge.cli.main import main; main()",
        "predict",
        "-q",
        mixture_file("table"),
        tmp_path / "long.csv",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("label,")
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 0
    assert "Error" not in errors and "Traceback" not in errors and "Exception ignored" not in errors


def test_experts_run_as_asked_and_are_counted(mixture_file, tmp_path):
    table = tmp_path / "x.npy"
    np.save(table, np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32))
    model = str(mixture_file("plain"))

    def answers(*options: str) -> list[dict]:
        result = CliRunner().invoke(main, ["predict", model, str(table), "--explain", "--json", *options])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["rows"]

    assert [row["experts_run"] for row in answers("--top-k", "2")] == [2] * 6
    assert {row["experts_run"] for row in answers("--mass", "0.9", "--max-experts", "3")} <= {1, 2, 3}
    dense, whole = answers(), answers("--mode", "routed", "--mass", "1")
    assert "experts_run" not in dense[0]
    assert [{**row, "experts_run": 4} for row in dense] == whole
    for options, message in ((("--mass", "0"), "mass"), (("--mode", "dense", "--top-k", "1"), "in mode dense")):
        result = CliRunner().invoke(main, ["predict", model, str(table), *options])
        assert result.exit_code == 2 and message in result.stderr
    result = CliRunner().invoke(main, ["predict", model, str(table), "--mode", "routed"])
    assert result.exit_code == 1 and "mass=0.99 or top_k=2" in result.stderr


def test_quantiles_are_columns_in_rising_order(mixture_file, tmp_path):
    data = tmp_path / "rows.npy"
    np.save(data, np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32))
    path = str(mixture_file("regression"))
    result = CliRunner().invoke(main, ["predict", path, str(data), "--quantiles", "0.05,0.5,0.95", "--quiet"])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == ["prediction", "sigma", "q0.05", "q0.5", "q0.95"] and len(rows) == 4
    assert all(float(row["q0.05"]) < float(row["q0.5"]) < float(row["q0.95"]) for row in rows)


def test_quantiles_that_cannot_be_are_refused(mixture_file, tmp_path):
    data = tmp_path / "rows.npy"
    np.save(data, np.zeros((1, 64), np.float32))
    path = str(mixture_file("plain"))
    assert CliRunner().invoke(main, ["predict", path, str(data), "--quantiles", "0,2"]).exit_code == 2
    refused = CliRunner().invoke(main, ["predict", path, str(data), "--quantiles", "0.5"])
    assert refused.exit_code == 2 and "is a classification: drop it" in " ".join(refused.output.split())


def test_messages_name_the_file_and_say_what_to_do(mixture_file, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((20, 64)))
    rows = np.zeros((1030, 6), dtype=np.float32)
    rows[1025, 2] = np.inf
    np.save(tmp_path / "inf.npy", rows)
    (tmp_path / "inf.csv").write_text(",".join(f"x{index}" for index in range(6)) + "\n1,2,3,4,5,inf\n")
    (tmp_path / "other.tflite").write_bytes(bytes(range(200)))
    model = mixture_file("regression")
    for name, said in (
        ("wide.npy", "wide.npy: expected rows of shape (n, 6)"),
        ("inf.npy", "inf.npy, after row 1024: row 2, column 'x2': expected a finite float32 number, got inf"),
        ("inf.csv", "leave the cell empty for a missing value"),
    ):
        result = run(model, tmp_path / name)
        assert result.exit_code == 1 and said in result.stderr, result.stderr
        assert str(tmp_path / name) in result.stderr
    assert "give the file that moe-edge convert wrote" in run(tmp_path / "other.tflite", tmp_path / "inf.csv").stderr
    told = run(model, tmp_path / "inf.csv", "--quantiles", "abc")
    assert told.exit_code == 2 and "such as 0.05,0.5,0.95; got 'abc'" in " ".join(told.stderr.split())


def test_a_misspelt_command_is_told_with_the_nearest():
    result = CliRunner().invoke(main, ["predicct"])
    assert result.exit_code == 2 and result.stderr.lower().count("did you mean 'predict'?") == 1
    assert "did you mean" not in CliRunner().invoke(main, ["xyz"]).stderr.lower()
