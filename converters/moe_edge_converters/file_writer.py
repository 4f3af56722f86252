"""Serialise a model to the bytes of a .tflite: metadata and manifest inside, weights after the flatbuffer.

Weights lie outside the flatbuffer (``Buffer.offset`` and ``size``), so that several tensors may share bytes and the
part before them can be hashed without reading a large file. Knows nothing about Keras.
Layer: desktop (converters).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from moe_edge.manifest import HASH_NAME, MANIFEST_NAME
from moe_edge.runtime.integrity import compute_digests

MIN_EXTERNAL_BYTES = 64
"""Smaller constants (axes, shapes) stay inside the flatbuffer, where the hash of the head covers them."""

ALIGNMENT = 16
"""As the schema demands of buffers inside the flatbuffer."""

_FILE_IDENTIFIER = b"TFL3"
_DIGESTS_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Alias:
    """A buffer whose bytes are a slice of another buffer's."""

    buffer: int
    offset: int


def read_model(content: bytes) -> Any:
    """Parse a .tflite into the schema's object classes; weights outside the flatbuffer are brought in."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


class _SharingBuilder(flatbuffers.Builder):
    """Stores equal number vectors once.

    A per-channel tensor carries a scale and an 8-byte zero point a channel; most zero-point vectors are all zeros, and
    an expert's tensors stand in the fused graph and again in its own signature.
    """

    def __init__(self) -> None:
        super().__init__(1 << 16)
        self._vectors: dict[tuple[str, bytes], int] = {}
        self._texts: dict[bytes, int] = {}

    def CreateString(self, s: Any, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        """Add a text, or find the equal one that is there: tensors keep their names in every signature."""
        key = s if isinstance(s, bytes) else s.encode(encoding, errors)
        if key not in self._texts:
            self._texts[key] = int(super().CreateString(key))
        return self._texts[key]

    def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802 - the base class's name
        """Add a vector, or find the equal one that is there."""
        if x.dtype == np.uint8:
            # Buffer contents: aligned as the schema demands (the base class aligns to the item), never shared,
            # because the hash is written into one of them later.
            self.StartVector(1, x.size, ALIGNMENT)
            self.head -= x.size
            self.Bytes[self.head : self.head + x.size] = x.tobytes()
            return int(self.EndVector())
        key = (x.dtype.str, x.tobytes())
        if key not in self._vectors:
            self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]


def pack(model: Any) -> bytes:
    """Serialise with everything inside the flatbuffer, without hash: for tools that read no external weights."""
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            operator.inputs = np.asarray(operator.inputs, dtype=np.int32)
            operator.outputs = np.asarray(operator.outputs, dtype=np.int32)
        for tensor in subgraph.tensors:
            tensor.shape = np.asarray(tensor.shape, dtype=np.int32)
            quantization = tensor.quantization
            if quantization is not None and quantization.scale is not None:
                quantization.scale = np.asarray(quantization.scale, dtype=np.float32)
                quantization.zeroPoint = np.asarray(quantization.zeroPoint, dtype=np.int64)
    builder = _SharingBuilder()
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def serialize(
    model: Any, *, manifest: bytes | None, aliases: Mapping[int, Alias] | None = None, self_contained: bool = False
) -> bytes:
    """Serialise a model with its manifest and hash.

    Args:
        model: The model; its metadata and buffers are left as they came.
        manifest: JSON for the metadata, or None.
        aliases: Buffers stored as slices of others.
        self_contained: Keep all weights inside the flatbuffer, for runtimes that know no external buffers.

    Returns:
        The file's bytes; the same model gives the same bytes.
    """
    kept_buffers, kept_metadata = model.buffers, model.metadata
    model.buffers = [_copy(buffer) for buffer in kept_buffers]
    model.metadata = list(kept_metadata or [])
    try:
        hash_buffer = _add_metadata(model, HASH_NAME, bytes(_DIGESTS_BYTES))
        if manifest is not None:
            _add_metadata(model, MANIFEST_NAME, manifest)
        external = {} if self_contained else _externalize(model, aliases or {})
        content = bytearray(pack(model))
        content += bytes(-len(content) % ALIGNMENT)
        head = len(content)
        weights = _place_weights(content, external)
        head = head if weights else len(content)
        content += weights
        hash_at = _data_position(content, hash_buffer)
        content[hash_at : hash_at + _DIGESTS_BYTES] = compute_digests(bytes(content), head=head, hash_at=hash_at)
        return bytes(content)
    finally:
        model.buffers, model.metadata = kept_buffers, kept_metadata


def _copy(buffer: Any) -> Any:
    copied = schema.BufferT()
    copied.data = buffer.data
    return copied


def _add_metadata(model: Any, name: str, content: bytes) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, dtype=np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = name
    entry.buffer = len(model.buffers) - 1
    model.metadata.append(entry)
    return len(model.buffers) - 1


@dataclass(frozen=True, kw_only=True)
class _External:
    """Bytes to be stored after the flatbuffer, or a slice of another buffer's bytes."""

    data: bytes
    alias: Alias | None


def _externalize(model: Any, aliases: Mapping[int, Alias]) -> dict[int, _External]:
    """Take the weights' bytes out of the buffers and leave placeholders of the final size."""
    external = {}
    metadata_buffers = {entry.buffer for entry in model.metadata}
    for index, buffer in enumerate(model.buffers):
        size = 0 if buffer.data is None else len(buffer.data)
        if index in metadata_buffers or size < MIN_EXTERNAL_BYTES:
            continue
        external[index] = _External(data=bytes(buffer.data), alias=aliases.get(index))
        buffer.data = None
        # Zero is the default and would take no room; the true values are written when the head's length is known.
        buffer.offset, buffer.size = 1, size
    return external


def _place_weights(content: bytearray, external: dict[int, _External]) -> bytes:
    """Lay the weights out after ``content`` and write their places into its buffers."""
    packed = schema.Model.GetRootAs(content, 0)
    start = len(content)
    weights = bytearray()
    places: dict[int, int] = {}
    known: dict[bytes, int] = {}
    for index, entry in external.items():
        if entry.alias is not None:
            continue
        # Equal bytes are stored once, whoever uses them.
        digest = hashlib.sha256(entry.data).digest()
        if digest not in known:
            weights += bytes(-len(weights) % ALIGNMENT)
            known[digest] = start + len(weights)
            weights += entry.data
        places[index] = known[digest]
    for index, entry in external.items():
        if entry.alias is not None:
            places[index] = places[entry.alias.buffer] + entry.alias.offset
        flatbuffer_utils.update_packed_buffer(packed.Buffers(index), offset=places[index], size=len(entry.data))
    return bytes(weights)


def _data_position(content: bytearray, buffer: int) -> int:
    """Where a buffer's bytes start inside the flatbuffer."""
    table = schema.Model.GetRootAs(content, 0).Buffers(buffer)._tab
    return int(table.Vector(flatbuffers.number_types.UOffsetTFlags.py_type(table.Offset(4))))
