"""Hostile bytes: refused, or safe to give to an interpreter, which runs in a child process here."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import ClassVar

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.errors import ModelFileError
from moe_edge.runtime.flatbuffer_verifier import FlatbufferError, FlatbufferVerifier
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.model_structure import read_structure
from moe_edge.runtime.tflite_schema import TABLES, UNIONS

# Runs the file given; any exception is fine, a crash shows as a negative exit status.
RUN = """
import os, sys
from pathlib import Path
import numpy as np
from ai_edge_litert.interpreter import Interpreter
for path in sorted(Path(sys.argv[1]).iterdir()):
    pid = os.fork()
    if pid == 0:
        try:
            interpreter = Interpreter(model_content=path.read_bytes())
            interpreter.allocate_tensors()
            entry = interpreter.get_input_details()[0]
            for batch in (1, 7):
                interpreter.resize_tensor_input(entry["index"], [batch, *entry["shape"][1:]])
                interpreter.allocate_tensors()
                interpreter.set_tensor(entry["index"], np.zeros([batch, *entry["shape"][1:]], entry["dtype"]))
                interpreter.invoke()
        except Exception:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        print(path.name, "signal", os.WTERMSIG(status))
"""


def mutate(content: bytes, head: int, rng: random.Random) -> bytes:
    changed = bytearray(content)
    kind = rng.randrange(5)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(head)
        word = at & ~3
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            value = rng.choice((0, 1, 4, 2**31 - 1, 2**31, 2**32 - 1, len(content)))
            changed[word : word + 4] = value.to_bytes(4, "little")
        elif kind == 3:
            other = rng.randrange(head) & ~3
            changed[word : word + 4] = changed[other : other + 4]
        else:
            changed[at & ~1 : (at & ~1) + 2] = rng.randrange(40).to_bytes(2, "little")
    return bytes(changed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs each file in a forked child")
@pytest.mark.parametrize(("kind", "scheme"), [("plain", "w8a8"), ("table", "float32"), ("regression", "float32")])
def test_what_passes_never_crashes_an_interpreter(mixture_file, tmp_path, kind, scheme):
    content = mixture_file(kind, scheme=scheme).read_bytes()
    head = read_structure(content).head
    rng = random.Random(11)
    refused = 0
    for number in range(250):
        changed = mutate(content, head, rng)
        try:
            read_structure(changed)
        except FlatbufferError:
            refused += 1
        else:
            (tmp_path / f"{number}.tflite").write_bytes(changed)
    assert 50 < refused < 250  # the mutations are neither harmless nor hopeless
    result = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path], capture_output=True, text=True, check=True, timeout=300
    )
    assert result.stdout == ""


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 64))
def test_random_bytes_are_refused(body, root):
    for content in (body, root.to_bytes(4, "little") + b"TFL3" + body):
        with pytest.raises(FlatbufferError):
            read_structure(content)


class SlotRecorder:
    """Stands in for a builder: notes which slot of a table the generated code writes, and how wide."""

    WIDTHS: ClassVar = {
        "Bool": "1",
        "Int8": "1",
        "Uint8": "1",
        "Int32": "4",
        "Uint32": "4",
        "Float32": "4",
        "Int64": "8",
        "Uint64": "8",
    }

    def __init__(self) -> None:
        self.slots: dict[int, str] = {}

    def __getattr__(self, name):
        kind = name.removeprefix("Prepend").removesuffix("Slot")
        return lambda slot, *_: self.slots.__setitem__(slot, self.WIDTHS.get(kind, "offset"))


def _generated_slots(table: str) -> dict[int, str]:
    recorder = SlotRecorder()
    for name, function in vars(schema).items():
        if name.startswith(f"{table}Add"):
            function(recorder, 0)
    return recorder.slots


def test_the_table_of_fields_is_the_schemas():
    """Every slot and width, against the code that the schema's own compiler generated."""
    described = dict(TABLES)
    for union, enumeration in (("BuiltinOptions", schema.BuiltinOptions), ("BuiltinOptions2", schema.BuiltinOptions2)):
        names = {code: name for name, code in vars(enumeration).items() if not name.startswith("_") and code}
        assert set(names) == set(UNIONS[union])
        described.update({name: UNIONS[union][code] for code, name in names.items()})
    for table, fields in described.items():
        ours = {
            slot: "4" if code == "g" else code if code.isdigit() else "offset"
            for slot, code in enumerate(fields.split())
            if code != "-"
        }
        assert ours == _generated_slots(table), table


