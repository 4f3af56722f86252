"""Trees as TFLite graphs: the Keras layer's answers, at the thresholds themselves, on every runtime and batch."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn import ensemble, tree

from moe_edge.runtime.model_structure import read_structure
from moe_edge.training.estimators import estimator_model
from moe_edge.training.gate_layers import SelectColumns
from moe_edge_converters.file_writer import read_model
from moe_edge_converters.graphs.tree_graph import TreeSpec, build_tree_network, plan_walk
from moe_edge_converters.schemes.audit import OPERATOR_NAMES
from moe_edge_converters.sources.keras_networks import extract_network
from moe_edge_converters.spec import GraphNetwork

ROOT = Path(__file__).parents[3]
BATCHES = (1, 7, 64)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 6)).astype(np.float32)
MANY = ((X[:, 0] > 0) + 2 * (X[:, 1] > 0.3)).astype(int)
TWO = (X[:, 0] * X[:, 1] > 0).astype(int)
NUMBERS = np.stack([np.sin(2 * X[:, 0]) * X[:, 1], X[:, 2] ** 2], axis=1)

ESTIMATORS = {
    "stump": (tree.DecisionTreeClassifier(max_depth=1), TWO, {}),
    "one leaf": (tree.DecisionTreeRegressor(max_depth=1, min_samples_leaf=300), NUMBERS, {}),
    "deep tree": (tree.DecisionTreeRegressor(), NUMBERS, {"sigma": [0.3, 2.0]}),
    "forest": (ensemble.RandomForestClassifier(30, max_depth=8, random_state=0), MANY, {}),
    "deep forest": (ensemble.ExtraTreesRegressor(10, random_state=0), NUMBERS, {}),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=12), MANY, {}),
    "boosting two": (ensemble.GradientBoostingClassifier(n_estimators=12), TWO, {}),
    "boosting of a few classes": (ensemble.GradientBoostingClassifier(n_estimators=9), 2 * TWO, {"num_outputs": 4}),
    "hist": (ensemble.HistGradientBoostingClassifier(max_iter=12), MANY, {}),
    "hist number": (ensemble.HistGradientBoostingRegressor(max_iter=12), NUMBERS[:, 0], {"sigma": [0.5]}),
}

RUN = """
import json, sys
import numpy as np
try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
except ImportError:
    from tflite_runtime.interpreter import Interpreter, OpResolverType
for job in json.loads(sys.argv[1]):
    rows, answers = np.load(job["rows"]), {}
    for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        interpreter = Interpreter(model_path=job["model"], experimental_op_resolver_type=resolver)
        place = interpreter.get_input_details()[0]["index"]
        for batch in (1, 7, 64):
            interpreter.resize_tensor_input(place, [batch, *rows.shape[1:]])
            interpreter.allocate_tensors()
            parts = []
            for start in range(0, len(rows) - batch + 1, batch):
                interpreter.set_tensor(place, rows[start : start + batch])
                interpreter.invoke()
                parts.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
            answers[f"{resolver.name}-{batch}"] = np.concatenate(parts)
    np.savez(job["answers"], **answers)
