"""The promises of the README, kept on real data: accuracy, size, agreement, tables of every kind.

Nothing is chosen on test rows; the seeds are 0, 1 and 2.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge import Predictor
from moe_edge.cli.main import main
from moe_edge.config import GateConfig, MixtureConfig, TrainingConfig
from moe_edge.parity import wilson
from moe_edge_converters import convert
from moe_edge_converters.schemes.scheme import Scheme

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)
SCHEMES = (Scheme.FLOAT32, Scheme.FLOAT16, Scheme.DYNAMIC_W8, Scheme.W8A8)


@dataclass(frozen=True)
class Digits:
    """One trained mixture with its rows."""

    model: Any
    dataset: Any
    split: Any
    usage: list[float]

    def rows(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        indices = getattr(self.split, part)
        return self.dataset.features[indices], self.dataset.target[indices]

    def accuracy(self, probabilities: np.ndarray) -> float:
        return float((probabilities.argmax(axis=1) == self.rows("test")[1]).mean())


def train(seed: int, num_experts: int = 5) -> Digits:
    from moe_edge.training import split_dataset, train_mixture
    from moe_edge.training.examples import digits_dataset

    dataset = digits_dataset()
    split = split_dataset(dataset, test_share=0.3, seed=seed)
    config = MixtureConfig(gate=GateConfig(num_experts=num_experts))
    result = train_mixture(dataset, split, config, TrainingConfig(seed=seed))
    return Digits(model=result.model, dataset=dataset, split=split, usage=list(result.usage))


@pytest.fixture(scope="module")
def trained() -> dict[int, Digits]:
    return {seed: train(seed) for seed in SEEDS}


@pytest.fixture(scope="module")
def converted(trained, tmp_path_factory) -> dict[tuple[int, Scheme], Path]:
    folder = tmp_path_factory.mktemp("digits")
    files = {}
    for seed, digits in trained.items():
        for scheme in SCHEMES:
            path = folder / f"{seed}-{scheme.value}.tflite"
            rows = digits.rows("train")[0]
            convert(digits.model, path, calibration=rows, scheme=scheme, schema=digits.dataset.schema)
            files[seed, scheme] = path
    return files


def test_digits_reach_the_accuracy_with_every_expert_alive(trained):
    accuracies = [
        digits.accuracy(digits.model.predict(digits.rows("test")[0], verbose=0)) for digits in trained.values()
    ]
    assert np.mean(accuracies) >= 0.980, accuracies
    assert min(min(digits.usage) for digits in trained.values()) >= 0.05


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_keeps_the_accuracy(trained, converted, scheme):
    drops, agreements = [], []
    for seed, digits in trained.items():
        rows, _ = digits.rows("test")
        keras = digits.model.predict(rows, verbose=0)
        with Predictor(converted[seed, scheme]) as predictor:
            shipped = predictor.predict_proba(rows)
        drops.append(digits.accuracy(keras) - digits.accuracy(shipped))
        agreements.append((keras.argmax(axis=1) == shipped.argmax(axis=1)).mean())
    assert abs(np.mean(drops)) <= 0.003, drops
    assert np.mean(agreements) >= 0.99, agreements


def test_w8a8_weighs_less_than_half(converted):
    for seed in SEEDS:
        share = converted[seed, Scheme.W8A8].stat().st_size / converted[seed, Scheme.FLOAT32].stat().st_size
        assert share <= 0.47


@pytest.mark.parametrize("num_experts", [5, 16])
def test_auto_finds_a_small_file_that_is_as_good_as_its_ladder_says(trained, tmp_path, num_experts):
    digits = trained[0] if num_experts == 5 else train(0, num_experts)
    rows, target = digits.rows("train")
    result = convert(
        digits.model,
        tmp_path / "auto.tflite",
        calibration=rows,
        training_target=target,
        validation=digits.rows("validation"),
        scheme="auto",
        schema=digits.dataset.schema,
    )
    exact = convert(digits.model, tmp_path / "exact.tflite", scheme="float32", schema=digits.dataset.schema)
    assert result.num_bytes <= 0.42 * exact.num_bytes
    trial = result.ladder.chosen.trial
    interval = wilson(trial.correct, trial.num_rows)
    with Predictor(result.path) as predictor:
        accuracy = digits.accuracy(predictor.predict_proba(digits.rows("test")[0]))
    assert interval.low <= accuracy <= interval.high, (accuracy, interval)


def write_table(path: Path, num_rows: int = 1200) -> None:
    """Columns that differ 5000-fold in range, a category, missing values, labels that are words."""
    rng = np.random.default_rng(0)
    tiny, huge = rng.uniform(0, 0.01, num_rows), rng.normal(0, 25, num_rows)
    colour = rng.choice(["red", "green", "light, blue"], num_rows)
    score = 300 * tiny + huge / 25 + np.where(colour == "red", 1.5, 0) + rng.normal(0, 0.2, num_rows)
    label = np.where(score > 3, "high", np.where(score > 1, 'so "so"', "low"))
    missing = rng.random((num_rows, 3)) < 0.05
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["tiny", "huge", "colour", "verdict"])
        for index in range(num_rows):
            cells = [f"{tiny[index]:.6g}", f"{huge[index]:.6g}", colour[index]]
            writer.writerow(
                [*("" if gone else cell for cell, gone in zip(cells, missing[index], strict=True)), label[index]]
            )


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (arguments, result.output)
    return result


def test_a_table_of_mixed_columns_goes_all_the_way(tmp_path):
    table, model, shipped = tmp_path / "t.csv", tmp_path / "m.keras", tmp_path / "m.tflite"
    write_table(table)
    run("train", table, "--target", "verdict", "-o", model, "-q")
    run("convert", model, table, "-o", shipped, "-q")
    report = json.loads(run("validate", model, shipped, table, "--json").stdout)
    (metric,) = report["report"]["metrics"]
    assert metric["keras"]["value"] - metric["tflite"]["value"] <= 0.005
    assert metric["keras"]["value"] >= 0.85
    new = tmp_path / "new.csv"
    new.write_text('colour,huge,tiny\n"light, blue",-30,0.001\nred,40,\n', encoding="utf-8")
    answers = list(csv.DictReader(run("predict", shipped, new, "--explain").stdout.splitlines()))
    assert [answer["label"] for answer in answers] == ["low", "high"]
    assert all(abs(sum(float(answer[f"expert_{index}"]) for index in range(5)) - 1) < 1e-3 for answer in answers)
