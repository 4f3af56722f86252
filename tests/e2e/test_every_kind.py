"""Every kind of mixture, from rows to the file: trained small, saved, loaded, converted, run in every way.

Each case goes the way a user goes: ``train_mixture`` -> ``save_model`` -> ``load_model`` -> ``convert`` -> ``Predictor``,
whole and expert by expert, on LiteRT and on tflite-runtime. Between them the cases hold every expert, every gate, every
strategy, every way to split and to combine; a new one without a case fails ``test_nothing_is_left_out``.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.config import (
    Combine,
    ExpertConfig,
    GateConfig,
    MixtureConfig,
    PiecesConfig,
    Strategy,
    Task,
    TrainingConfig,
    TrunkConfig,
)
from moe_edge.training.kinds.registry import EXPERTS, GATES
from moe_edge.training_config import CLUSTERINGS, PIECES
from moe_edge_converters import convert
from moe_edge_converters.validation import keras_answers, validate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROWS, HELD_OUT = 240, 1000
SCHEMES = ("float32", "w8a8")
FEW_TREES = {"n_estimators": 8, "max_depth": 5}


def expert(kind: str = "dense", **options: Any) -> ExpertConfig:
    return ExpertConfig(kind=kind, hidden=(12,), options=options)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A mixture, the rows that it learns, and how."""

    data: str = "table"
    expert: ExpertConfig = field(default_factory=expert)
    experts: tuple[ExpertConfig, ...] = ()
    gate: dict[str, Any] = field(default_factory=dict)
    trunk: TrunkConfig | None = None
    combine: Combine | None = None
    strategy: str = "joint"
    pieces: PiecesConfig | None = None
    epochs: int = 14

    @property
    def regresses(self) -> bool:
        return self.data.startswith("curve")

    @property
    def config(self) -> MixtureConfig:
        default = Combine.GAUSSIAN if self.regresses else Combine.PROBABILITIES
        gate = {"num_experts": len(self.experts) or 3, "hidden": (8,), **self.gate}
        return MixtureConfig(
            task=Task.REGRESSION if self.regresses else Task.CLASSIFICATION,
            combine=self.combine or default,
            expert=self.expert,
            experts=self.experts,
            trunk=self.trunk,
            gate=GateConfig(**gate),
        )

    @property
    def training(self) -> TrainingConfig:
        return TrainingConfig(
            strategy=Strategy(self.strategy),
            pieces=self.pieces,
            epochs=self.epochs,
            batch_size=32,
            learning_rate=0.01,
            em_iterations=3,
            fine_tune_epochs=1 if self.gate.get("top_k") else 0,
            seed=1,
        )


CASES = {
    # Experts that are networks.
    "dense": Case(),
    "linear-by-em": Case(expert=expert("linear"), strategy="em", gate={"kind": "linear"}),
    "conv1d": Case(data="windows", expert=expert("conv1d", shape=[8, 3], filters=[8])),
    "conv2d": Case(data="windows", expert=expert("conv2d", shape=[6, 4, 1], filters=[8])),
    "gru": Case(data="windows", expert=expert("gru", shape=[4, 6], units=[8])),
    "lstm": Case(data="windows", expert=expert("lstm", shape=[4, 6], units=[8]), strategy="staged"),
    "keras": Case(expert=expert("keras", build="moe_edge.training.builders:create_expert_model")),
    # Experts that are estimators, and gates of every kind with them.
    "linear-regression-gaussian-gate": Case(
        data="curve", expert=expert("linear_regression"), strategy="em", gate={"kind": "gaussian"}
    ),
    "logistic-regression-classifier-gate": Case(
        expert=expert("logistic_regression"), strategy="staged", gate={"kind": "logistic_regression"}
    ),
    "tree-tree-gate": Case(
        expert=expert("decision_tree"),
        strategy="staged",
        gate={"kind": "decision_tree", "options": {"max_depth": 4}},
        pieces=PiecesConfig(by="confusion"),
    ),
    "forest-forest-gate": Case(
        expert=expert("random_forest", **FEW_TREES),
        strategy="em",
        gate={"kind": "random_forest", "options": FEW_TREES},
        pieces=PiecesConfig(method="gaussian_mixture"),
    ),
    "boosting-boosted-gate": Case(
        data="curves",
        expert=expert("gradient_boosting", n_estimators=8, learning_rate=0.4),
        strategy="staged",
        gate={"kind": "gradient_boosting", "options": {"n_estimators": 5}},
        pieces=PiecesConfig(by="column", column="region", overlap=0.2),
    ),
    "hist-boosting-hist-boosted-gate": Case(
        data="curve",
        expert=expert("hist_gradient_boosting", max_iter=8, learning_rate=0.4),
        strategy="em",
        gate={"kind": "hist_gradient_boosting", "options": {"max_iter": 5}},
        pieces=PiecesConfig(by="ranges", column="x0", edges=(-1.0, 1.0)),
    ),
    # Gates.
    "full-gaussian-gate": Case(gate={"kind": "gaussian", "options": {"covariance": "full"}}, strategy="em"),
    "gaussian-gate-by-gradients": Case(gate={"kind": "gaussian"}),
    "hierarchical-gate": Case(gate={"kind": "hierarchical", "num_experts": 4}),
    "hierarchical-gate-by-em": Case(
        expert=expert("linear"),
        gate={"kind": "hierarchical", "num_experts": 4, "options": {"tree": [[0, 1], [2, 3]]}},
        strategy="em",
    ),
    "chosen-features": Case(gate={"features": ("x0", "region")}, strategy="staged"),
    "top-2": Case(gate={"top_k": 2, "num_experts": 4}),
    "hard-choice": Case(expert=expert("linear"), gate={"kind": "decision_tree", "top_k": 1}, strategy="staged"),
    "sharp": Case(gate={"temperature": 0.5, "entropy_coef": 0.05, "z_loss_coef": 1e-3}),
    # Trunks, numbers, ways to combine.
    "trunk": Case(trunk=TrunkConfig(units=8, hidden=(12,))),
    "trunk-by-em": Case(trunk=TrunkConfig(units=8), expert=expert("linear"), strategy="em", gate={"kind": "gaussian"}),
    "numbers": Case(data="curves"),
    "number-from-clusters": Case(data="curve", pieces=PiecesConfig(overlap=0.1)),
    "mean": Case(data="curve", combine=Combine.MEAN),
    "logits": Case(combine=Combine.LOGITS),
    # Kinds in one mixture.
    "network-forest-regression": Case(
        experts=(expert(), expert("random_forest", **FEW_TREES), expert("logistic_regression")), strategy="em"
    ),
    "window-network-tree": Case(
        data="windows",
        experts=(expert("conv1d", shape=[8, 3], filters=[8]), expert("dense"), expert("decision_tree")),
        strategy="staged",
        gate={"kind": "logistic_regression"},
    ),
    "number-line-tree-network": Case(
        data="curve",
        experts=(
            expert("linear_regression"),
            expert("hist_gradient_boosting", max_iter=8, learning_rate=0.4),
            expert(),
        ),
        strategy="em",
        gate={"kind": "gaussian"},
    ),
}