def build(change) -> bytes:
    """A file with one fully connected layer, changed as objects before it is written."""
    model = schema.ModelT()
    model.version = 3
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    model.operatorCodes = [code]
    weights = schema.BufferT()
    weights.data = np.zeros(32, dtype=np.uint8)
    model.buffers = [schema.BufferT(), weights]
    subgraph = schema.SubGraphT()
    subgraph.tensors = []
    for shape, buffer in (([1, 4], 0), ([2, 4], 1), ([1, 2], 0)):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = "t", shape, buffer
        subgraph.tensors.append(tensor)
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, -1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    subgraph.operators, subgraph.inputs, subgraph.outputs = [operator], [0], [2]
    model.subgraphs = [subgraph]
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _quantize(tensor, scales, axis=0, zero_points=None):
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.quantizedDimension = scales, axis
    quantization.zeroPoint = zero_points if zero_points is not None else [0] * len(scales)
    tensor.quantization = quantization


def _signature(model, *, subgraph=0, inputs=(("x", 0),), key="serve"):
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, subgraph
    signature.inputs, signature.outputs = [], []
    for name, index in inputs:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        signature.inputs.append(entry)
    model.signatureDefs = [*(model.signatureDefs or []), signature]


def _recurse(model):
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    model.operatorCodes = [code]
    options = schema.WhileOptionsT()
    options.condSubgraphIndex = options.bodySubgraphIndex = 0
    operator = model.subgraphs[0].operators[0]
    operator.inputs = [0, 1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.WhileOptions, options


def _double(model):
    """Thirty subgraphs, each entering the next twice: 2 ** 30 runs from a few kilobytes."""
    _recurse(model)
    first = model.subgraphs[0]
    model.subgraphs = []
    for number in range(30):
        options = schema.WhileOptionsT()
        options.condSubgraphIndex = options.bodySubgraphIndex = number + 1
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [0, 1], [2]
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.WhileOptions, options
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.inputs, subgraph.outputs = first.tensors, [0], [2]
        subgraph.operators = [operator]
        model.subgraphs.append(subgraph)
    last = schema.SubGraphT()
    last.tensors, last.inputs, last.outputs, last.operators = first.tensors, [0], [0], []
    model.subgraphs.append(last)


def _set(path, value):
    def change(model):
        *parents, name = path
        holder = model
        for step in parents:
            holder = holder[step] if isinstance(step, int) else getattr(holder, step)
        if isinstance(name, int):
            holder[name] = value
        else:
            setattr(holder, name, value)

    return change


TENSORS = ("subgraphs", 0, "tensors")
OPERATOR = ("subgraphs", 0, "operators", 0)


def test_the_unchanged_file_passes():
    read_structure(build(lambda model: None))
    read_structure(build(_signature))
    read_structure(build(lambda model: _quantize(model.subgraphs[0].tensors[1], [0.5, 0.25])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(("version",), 4), "schema version"),
        (_set(("subgraphs",), []), "no subgraph"),
        (_set(("buffers",), []), "no buffers"),
        (_set((*OPERATOR, "opcodeIndex"), 1), "index below 1"),
        (_set((*OPERATOR, "inputs"), [0, 3, -1]), "tensor indices"),
        (_set((*OPERATOR, "inputs"), [0, -2, -1]), "tensor indices"),
        (_set((*OPERATOR, "inputs"), [0, -1, -1]), "left out"),
        (_set((*OPERATOR, "inputs"), []), "too few inputs"),
        (_set((*OPERATOR, "inputs"), [2, 1, -1]), "before anything writes it"),
        (_set((*OPERATOR, "outputs"), [1]), "already holds a value"),
        (_set((*OPERATOR, "outputs"), [0]), "already holds a value"),
        (_set((*OPERATOR, "outputs"), [-1]), "tensor indices"),
        (_set((*OPERATOR, "outputs"), []), "too few inputs"),
        (_set((*OPERATOR, "builtinOptionsType"), schema.BuiltinOptions.SoftmaxOptions), "options of type 8"),
        (_set(("subgraphs", 0, "outputs"), [7]), "tensor indices"),
        (_set(("subgraphs", 0, "operators"), []), "nothing writes output"),
        (_set(("subgraphs", 0, "inputs"), [0, 1]), "is a constant"),
        (_set((*TENSORS, 0, "buffer"), 9), "index below 2"),
        (_set((*TENSORS, 0, "type"), 99), "unknown type"),
        (_set((*TENSORS, 0, "shape"), [1, -4]), "impossible shape"),
        (_set((*TENSORS, 0, "shape"), [1] * 17), "impossible shape"),
        (_set((*TENSORS, 0, "shape"), [2**16, 2**16]), "bytes of memory"),
        (_set((*TENSORS, 0, "shape"), [2**31 - 1] * 16), "bytes of memory"),
        (_set((*TENSORS, 1, "shape"), [2, 5]), "expected 40 bytes"),
        (_set((*TENSORS, 1, "type"), schema.TensorType.INT8), "expected 8 bytes"),
        (_set((*TENSORS, 1, "isVariable"), True), "variable has constant bytes"),
        (lambda model: _quantize(model.subgraphs[0].tensors[1], [1.0, 1.0], axis=5), "do not fit"),
        (lambda model: _quantize(model.subgraphs[0].tensors[1], [1.0, 1.0, 1.0]), "do not fit"),
        (lambda model: _quantize(model.subgraphs[0].tensors[1], [np.nan]), "finite and positive"),
        (lambda model: _quantize(model.subgraphs[0].tensors[1], [0.0]), "finite and positive"),
        (lambda model: _quantize(model.subgraphs[0].tensors[1], [1.0, -1.0]), "finite and positive"),
        (lambda model: _quantize(model.subgraphs[0].tensors[1], [1.0, 1.0], zero_points=[0] * 5), "zero points"),
        (_set((*TENSORS, 0, "shape"), [1, 0]), "a side of 0"),
        (_set((*TENSORS, 2, "type"), schema.TensorType.RESOURCE), "touches a resource"),
        (_set((*TENSORS, 2, "isVariable"), True), "writes a variable"),
        (lambda model: _signature(model, subgraph=1), "index below 1"),
        (lambda model: _signature(model, inputs=(("x", 1),)), "does not take or give"),
        (lambda model: _signature(model, inputs=(("x", 0), ("x", 0))), "does not take or give"),
        (lambda model: [_signature(model), _signature(model)], "two signatures"),
        (_recurse, "calls itself"),
        (_double, "without end"),
    ],
)
def test_tables_that_contradict_each_other(change, message):
    with pytest.raises(FlatbufferError, match=message):
        read_structure(build(change))


