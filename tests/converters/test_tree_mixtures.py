"""Mixtures of trees and networks: one file, fused and routed alike bit for bit, trees float32 in every scheme."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError
from moe_edge.runtime.predictor import Predictor
from moe_edge.training import create_moe_model
from moe_edge.training.kinds.kind import ExpertJob, GateJob
from moe_edge.training.kinds.registry import expert_kind, gate_kind
from moe_edge.training.layers import StackExperts
from moe_edge.training.regression_layers import GaussianExperts, GaussianMixture
from moe_edge_converters import convert
from moe_edge_converters.file_writer import read_model
from moe_edge_converters.schemes.audit import OPERATOR_NAMES, TYPE_NAMES, tensor_name
from moe_edge_converters.schemes.scheme_ladder import Budget

SCRIPT = Path(__file__).with_name("routed_answers.py")
KINDS = {
    "random_forest": {"n_estimators": 20, "max_depth": 6},
    "dense": {},
    "hist_gradient_boosting": {"max_iter": 15, "min_samples_leaf": 5},
    "logistic_regression": {},
}
TREES = (0, 2)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 5)).astype(np.float32)
CODES = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
NUMBERS = np.stack([np.tanh(2 * X[:, 0]), X[:, 1] * X[:, 2]], axis=1).astype(np.float64)
OWNERS = np.eye(4)[(X[:, 2] > 0).astype(int) + 2 * (X[:, 3] > 0)] * 0.85 + 0.0375


def expert(kind, index, task, combine):
    outputs = 3 if task is Task.CLASSIFICATION else 2
    if kind == "logistic_regression" and task is Task.REGRESSION:
        kind = "linear_regression"
    job = ExpertJob(
        input_shape=(5,),
        num_outputs=outputs,
        task=task,
        combine=combine,
        hidden=(16,),
        options=KINDS.get(kind, {}),
        seed=index,
    )
    y = CODES if task is Task.CLASSIFICATION else NUMBERS
    if kind != "dense":
        return expert_kind(kind).fit(job, X, y, OWNERS[:, index])
    model = expert_kind(kind).build(job)
    if task is Task.CLASSIFICATION:
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", jit_compile=False)
        model.fit(X, y, sample_weight=OWNERS[:, index], epochs=10, verbose=0)
    return model


def gate(kind):
    options = {"n_estimators": 15, "max_depth": 4} if kind == "random_forest" else {}
    return gate_kind(kind).fit(GateJob(input_shape=(5,), num_experts=4, options=options), X, OWNERS)


@pytest.fixture(scope="module")
def mixture():
    """Two kinds of trees, a dense and a linear expert; a tree for a gate."""
    kinds = iter(enumerate(KINDS))

    def build(input_dim, output_dim):
        index, kind = next(kinds)
        return expert(kind, index, Task.CLASSIFICATION, Combine.PROBABILITIES)

    return create_moe_model(5, 3, 4, expert=build, gate=lambda *_: gate("decision_tree"))


@pytest.fixture(scope="module")
def gaussian():
    """The same as a mixture of Gaussians of two numbers, with a forest for a gate."""
    row = keras.Input((5,), name="x")
    answers = [expert(kind, i, Task.REGRESSION, Combine.GAUSSIAN)(row) for i, kind in enumerate(KINDS)]
    parameters = GaussianExperts(num_outputs=2, target_mean=[3.0, 0.0], target_scale=[2.0, 1.0])(
        StackExperts()(answers)
    )
    mean, _ = GaussianMixture(2, name="combine")([gate("random_forest")(row), parameters])
    return keras.Model(row, mean)


@pytest.fixture(scope="module")
def files(mixture, gaussian, tmp_path_factory):
    """(Mixture, scheme) -> what ``convert`` gave."""
    folder = tmp_path_factory.mktemp("tree-mixtures")
    return {
        (name, scheme): convert(model, folder / f"{name}-{scheme}.tflite", scheme=scheme, calibration=X)
        for name, model in (("classes", mixture), ("numbers", gaussian))
        for scheme in ("float32", "w8a8")
    }


@pytest.mark.parametrize("name", ["classes", "numbers"])
def test_the_file_answers_like_keras(name, files, mixture, gaussian):
    model = mixture if name == "classes" else gaussian
    expected = np.asarray(model(X))
    for scheme, tolerance in (("float32", 1e-5), ("w8a8", 0.05)):
        with Predictor(files[name, scheme].path) as predictor:
            got = predictor.predict_raw(X)["prediction"]
        # Rounded networks: a step of 1/256 in two of four experts, on answers below 4.
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1, abs(expected).max()))


@pytest.mark.parametrize("name", ["classes", "numbers"])
def test_trees_stay_float32_and_the_file_says_so(name, files):
    result = files[name, "w8a8"]
    schemes = {part.id: part.scheme for part in result.manifest.parts}
    expected = {"gate": "float32", **{f"expert_{i}": "float32" if i in TREES else "w8a8" for i in range(4)}}
    assert {part: schemes[part] for part in expected} == expected
    model = read_model(result.path.read_bytes())
    graph = model.subgraphs[0]
    for operator in graph.operators:
        parts = {tensor_name(graph.tensors[index]).split("/")[0] for index in operator.outputs}
        kind = OPERATOR_NAMES[model.operatorCodes[operator.opcodeIndex].builtinCode]
        if parts & {"gate", *(f"expert_{i}" for i in TREES)} and kind != "QUANTIZE":
            types = {TYPE_NAMES[graph.tensors[index].type] for index in (*operator.inputs, *operator.outputs)}
            assert types <= {"float32", "int32", "bool"}, (kind, parts, types)
    dense = [TYPE_NAMES[tensor.type] for tensor in graph.tensors if tensor_name(tensor).startswith("expert_1/")]
    assert "int8" in dense


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"])
def test_fused_and_routed_answers_are_the_same_bits(runtime, files, request, tmp_path):
    python = sys.executable if runtime == "litert" else request.getfixturevalue("old_runtime_python")
    np.save(tmp_path / "rows.npy", X[:24])
    jobs = [
        {"model": str(result.path), "rows": str(tmp_path / "rows.npy"), "answers": str(tmp_path / f"{number}.npz")}
        for number, result in enumerate(files.values())
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    subprocess.run([str(python), str(SCRIPT), str(tmp_path / "jobs.json")], check=True, env=os.environ)
    for number, ((name, scheme), result) in enumerate(files.items()):
        answers = dict(np.load(tmp_path / f"{number}.npz"))
        for source in ("path", "bytes"):
            for resolver in ("delegate", "plain"):
                for output in ("prediction", "routing_weights", *(["sigma"] if name == "numbers" else [])):
                    fused, routed = (answers[f"{mode}/{source}/{resolver}/{output}"] for mode in ("fused", "routed"))
                    np.testing.assert_array_equal(fused, routed, err_msg=f"{name} {scheme} {resolver} {output}")
                with Predictor(result.path) as predictor:
                    here = predictor.predict_raw(X[:24])["prediction"]
                there = answers[f"fused/{source}/{resolver}/prediction"]
                # w8a8: kernels of two runtimes may round a sum the other way, a step of the last layer.
                np.testing.assert_allclose(there, here, rtol=0, atol=1e-5 if scheme == "float32" else 0.05)


def test_rows_in_routed_batches_answer_like_the_whole_graph(files):
    with (
        Predictor(files["classes", "float32"].path, mode="routed", top_k=4) as routed,
        Predictor(files["classes", "float32"].path, mode="dense") as dense,
    ):
        np.testing.assert_allclose(routed.predict_proba(X), dense.predict_proba(X), rtol=0, atol=1e-6)


def test_a_mixture_of_trees_alone_needs_no_calibration_and_calls_itself_float32(tmp_path):
    kinds = iter(range(2))
    model = create_moe_model(
        5,
        3,
        2,
        expert=lambda *_: expert("random_forest", next(kinds), Task.CLASSIFICATION, Combine.PROBABILITIES),
        gate=lambda *_: gate_kind("decision_tree").fit(
            GateJob(input_shape=(5,), num_experts=2), X, OWNERS[:, :2] / OWNERS[:, :2].sum(1, keepdims=True)
        ),
    )
    result = convert(model, tmp_path / "trees.tflite", scheme="w8a8")
    assert result.manifest.scheme == "float32"
    assert {part.scheme for part in result.manifest.parts if part.scheme} == {"float32"}
    assert result.check.max_abs_error < 1e-5


def test_helpful_errors(mixture, tmp_path):
    with pytest.raises(ConversionError, match=r"got w8a8: expert_2 is made of decision trees"):
        convert(mixture, tmp_path / "no.tflite", scheme="float32", expert_schemes={2: "w8a8"}, calibration=X)
    with pytest.raises(ConversionError, match="expert_0 is made of decision trees"):
        convert(mixture, tmp_path / "no.tflite", scheme="w8a8", target="int8-accelerator", calibration=X)


@pytest.mark.slow
def test_the_ladder_rounds_the_networks_alone(mixture, tmp_path):
    result = convert(
        mixture,
        tmp_path / "auto.tflite",
        scheme="auto",
        calibration=X[:300],
        training_target=CODES[:300],
        validation=(X[300:], CODES[300:]),
        budget=Budget(max_accuracy_drop=20),
    )
    schemes = {part.id: part.scheme for part in result.manifest.parts}
    assert [schemes[f"expert_{index}"] for index in TREES] == ["float32", "float32"]
    assert result.ladder.rungs[0].accepted
    assert schemes["expert_1"] != "float32"


def test_trees_among_other_layers_stay_float_and_convert_for_any_batch(tmp_path):
    trees = expert("random_forest", 0, Task.CLASSIFICATION, Combine.PROBABILITIES)
    row = keras.Input((5,))
    stacked = keras.Model(
        row, keras.layers.Dense(3, activation="softmax")(keras.layers.Concatenate()([trees(row), row]))
    )
    kinds = iter([stacked, expert("dense", 1, Task.CLASSIFICATION, Combine.PROBABILITIES)])
    model = create_moe_model(5, 3, 2, expert=lambda *_: next(kinds))
    result = convert(model, tmp_path / "stacked.tflite", scheme="w8a8", calibration=X)
    assert {part.id: part.scheme for part in result.manifest.parts}["expert_0"] == "float32"
    with Predictor(result.path) as predictor:
        got = predictor.predict_proba(X)
    np.testing.assert_allclose(got, np.asarray(model(X)), rtol=0, atol=0.05)
