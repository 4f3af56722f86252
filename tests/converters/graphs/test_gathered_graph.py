"""Top-k mixtures, computed whole by gathering the chosen experts, or with every expert computed."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from moe_edge import routing
from moe_edge.config import Combine
from moe_edge.errors import ConversionError
from moe_edge_converters.assembly import GATHER_FROM, assemble, choose_layout
from moe_edge_converters.file_writer import pack, serialize
from moe_edge_converters.graphs.fused_graph import build_fused_graph
from moe_edge_converters.graphs.gathered_graph import build_gathered_graph, why_not_gather
from moe_edge_converters.options import ConversionOptions, Layout
from moe_edge_converters.schemes.scheme import Scheme

NUM_EXPERTS, TOP_K = 7, 2


def expected_top_k(mixtures, spec, rows, top_k):
    """What the k strongest experts answer, by the NumPy reference."""
    dense = mixtures.reference(spec, rows)
    chosen = routing.top_k_experts(dense.routing_weights, top_k)
    mask = np.zeros(dense.routing_weights.shape, dtype=bool)
    np.put_along_axis(mask, chosen, True, axis=1)
    weights = np.where(mask, dense.routing_weights, 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def spec(mixtures):
    return mixtures.make_spec(num_experts=NUM_EXPERTS)


def run(content, rows):
    interpreter = Interpreter(model_content=content)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, rows)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("top_k", [1, 2, NUM_EXPERTS])
def test_gathered_and_computed_answers_are_those_of_the_strongest_experts(mixtures, spec, batch, top_k):
    rows = mixtures.make_rows(spec, batch)
    weights = expected_top_k(mixtures, spec, rows, top_k)
    gathered, aliases = build_gathered_graph(spec, top_k)
    prediction, routed = run(serialize(gathered, manifest=None, aliases=aliases), rows)
    np.testing.assert_allclose(routed, weights, atol=1e-5)
    assert ((routed > 0).sum(axis=1) <= top_k).all()
    computed, _ = build_fused_graph(mixtures.replace(spec, top_k=top_k), ["float32"] * NUM_EXPERTS)
    computed_prediction, computed_weights = run(pack(computed), rows)
    np.testing.assert_allclose(prediction, computed_prediction, atol=1e-5)
    np.testing.assert_allclose(routed, computed_weights, atol=1e-6)
    if top_k == NUM_EXPERTS:
        np.testing.assert_allclose(prediction, mixtures.reference(spec, rows).prediction, atol=1e-5)


def test_the_gathered_files_signatures_answer_like_the_whole(mixtures, spec):
    gathered, aliases = build_gathered_graph(spec, TOP_K)
    content = serialize(gathered, manifest=None, aliases=aliases)
    rows = mixtures.make_rows(spec, 5)
    whole, _ = run(content, rows)
    interpreter = Interpreter(model_content=content)
    runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
    for row, answer in zip(rows, whole, strict=True):
        gate = runners["gate"](x=row[None])
        outputs = np.zeros((1, NUM_EXPERTS, spec.num_outputs), dtype=np.float32)
        for expert in np.flatnonzero(gate["routing_weights"][0]):
            outputs[0, expert] = runners[f"expert_{expert}"](features=gate["features"])["output"]
        combined = runners["combine"](routing_weights=gate["routing_weights"], outputs=outputs)["prediction"]
        # Another order of sums: alike to the last bits, not bit for bit.
        np.testing.assert_allclose(combined[0], answer, atol=1e-6)


def test_an_experts_weights_are_slices_of_the_stacked_ones(mixtures):
    spec = mixtures.make_spec(num_experts=NUM_EXPERTS, hidden=(64, 32))
    gathered, aliases = build_gathered_graph(spec, TOP_K)
    layers = len(spec.experts[0].layers)
    assert len(aliases) == NUM_EXPERTS * layers * 2
    shared = len(serialize(gathered, manifest=None, aliases=aliases))
    assert shared < 0.65 * len(serialize(gathered, manifest=None, self_contained=True))


def test_the_layout_follows_the_measurement(mixtures, spec):
    def layout(num_experts, top_k, **options):
        mixture = mixtures.make_spec(num_experts=num_experts)
        return choose_layout(
            mixtures.replace(mixture, top_k=top_k), ConversionOptions(scheme=Scheme.FLOAT32, **options)
        )

    assert layout(GATHER_FROM, 1) is Layout.GATHER
    assert layout(GATHER_FROM - 1, 1) is Layout.FULLY_CONNECTED
    assert layout(GATHER_FROM, 2) is Layout.FULLY_CONNECTED
    assert layout(GATHER_FROM, 1, layout=Layout.FULLY_CONNECTED) is Layout.FULLY_CONNECTED
    assert layout(3, 2, layout=Layout.GATHER) is Layout.GATHER
    assert layout(GATHER_FROM, 1, routed=False) is Layout.FULLY_CONNECTED
    assert choose_layout(mixtures.replace(spec, top_k=1), ConversionOptions(scheme=Scheme.W8A8)) is (
        Layout.FULLY_CONNECTED
    )


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"top_k": None}, {}, "give --top-k"),
        ({"top_k": 2, "combine": Combine.LOGITS}, {}, "don't all end in a softmax"),
        ({"top_k": 2}, {"scheme": Scheme.FLOAT16}, "float32 only"),
    ],
)
def test_what_gather_cannot_hold_is_refused(mixtures, spec, changes, options, message):
    with pytest.raises(ConversionError, match=message):
        assemble(
            mixtures.replace(spec, **changes),
            ConversionOptions(**{"scheme": Scheme.FLOAT32, "layout": Layout.GATHER, **options}),
            None,
        )


def test_why_not_gather_names_unequal_experts(mixtures):
    spec = mixtures.make_spec(num_experts=3)
    assert why_not_gather(spec, 1) == ""
    small = mixtures.make_spec(num_experts=3, hidden=(5,))
    unequal = mixtures.replace(spec, experts=(*spec.experts[:2], small.experts[2]))
    assert "differ in size" in why_not_gather(unequal, 1)
