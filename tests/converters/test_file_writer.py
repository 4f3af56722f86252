"""The file writer: the same model gives the same bytes, weights are stored once, and the file opens and verifies."""

import numpy as np
import pytest

from moe_edge.errors import ModelFileError
from moe_edge.manifest import HASH_NAME
from moe_edge.runtime.model_file import ModelFile
from moe_edge_converters.file_writer import (
    ALIGNMENT,
    MIN_EXTERNAL_BYTES,
    Alias,
    pack,
    read_model,
    serialize,
)
from moe_edge_converters.graphs.graph import GraphBuilder, new_model, schema

SCHEMES = ["float32", "float16", "dynamic_w8", "w8a8", "w8a16", "w4"]


@pytest.fixture(scope="module")
def mixture(mixtures):
    spec = mixtures.make_spec(num_experts=4, num_columns=16, hidden=(24, 16), preprocess=True)
    return spec, mixtures.make_rows(spec, 300)


@pytest.fixture(scope="module")
def quantized(mixtures, mixture):
    spec, rows = mixture
    return {scheme: mixtures.quantize_spec(spec, scheme, rows)[0] for scheme in SCHEMES}


def external(content):
    """(offset, size) of the buffers that lie after the flatbuffer."""
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    return [(buffer.Offset(), buffer.Size()) for buffer in buffers if buffer.Offset() > 1]


def doubling_model(values, copies=1):
    """x -> x times each of ``copies`` constants with the same or given values, one output each."""
    builder = GraphBuilder(new_model("test"), "main")
    x = builder.input("x", (len(values[0]),))
    buffers = []
    for index in range(copies):
        # Another shape for each copy, so that the builder itself stores a buffer for each.
        constant = builder.constant(f"c{index}", np.reshape(values[index], (1,) * (index + 1) + (-1,)), np.float32)
        buffers.append(builder.subgraph.tensors[constant].buffer)
        builder.output(f"out{index}", builder.binary("MUL", x, constant, name=f"product{index}"))
    return builder.model, buffers


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_model_same_bytes(mixtures, mixture, quantized, scheme):
    spec, rows = mixture
    again = mixtures.quantize_spec(spec, scheme, rows)[0]
    first = serialize(read_model(quantized[scheme]), manifest=b"{}")
    assert serialize(read_model(again), manifest=b"{}") == first


def test_writing_leaves_the_model_as_it_was(quantized):
    model = read_model(quantized["w8a8"])
    first = serialize(model, manifest=b"{}")
    assert serialize(model, manifest=b"{}") == first
    assert not model.metadata or HASH_NAME not in [entry.name for entry in model.metadata]


