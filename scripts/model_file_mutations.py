"""Damage .tflite files in ways that chance and malice would, from a seed.

Afterwards the digests are put right, so that the structural checks and not the hash have to find the damage.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffer_fields import Field, list_fields

from moe_edge.manifest import HASH_NAME, MANIFEST_NAME
from moe_edge.runtime.flatbuffer_verifier import FlatbufferError
from moe_edge.runtime.integrity import HASH_BYTES, compute_digests
from moe_edge.runtime.model_structure import read_structure
from moe_edge_converters.file_writer import read_model, serialize

_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000)
_NUMBERS += (2**28, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass
class Corpus:
    """Whole files to start from, and where their fields are."""

    files: Sequence[bytes]
    _fields: dict[int, list[Field]] = field(default_factory=dict)

    def fields(self, index: int) -> list[Field]:
        """The fields of one file, found once."""
        if index not in self._fields:
            self._fields[index] = list_fields(self.files[index])
        return self._fields[index]


@dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
        content: Its bytes.
        mutation: The name of what was done.
        source: Which file of the corpus it was.
    """

    content: bytes
    mutation: str
    source: int


def make_mutant(corpus: Corpus, seed: int, number: int) -> Mutant:
    """Mutant ``number`` of a run: the same corpus, seed and number give the same bytes."""
    rng = random.Random(f"{seed}/{number}")
    source = rng.randrange(len(corpus.files))
    mutate = rng.choice(MUTATIONS)
    content = mutate(rng, corpus, source)
    # One in sixteen keeps its old digests: the hash is a check too.
    if rng.randrange(16):
        content = restore_digests(content)
    return Mutant(content=content, mutation=mutate.__name__, source=source)


def restore_digests(content: bytes) -> bytes:
    """Write the digests of what is there now; a file that can't be walked keeps what it has."""
    try:
        structure = read_structure(content)
    except FlatbufferError:
        return content
    at, size = structure.metadata.get(HASH_NAME, (0, 0))
    if size != HASH_BYTES or at + size > structure.head:
        return content
    digests = compute_digests(content, head=structure.head, hash_at=at)
    return content[:at] + digests + content[at + size :]


def flip_bits(rng: random.Random, corpus: Corpus, source: int) -> bytes:
    """Flip one to sixteen bits anywhere."""
    content = bytearray(corpus.files[source])
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def truncate(rng: random.Random, corpus: Corpus, source: int) -> bytes:
    """Cut the end off, or append to it."""
    content = corpus.files[source]
    if not rng.randrange(4):
        return content + rng.randbytes(rng.randrange(1, 64))
    return content[: rng.randrange(len(content))]


def splice(rng: random.Random, corpus: Corpus, source: int) -> bytes:
    """Copy a piece of some file over, into or out of this one."""
    content = bytearray(corpus.files[source])
    other = rng.choice(corpus.files)
    length = rng.choice((4, 8, 16, 64, 256, 4096))
    start = rng.randrange(max(1, len(other) - length))
    piece = other[start : start + length]
    at = rng.randrange(len(content)) & ~3
    style = rng.randrange(4)
    if style == 0:
        content[at : at + length] = piece
    elif style == 1:
        content[at:at] = piece
    elif style == 2:
        del content[at : at + length]
    else:
        content[at : at + length] = bytes(length)
    return bytes(content)


def change_fields(rng: random.Random, corpus: Corpus, source: int) -> bytes:
    """Give one to three fields other numbers: offsets, lengths, indices, shapes, options, vtables."""
    content = bytearray(corpus.files[source])
    fields = corpus.fields(source)
    kind = rng.choice(("scalar", "scalar", "element", "element", "offset", "length", "vtable", "slot"))
    chosen = [found for found in fields if found.kind == kind]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _overwrite(rng, content, rng.choice(chosen), fields)
    return bytes(content)


def _overwrite(rng: random.Random, content: bytearray, target: Field, fields: list[Field]) -> None:
    limit = 1 << (8 * target.width)
    old = int.from_bytes(content[target.at : target.at + target.width], "little")
    style = rng.randrange(5)
    if style == 0:
        new = rng.choice(_NUMBERS)
    elif style == 1:
        new = old + rng.choice((-64, -8, -4, -2, -1, 1, 2, 4, 8, 64))
    elif style == 2:
        other = rng.choice(fields)
        # As an offset: from here to another field. As a number: that field's place.
        new = other.at - target.at if target.kind in ("offset", "vtable") else other.at
    elif style == 3:
        new = len(content) + rng.choice((-target.at, 0, -1, 1))
    else:
        new = rng.randrange(64)
    content[target.at : target.at + target.width] = (new % limit).to_bytes(target.width, "little")


