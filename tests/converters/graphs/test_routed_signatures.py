"""The signatures that run experts one by one: their names and shapes, and that their weights are stored once."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from moe_edge.config import Combine
from moe_edge_converters.assembly import assemble
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.file_writer import pack, read_model, serialize
from moe_edge_converters.graphs.graph import schema
from moe_edge_converters.inspection import inspect_file
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme

BYTES_PER_CHANNEL = 12
"""A float32 scale and an int64 zero point."""
BYTES_PER_SIGNATURE = 2000


def signatures_of(content):
    return Interpreter(model_content=content).get_signature_list()


def stored_weight_bytes(content):
    """Bytes of constants in a file, each byte counted once however many tensors share it."""
    model = schema.Model.GetRootAs(content, 0)
    metadata = {model.Metadata(index).Buffer() for index in range(model.MetadataLength())}
    places, inside = set(), 0
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.Offset() > 1:
            places.add((buffer.Offset(), buffer.Offset() + buffer.Size()))
        elif index not in metadata:
            inside += buffer.DataLength()
    total, reached = inside, 0
    for start, end in sorted(places):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def repeated_channels(content):
    """Scales that stand in the routed subgraphs again."""
    return sum(
        len(tensor.quantization.scale)
        for graph in read_model(content).subgraphs[1:]
        for tensor in graph.tensors
        if tensor.quantization is not None and tensor.quantization.scale is not None
    )


@pytest.fixture(scope="module")
def reference_spec(mixtures):
    """The reference mixture: 5 experts of 64 and 32 units, a gate of 32, 64 columns, 10 classes."""
    return mixtures.make_spec(
        num_experts=5, num_columns=64, num_outputs=10, hidden=(64, 32), gate_hidden=(32,), preprocess=True
    )


@pytest.fixture(scope="module")
def sizes(mixtures, reference_spec, tmp_path_factory):
    """Scheme -> the reference mixture's file: fused only, routed, self-contained."""
    rows, path = mixtures.make_rows(reference_spec, 400), tmp_path_factory.mktemp("sizes") / "model.tflite"

    def write(**options):
        convert_spec(reference_spec, path, reference=None, rows=rows, options=ConversionOptions(**options))
        return path.read_bytes()

    return {
        scheme: tuple(write(scheme=scheme, **options) for options in ({"routed": False}, {}, {"self_contained": True}))
        for scheme in Scheme
    }


@pytest.mark.parametrize("scheme", list(Scheme))
def test_weights_are_stored_once(sizes, scheme):
    fused, routed, _ = sizes[scheme]
    assert stored_weight_bytes(routed) <= 1.02 * stored_weight_bytes(fused)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_routed_files_are_hardly_larger(sizes, scheme):
    fused, routed, alone = sizes[scheme]
    allowed = 1.05 * len(fused)
    if scheme is not Scheme.FLOAT32:
        allowed += BYTES_PER_CHANNEL * repeated_channels(routed) + BYTES_PER_SIGNATURE * len(signatures_of(routed))
    assert len(fused) < len(routed) <= allowed
    assert stored_weight_bytes(alone) > 1.3 * stored_weight_bytes(routed), "self-contained must share nothing"


@pytest.mark.parametrize("scheme", list(Scheme))
def test_self_contained_files_have_nothing_outside_the_flatbuffer(sizes, scheme):
    _, routed, alone = ([*buffer_places(content)] for content in sizes[scheme])
    assert not alone and routed


def buffer_places(content):
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.BuffersLength()):
        if model.Buffers(index).Offset() > 1:
            yield model.Buffers(index).Offset()


@pytest.mark.parametrize("scheme", [Scheme.FLOAT32, Scheme.W8A8])
def test_experts_share_bytes_with_the_fused_graph(sizes, scheme, tmp_path):
    (tmp_path / "model.tflite").write_bytes(sizes[scheme][1])
    parts = {part.name: part for part in inspect_file(tmp_path / "model.tflite").parts}
    # All weights stand in the fused graph and in a signature: hardly a byte has one user only.
    for name in ("gate", "expert_0", "expert_4"):
        assert parts[name].shared_bytes > 0.9 * parts[name].num_bytes > 1000


