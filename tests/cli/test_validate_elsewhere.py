"""``moe-edge validate`` of Keras models that moe-edge didn't train: tables by position, targets optional."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from moe_edge.cli.main import main
from shared.keras_parts import D, E, expert, gate, row, weigh

TESTS = Path(__file__).parents[1]


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A mixture spelled by hand as .keras and SavedModel, its file, and its rows with and without targets."""
    from moe_edge_converters import convert

    folder = tmp_path_factory.mktemp("elsewhere")
    keras.utils.set_random_seed(0)
    x = row()
    model = keras.Model(x, weigh(gate(x), [expert(x) for _ in range(E)]))
    model.save(folder / "theirs.keras")
    rows = np.random.default_rng(0).normal(size=(120, D)).astype(np.float32)
    kinds = model.predict(rows, verbose=0).argmax(axis=1)
    np.save(folder / "rows.npy", rows)
    np.savez(folder / "rows.npz", x=rows, y=kinds)
    header = ",".join([*(f"column {index}" for index in range(D)), "kind"])
    lines = [",".join([*map(str, values), str(kind)]) for values, kind in zip(rows.tolist(), kinds, strict=True)]
    (folder / "rows.csv").write_text("\n".join([header, *lines]) + "\n")
    convert(model, folder / "theirs.tflite", scheme="float16")
    return folder


@pytest.mark.parametrize("table", ["rows.npz", "rows.csv"])
def test_with_targets_accuracy_is_compared(job, table):
    result = run("validate", job / "theirs.keras", job / "theirs.tflite", job / table, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["report"]
    (accuracy,) = report["metrics"]
    # The targets are the model's own answers.
    assert accuracy["name"] == "accuracy" and accuracy["keras"]["value"] == 1.0
    assert report["routing_agreement"] > 0.9 and len(report["keras_usage"]) == E


def test_without_targets_answers_are_compared(job):
    result = run("validate", job / "theirs.keras", job / "theirs.tflite", job / "rows.npy")
    assert result.exit_code == 0, result.output
    assert "the same label for at least 0.99 of the rows" in result.output and "accuracy" not in result.output
    failed = run("validate", job / "theirs.keras", job / "theirs.tflite", job / "rows.npy", "--max-abs-error", "1e-9")
    assert failed.exit_code == 1 and "FAIL: expected a largest difference" in failed.output


def test_a_file_of_another_model_fails(job, tmp_path):
    keras.utils.set_random_seed(5)
    x = row()
    keras.Model(x, weigh(gate(x), [expert(x) for _ in range(E)])).save(tmp_path / "other.keras")
    result = run("validate", tmp_path / "other.keras", job / "theirs.tflite", job / "rows.npz")
    assert result.exit_code == 1 and "FAIL: expected the same label" in result.output


def test_a_regression_needs_targets_or_a_bound(tmp_path):
    keras.utils.set_random_seed(1)
    x = row()
    keras.Model(x, layers.Dense(1)(layers.Dense(8, activation="tanh")(x))).save(tmp_path / "plain.keras")
    rows = np.random.default_rng(0).normal(size=(60, D)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", x=rows, y=rows[:, 0])
    file = tmp_path / "plain.tflite"
    converted = run("convert", tmp_path / "plain.keras", "--no-fuse", "--scheme", "float32", "-o", file)
    assert converted.exit_code == 0, converted.output
    refused = run("validate", tmp_path / "plain.keras", file, tmp_path / "rows.npy")
    assert refused.exit_code == 1 and "--max-abs-error" in refused.output
    for options in (("rows.npy", "--max-abs-error", "0.001"), ("rows.npz",)):
        result = run("validate", tmp_path / "plain.keras", file, tmp_path / options[0], *options[1:])
        assert result.exit_code == 0, result.output


def test_classes_of_ones_own_are_imported(job, tmp_path):
    (tmp_path / "theirs_own.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('theirs')\n"
        "class Double(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    make = (
        "from shared.keras_parts import *; from theirs_own import Double; x = row(); y = Double()(x);"
        "keras.Model(x, weigh(gate(y), [expert(y) for _ in range(E)])).save('own.keras')"
    )

    def python(code, *arguments):
        paths = [str(tmp_path), str(TESTS), *sys.path] if code == make else [path for path in sys.path if path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert python(make).returncode == 0
    cli = "from moe_edge.cli.main import main; main()"
    refused = python(cli, "validate", "own.keras", job / "theirs.tflite", job / "rows.npy")
    assert refused.returncode == 1 and "--import" in refused.stderr
    converted = python(cli, "convert", "own.keras", "--scheme", "float32", "--import", "theirs_own")
    assert converted.returncode == 0, converted.stderr
    result = python(cli, "validate", "own.keras", "own.tflite", job / "rows.npy", "--import", "theirs_own")
    assert result.returncode == 0, result.stderr
