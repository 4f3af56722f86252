"""CONTRIBUTING's worked example of a new kind: trained in a mixture, saved, converted, and answering like Keras."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.config import Combine, ExpertConfig, GateConfig, MixtureConfig, Strategy, Task, TrainingConfig
from moe_edge.tables.dataset import dataset_from_arrays
from moe_edge.training.archive import load_model, save_model
from moe_edge.training.fit import train_mixture
from moe_edge.training.kinds import registry
from moe_edge.training.score import predict
from moe_edge.training.split import split_dataset
from moe_edge_converters import convert

TEXT = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def huber(monkeypatch):
    """The block as a module of the kinds' folder, under the name that the text gives."""
    (block,) = re.findall(r"<!-- tests/training/kinds/test_worked_example.*?-->\n```python\n(.*?)```", TEXT, re.DOTALL)
    name, _, place = re.search(r'"(\w+)": ("(\w+:\w+)")', TEXT).groups()
    module = types.ModuleType(f"moe_edge.training.kinds.{place.partition(':')[0]}")
    exec(compile(block, "CONTRIBUTING.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.EXPERTS, name, place)
    return name


@pytest.mark.parametrize("combine", [Combine.GAUSSIAN, Combine.MEAN])
def test_the_worked_example_goes_all_the_way_to_a_file(huber, combine, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (300, 2))
    clean = np.stack([3 * x[:, 0], x[:, 1]], axis=1)
    y = clean + 0.05 * rng.normal(size=clean.shape)
    y[rng.choice(300, 15, replace=False), 0] += 40
    dataset = dataset_from_arrays(x, y, task=Task.REGRESSION)
    split = split_dataset(dataset, seed=0)

    def train(kind):
        gate = GateConfig(num_experts=2, kind="linear")
        config = MixtureConfig(task=Task.REGRESSION, combine=combine, expert=ExpertConfig(kind=kind), gate=gate)
        return train_mixture(dataset, split, config, TrainingConfig(strategy=Strategy.STAGED, epochs=20))

    result, least_squares = train(huber), train("linear_regression")
    errors = [
        np.abs(predict(trained.model, dataset.features[split.test]) - clean[split.test])[:, 0].mean()
        for trained in (result, least_squares)
    ]
    assert errors[0] < 0.3 * errors[1]
    save_model(result.model, tmp_path / "m.keras", schema=result.schema)
    expected = predict(load_model(tmp_path / "m.keras").model, dataset.features)
    convert(tmp_path / "m.keras", tmp_path / "m.tflite", scheme="float32", schema=result.schema)
    with Predictor(tmp_path / "m.tflite") as predictor:
        np.testing.assert_allclose(predictor.predict(dataset.features), expected, rtol=1e-4, atol=1e-4)