@pytest.mark.parametrize("self_contained", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_answers_are_those_of_the_packed_model_bit_for_bit(mixtures, mixture, quantized, scheme, self_contained):
    rows = mixture[1][:64]
    content = serialize(read_model(quantized[scheme]), manifest=b"{}", self_contained=self_contained)
    assert bool(external(content)) != self_contained
    for got, expected in zip(
        mixtures.run_by_position(content, rows), mixtures.run_by_position(quantized[scheme], rows), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("self_contained", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_files_open_and_verify(tmp_path, mixture_file, scheme, self_contained):
    manifest = None
    with ModelFile.open(mixture_file("plain", scheme=scheme)) as shipped:
        manifest = shipped.manifest.to_json()
        model = read_model(bytes(shipped.content))
    # The parsed file carries its own metadata; write a new one.
    model.metadata = []
    path = tmp_path / "model.tflite"
    path.write_bytes(serialize(model, manifest=manifest, self_contained=self_contained))
    with ModelFile.open(path) as file:
        file.verify_weights()
        assert file.manifest.to_json() == manifest
        assert "serving_default" in file.signatures


def test_a_flipped_bit_is_found_wherever_it_lies(mixture_file, mixtures):
    content = bytearray(mixture_file("plain", scheme="w8a8").read_bytes())
    head = min(offset for offset, _ in external(bytes(content)))
    rng = np.random.default_rng(0)
    # The padding between two weights belongs to the digest as well.
    for position in [*rng.integers(8, head, 40).tolist(), *rng.integers(head, len(content), 40).tolist()]:
        content[position] ^= 4
        with pytest.raises(ModelFileError), ModelFile.open(bytes(content)) as file:
            file.verify_weights()
        content[position] ^= 4
    ModelFile.open(bytes(content)).verify_weights()


def test_weights_are_aligned_and_small_constants_stay_inside(quantized):
    content = serialize(read_model(quantized["w8a8"]), manifest=b"{}")
    places = external(content)
    assert places and all(offset % ALIGNMENT == 0 for offset, _ in places)
    assert all(size >= MIN_EXTERNAL_BYTES for _, size in places)
    assert max(offset + size for offset, size in places) == len(content)
    model = schema.Model.GetRootAs(content, 0)
    assert any(0 < model.Buffers(index).DataLength() < MIN_EXTERNAL_BYTES for index in range(model.BuffersLength()))


def test_equal_weights_are_stored_once():
    values = np.random.default_rng(0).normal(size=(3, 100))
    different, _ = doubling_model(values, copies=3)
    same, _ = doubling_model([values[0]] * 3, copies=3)
    assert len(set(external(serialize(different, manifest=None)))) == 3
    content = serialize(same, manifest=None)
    assert len(external(content)) == 3 and len(set(external(content))) == 1
    assert len(serialize(different, manifest=None)) - len(content) >= 2 * 400


def test_an_alias_is_a_slice_of_another_buffer(mixtures):
    wide = np.random.default_rng(0).normal(size=200).astype(np.float32)
    builder = GraphBuilder(new_model("test"), "main")
    x = builder.input("x", (200,))
    whole = builder.constant("whole", wide.reshape(1, -1))
    part = builder.constant("part", wide[60:140].reshape(1, -1))
    builder.output("all", builder.binary("MUL", x, whole, name="a"))
    picked = builder.gather_columns(x, range(80), name="picked")
    builder.output("some", builder.binary("MUL", picked, part, name="b"))
    tensors = builder.subgraph.tensors
    aliases = {tensors[part].buffer: Alias(buffer=tensors[whole].buffer, offset=240)}
    plain = serialize(builder.model, manifest=None)
    aliased = serialize(builder.model, manifest=None, aliases=aliases)
    assert len(plain) - len(aliased) == 320
    places = external(aliased)
    (start,) = [offset for offset, size in places if size == 800]
    assert (start + 240, 320) in places
    rows = np.random.default_rng(1).normal(size=(7, 200)).astype(np.float32)
    for content in (plain, aliased):
        everything, some = mixtures.run_by_position(content, rows)
        np.testing.assert_allclose(everything, rows * wide, rtol=1e-6)
        np.testing.assert_allclose(some, rows[:, :80] * wide[60:140], rtol=1e-6)


def test_without_weights_there_is_nothing_outside():
    model, _ = doubling_model([np.ones(3)])
    content = serialize(model, manifest=None)
    assert external(content) == []
    with ModelFile.open(content) as file:
        file.verify_weights()


def test_equal_vectors_of_scales_are_stored_once(quantized):
    """Per-channel tensors carry 12 bytes a channel; zero points are mostly all zeros."""
    model = read_model(quantized["dynamic_w8"])
    shared = len(pack(model))
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if tensor.quantization is not None and tensor.quantization.zeroPoint is not None:
            tensor.quantization.zeroPoint = np.full(len(tensor.quantization.zeroPoint), index, np.int64)
    assert len(pack(model)) - shared > 8 * 16


def test_packing_round_trips(quantized):
    content = pack(read_model(quantized["w8a8"]))
    assert pack(read_model(content)) == content
    assert content[4:8] == b"TFL3"
