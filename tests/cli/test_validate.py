"""``moe-edge validate`` on real files: it passes what is alike, fails what isn't, and refuses what can't be compared."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main
from moe_edge.config import ExpertConfig, GateConfig, MixtureConfig, Task, TrainingConfig


def write_csv(path, header, columns):
    lines = [",".join(header), *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def train(table, target, output, *, seed=0, epochs=6, task=Task.CLASSIFICATION, test_share=0.4):
    """Train a small mixture and save it with its split, as the command does."""
    from moe_edge.config import Combine
    from moe_edge.tables.dataset import read_dataset
    from moe_edge.training.archive import save_model
    from moe_edge.training.fit import train_mixture
    from moe_edge.training.split import split_dataset

    dataset = read_dataset(table, target=target, task=task)
    split = split_dataset(dataset, test_share=test_share, seed=0)
    config = MixtureConfig(
        task=task,
        combine=Combine.PROBABILITIES if task is Task.CLASSIFICATION else Combine.GAUSSIAN,
        expert=ExpertConfig(hidden=(8,)),
        gate=GateConfig(num_experts=3, hidden=(6,)),
    )
    training = TrainingConfig(epochs=epochs, seed=seed, batch_size=32)
    result = train_mixture(dataset, split, config, training)
    save_model(result.model, output, schema=result.schema, mixture_config=config, training_config=training, split=split)
    return result, dataset, split


def run(*arguments):
    return CliRunner().invoke(main, ["validate", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A table, two mixtures of one schema trained from different seeds, and the first one's file."""
    from moe_edge_converters import convert

    folder = tmp_path_factory.mktemp("validate")
    random = np.random.default_rng(0)
    wide, small = random.normal(size=300) * 5000, random.normal(size=300)
    kind = np.where(wide / 5000 + small > 0.5, "good", np.where(small > 0, "fair", "bad"))
    colour = random.choice(["red", "blue"], 300)
    table = write_csv(folder / "t.csv", ("wide", "small", "colour", "kind"), (wide, small, colour, kind))
    result, dataset, split = train(table, "kind", folder / "m.keras")
    train(table, "kind", folder / "other.keras", seed=9, epochs=1)
    convert(
        folder / "m.keras",
        folder / "m.tflite",
        scheme="float16",
        calibration=dataset.features[split.train],
        schema=result.schema,
    )
    return folder


def test_the_files_own_model_passes_on_held_out_rows(job):
    result = run(job / "m.keras", job / "m.tflite", job / "t.csv")
    assert result.exit_code == 0, result.output
    assert "PASS" in result.output and "held-out rows" in result.output and "expert_2 usage" in result.output
    assert "Next: moe-edge predict" in result.output


def test_json_tells_everything_and_nothing_else_is_printed(job):
    result = run(job / "m.keras", job / "m.tflite", job / "t.csv", "--json")
    document = json.loads(result.stdout)
    assert document["passed"] is True and document["failures"] == [] and document["held_out"] is True
    assert document["report"]["num_rows"] == 120
    assert document["thresholds"]["min_agreement"] == 0.99
    assert {row["name"] for row in document["report"]["metrics"]} == {"accuracy"}


def test_another_models_weights_fail_with_exit_code_1(job):
    result = run(job / "other.keras", job / "m.tflite", job / "t.csv")
    assert result.exit_code == 1
    assert "FAIL: expected the same label" in result.output and "PASS" not in result.output


def test_failures_are_said_with_quiet_too(job):
    result = run(job / "other.keras", job / "m.tflite", job / "t.csv", "--quiet")
    assert result.exit_code == 1 and result.stdout == "" and result.stderr.startswith("FAIL: ")


def test_a_tight_threshold_fails_what_the_default_passes(job):
    result = run(job / "m.keras", job / "m.tflite", job / "t.csv", "--max-abs-error", "1e-9")
    assert result.exit_code == 1 and "largest difference of at most 1e-09" in result.output


def test_another_table_is_refused_unless_all_rows_are_asked_for(job, tmp_path):
    lines = (job / "t.csv").read_text().splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join(lines[:50]) + "\n")
    result = run(job / "m.keras", job / "m.tflite", other)
    assert result.exit_code == 1 and "--all-rows" in result.stderr and len(result.stderr.splitlines()) == 1
    result = run(job / "m.keras", job / "m.tflite", other, "--all-rows")
    assert result.exit_code == 0 and "49 rows as given" in result.output