def change_meaning(rng: random.Random, corpus: Corpus, source: int) -> bytes:
    """Write a sound flatbuffer that says something else: other operators, shapes, types, indices, scales."""
    model = read_model(corpus.files[source])
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_MEANINGS)(rng, model)
    manifest = None
    kept = []
    for entry in model.metadata or []:
        name = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
        if name == MANIFEST_NAME:
            manifest = bytes(np.asarray(model.buffers[entry.buffer].data, dtype=np.uint8))
        elif name != HASH_NAME:
            kept.append(entry)
    model.metadata = kept
    try:
        return serialize(model, manifest=manifest, self_contained=bool(rng.randrange(2)))
    except (ValueError, TypeError, OverflowError, struct.error, AttributeError):
        # A number that its field can't hold: nothing to test.
        return flip_bits(rng, corpus, source)


def _number(rng: random.Random, near: int) -> int:
    """A number for an int32 field: near the old one, small, or one that overflows products."""
    style = rng.randrange(6)
    if style < 2:
        return near + rng.choice((-2, -1, 1, 2))
    if style < 5:
        return rng.choice((-1, 0, 1, 2, 3, 5, 8, 64))
    return rng.choice((-(2**31), 2**31 - 1, 65536, 2**20, 2**24, 46341))


def _shape(rng: random.Random, model: Any) -> None:
    tensor = rng.choice(rng.choice(model.subgraphs).tensors)
    shape = [int(size) for size in tensor.shape] if tensor.shape is not None else []
    style = rng.randrange(4)
    if style == 0:
        shape.insert(rng.randrange(len(shape) + 1), rng.choice((0, 1, 1, 2)))
    elif style == 1 and shape:
        del shape[rng.randrange(len(shape))]
    elif style == 2:
        rng.shuffle(shape)
    elif shape:
        axis = rng.randrange(len(shape))
        shape[axis] = _number(rng, shape[axis])
    tensor.shape = shape


def _type(rng: random.Random, model: Any) -> None:
    rng.choice(rng.choice(model.subgraphs).tensors).type = rng.randrange(23)


def _tensor_buffer(rng: random.Random, model: Any) -> None:
    tensor = rng.choice(rng.choice(model.subgraphs).tensors)
    tensor.buffer = rng.choice((0, rng.randrange(len(model.buffers)), len(model.buffers)))


def _buffer_bytes(rng: random.Random, model: Any) -> None:
    """Constants of a few bytes are axes, shapes, indices."""
    small = [
        buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) and len(buffer.data) <= 512
    ]
    buffer = rng.choice(small)
    data = bytearray(bytes(np.asarray(buffer.data, dtype=np.uint8)))
    if len(data) >= 4 and rng.randrange(4):
        at = rng.randrange(len(data) // 4) * 4
        near = struct.unpack_from("<i", data, at)[0]
        struct.pack_into("<i", data, at, max(-(2**31), min(2**31 - 1, _number(rng, near))))
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    buffer.data = np.frombuffer(bytes(data), dtype=np.uint8)


def _operator_tensors(rng: random.Random, model: Any) -> None:
    graph = rng.choice(model.subgraphs)
    operator = rng.choice(graph.operators)
    indices = [int(index) for index in (operator.inputs if rng.randrange(4) else operator.outputs)]
    target = "inputs" if indices == [int(index) for index in operator.inputs] else "outputs"
    style = rng.randrange(4)
    if style == 0 and indices:
        del indices[rng.randrange(len(indices))]
    elif style == 1:
        indices.insert(rng.randrange(len(indices) + 1), rng.randrange(len(graph.tensors)))
    elif style == 2:
        rng.shuffle(indices)
    elif indices:
        indices[rng.randrange(len(indices))] = rng.choice((-1, rng.randrange(len(graph.tensors)), len(graph.tensors)))
    setattr(operator, target, indices)


def _operator_order(rng: random.Random, model: Any) -> None:
    operators = rng.choice(model.subgraphs).operators
    a, b = rng.randrange(len(operators)), rng.randrange(len(operators))
    operators[a], operators[b] = operators[b], operators[a]


def _operator_kind(rng: random.Random, model: Any) -> None:
    """Another operator code, for one operator or for all of a kind; the options may come along."""
    if rng.randrange(2):
        operator = rng.choice(rng.choice(model.subgraphs).operators)
        operator.opcodeIndex = rng.randrange(len(model.operatorCodes) + 1)
        if rng.randrange(2):
            donor = rng.choice(rng.choice(model.subgraphs).operators)
            operator.builtinOptions, operator.builtinOptionsType = donor.builtinOptions, donor.builtinOptionsType
        return
    code = rng.choice(model.operatorCodes)
    code.builtinCode = rng.randrange(210)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = rng.choice((1, 1, 2, 5, 12, 100))


def _own_options(rng: random.Random, model: Any) -> None:
    """An operator of another kind with default options of that kind."""
    names = [name for name in vars(schema.BuiltinOptions) if not name.startswith("_") and name != "NONE"]
    name = rng.choice(names)
    operator = rng.choice(rng.choice(model.subgraphs).operators)
    operator.builtinOptions = getattr(schema, f"{name}T")()
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
    words = "".join(f"_{letter}" if letter.isupper() else letter for letter in name.removesuffix("Options"))
    code = getattr(schema.BuiltinOperator, words.strip("_").upper(), None)
    if code is not None:
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
        model.operatorCodes.append(entry)
        operator.opcodeIndex = len(model.operatorCodes) - 1


def _options(rng: random.Random, model: Any) -> None:
    operators = [
        operator for graph in model.subgraphs for operator in graph.operators if operator.builtinOptions is not None
    ]
    options = rng.choice(operators).builtinOptions
    numbers = [name for name, value in vars(options).items() if isinstance(value, (bool, int, float, np.integer))]
    if not numbers:
        return
    name = rng.choice(numbers)
    old = getattr(options, name)
    if isinstance(old, bool):
        setattr(options, name, not old)
    elif isinstance(old, float):
        setattr(options, name, rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38)))
    else:
        setattr(options, name, _number(rng, int(old)))