@pytest.mark.parametrize("preprocess", [True, None])
@pytest.mark.parametrize("combine", [Combine.PROBABILITIES, Combine.GAUSSIAN])
def test_names_and_shapes(mixtures, combine, preprocess):
    spec = mixtures.make_spec(num_experts=3, num_outputs=4, combine=combine, preprocess=preprocess)
    model = assemble(spec, ConversionOptions(scheme=Scheme.FLOAT32), None).model
    content = pack(model)
    signatures = signatures_of(content)
    answers = ["prediction"]
    if combine is Combine.GAUSSIAN:
        answers = ["expert_means", "expert_sigmas", "prediction", "sigma"]
    assert list(signatures) == ["serving_default", "gate", "expert_0", "expert_1", "expert_2", "combine"]
    assert signatures["gate"] == {"inputs": ["x"], "outputs": ["features", "routing_weights"]}
    assert signatures["expert_1"] == {"inputs": ["features"], "outputs": ["output"]}
    assert signatures["combine"] == {"inputs": ["outputs", "routing_weights"], "outputs": answers}
    interpreter = Interpreter(model_content=content)
    values = 8 if combine is Combine.GAUSSIAN else 4
    gate = interpreter.get_signature_runner("gate")
    assert {name: (tuple(detail["shape"]), detail["dtype"]) for name, detail in gate.get_output_details().items()} == {
        "features": ((1, 6), np.float32),
        "routing_weights": ((1, 3), np.float32),
    }
    details = interpreter.get_signature_runner("combine").get_input_details()
    assert tuple(details["outputs"]["shape"]) == (1, 3, values)
    assert tuple(details["routing_weights"]["shape"]) == (1, 3)


def test_features_are_what_preprocessing_gives(mixtures):
    for preprocess in (True, None):
        spec = mixtures.make_spec(preprocess=preprocess)
        rows = mixtures.make_rows(spec, 1, missing=0.3 if preprocess else 0)
        content = pack(assemble(spec, ConversionOptions(scheme=Scheme.FLOAT32), None).model)
        got = Interpreter(model_content=content).get_signature_runner("gate")(x=rows)["features"]
        expected = rows if spec.preprocess is None else spec.preprocess.apply(rows)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_batches_run_routed_like_fused(mixtures, reference_spec, scheme):
    rows = mixtures.make_rows(reference_spec, 300)
    content = pack(assemble(reference_spec, ConversionOptions(scheme=scheme), rows).model)
    interpreter = Interpreter(model_content=content)
    for count in mixtures.BATCHES:
        batch = rows[:count]
        fused = interpreter.get_signature_runner("serving_default")(x=batch)
        gate = interpreter.get_signature_runner("gate")(x=batch)
        outputs = [
            interpreter.get_signature_runner(f"expert_{index}")(features=gate["features"])["output"]
            for index in range(5)
        ]
        routed = interpreter.get_signature_runner("combine")(
            routing_weights=gate["routing_weights"], outputs=np.stack(outputs, axis=1)
        )
        np.testing.assert_array_equal(gate["routing_weights"], fused["routing_weights"])
        np.testing.assert_array_equal(routed["prediction"], fused["prediction"])


def test_odd_4_bit_rows_are_stored_again_and_named(mixtures, tmp_path):
    """5 inputs x 7 units are 35 values: the second and the fourth expert's slices start within a byte."""
    spec = mixtures.make_spec(num_experts=4, num_columns=5, hidden=(7, 5), preprocess=True)
    rows = mixtures.make_rows(spec, 300)
    result = convert_spec(
        spec, tmp_path / "m.tflite", reference=None, rows=rows, options=ConversionOptions(scheme=Scheme.W4)
    )
    assert result.unaliased == ("bank_0/dense_0/weights",) * 2
    even = mixtures.make_spec(num_experts=4, num_columns=6, hidden=(7, 5), preprocess=True)
    result = convert_spec(
        even,
        tmp_path / "even.tflite",
        reference=None,
        rows=mixtures.make_rows(even, 300),
        options=ConversionOptions(scheme=Scheme.W4),
    )
    assert result.unaliased == ()


def test_mixed_schemes_keep_each_experts_own(mixtures, reference_spec):
    rows = mixtures.make_rows(reference_spec, 300)
    options = ConversionOptions(scheme=Scheme.W8A8, expert_schemes={1: Scheme.W4, 3: Scheme.FLOAT32})
    model = assemble(reference_spec, options, rows).model
    types = {}
    for graph in model.subgraphs:
        name = graph.name.decode() if isinstance(graph.name, bytes) else graph.name
        weights = [
            tensor.type
            for tensor in graph.tensors
            if len(tensor.shape) == 2 and model.buffers[tensor.buffer].data is not None and tensor.shape[0] > 1
        ]
        types[name] = set(weights)
    kinds = schema.TensorType
    assert types["expert_1"] == {kinds.INT4} and types["expert_3"] == types["gate"] == {kinds.FLOAT32}
    assert types["expert_0"] == types["expert_2"] == types["expert_4"] == {kinds.INT8}


def test_same_mixture_same_bytes(mixtures, reference_spec):
    rows = mixtures.make_rows(reference_spec, 300)
    first, second = (assemble(reference_spec, ConversionOptions(), rows) for _ in range(2))
    assert serialize(first.model, manifest=b"{}", aliases=first.aliases) == serialize(
        second.model, manifest=b"{}", aliases=second.aliases
    )