def test_a_file_of_another_mixture_is_refused(job, mixture_file):
    result = run(job / "m.keras", mixture_file("table"), job / "t.csv")
    assert result.exit_code == 1
    assert "expected the file that was converted from this model" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_other_labels_of_equal_number_are_refused(job, tmp_path):
    text = (job / "t.csv").read_text().replace("fair", "poor")
    table = tmp_path / "renamed.csv"
    table.write_text(text)
    train(table, "kind", tmp_path / "renamed.keras", epochs=1)
    result = run(tmp_path / "renamed.keras", job / "m.tflite", table)
    assert result.exit_code == 1 and "labels" in result.stderr and "poor" in result.stderr


def test_a_damaged_file_is_refused_before_tensorflow_starts(job, tmp_path):
    damaged = tmp_path / "m.tflite"
    damaged.write_bytes((job / "m.tflite").read_bytes()[:-1000])
    code = (
        "import sys\nfrom moe_edge.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('tensorflow' in sys.modules)\n"
    )
    arguments = ["validate", job / "m.keras", damaged, job / "t.csv"]
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1 and result.stdout.strip() == "False"
    assert result.stderr.startswith("Error: ") and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("--min-agreement", "99"), ("--max-accuracy-drop", "-1"), ("--max-abs-error", "nan")]
)
def test_thresholds_that_make_no_sense_are_usage_errors(job, arguments):
    result = run(job / "m.keras", job / "m.tflite", job / "t.csv", *arguments)
    assert result.exit_code == 2 and "Error" in result.stderr


def test_a_model_from_elsewhere_compares_on_the_rows_given(tmp_path):
    from moe_edge.training import create_moe_model
    from moe_edge_converters import convert

    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 4)).astype(np.float32), random.integers(0, 3, 40)
    model = create_moe_model(4, 3, 2)
    model.save(tmp_path / "plain.keras")
    convert(model, tmp_path / "plain.tflite", scheme="float32", calibration=x)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    result = run(tmp_path / "plain.keras", tmp_path / "plain.tflite", tmp_path / "rows.npz")
    assert result.exit_code == 0, result.output
    assert "40 rows as given" in result.output


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """Two outputs of different units, their mixture of Gaussians, and the table."""
    folder = tmp_path_factory.mktemp("regression")
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, 300)
    y = np.stack([100 * np.sin(3 * x) + 5 * random.normal(size=300), x**2 + 0.05 * random.normal(size=300)], axis=1)
    np.savez(folder / "r.npz", x=x[:, None], y=y)
    return folder, *train(folder / "r.npz", "y0,y1", folder / "r.keras", task=Task.REGRESSION, epochs=30)


@pytest.mark.parametrize(("scheme", "near"), [("float32", 1e-3), ("w8a8", 0.3)])
def test_regression_compares_errors_likelihood_and_coverage(regression, scheme, near):
    from scipy.stats import norm

    from moe_edge.training.outputs import expert_outputs
    from moe_edge_converters import convert

    folder, result, dataset, split = regression
    rows, file = dataset.features[split.train], folder / f"{scheme}.tflite"
    convert(folder / "r.keras", file, scheme=scheme, calibration=rows, schema=result.schema)
    outcome = run(folder / "r.keras", file, folder / "r.npz", "--json")
    scores = {(metric["name"], metric["output"]): metric for metric in json.loads(outcome.stdout)["report"]["metrics"]}
    assert {name for name, _ in scores} == {"rmse", "r2", "nll", "coverage_50", "coverage_90"} and len(scores) == 9
    likelihood = scores["nll", ""]
    assert likelihood["tflite"]["value"] == pytest.approx(likelihood["keras"]["value"], abs=near)
    for output in ("y0", "y1"):
        narrow, wide = (scores[f"coverage_{percent}", output] for percent in (50, 90))
        assert 0.1 < narrow["keras"]["value"] < wide["keras"]["value"]
        assert all(abs(pair["keras"]["value"] - pair["tflite"]["value"]) <= 0.1 for pair in (narrow, wide))
    x, y = dataset.features[split.test], dataset.require_target()[split.test]
    answers = expert_outputs(result.model).predict(x, verbose=0)
    parts = norm.pdf(y[:, None], answers["expert_means"], answers["expert_sigmas"]).prod(axis=2)
    by_hand = -np.log((answers["routing_weights"] * parts).sum(axis=1)).mean()
    assert likelihood["keras"]["value"] == pytest.approx(by_hand, rel=1e-4)


def test_people_read_likelihood_and_coverage(regression):
    from moe_edge_converters import convert

    folder, result, *_ = regression
    convert(folder / "r.keras", folder / "r.tflite", scheme="float16", schema=result.schema)
    outcome = run(folder / "r.keras", folder / "r.tflite", folder / "r.npz")
    assert outcome.exit_code == 0, outcome.output
    for text in ("RMSE of y0", "R² of y1", "negative log-likelihood", "in the 90 % interval of y1"):
        assert text in outcome.output, text
    assert "Same label" not in outcome.output