def _scales(rng: random.Random, model: Any) -> None:
    tensors = [
        tensor
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.quantization is not None and tensor.quantization.scale is not None and len(tensor.quantization.scale)
    ]
    if not tensors:
        _type(rng, model)
        return
    quantization = rng.choice(tensors).quantization
    scales, zeros = list(quantization.scale), list(quantization.zeroPoint)
    style = rng.randrange(6)
    if style == 0:
        scales[rng.randrange(len(scales))] = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e-38, 1e38))
    elif style == 1 and zeros:
        zeros[rng.randrange(len(zeros))] = rng.choice((-(2**63), 2**63 - 1, 128, -129, 1))
    elif style == 2:
        del scales[rng.randrange(len(scales))]
    elif style == 3:
        scales, zeros = scales * 2, zeros * 2
    elif style == 4:
        scales, zeros = scales[:1], zeros[:1]
    else:
        quantization.quantizedDimension = _number(rng, quantization.quantizedDimension)
    quantization.scale = np.asarray(scales, dtype=np.float32)
    quantization.zeroPoint = np.asarray(zeros, dtype=np.int64)


def _edges(rng: random.Random, model: Any) -> None:
    """What a subgraph or a signature takes and gives."""
    graph = rng.choice(model.subgraphs)
    count = len(graph.tensors)
    style = rng.randrange(4)
    if style == 0:
        graph.inputs = [rng.randrange(count) for _ in range(rng.randrange(4))]
    elif style == 1:
        graph.outputs = [rng.randrange(count) for _ in range(rng.randrange(4))]
    elif style == 2 and model.signatureDefs:
        signature = rng.choice(model.signatureDefs)
        signature.subgraphIndex = rng.randrange(len(model.subgraphs) + 1)
    elif model.signatureDefs:
        signature = rng.choice(model.signatureDefs)
        entry = rng.choice([*signature.inputs, *signature.outputs])
        entry.tensorIndex = rng.choice((-1, rng.randrange(count), count))


def _variable(rng: random.Random, model: Any) -> None:
    rng.choice(rng.choice(model.subgraphs).tensors).isVariable = True


def _drop_operator(rng: random.Random, model: Any) -> None:
    operators = rng.choice(model.subgraphs).operators
    if operators:
        del operators[rng.randrange(len(operators))]


_MEANINGS: tuple[Callable[[random.Random, Any], None], ...] = (
    *(_shape, _shape, _type, _tensor_buffer, _buffer_bytes, _buffer_bytes, _operator_tensors, _operator_tensors),
    *(_operator_order, _operator_kind, _own_options, _options, _scales, _edges, _variable, _drop_operator),
)

MUTATIONS: tuple[Callable[[random.Random, Corpus, int], bytes], ...] = (
    *(flip_bits, truncate, splice, change_fields, change_fields, change_meaning, change_meaning, change_meaning),
)
"""Every way to damage a file; those that pass most checks come more often."""
