"""Distributions of several outputs through a file: on both runtimes, whole and routed, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import norm

from moe_edge import Predictor
from moe_edge.cli.main import main
from moe_edge.config import Combine, ExpertConfig, GateConfig, MixtureConfig, Task, TrainingConfig
from moe_edge.errors import DataError
from moe_edge.tables.dataset import dataset_from_arrays
from moe_edge.training.fit import train_mixture
from moe_edge.training.outputs import expert_outputs
from moe_edge.training.split import split_dataset
from moe_edge_converters import convert

ROOT = Path(__file__).parents[2]
LEVELS = (0.05, 0.5, 0.95)

SCRIPT = """
import sys
import numpy as np
from moe_edge import Predictor

model, rows, answers = sys.argv[1:]
found = {}
for name, how in (("dense", {"mode": "dense"}), ("whole", {"mass": 1.0}), ("single", {"top_k": 1})):
    with Predictor(model, backend="tflite-runtime", **how) as predictor:
        found[name] = predictor.predict_quantiles(np.load(rows), (0.05, 0.5, 0.95))
np.savez(answers, **found)
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Three outputs of very different units, trained for a moment: the model, rows, and a maker of files."""
    folder = tmp_path_factory.mktemp("densities")
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (300, 2)).astype(np.float32)
    noise = rng.normal(size=(300, 3))
    y = np.stack([np.abs(x[:, 0]), 1e4 * x[:, 1], 1e-3 * x.sum(axis=1) + 5], axis=1) + noise * [0.1, 500, 1e-4]
    dataset = dataset_from_arrays(x, y, task=Task.REGRESSION)
    split = split_dataset(dataset, seed=0)

    def train(combine):
        config = MixtureConfig(
            task=Task.REGRESSION,
            combine=combine,
            expert=ExpertConfig(hidden=(8,)),
            gate=GateConfig(num_experts=3, hidden=(4,)),
        )
        return train_mixture(dataset, split, config, TrainingConfig(epochs=15, seed=0))

    result = train(Combine.GAUSSIAN)

    def write(name, trained=result, **options):
        path = folder / name
        convert(trained.model, path, calibration=x[split.train], schema=trained.schema, **options)
        return path

    return result.model, x[:70], write, train, folder


def exact_levels(model, x, values):
    """Keras' cumulative distribution at values (n, Q, K): the levels, where they are its quantiles."""
    answers = expert_outputs(model).predict(x, verbose=0)
    means, sigmas = (answers[name][:, None].astype(np.float64) for name in ("expert_means", "expert_sigmas"))
    below = norm.cdf(values[:, :, None], means, sigmas)
    return np.einsum("ne,nqek->nqk", answers["routing_weights"], below)


def test_three_outputs_have_keras_quantiles_on_both_runtimes(job, old_runtime_python, tmp_path):
    model, x, write, _, _ = job
    path = write("float32.tflite", scheme="float32")
    np.save(tmp_path / "x.npy", x)
    result = subprocess.run(
        [str(old_runtime_python), "-c", SCRIPT, str(path), str(tmp_path / "x.npy"), str(tmp_path / "found.npz")],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "found.npz") as there:
        for name, how in (("dense", {"mode": "dense"}), ("whole", {"mass": 1.0}), ("single", {"top_k": 1})):
            with Predictor(path, **how) as predictor:
                here = predictor.predict_quantiles(x, LEVELS)
            assert here.shape == (len(x), 3, 3) and (np.diff(here, axis=1) > 0).all()
            scale = np.ptp(here[:, 2] - here[:, 0], axis=0) + np.abs(here).max(axis=(0, 1))
            np.testing.assert_allclose(there[name] / scale, here / scale, atol=1e-5)
            if name != "single":
                expected = np.broadcast_to(np.array(LEVELS)[None, :, None], here.shape)
                np.testing.assert_allclose(exact_levels(model, x, here), expected, atol=2e-3)


def test_the_command_writes_a_column_for_each_level_and_output(job, tmp_path):
    _, x, write, _, folder = job
    path = folder / "float32.tflite"
    if not path.exists():
        write("float32.tflite", scheme="float32")
    np.save(tmp_path / "x.npy", x)
    result = CliRunner().invoke(
        main, ["predict", str(path), str(tmp_path / "x.npy"), "--quantiles", "0.1,0.9", "-o", str(tmp_path / "y.csv")]
    )
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "y.csv").read_text().splitlines()
    with Predictor(path, mode="dense") as predictor:
        labels, expected = predictor.labels, predictor.predict_quantiles(x, (0.1, 0.9))
    names = lines[0].split(",")
    wanted = [f"q{level}({label})" for level in ("0.1", "0.9") for label in labels]
    start = names.index(wanted[0])
    assert names[start : start + 6] == wanted
    found = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])[:, start : start + 6]
    np.testing.assert_allclose(found, expected.reshape(len(x), -1), rtol=1e-5)


def test_int8_edges_are_refused_with_the_remedy(job):
    write = job[2]
    with Predictor(write("int8.tflite", scheme="w8a8", io="int8")) as predictor:
        assert predictor.has_sigma and not predictor.has_density
        with pytest.raises(DataError, match="convert it without --io int8"):
            predictor.predict_quantiles(np.zeros((1, *predictor.manifest.input_shape), np.float32))


def test_a_mean_is_refused_by_an_option_that_exists(job):
    _, x, write, train, _ = job
    with (
        Predictor(write("mean.tflite", train(Combine.MEAN), scheme="float32")) as predictor,
        pytest.raises(DataError, match="combines by mean") as refused,
    ):
        predictor.predict_quantiles(x)
    command, option, value = re.search(r"moe-edge (\w+) (--\w+) (\w+)$", str(refused.value)).groups()
    found = next(known for known in main.get_command(None, command).params if option in known.opts)
    assert value in found.type.choices
