"""The wheel on emulated Raspberry Pis: files made on the desktop answer there as they did here."""

import csv
import json
import os
import subprocess

import numpy as np
import pytest
from emulated_pi import BOARDS

from moe_edge import Predictor

pytestmark = [pytest.mark.slow, pytest.mark.device]

# Each board runs what its runtime can: tflite-runtime 2.14 is the one of 32-bit boards and of older systems.
FILES = (
    "float32",
    "w8a8",
    "dynamic_w8",
    "gaussian",
    "table",
    "forest",
    "gaussian-gate",
    "top1-gather",
    "top1-fully_connected",
)


@pytest.mark.parametrize("name", BOARDS)
def test_every_file_verifies(boards, files, name):
    for kind in FILES:
        result = boards[name].moe_edge("verify", files[kind], "--json")
        assert result.returncode == 0, f"{kind}: {result.stdout}{result.stderr}"
        found = json.loads(result.stdout)
        assert found["passed"] and found["backend"] == BOARDS[name].runtime
        assert [check["mode"] for check in found["modes"]] == ["dense", "routed"], kind
        if kind in ("float32", "table", "forest", "gaussian-gate") or kind.startswith("top1"):
            assert found["tolerance"] == 1e-6


@pytest.mark.parametrize("name", ["Pi 4, LiteRT", "Pi 4, tflite-runtime", "32-bit, tflite-runtime"])
def test_predict_answers_a_table_as_the_desktop(boards, files, name, tmp_path):
    table = tmp_path / "new.csv"
    table.write_text("height,colour,price\n1.8,red,4200\n1.5,,9000.5\nNA,blue,100\n")
    result = boards[name].moe_edge("predict", files["table"], table)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(result.stdout.splitlines()))
    with Predictor(files["table"]) as predictor:
        expected = predictor.explain([["1.8", "red", "4200"], ["1.5", "", "9000.5"], ["NA", "blue", "100"]])
    assert [row["label"] for row in rows] == expected.labels.tolist()
    got = [[float(row["p(bad)"]), float(row["p(good)"])] for row in rows]
    np.testing.assert_allclose(got, expected.probabilities, atol=2e-6)


@pytest.mark.parametrize("name", ["Pi 4, tflite-runtime", "32-bit, tflite-runtime"])
def test_int8_is_within_a_step_of_the_same_runtime_on_the_desktop(
    boards, mixture_file, old_runtime_python, name, tmp_path
):
    """The stored rows were answered by LiteRT; here both sides are tflite-runtime."""
    model, rows = mixture_file("plain", scheme="w8a8"), tmp_path / "rows.npy"
    np.save(rows, np.random.default_rng(2).normal(size=(20, 64)).astype(np.float32))
    here = subprocess.run(
        [old_runtime_python, "-c", "from moe_edge.cli.main import main; main()", "predict", model, rows],
        env={**os.environ, "PYTHONPATH": str(boards[name].site)},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    there = boards[name].moe_edge("predict", model, rows)
    assert there.returncode == 0, there.stderr
    probabilities = [
        [[float(row[key]) for key in row if key.startswith("p(")] for row in csv.DictReader(text.splitlines())]
        for text in (here.stdout, there.stdout)
    ]
    np.testing.assert_allclose(*probabilities, atol=1.001 / 256)


def test_a_damaged_file_fails_there(boards, files, tmp_path):
    content = bytearray(files["float32"].read_bytes())
    content[-9] ^= 4
    (tmp_path / "damaged.tflite").write_bytes(content)
    result = boards["Pi 4, LiteRT"].moe_edge("verify", tmp_path / "damaged.tflite")
    assert result.returncode == 1 and "damaged" in result.stderr


def test_benchmark_runs_there(boards, files):
    options = ("--json", "--batches", "1", "--rounds", "1", "--milliseconds", "2")
    result = boards["Pi 4, LiteRT"].moe_edge("benchmark", files["top1-fully_connected"], *options)
    assert result.returncode == 0, result.stderr
    assert "dense" in {mode["name"] for mode in json.loads(result.stdout)["results"]}


# On ARM some kernels choose the expert 2^31 - 1 for a row that is no numbers; the bare graph must do without them.
HOSTILE = """
import sys
import numpy as np
from moe_edge.runtime.backends import load_backend

for xnnpack in (None, False):
    interpreter = load_backend().interpreter(sys.argv[1], xnnpack=xnnpack)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, (4, 64))
    interpreter.allocate_tensors()
    rows = np.ones((4, 64), np.float32)
    rows[1], rows[2, 5], rows[3, ::2] = np.nan, np.nan, np.inf
    interpreter.set_tensor(place, rows)
    interpreter.invoke()
    for detail in interpreter.get_output_details():
        answers = interpreter.get_tensor(detail["index"])
        assert np.isfinite(answers[0]).all() and np.isnan(answers[1:3]).all(), (detail["name"], answers)
"""


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("kind", ["top1-gather", "top1-fully_connected"])
def test_a_row_that_is_no_numbers_gets_no_answer(boards, files, name, kind):
    result = boards[name].python("-c", HOSTILE, files[kind])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("name", "least"), [("Pi 4, LiteRT", 6.5), ("Pi 4, tflite-runtime", 6.5)])
def test_routing_saves_instructions(boards, files, name, least):
    dense, routed = (boards[name].count(files[f"top1-{kind}"], "invoke") for kind in ("fully_connected", "gather"))
    assert dense >= least * routed, f"{dense:,} dense, {routed:,} routed"
    # Counts are exact: what was executed, not what a clock made of it.
    assert boards[name].count(files["top1-gather"], "invoke") == pytest.approx(routed, rel=1e-3)
