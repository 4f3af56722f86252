"""Trees in a .tflite: the estimator's answers, with and without delegates, on the old runtime, fused and routed."""

import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from sklearn import ensemble, tree
from sklearn.multioutput import MultiOutputRegressor

from moe_edge import Predictor
from moe_edge.training import create_moe_model, estimator_model
from moe_edge.training.kinds.classifier_gates import RandomForestGate
from moe_edge.training.kinds.kind import GateJob
from moe_edge_converters.conversion import ConversionOptions, convert_spec
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.sources.extraction import extract_mixture
from moe_edge_converters.sources.keras_networks import extract_network
from moe_edge_converters.spec import DenseNetwork
from shared.tree_rows import threshold_rows

F = 6
ROOT = Path(__file__).parents[3]
ESTIMATORS = {
    "forest": (ensemble.RandomForestClassifier(9, max_depth=5, random_state=0), 3),
    "stump": (tree.DecisionTreeClassifier(max_depth=1, random_state=0), 2),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=6, random_state=0), 3),
    "binary boosting": (ensemble.GradientBoostingClassifier(n_estimators=6, random_state=0), 2),
    "hist": (ensemble.HistGradientBoostingClassifier(max_iter=6, random_state=0), 3),
    "constant": (tree.DecisionTreeRegressor(min_samples_leaf=400), 0),
    "poisson": (ensemble.HistGradientBoostingRegressor(max_iter=6, loss="poisson", random_state=0), 0),
    "outputs": (ensemble.RandomForestRegressor(9, max_depth=5, random_state=0), -2),
    "boosted outputs": (MultiOutputRegressor(ensemble.GradientBoostingRegressor(n_estimators=6, random_state=0)), -2),
}
SCRIPT = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter

for job in json.loads(sys.argv[1]):
    rows = np.load(job["rows"])
    interpreter = Interpreter(model_path=job["model"])
    place = interpreter.get_input_details()[0]["index"]
    answers = []
    for part in (rows[:1], rows[1:8], rows[8:]):
        interpreter.resize_tensor_input(place, part.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, part)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    np.save(job["answers"], np.concatenate(answers))
