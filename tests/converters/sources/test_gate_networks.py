"""Mixtures with gates of every kind: the .tflite answers like Keras, whole and routed, in any batch."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from moe_edge import Predictor
from moe_edge.errors import ConversionError
from moe_edge.training.gates.gate_layers import SelectColumns, TopK
from moe_edge.training.kinds.kind import GateJob
from moe_edge.training.kinds.registry import gate_kind
from moe_edge.training.layers import LoadBalancing, StackedDense, WeightedSum
from moe_edge.training.outputs import full_outputs
from moe_edge_converters.conversion import convert
from moe_edge_converters.sources.extraction import extract_mixture
from moe_edge_converters.spec import DenseNetwork

NUM_FEATURES = 6
TOLERANCE = 1e-5
"""Float32 sums in another order, through a softmax; log densities of about -10 to -100 relative to their size."""

CASES = {
    "dense, some columns, temperature, top 2": ("dense", {"columns": [3, 1], "top_k": 2, "temperature": 0.7}),
    "linear, a column twice": ("linear", {"columns": [0, 4, 0]}),
    "gaussian": ("gaussian", {"fit": True}),
    "gaussian, temperature, one expert": ("gaussian", {"fit": True, "temperature": 0.4, "top_k": 1}),
    "gaussian, full, some columns": ("gaussian", {"fit": True, "columns": [4, 1, 2], "covariance": "full"}),
    "hierarchical": ("hierarchical", {}),
    "hierarchical, hidden": ("hierarchical", {"hidden": True, "temperature": 0.5, "num_experts": 5}),
    "hierarchical, uneven, some columns": (
        "hierarchical",
        {"tree": [0, [1, [2, 3, 4]]], "num_experts": 5, "columns": [0, 5]},
    ),
    "hierarchical, one expert": ("hierarchical", {"top_k": 1, "num_experts": 8}),
}


def make_rows(count=200):
    return np.random.default_rng(0).normal(size=(count, NUM_FEATURES)).astype(np.float32)


def make_mixture(kind, *, num_experts=4, columns=None, top_k=None, temperature=1.0, fit=False, **options):
    keras.utils.set_random_seed(0)
    x = keras.Input((NUM_FEATURES,))
    seen = x if columns is None else SelectColumns(columns)(x)
    job = GateJob(
        input_shape=tuple(seen.shape[1:]),
        num_experts=num_experts,
        options=options,
        temperature=temperature,
        entropy_coef=0.1,
        hidden=(7,),
    )
    if fit:
        rows = make_rows() if columns is None else make_rows()[:, columns]
        gate = gate_kind(kind).fit(job, rows, np.random.default_rng(1).dirichlet(np.full(num_experts, 0.3), size=200))
    else:
        gate = gate_kind(kind).build(job)
    weights = LoadBalancing(0.1)(gate(seen))
    if top_k is not None:
        weights = TopK(top_k)(weights)
    experts = StackedDense(num_experts, 3, "softmax")(StackedDense(num_experts, 8, "relu")(x))
    return keras.Model(x, WeightedSum()([weights, experts]))


@pytest.fixture(scope="module", params=list(CASES), ids=str)
def converted(request, tmp_path_factory):
    kind, options = CASES[request.param]
    model = make_mixture(kind, **options)
    path = tmp_path_factory.mktemp("gates") / "mixture.tflite"
    convert(model, path, scheme="float32", calibration=make_rows())
    rows = make_rows()
    return {name: np.array(values) for name, values in full_outputs(model)(rows).items()}, path, options.get("top_k")


def check(got, expected, count=None):
    assert set(got) - {"experts_run"} == set(expected)
    for name, values in expected.items():
        wanted = values[:count]
        np.testing.assert_allclose(got[name], wanted, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_whole_graph_answers_like_keras(converted, xnnpack, batch):
    expected, path, _ = converted
    with Predictor(path, mode="dense", xnnpack=xnnpack) as predictor:
        check(predictor.predict_raw(make_rows()[:batch]), expected, batch)


@pytest.mark.parametrize("xnnpack", [True, False])
def test_routed_answers_are_the_whole_graphs(converted, xnnpack):
    expected, path, top_k = converted
    with Predictor(path, mode="routed", mass=None if top_k else 1.0, xnnpack=xnnpack) as predictor:
        got = predictor.predict_raw(make_rows())
    check(got, expected)
    assert got["experts_run"].max() == (top_k or expected["routing_weights"].shape[1])


def test_experts_in_8_bits_leave_such_gates_as_they_are(converted, tmp_path, request):
    expected = converted[0]
    kind, options = CASES[request.node.callspec.params["converted"]]
    small = tmp_path / "small.tflite"
    convert(make_mixture(kind, **options), small, scheme="w8a8", calibration=make_rows())
    with Predictor(small, mode="dense") as predictor:
        got = predictor.predict_raw(make_rows())
    np.testing.assert_allclose(got["routing_weights"], expected["routing_weights"], atol=TOLERANCE)
    assert (got["prediction"].argmax(axis=1) == expected["prediction"].argmax(axis=1)).mean() > 0.93


def test_the_guard_a_gate_of_other_weights_is_noticed(converted):
    expected, path, _ = converted
    rows = make_rows()
    with Predictor(path, mode="dense") as predictor:
        got = predictor.predict_raw(np.roll(rows, 1, axis=0))
    with pytest.raises(AssertionError):
        check(got, expected)


def test_chosen_columns_and_temperature_become_plain_layers():
    spec = extract_mixture(make_mixture("dense", columns=[3, 1], temperature=0.5, top_k=2))
    assert isinstance(spec.gate, DenseNetwork) and spec.top_k == 2
    used = np.abs(spec.gate.layers[0].kernel).sum(axis=1) > 0
    assert used.tolist() == [False, True, False, True, False, False]


def test_a_hard_choice_is_top_1_and_all_experts_are_none():
    assert extract_mixture(make_mixture("linear", top_k=1)).top_k == 1
    assert extract_mixture(make_mixture("linear", top_k=4)).top_k is None


@pytest.mark.parametrize("kind", ["gaussian", "hierarchical"])
def test_other_schemes_for_such_a_gate_are_refused(kind, tmp_path):
    with pytest.raises(ConversionError, match="expected --gate-scheme float32"):
        convert(make_mixture(kind), tmp_path / "m.tflite", gate_scheme="w8a8", calibration=make_rows())
    assert not (tmp_path / "m.tflite").exists()


def test_a_layer_behind_densities_is_refused_by_name(tmp_path):
    x = keras.Input((NUM_FEATURES,))
    inner = gate_kind("gaussian").build(GateJob(input_shape=(NUM_FEATURES,), num_experts=4))
    weights = keras.layers.Dense(4, activation="softmax", name="after")(inner(x))
    experts = StackedDense(4, 3, "softmax")(x)
    with pytest.raises(ConversionError, match="'after'"):
        convert(keras.Model(x, WeightedSum()([weights, experts])), tmp_path / "m.tflite", scheme="float32")


def test_int8_edges_give_the_density_too(tmp_path):
    model = make_mixture("gaussian", fit=True)
    convert(model, tmp_path / "m.tflite", scheme="w8a8", calibration=make_rows(), io="int8")
    expected = np.array(full_outputs(model)(make_rows())["gate_log_density"])
    with Predictor(tmp_path / "m.tflite") as predictor:
        got = predictor.predict_raw(make_rows())["gate_log_density"]
    step = np.ptp(np.append(expected, 0)) / 255
    # Half a step of the answer, and what a row rounded to 8 bits moves it by.
    assert np.abs(got - expected).max() < 0.5 and np.abs(got - expected).mean() < 5 * step


def test_the_densities_side_output_stands_in_both_signatures(tmp_path):
    convert(make_mixture("gaussian", fit=True), tmp_path / "m.tflite", scheme="float32", calibration=make_rows())
    signatures = Interpreter(str(tmp_path / "m.tflite")).get_signature_list()
    assert "gate_log_density" in signatures["serving_default"]["outputs"]
    assert signatures["gate"]["outputs"].count("gate_log_density") == 1
    assert "gate_log_density" not in signatures["combine"]["outputs"]