def test_buffers_outside_the_file():
    def outside(offset, size):
        def change(model):
            model.buffers[1].data = None
            model.buffers[1].offset, model.buffers[1].size = offset, size

        return change

    content = build(outside(4096, 32))
    content += bytes(4096 - len(content))
    read_structure(content + bytes(32))
    with pytest.raises(FlatbufferError, match="ends at byte"):
        read_structure(content + bytes(31))
    with pytest.raises(FlatbufferError, match="ends at byte"):
        read_structure(build(outside(2**63, 2**63)) + bytes(64))
    with pytest.raises(FlatbufferError, match="overlap the flatbuffer"):
        read_structure(build(outside(16, 32)) + bytes(64))
    with pytest.raises(FlatbufferError, match="misaligned"):
        read_structure(build(outside(4098, 32)).ljust(4200, b"\0"))


def test_a_small_file_can_not_describe_a_large_one():
    """20,000 references to one subgraph of thousands of tensors, in 100 kB: work stays bounded."""
    builder = flatbuffers.Builder(1 << 16)
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, 5000)
    for _ in range(5000):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 20000)
    for _ in range(20000):
        builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, subgraphs)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    verifier = FlatbufferVerifier(bytes(builder.Output()))
    with pytest.raises(FlatbufferError, match="times its own size"):
        for at in verifier.walk()[2]:
            verifier.subgraph(at)


def test_a_mapped_file_that_is_refused_is_let_go(tmp_path):
    """An error whose traceback holds a view into the map would turn the refusal into a BufferError."""
    (tmp_path / "m.tflite").write_bytes(build(lambda model: _quantize(model.subgraphs[0].tensors[1], [1.0, -1.0])))
    with pytest.raises(ModelFileError, match="finite and positive"):
        ModelFile.open(tmp_path / "m.tflite")