"""


def rows_and_targets(classes):
    rng = np.random.default_rng(3)
    x = np.round(rng.normal(size=(400, F)), 1).astype(np.float32)
    value = x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2])
    if classes > 0:
        return x, np.digitize(value, np.quantile(value, np.linspace(0, 1, classes + 1)[1:-1]))
    y = np.abs(value) + 0.1
    return x, np.stack([y, value], axis=1) if classes < 0 else y


def probing_rows(estimator, missing):
    """Random rows, and rows of nothing but thresholds and their neighbours."""
    rng = np.random.default_rng(5)
    rows = np.concatenate([rng.normal(size=(64, F)).astype(np.float32), threshold_rows(estimator, F, 64)])
    if missing:
        rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def run_here(content, rows, resolver):
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    place = interpreter.get_input_details()[0]["index"]
    answers = []
    for part in (rows[:1], rows[1:8], rows[8:]):
        interpreter.resize_tensor_input(place, part.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, part)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(answers)


def expected(estimator, rows):
    answer = estimator.predict_proba(rows) if hasattr(estimator, "predict_proba") else estimator.predict(rows)
    return np.asarray(answer).reshape(len(rows), -1)


@pytest.fixture(scope="module")
def cases():
    """Name -> (the .tflite, rows, the estimator's answers)."""
    found = {}
    for name, (estimator, classes) in ESTIMATORS.items():
        estimator.fit(*rows_and_targets(classes))
        model = estimator_model(estimator, F)
        network = extract_network(model.inputs[0], model.outputs[0], role="expert_0")
        assert network.float_only
        rows = probing_rows(estimator, missing="Gradient" not in repr(estimator) or "Hist" in repr(estimator))
        found[name] = (network.model, rows, expected(estimator, rows))
    return found


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("resolver", [OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES])
def test_graph_answers_as_the_estimator_in_batches(cases, name, resolver):
    content, rows, answers = cases[name]
    np.testing.assert_allclose(run_here(content, rows, resolver), answers, rtol=1e-5, atol=1e-5)


def test_graph_answers_alike_on_the_old_runtime(cases, old_runtime_python, tmp_path):
    jobs = []
    for name, (content, rows, _) in cases.items():
        paths = {key: str(tmp_path / f"{name}-{key}") for key in ("model", "rows", "answers")}
        paths = {"model": paths["model"], "rows": paths["rows"] + ".npy", "answers": paths["answers"] + ".npy"}
        Path(paths["model"]).write_bytes(content)
        np.save(paths["rows"], rows)
        jobs.append(paths)
    subprocess.run(
        [str(old_runtime_python), "-c", SCRIPT, json.dumps(jobs)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    for job, (_, _, answers) in zip(jobs, cases.values(), strict=True):
        np.testing.assert_allclose(np.load(job["answers"]), answers, rtol=1e-5, atol=1e-5)


def mixed_mixture(*, tree_gate):
    """Two estimators and two dense experts, behind a dense gate or a forest."""
    x, y = rows_and_targets(3)
    forest = ensemble.RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, y)
    boosting = ensemble.GradientBoostingClassifier(n_estimators=4, random_state=0).fit(x, y)
    ready = [estimator_model(boosting, F, num_outputs=3), estimator_model(forest, F, num_outputs=3)]

    def expert(input_dim, output_dim):
        if ready:
            return ready.pop()
        layers = [keras.Input((input_dim,)), keras.layers.Dense(8, activation="relu")]
        return keras.Sequential([*layers, keras.layers.Dense(output_dim, activation="softmax")])

    def gate(input_dim, num_experts):
        if tree_gate:
            job = GateJob(input_shape=(input_dim,), num_experts=num_experts, options={"n_estimators": 5})
            shares = np.eye(4)[np.digitize(x[:, 0], [-0.7, 0, 0.7])]
            return RandomForestGate().fit(job, x, shares)
        return keras.Sequential([keras.Input((input_dim,)), keras.layers.Dense(num_experts, activation="softmax")])

    keras.utils.set_random_seed(0)
    return create_moe_model(F, 3, 4, expert=expert, gate=gate), x


@pytest.mark.parametrize("scheme", [Scheme.FLOAT32, Scheme.W8A8, Scheme.DYNAMIC_W8])
@pytest.mark.parametrize("tree_gate", [False, True])
def test_mixture_with_trees_is_exact_where_they_are_and_routed_as_fused(tmp_path, scheme, tree_gate):
    model, x = mixed_mixture(tree_gate=tree_gate)
    spec = extract_mixture(model)
    assert [isinstance(expert, DenseNetwork) for expert in spec.experts] == [False, False, True, True]
    path = tmp_path / "mixture.tflite"
    options = ConversionOptions(scheme=scheme, gate_scheme=Scheme.FLOAT32)
    convert_spec(spec, path, reference=None, rows=x, options=options)
    predictor = Predictor(path)
    parts = {part.id: part.scheme for part in predictor.manifest.parts}
    assert [parts[f"expert_{index}"] for index in range(4)] == ["float32"] * 2 + [scheme.value] * 2
    fused = predictor.predict_proba(x[:7])
    reference = np.asarray(model(x[:7]))
    np.testing.assert_allclose(fused, reference, atol=1e-5 if scheme is Scheme.FLOAT32 else 0.1)
    answers = {}
    interpreter = Interpreter(model_path=str(path))
    gate = interpreter.get_signature_runner("gate")(x=x[:1])
    for index in range(4):
        answers[index] = interpreter.get_signature_runner(f"expert_{index}")(features=gate["features"])["output"]
    stacked = np.stack([answers[index] for index in range(4)], axis=1)
    routed = interpreter.get_signature_runner("combine")(routing_weights=gate["routing_weights"], outputs=stacked)
    whole = interpreter.get_signature_runner("serving_default")(x=x[:1])
    np.testing.assert_array_equal(routed["prediction"], whole["prediction"])
    forest = model.get_layer("expert_0")
    np.testing.assert_allclose(answers[0], np.asarray(forest(x[:1])), atol=1e-6)


def test_gaussian_mixture_of_forests_and_dense_experts_quantizes_only_the_dense(tmp_path):
    from moe_edge.config import Combine, Task
    from moe_edge.training.kinds.kind import ExpertJob
    from moe_edge.training.kinds.tree_estimators import RandomForestExpert
    from moe_edge.training.layers import StackExperts
    from moe_edge.training.regression_layers import GaussianExperts, GaussianMixture

    x, y = rows_and_targets(-2)
    job = ExpertJob(
        input_shape=(F,),
        num_outputs=2,
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        options={"n_estimators": 5, "max_depth": 4},
    )
    keras.utils.set_random_seed(0)
    forest = RandomForestExpert().fit(job, x, y, np.ones(len(x)))
    dense = [keras.Sequential([keras.Input((F,)), keras.layers.Dense(4)]) for _ in range(2)]
    row = keras.Input((F,))
    weights = keras.layers.Dense(3, activation="softmax")(row)
    answers = GaussianExperts(2, [0, 0], [1, 1])(StackExperts()([expert(row) for expert in (forest, *dense)]))
    model = keras.Model(row, GaussianMixture(2)([weights, answers])[0])
    spec = extract_mixture(model)
    assert spec.combine is Combine.GAUSSIAN
    path = tmp_path / "mixture.tflite"
    options = ConversionOptions(scheme=Scheme.W8A8)
    convert_spec(spec, path, reference=None, rows=x, options=options)
    interpreter = Interpreter(model_path=str(path))
    got = interpreter.get_signature_runner("expert_0")(features=x[:1])["output"]
    np.testing.assert_allclose(got, np.asarray(forest(x[:1])), atol=1e-5)
    whole = interpreter.get_signature_runner("serving_default")(x=x[:1])
    np.testing.assert_allclose(whole["prediction"], np.asarray(model(x[:1])), atol=0.1)
