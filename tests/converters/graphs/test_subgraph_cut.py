"""Cutting pieces out of a graph: each answers what the whole one has inside, and shares its bytes."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack, read_model, serialize
from moe_edge_converters.graphs.graph import GraphBuilder, add_signature, new_model
from moe_edge_converters.graphs.subgraph_cut import SubgraphCutter
from moe_edge_converters.schemes import quantization
from moe_edge_converters.schemes.scheme import Scheme


def layered_model(kernel, bias, *, pieces, activation="relu", after=None):
    """x -> one wide layer named ``bank_0``, split into ``pieces`` named ``expert_i/hidden``, each doubled."""
    builder = GraphBuilder(new_model("test"), "serving_default")
    x = builder.input("x", (kernel.shape[1],))
    wide = builder.fully_connected(x, kernel, bias, activation=activation, name="bank_0/dense_0")
    if after:
        wide = builder.unary(after, wide, name="bank_0/after")
    names = [f"expert_{index}/hidden" for index in range(pieces)]
    outputs = {}
    for index, piece in enumerate(builder.split(wide, pieces, names=names)):
        outputs[f"y_{index}"] = builder.binary("ADD", piece, piece, name=f"expert_{index}/double")
    outputs["wide"] = builder.binary("MUL", wide, wide, name="squares")
    for name, tensor in outputs.items():
        builder.output(name, tensor)
    add_signature(builder.model, "serving_default", builder.index, {"x": x}, outputs)
    return builder.model


def cut_pieces(model, pieces):
    """Cut every ``y_i`` out as a signature ``piece_i``; the cutter."""
    cutter = SubgraphCutter(model)
    for index in range(pieces):
        piece = cutter.cut(f"piece_{index}", {"x": cutter.tensor("x")}, {"y": cutter.tensor(f"y_{index}")})
        (x,), (y,) = piece.subgraph.inputs, piece.subgraph.outputs
        add_signature(model, f"piece_{index}", piece.index, {"x": x}, {"y": y})
    return cutter


def assert_pieces_answer_like_the_whole(content, rows, pieces):
    interpreter = Interpreter(model_content=content)
    whole = interpreter.get_signature_runner("serving_default")
    for row in rows:
        expected = whole(x=row[None])
        for index in range(pieces):
            got = interpreter.get_signature_runner(f"piece_{index}")(x=row[None])["y"]
            np.testing.assert_array_equal(got, expected[f"y_{index}"])


def make_weights(rng, units, inputs):
    kernel = rng.normal(size=(units, inputs)).astype(np.float32)
    return kernel, rng.normal(size=units).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    pieces=st.integers(2, 5),
    units=st.integers(1, 9),
    inputs=st.integers(1, 20),
    scheme=st.sampled_from([Scheme.FLOAT32, Scheme.FLOAT16, Scheme.DYNAMIC_W8, Scheme.W4]),
    seed=st.integers(0, 2**16),
)
def test_pieces_of_any_size_answer_like_the_whole(pieces, units, inputs, scheme, seed):
    rng = np.random.default_rng(seed)
    content = pack(layered_model(*make_weights(rng, pieces * units, inputs), pieces=pieces))
    content = quantization.quantize(content, [quantization.PartRule(prefix="bank_0/", scheme=scheme)], None)
    model = read_model(content)
    cutter = cut_pieces(model, pieces)
    rows = rng.normal(size=(3, inputs)).astype(np.float32)
    shared = serialize(model, manifest=None, aliases=cutter.aliases)
    for written in (shared, pack(model)):
        assert_pieces_answer_like_the_whole(written, rows, pieces)
    # Only 4-bit slices can start within a byte, and only after an odd number of values.
    odd = scheme is Scheme.W4 and units * inputs % 2 == 1
    assert len(cutter.unaliased) == (pieces // 2 if odd else 0)
    assert set(cutter.unaliased) <= {"bank_0/dense_0/weights"}


@pytest.mark.parametrize("after", ["TANH", "LOGISTIC"])
def test_an_activation_after_the_wide_layer_is_cut_too(after):
    rng = np.random.default_rng(0)
    model = layered_model(*make_weights(rng, 12, 6), pieces=3, activation="linear", after=after)
    cut_pieces(model, 3)
    assert_pieces_answer_like_the_whole(pack(model), rng.normal(size=(5, 6)).astype(np.float32), 3)


def test_a_piece_holds_only_its_own_columns():
    rng = np.random.default_rng(0)
    kernel, bias = make_weights(rng, 12, 6)
    model = layered_model(kernel, bias, pieces=3)
    cutter = cut_pieces(model, 3)
    for index, graph in enumerate(model.subgraphs[1:]):
        assert len(graph.operators) == 2, "the layer and the doubling, no SPLIT"
        weights, biases = (graph.tensors[tensor] for tensor in graph.operators[0].inputs[1:])
        assert list(weights.shape) == [4, 6] and list(biases.shape) == [4]
        data = bytes(model.buffers[weights.buffer].data)
        np.testing.assert_array_equal(np.frombuffer(data, np.float32), kernel[4 * index : 4 * index + 4].ravel())
        alias = cutter.aliases[weights.buffer]
        source = bytes(model.buffers[alias.buffer].data)
        assert source[alias.offset : alias.offset + len(data)] == data


def test_per_channel_scales_follow_their_channels():
    rng = np.random.default_rng(0)
    kernel, bias = make_weights(rng, 8, 40)
    kernel *= np.arange(1, 9, dtype=np.float32)[:, None]
    content = quantization.quantize(
        pack(layered_model(kernel, bias, pieces=2)),
        [quantization.PartRule(prefix="bank_0/", scheme=Scheme.DYNAMIC_W8)],
        None,
    )
    model = read_model(content)
    cut_pieces(model, 2)
    for index, graph in enumerate(model.subgraphs[1:]):
        scales = graph.tensors[graph.operators[0].inputs[1]].quantization.scale
        np.testing.assert_allclose(scales, np.abs(kernel).max(axis=1)[4 * index : 4 * index + 4] / 127, rtol=1e-5)


def test_a_layer_between_inner_tensors_is_cut_as_it_is():
    rng = np.random.default_rng(0)
    model = layered_model(*make_weights(rng, 6, 4), pieces=2)
    cutter = SubgraphCutter(model)
    piece = cutter.cut("tail", {"hidden": cutter.tensor("expert_0/hidden")}, {"y": cutter.tensor("y_0")})
    assert len(piece.subgraph.operators) == 1 and cutter.aliases == {}
    (x,), (y,) = piece.subgraph.inputs, piece.subgraph.outputs
    add_signature(model, "tail", piece.index, {"hidden": x}, {"y": y})
    runner = Interpreter(model_content=pack(model)).get_signature_runner("tail")
    np.testing.assert_array_equal(runner(hidden=np.float32([[1, 2, 3]]))["y"], [[2, 4, 6]])


def test_the_whole_graph_is_left_as_it_was():
    rng = np.random.default_rng(0)
    model = layered_model(*make_weights(rng, 6, 4), pieces=2)
    rows = rng.normal(size=(1, 4)).astype(np.float32)
    before = Interpreter(model_content=pack(model)).get_signature_runner("serving_default")(x=rows)
    cut_pieces(model, 2)
    after = Interpreter(model_content=pack(model)).get_signature_runner("serving_default")(x=rows)
    assert before.keys() == after.keys() == {"y_0", "y_1", "wide"}
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_a_missing_tensor_is_named():
    model = layered_model(*make_weights(np.random.default_rng(0), 6, 4), pieces=2)
    with pytest.raises(ConversionError, match="expected a tensor 'combine/answers' in the fused graph, got none"):
        SubgraphCutter(model).tensor("combine/answers")
