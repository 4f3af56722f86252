"""Quantization part by part: what is rounded, what stays float, and how close the answers remain."""

import numpy as np
import pytest

from moe_edge.config import Combine
from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.graphs.graph import schema
from moe_edge_converters.schemes.audit import check_schemes, weighted_operators
from moe_edge_converters.schemes.quantization import PartRule, quantize
from moe_edge_converters.schemes.scheme import Scheme

LOSSY = ["float16", "dynamic_w8", "w8a8", "w8a16", "w4"]
LARGEST_ERROR = {"float16": 0.001, "dynamic_w8": 0.025, "w8a8": 0.05, "w8a16": 0.025, "w4": 0.4}
SMALLEST_AGREEMENT = {"float16": 0.99, "dynamic_w8": 0.98, "w8a8": 0.98, "w8a16": 0.98, "w4": 0.85}
"""Difference of a probability from the float answer, and share of rows with the same class, on the mixture of these tests.

The difference may be about twice what is seen. Random weights are the hardest case for 4 bits; trained ones lose far less.
"""

FLOAT32 = schema.TensorType.FLOAT32
ROUNDED = {getattr(schema.TensorType, name) for name in ("INT4", "INT8", "INT16", "FLOAT16")}


@pytest.fixture(scope="module")
def mixture(mixtures):
    spec = mixtures.make_spec(num_experts=4, num_columns=16, num_outputs=5, hidden=(24, 16), preprocess=True)
    return spec, mixtures.make_rows(spec, 600)


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("scheme", LOSSY)
def test_answers_stay_close(mixtures, mixture, scheme, per_tensor):
    spec, rows = mixture
    content, asked = mixtures.quantize_spec(spec, scheme, rows, per_tensor=per_tensor)
    check_schemes(read_model(content), asked)
    expected = mixtures.reference(spec, rows)
    prediction, weights = mixtures.run_by_position(content, rows)
    error = np.abs(prediction - expected.prediction).max()
    assert 0 < error < LARGEST_ERROR[scheme] * (2 if per_tensor else 1)
    assert (prediction.argmax(axis=1) == expected.prediction.argmax(axis=1)).mean() > SMALLEST_AGREEMENT[
        scheme
    ] - 0.01 * per_tensor
    # The gate is float in every scheme: routes are those of the source.
    np.testing.assert_allclose(weights, expected.routing_weights, atol=1e-5)


@pytest.mark.parametrize("scheme", LOSSY)
def test_gate_preprocessing_and_tail_stay_float(mixtures, mixture, scheme):
    spec, rows = mixture
    model = read_model(mixtures.quantize_spec(spec, scheme, rows)[0])
    graph = model.subgraphs[0]
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    seen = 0
    for operator in graph.operators:
        tensors = [graph.tensors[index] for index in [*operator.inputs, *operator.outputs] if index >= 0]
        output = graph.tensors[operator.outputs[0]].name.decode()
        kind = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        if kind in ("QUANTIZE", "DEQUANTIZE"):
            continue
        floats = output.startswith(("gate/", "preprocess/", "combine/")) or output in ("prediction", "routing_weights")
        if kind == "SOFTMAX" or floats:
            seen += 1
            assert all(tensor.type not in ROUNDED for tensor in tensors), (kind, output)
    assert seen > 10


@pytest.mark.parametrize("scheme", LOSSY)
def test_the_edges_are_float32(mixtures, mixture, scheme):
    spec, rows = mixture
    graph = read_model(mixtures.quantize_spec(spec, scheme, rows, gate=scheme)[0]).subgraphs[0]
    assert [graph.tensors[index].type for index in [*graph.inputs, *graph.outputs]] == [FLOAT32] * 3


def test_small_routing_weights_survive_an_int8_gate(mixtures, mixture):
    """An int8 softmax would give multiples of 1/256."""
    spec, rows = mixture
    content, _ = mixtures.quantize_spec(spec, "w8a8", rows, gate="w8a8")
    weights = mixtures.run_by_position(content, rows)[1]
    assert 0 < weights.min() < 1 / 512
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("scheme", LOSSY)
@pytest.mark.parametrize("combine", list(Combine))
def test_rows_agree_in_batches(mixtures, combine, scheme):
    spec = mixtures.make_spec(num_experts=5, combine=combine, hidden=[(8, 5)] * 3 + [()] * 2, preprocess=True)
    rows = mixtures.make_rows(spec, 300, missing=0.05)
    content, _ = mixtures.quantize_spec(spec, scheme, rows)
    singles = [mixtures.run_by_position(content, row[None]) for row in rows[:64]]
    for batch in mixtures.BATCHES:
        for position, values in enumerate(mixtures.run_by_position(content, rows[:batch])):
            single = np.concatenate([answer[position] for answer in singles[:batch]])
            # Where a value lies half way between two steps, sums in another order may round it the other way.
            np.testing.assert_allclose(values, single, rtol=1e-4, atol=0.02 * np.abs(single).max())
            assert np.mean(np.abs(values - single) > 1e-5 * np.abs(single).max()) < 0.05


