"""The wheel, installed as on a device: no TensorFlow, away from the source tree, on both runtimes."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from moe_edge.runtime.predictor import Predictor

pytestmark = pytest.mark.slow

MAIN = "from moe_edge.cli.main import main; main()"
NO_TRAINING_STACK = "import importlib.util, sys; sys.exit(any(map(importlib.util.find_spec, sys.argv[1:])))"
TRAINING_STACK = ("tensorflow", "keras", "pandas", "sklearn", "ai_edge_quantizer", "matplotlib")

ROWS = (
    ("height", "colour", "price"),
    ("1.8", "red", "4200"),
    ("1.5", "", "9000.5"),
    ("NA", "blue", "100"),
    ("2", "green", "?"),
)


def run(*command, cwd, check=True, **environment):
    """Run a command away from the tree, with nothing of it on the path."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    result = subprocess.run(
        [*map(str, command)], cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=600
    )
    assert not check or result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def device(wheel, tmp_path_factory):
    """The Python of an environment into which nothing but the wheel and what it asks for was installed."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd="/")
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd="/")
    return folder / "bin"


@pytest.fixture(scope="module")
def old_device(wheel, old_runtime_python, tmp_path_factory):
    """Runs moe-edge of the wheel on a Python with tflite-runtime 2.14 and NumPy 1."""
    site = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel, cwd="/")

    def moe_edge(*arguments, check=True):
        return run(old_runtime_python, "-c", MAIN, *arguments, cwd=site.parent, check=check, PYTHONPATH=str(site))

    return moe_edge


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """New rows as a CSV: texts, missing values, columns of very different range."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_text("\n".join(",".join(row) for row in ROWS) + "\n")
    return path


def expected_answers(model):
    """Labels and probabilities by the predictor of the tree, on LiteRT."""
    with Predictor(model, backend="litert") as predictor:
        explained = predictor.explain([dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]])
    return explained.labels.tolist(), explained.probabilities


def read_answers(text):
    answers = list(csv.DictReader(text.splitlines()))
    labels = [row["label"] for row in answers]
    names = [name for name in answers[0] if name not in ("label", "confidence", "row")]
    return labels, np.array([[float(row[name]) for name in names] for row in answers])


def check(stdout, model, tolerance):
    labels, probabilities = read_answers(stdout)
    expected_labels, expected = expected_answers(model)
    assert probabilities.shape == expected.shape
    np.testing.assert_allclose(probabilities, expected, atol=tolerance)
    assert labels == expected_labels


def test_the_wheel_brings_no_training_stack_and_both_packages(device):
    run(device / "python", "-c", NO_TRAINING_STACK, *TRAINING_STACK, cwd="/")
    run(device / "python", "-c", "import moe_edge, moe_edge_converters; moe_edge.Predictor", cwd="/")


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic_w8", "w8a8"])
def test_the_wheel_predicts_without_tensorflow(device, rows, mixture_file, scheme, tmp_path):
    model = mixture_file("table", scheme=scheme)
    result = run(device / "moe-edge", "predict", model, rows, cwd=tmp_path)
    # The same runtime and the same file: nothing but the printed digits may differ.
    check(result.stdout, model, 1e-5)


def test_doctor_speaks_on_a_device(device, tmp_path):
    result = run(device / "moe-edge", "doctor", cwd=tmp_path)
    assert "litert" in result.stdout and "'tensorflow>=2.20'" in " ".join(result.stdout.split())


@pytest.mark.parametrize("command", ["train", "convert", "validate", "demo"])
def test_desktop_commands_name_the_extra_on_a_device(device, rows, mixture_file, command, tmp_path):
    keras = tmp_path / "m.keras"
    keras.write_bytes(b"")
    table = tmp_path / "table.csv"
    table.write_text("x,kind\n" + "".join(f"{place}.5,{'ab'[place % 2]}\n" for place in range(40)))
    arguments = {
        "train": (table, "--target", "kind"),
        "convert": (keras, rows),
        "validate": (keras, mixture_file("table"), rows),
        "demo": ("-o", tmp_path / "demo"),
    }[command]
    result = run(device / "moe-edge", command, *arguments, cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert "'tensorflow>=2.20'" in result.stderr and len(result.stderr.splitlines()) == 1


# int8 kernels of the two runtimes round differently; a probability moves by at most a few steps of 1/256.
@pytest.mark.parametrize(("scheme", "tolerance"), [("float32", 1e-5), ("float16", 1e-5), ("w8a8", 0.02)])
def test_the_wheel_predicts_on_tflite_runtime(old_device, rows, mixture_file, scheme, tolerance):
    model = mixture_file("table", scheme=scheme)
    result = old_device("predict", model, rows, "--backend", "tflite-runtime")
    check(result.stdout, model, tolerance)


def test_per_channel_dynamic_w8_is_refused_on_tflite_runtime(old_device, rows, mixture_file):
    result = old_device("predict", mixture_file("table", scheme="dynamic_w8"), rows, check=False)
    assert result.returncode == 1 and result.stdout == ""
    assert "--per-tensor" in result.stderr and len(result.stderr.splitlines()) == 1


def test_per_tensor_dynamic_w8_is_right_on_tflite_runtime(old_device, rows, mixture_file):
    model = mixture_file("table", scheme="dynamic_w8", per_tensor=True)
    check(old_device("predict", model, rows).stdout, model, 0.02)


def test_doctor_speaks_on_an_old_runtime(old_device):
    assert "tflite-runtime" in old_device("doctor").stdout
