"""``moe-edge benchmark`` on real files: every mode runs, bad input is told in one line."""

from __future__ import annotations

import json
from importlib import util

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main
from moe_edge.runtime.predictor import Predictor

FAST = ["--rounds", "1", "--milliseconds", "1", "--batches", "1,5"]


@pytest.fixture
def run():
    def call(*arguments):
        return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])

    return call


def test_every_mode_is_measured_and_told_as_json(run, mixture_file):
    result = run(mixture_file("plain"), *FAST, "--top-k", "2", "--mass", "0.9", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    by_name = {entry["name"]: entry for entry in found["results"]}
    assert not found["refused"]
    assert {"dense", "dense, XNNPACK off", "routed top-2", "routed mass 0.9", "bare interpreter"} <= set(by_name)
    assert by_name["routed top-2"]["experts_per_row"] == 2
    assert by_name["dense"]["experts_per_row"] == 4
    assert 1 <= by_name["routed mass 0.9"]["experts_per_row"] <= 4
    for entry in found["results"]:
        assert [times["batch_size"] for times in entry["times"]] == [1, 5]
        for times in entry["times"]:
            assert times["p50_us"] > 0 and times["low_us"] <= times["p50_us"] <= times["high_us"]
            assert times["p90_us"] <= times["p99_us"]
    assert set(found["parts_us"]) == {"whole graph", "gate", "combine", *(f"expert_{index}" for index in range(4))}


def test_targets_give_the_score_that_the_predictor_has(run, mixture_file, tmp_path):
    path = mixture_file("plain")
    rows = np.random.default_rng(1).normal(size=(20, 64)).astype(np.float32)
    with Predictor(path, mode="dense") as predictor:
        classes = predictor.predict_raw(rows)["prediction"].argmax(axis=1)
        labels = predictor.labels
    target = classes.copy()
    target[:5] = (target[:5] + 1) % 3
    table = tmp_path / "rows.csv"
    names = [f"x{index}" for index in range(64)]
    lines = [",".join([*names, "y"])]
    lines += [",".join([*(repr(float(v)) for v in row), labels[code]]) for row, code in zip(rows, target, strict=True)]
    table.write_text("\n".join(lines))
    picture = tmp_path / "points.png"
    result = run(path, table, *FAST, "--json", "--picture", picture)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    scores = {entry["name"]: entry["score"] for entry in found["results"]}
    assert found["score_name"] == "accuracy" and found["num_rows"] == 20
    assert scores["dense"] == scores["bare interpreter"] == pytest.approx(0.75)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_table_with_missing_values_and_categories(run, mixture_file):
    result = run(mixture_file("table", scheme="w8a8"), *FAST)
    assert result.exit_code == 0, result.output
    assert "dense" in result.stdout and "whole graph" in result.stdout


def test_regression_is_scored_by_rmse(run, mixture_file, tmp_path):
    rng = np.random.default_rng(2)
    table = tmp_path / "rows.npz"
    np.savez(table, x=rng.normal(size=(9, 6)).astype(np.float32), y=rng.normal(size=9).astype(np.float32))
    result = run(mixture_file("regression"), table, *FAST, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["score_name"] == "RMSE" and found["results"][0]["score"] > 0


def test_foreign_file(run, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    result = run(path, *FAST)
    assert result.exit_code == 1
    assert "a zip archive" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_wrong_data(run, mixture_file, tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("a,b\n1,2\n")
    result = run(mixture_file("table"), table, *FAST)
    assert result.exit_code == 1
    assert "missing columns" in result.stderr and "'height'" in result.stderr
    wide = tmp_path / "rows.npy"
    np.save(wide, np.zeros((3, 7), dtype=np.float32))
    result = run(mixture_file("plain"), wide, *FAST)
    assert result.exit_code == 1
    assert "(64,)" in result.stderr and "(7,)" in result.stderr
    empty = tmp_path / "none.npy"
    np.save(empty, np.zeros((0, 64), dtype=np.float32))
    result = run(mixture_file("plain"), empty, *FAST)
    assert result.exit_code == 1 and "at least one row" in result.stderr


def test_more_experts_than_there_are_is_told_and_the_rest_measured(run, mixture_file):
    result = run(mixture_file("plain"), *FAST, "--top-k", "9", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert any("top_k in [1, 4]" in reason for reason in found["refused"].values())
    assert "dense" in {entry["name"] for entry in found["results"]}


@pytest.mark.parametrize("option", [["--batches", "0"], ["--batches", "a"], ["--against", "cntk"], ["--mass", "2"]])
def test_wrong_options(run, mixture_file, option):
    result = run(mixture_file("plain"), *option)
    assert result.exit_code == 2 and "Error" in result.stderr


def test_peers_need_the_keras_model(run, mixture_file):
    result = run(mixture_file("plain"), "--against", "keras")
    assert result.exit_code == 2 and "--keras" in result.stderr


def test_missing_peer_names_the_extra(run, mixture_file, tmp_path, monkeypatch):
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "onnx" else found(name))
    model = tmp_path / "model.keras"
    model.write_bytes(b"PK")
    result = run(mixture_file("plain"), "--against", "onnxruntime", "--keras", model)
    assert result.exit_code == 1
    assert "pip install 'onnx>=1.16' 'onnxruntime>=1.18'" in result.stderr