def rows_of(data: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw rows and targets: regions that want an expert each, and noise."""
    rng = np.random.default_rng(seed)
    if data == "windows":
        labels = rng.integers(3, size=count)
        steps = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        x = np.sin(steps * (1 + labels[:, None]) + rng.uniform(0, 1, (count, 1))) + 0.4 * rng.normal(size=(count, 24))
        return x, labels
    # Within limits: int8 knows the ranges that it was calibrated on, and cuts off what lies beyond.
    region, x = rng.integers(3, size=count), rng.uniform(-1.7, 1.7, size=(count, 4))
    x[:, 0] = 0.4 * x[:, 0] + 2 * (region - 1)
    if data == "table":
        # Three classes on a circle, which is turned in each region: no expert knows them all.
        labels = rng.integers(3, size=count)
        angle = 2 * np.pi / 3 * labels + region
        x[:, 1:3] = 2 * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.6 * x[:, 1:3]
        return np.column_stack([x * [1, 10, 1, 0.1], region]), labels
    first = np.choose(region, [2 * x[:, 1], 1 - 2 * x[:, 1], x[:, 2]])
    numbers = np.column_stack([first, x[:, 2] * (region - 1)]) + 0.1 * rng.normal(size=(count, 2))
    return np.column_stack([x, region]), (numbers[:, 0] if data == "curve" else numbers)


@functools.cache
def dataset_of(data: str) -> Any:
    from moe_edge.training import dataset_from_arrays

    x, y = rows_of(data, ROWS, seed=0)
    if data == "windows":
        return dataset_from_arrays(x, y)
    return dataset_from_arrays(x, y, names=("x0", "x1", "x2", "x3", "region"), categorical=("region",))


@dataclass(frozen=True, eq=False)
class Made:
    """A mixture as its ``.keras`` file holds it, its rows and its files."""

    model: Any
    rows: np.ndarray
    targets: np.ndarray
    files: dict[str, Path]

    @functools.cached_property
    def expected(self) -> Any:
        """What Keras answers to the held-out rows."""
        return keras_answers(self.model, self.rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trains, saves, loads and converts a case; once for all tests."""
    from moe_edge.training import load_model, save_model, split_dataset, train_mixture

    folder = tmp_path_factory.mktemp("every-kind")

    @functools.cache
    def make(name: str) -> Made:
        case = CASES[name]
        dataset = dataset_of(case.data)
        split = split_dataset(dataset, seed=0)
        result = train_mixture(dataset, split, case.config, case.training)
        path = folder / f"{name}.keras"
        save_model(
            result.model,
            path,
            schema=result.schema,
            mixture_config=case.config,
            training_config=case.training,
            split=split,
        )
        calibration = dataset.features[split.train]
        files = {
            scheme: convert(path, folder / f"{name}-{scheme}.tflite", calibration=calibration, scheme=scheme).path
            for scheme in SCHEMES
        }
        rows, targets = rows_of(case.data, HELD_OUT, seed=9)
        # As tables are read: categories as their places in the schema.
        return Made(load_model(path).model, rows.astype(np.float32), targets, files)

    return make


def ways(case: Case) -> list[dict[str, Any]]:
    """How a file of the case may be run: whole, expert by expert, and by branches of its tree."""
    found: list[dict[str, Any]] = [{"mode": "dense"}]
    if case.config.combine.routable:
        found.append({"mode": "routed", "mass": 1.0})
        if case.gate.get("kind") == "hierarchical":
            found.append({"branches": True, "top_k": case.config.gate.num_experts})
    return found


def test_nothing_is_left_out():
    configs = [case.config for case in CASES.values()]
    assert {part.kind for config in configs for part in config.all_experts} == set(EXPERTS)
    assert {config.gate.kind for config in configs} == set(GATES)
    assert {config.combine for config in configs} == set(Combine)
    assert {case.strategy for case in CASES.values()} == {strategy.value for strategy in Strategy}
    pieces = [case.pieces for case in CASES.values() if case.pieces]
    assert {each.by for each in pieces} == set(PIECES)
    assert {each.method for each in pieces} == set(CLUSTERINGS)
    assert sum(len({part.kind for part in case.experts}) > 2 for case in CASES.values()) >= 3


@pytest.mark.parametrize("name", CASES)
def test_float32_answers_are_the_trained_model_s(name, made):
    case, one = CASES[name], made(name)
    expected = one.expected.prediction
    # float32 in another order: some 1e-7 an operation, some hundred of them, of numbers as large as the answers. A
    # branch of a tree can't turn: thresholds are compared as they are in both.
    tolerance = 2e-5 * max(1.0, float(np.abs(expected).max()))
    for way in ways(case):
        with Predictor(one.files["float32"], **way) as predictor:
            np.testing.assert_allclose(
                predictor.predict_raw(one.rows)["prediction"], expected, atol=tolerance, rtol=0, err_msg=str(way)
            )


@pytest.mark.parametrize("name", CASES)
def test_w8a8_stays_within_the_accuracy_budget(name, made):
    case, one = CASES[name], made(name)
    for way in ways(case):
        with Predictor(one.files["w8a8"], **way) as predictor:
            report = validate(one.model, predictor, one.rows, one.targets)
        assert report.keras_non_finite_rows == report.tflite_non_finite_rows == 0
        if case.regresses:
            for metric in report.metrics:
                if metric.name == "r2":
                    assert metric.keras.value > 0.4, "the mixture must have learnt something to lose"
                elif metric.name == "rmse":
                    assert metric.tflite.value <= 1.02 * metric.keras.value, (way, metric)
                elif metric.name == "nll":
                    # Nats a row: a sigma that is 5 % too large or too small costs 0.003, one that is lost 0.5 or more.
                    assert metric.tflite.value <= metric.keras.value + 0.05, (way, metric)
        else:
            assert report.metrics[0].keras.value > 0.8, "the mixture must have learnt something to lose"
            # Half a point: five of these 1000 rows.
            assert report.correct_rows_lost <= 0.005 * HELD_OUT, (way, report.metrics)


SCRIPT = """
import json, sys
import numpy as np
from moe_edge import Predictor

for job in json.loads(open(sys.argv[1]).read()):
    with Predictor(job["model"], backend="tflite-runtime", **job["way"]) as predictor:
        np.savez(job["answers"], **predictor.predict_raw(np.load(job["rows"])))
"""


@pytest.fixture(scope="module")
def old_answers(made, old_runtime_python, tmp_path_factory):
    """What tflite-runtime answers: by case, scheme and number of the way to run it."""
    folder = tmp_path_factory.mktemp("every-kind-old-runtime")
    jobs, places = [], {}
    for name, case in CASES.items():
        one = made(name)
        np.save(folder / f"{name}.npy", one.rows[:64])
        for scheme in SCHEMES:
            for number, way in enumerate(ways(case)):
                answers = folder / f"{name}-{scheme}-{number}.npz"
                places[name, scheme, number] = answers
                rows = str(folder / f"{name}.npy")
                jobs.append({"model": str(one.files[scheme]), "rows": rows, "answers": str(answers), "way": way})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [str(old_runtime_python), "-c", SCRIPT, str(folder / "jobs.json")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    for key, path in places.items():
        with np.load(path) as arrays:
            found[key] = dict(arrays)
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", CASES)
def test_tflite_runtime_answers_as_litert_does(name, scheme, made, old_answers):
    one = made(name)
    for number, way in enumerate(ways(CASES[name])):
        with Predictor(one.files[scheme], **way) as predictor:
            expected = predictor.predict_raw(one.rows[:64])
        got = old_answers[name, scheme, number]
        assert set(got) == set(expected)
        for output, values in expected.items():
            size = max(1.0, float(np.abs(values).max()))
            # float32: another order of the same sums. int8: kernels of another age round a half the other way, one
            # step of 1/256 of a range here and there, and several along a recurrence.
            tolerance = (2e-5 if scheme == "float32" else 0.06) * size
            np.testing.assert_allclose(got[output], values, atol=tolerance, rtol=0, err_msg=f"{way} {output}")