"""


def network_of(model):
    row = keras.Input(shape=model.input_shape[1:])
    return extract_network(row, model(row), role="expert_0")


def run_all(networks, rows, python, folder):
    """Every network's answers on its rows: {name: {resolver-batch: answers}}."""
    jobs = {}
    for number, (name, network) in enumerate(networks.items()):
        paths = {
            key: str(folder / f"{number}.{end}")
            for key, end in (("model", "tflite"), ("rows", "npy"), ("answers", "npz"))
        }
        Path(paths["model"]).write_bytes(network.model)
        np.save(paths["rows"], rows[name])
        jobs[name] = paths
    result = subprocess.run(
        [str(python), "-c", RUN, json.dumps(list(jobs.values()))],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return {name: dict(np.load(job["answers"])) for name, job in jobs.items()}


@pytest.fixture(scope="module")
def fitted(rows_at_thresholds):
    """Name -> (estimator, Keras model, network, rows)."""
    found = {}
    for name, (estimator, y, how) in ESTIMATORS.items():
        estimator.fit(X, y)
        model = estimator_model(estimator, 6, **how)
        rows = np.concatenate([X[:100], rows_at_thresholds(model.layers[-1], np.random.default_rng(1), 300)])
        found[name] = estimator, model, network_of(model), rows
    return found


@pytest.fixture(scope="module", params=["litert", "tflite-runtime"])
def answers(request, fitted, tmp_path_factory):
    old = request.param == "tflite-runtime"
    python = request.getfixturevalue("old_runtime_python") if old else sys.executable
    networks, rows = ({name: entry[place] for name, entry in fitted.items()} for place in (2, 3))
    return run_all(networks, rows, python, tmp_path_factory.mktemp("trees"))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimator_keras_and_tflite_answer_alike(name, fitted, answers):
    estimator, model, network, rows = fitted[name]
    keras_answers = np.asarray(model(rows))
    expected = np.asarray(getattr(estimator, "predict_proba", estimator.predict)(rows)).reshape(len(rows), -1)
    columns = estimator.classes_ if "num_outputs" in ESTIMATORS[name][2] else np.arange(expected.shape[1])
    assert network.num_outputs == keras_answers.shape[1]
    for how, got in answers[name].items():
        # Sums of at most a hundred float32 below 10; a row in a wrong leaf is off by far more.
        np.testing.assert_allclose(got, keras_answers[: len(got)], rtol=0, atol=1e-5, err_msg=how)
        np.testing.assert_allclose(got[:, columns], expected[: len(got)], rtol=0, atol=1e-5, err_msg=how)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_rows_answer_does_not_depend_on_its_batch(name, answers):
    for resolver in ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"):
        one, *others = (answers[name][f"{resolver}-{batch}"] for batch in BATCHES)
        for other in others:
            if name.startswith(("boosting", "hist")):
                # Runtimes round a sigmoid by its place among others: the last bit.
                np.testing.assert_allclose(other, one[: len(other)], rtol=0, atol=2e-7)
            else:
                np.testing.assert_array_equal(other, one[: len(other)])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_device_accepts_the_file_and_finds_no_float_op_to_round(name, fitted):
    network = fitted[name][2]
    assert isinstance(network, GraphNetwork)
    assert network.float_only
    structure = read_structure(network.model)
    assert structure.signatures["serving_default"].inputs.keys() == {"features"}


def operators(network):
    model = read_model(network.model)
    return [OPERATOR_NAMES[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators]


def spec_of(model):
    layer = model.layers[-1]
    arrays = {name: np.asarray(getattr(layer, name)) for name in ("feature", "child", "threshold", "values", "base")}
    return TreeSpec(num_trees=layer.num_trees, depth=layer.depth, **arrays)


def test_each_shape_of_trees_gets_its_layout(fitted):
    complete = plan_walk(spec_of(fitted["stump"][1]))
    assert complete.levels[0].child is None
    # Trees that end early nearly everywhere: a table for all steps is far smaller than one a level.
    chain = np.arange(0, 60, 2)
    feature = np.zeros(61, np.int32)
    threshold = np.full(61, np.inf, np.float32)
    child = np.arange(61, dtype=np.int32)
    threshold[0], child[0] = 0.0, 1
    for node in chain[1:]:
        threshold[node], child[node] = node / 30, node + 1
    values = np.arange(61, dtype=np.float32).reshape(-1, 1)
    deep = TreeSpec(
        num_trees=1,
        depth=30,
        feature=feature,
        child=child,
        threshold=threshold,
        values=values,
        base=np.zeros(1, np.float32),
    )
    levels = plan_walk(deep).levels
    assert levels[3] is levels[4]
    network = build_tree_network(deep, (1,))
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=network.model)
    runner = interpreter.get_signature_runner("serving_default")
    for value in (-1.0, 0.01, 0.5, 1.99, 5.0):
        node = 0
        while child[node] != node:
            node = child[node] + int(value > threshold[node])
        assert runner(features=np.full((1, 1), value, np.float32))["output"].item() == node
    levels = plan_walk(spec_of(fitted["forest"][1])).levels
    assert levels[1] is not levels[2]


def test_files_stay_small(fitted):
    """A level's places and the leaves' values: no more than a tree's own nodes take as one table."""
    spec = spec_of(fitted["forest"][1])
    one_table = sum(array.nbytes for array in (spec.feature, spec.child, spec.threshold, spec.values))
    assert len(fitted["forest"][2].model) < 1.25 * one_table + 8000


def test_links_are_inside_and_a_closing_softmax_is_known(fitted):
    assert operators(fitted["boosting"][2])[-1] == "SOFTMAX"
    assert fitted["boosting"][2].ends_in_softmax
    assert operators(fitted["boosting two"][2])[-1] == "LOGISTIC"
    assert not fitted["boosting two"][2].ends_in_softmax
    assert not fitted["boosting of a few classes"][2].ends_in_softmax
    assert set(operators(fitted["forest"][2])) == {"GATHER", "GREATER", "CAST", "ADD", "SUM"}


def run(network, rows):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=network.model)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, rows)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_chosen_columns_become_the_trees_own(fitted):
    trees = fitted["forest"][1]
    model = keras.Sequential([keras.Input((9,)), SelectColumns([8, 1, 4, 0, 3, 7]), trees])
    rows = RNG.normal(size=(50, 9)).astype(np.float32)
    network = network_of(model)
    assert operators(network) == operators(fitted["forest"][2])
    np.testing.assert_allclose(run(network, rows), np.asarray(model(rows)), atol=1e-6)


def test_rows_of_any_shape(fitted):
    model = keras.Sequential([keras.Input((2, 3)), keras.layers.Flatten(), fitted["forest"][1]])
    rows = RNG.normal(size=(50, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(run(network_of(model), rows), np.asarray(model(rows)), atol=1e-6)


def test_trees_among_other_layers_stay_float_too(fitted):
    trees = fitted["forest"][1]
    row = keras.Input((6,))
    model = keras.Model(row, keras.layers.Dense(3, activation="softmax")(keras.layers.Concatenate()([trees(row), row])))
    network = network_of(model)
    assert network.float_only
    np.testing.assert_allclose(run(network, X[:50]), np.asarray(model(X[:50])), atol=1e-5)


def test_a_threshold_just_below_zero_keeps_zero_on_its_right():
    """A subnormal threshold would be 0 on devices, and a row of zeros would go left."""
    rows = np.array([[-1.0], [-1e-30], [0.0], [1.0]], dtype=np.float32)
    estimator = tree.DecisionTreeRegressor(max_depth=1).fit(rows, [0.0, 0.0, 1.0, 1.0])
    estimator.tree_.threshold[0] = -1e-42
    model = estimator_model(estimator, 1)
    np.testing.assert_allclose(run(network_of(model), rows)[:, 0], estimator.predict(rows), atol=1e-6)


def test_a_changed_threshold_is_noticed(fitted):
    """The comparison above can fail."""
    spec = spec_of(fitted["forest"][1])
    wrong = replace(spec, threshold=np.nextafter(spec.threshold, np.float32(np.inf)))
    rows, expected = fitted["forest"][3], np.asarray(fitted["forest"][1](fitted["forest"][3]))
    got = run(build_tree_network(wrong, (6,)), rows)
    assert abs(got - expected).max() > 1e-3