def test_experts_in_several_schemes(mixtures):
    spec = mixtures.make_spec(num_experts=6, num_columns=16, hidden=(12, 8))
    rows = mixtures.make_rows(spec, 500)
    schemes = ["w8a8", "float32", "w8a8", "float16", "dynamic_w8", "float32"]
    content, asked = mixtures.quantize_spec(spec, schemes, rows)
    model = read_model(content)
    check_schemes(model, asked)
    weights = {operator.part: operator.weights for operator in weighted_operators(model)}
    assert [weights[f"expert_{index}"] for index in range(6)] == [
        "int8", "float32", "int8", "float16", "int8", "float32",
    ]  # fmt: skip
    assert (weights["bank_0"], weights["bank_1"], weights["gate"]) == ("int8", "float32", "float32")
    prediction = mixtures.run_by_position(content, rows)[0]
    assert np.abs(prediction - mixtures.reference(spec, rows).prediction).max() < 0.06


def test_prefixes_are_whole_names(mixtures):
    """expert_1 is no prefix of expert_11."""
    spec = mixtures.make_spec(num_experts=12, hidden=[(4 + index,) for index in range(12)])
    schemes = ["float32"] * 12
    schemes[1] = "float16"
    content, asked = mixtures.quantize_spec(spec, schemes, None)
    model = read_model(content)
    check_schemes(model, asked)
    assert {operator.part for operator in weighted_operators(model) if operator.weights == "float16"} == {"expert_1"}


def test_float32_alone_changes_nothing(mixtures):
    content = pack(mixtures.fuse(mixtures.make_spec())[0])
    assert quantize(content, [PartRule(prefix="gate/", scheme=Scheme.FLOAT32)], None) is content


@pytest.mark.parametrize("ratio", [1.0, 5000.0])
def test_columns_of_very_different_ranges_stay_accurate(mixtures, ratio):
    """Without the clip the raw columns, 5000-fold apart, would be the first layer's int8 input."""
    rng = np.random.default_rng(11)
    preprocess = mixtures.make_preprocess(rng, 8, ratio=ratio)
    assert preprocess.inverse_scale.max() / preprocess.inverse_scale.min() == pytest.approx(ratio, rel=1e-3)
    spec = mixtures.make_spec(num_columns=8, hidden=(16, 8), preprocess=preprocess, seed=11)
    rows = mixtures.make_rows(spec, 1000)
    content, _ = mixtures.quantize_spec(spec, "w8a8", rows, gate="w8a8")
    expected = mixtures.reference(spec, rows).prediction
    prediction = mixtures.run_by_position(content, rows)[0]
    assert (prediction.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.96


def test_raw_columns_of_very_different_ranges_would_not(mixtures):
    """Guard of the test above: the same mixture with the normalisation folded into the first layers falls apart."""
    rng = np.random.default_rng(11)
    preprocess = mixtures.make_preprocess(rng, 8, ratio=5000.0)
    spec = mixtures.make_spec(num_columns=8, hidden=(16, 8), preprocess=preprocess, seed=11)
    rows = mixtures.make_rows(spec, 1000)
    order = list(preprocess.numeric)

    def fold(network):
        first, *others = network.layers
        kernel = np.empty_like(first.kernel)
        kernel[order] = first.kernel * preprocess.inverse_scale[:, None]
        bias = first.bias - (preprocess.mean * preprocess.inverse_scale) @ first.kernel
        folded = mixtures.replace(first, kernel=kernel, bias=bias.astype(np.float32))
        return mixtures.replace(network, layers=(folded, *others))

    folded = mixtures.replace(
        spec, preprocess=None, gate=fold(spec.gate), experts=tuple(fold(expert) for expert in spec.experts)
    )
    content, _ = mixtures.quantize_spec(folded, "w8a8", rows, gate="w8a8")
    expected = mixtures.reference(folded, rows).prediction
    prediction = mixtures.run_by_position(content, rows)[0]
    assert (prediction.argmax(axis=1) == expected.argmax(axis=1)).mean() < 0.9


def test_missing_ranges_are_refused(mixtures):
    content = pack(mixtures.fuse(mixtures.make_spec())[0])
    with pytest.raises(ConversionError, match="the quantizer refused this model"):
        quantize(content, [PartRule(prefix="expert_0/", scheme=Scheme.W8A8)], {})
