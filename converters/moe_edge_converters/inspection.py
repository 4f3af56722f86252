"""Show what is inside any ``.tflite``: signatures, operators, dtypes, bytes of each part, and our manifest.

Layer: desktop (converters).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from moe_edge.manifest import Manifest
from moe_edge.runtime.model_file import ModelFile
from moe_edge_converters.schemes.audit import OPERATOR_NAMES, TYPE_NAMES

PREPROCESS, COMBINE, FOREIGN = "preprocess", "combine", "whole graph"
_OWN_PARTS = ("preprocess", "gate", "expert_", "bank_", "combine", "trunk")


@dataclass(frozen=True, kw_only=True)
class TensorView:
    """A named input or output: its shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class SignatureView:
    """A signature and the subgraph that it runs."""

    name: str
    subgraph: int
    inputs: tuple[TensorView, ...]
    outputs: tuple[TensorView, ...]


@dataclass(frozen=True, kw_only=True)
class OperatorView:
    """How often the file holds an operator in a version."""

    name: str
    version: int
    count: int


@dataclass(frozen=True, kw_only=True)
class PartView:
    """The constants of one part.

    Attributes:
        name: ``gate``, ``bank_0`` (first layers of several experts), ``expert_3``, ...
        dtypes: dtypes of its constants of at least two dimensions (the weights).
        num_bytes: Bytes of its constants, each byte of the file counted once, for the first part that uses it.
        shared_bytes: Bytes that it uses and another part or signature uses too.
    """

    name: str
    dtypes: tuple[str, ...]
    num_bytes: int
    shared_bytes: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Everything that ``moe-edge inspect`` shows.

    Attributes:
        num_bytes: Size of the file.
        description: The file's own description.
        signatures: In the file's order.
        operators: Over all subgraphs, the most frequent first.
        parts: In graph order; a foreign file is one part.
        metadata: Names of the metadata entries.
        manifest: None for a file that moe-edge didn't write.
    """

    num_bytes: int
    description: str
    signatures: tuple[SignatureView, ...]
    operators: tuple[OperatorView, ...]
    parts: tuple[PartView, ...]
    metadata: tuple[str, ...]
    manifest: Manifest | None


def inspect_file(path: str | Path) -> Inspection:
    """Look into a ``.tflite``, ours or foreign.

    Raises:
        ModelFileError: If the file is missing, truncated or no ``.tflite``.
    """
    with ModelFile.open(Path(path)) as file:
        content = bytes(file.content)
        manifest = file.manifest
    model = schema.Model.GetRootAs(content, 0)
    return Inspection(
        num_bytes=len(content),
        description=_text(model.Description()),
        signatures=tuple(_signature(model, index) for index in range(model.SignatureDefsLength())),
        operators=_operators(model),
        parts=_parts(model, own=manifest is not None),
        metadata=tuple(_text(model.Metadata(index).Name()) for index in range(model.MetadataLength())),
        manifest=manifest,
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _tensor(graph: Any, index: int, name: str) -> TensorView:
    tensor = graph.Tensors(index)
    return TensorView(
        name=name,
        shape=tuple(tensor.Shape(axis) for axis in range(tensor.ShapeLength())),
        dtype=TYPE_NAMES.get(tensor.Type(), str(tensor.Type())),
    )


def _signature(model: Any, index: int) -> SignatureView:
    signature = model.SignatureDefs(index)
    graph = model.Subgraphs(signature.SubgraphIndex())

    def views(maps: Iterable[Any]) -> tuple[TensorView, ...]:
        return tuple(_tensor(graph, entry.TensorIndex(), _text(entry.Name())) for entry in maps)

    return SignatureView(
        name=_text(signature.SignatureKey()),
        subgraph=signature.SubgraphIndex(),
        inputs=views(signature.Inputs(position) for position in range(signature.InputsLength())),
        outputs=views(signature.Outputs(position) for position in range(signature.OutputsLength())),
    )


def _operators(model: Any) -> tuple[OperatorView, ...]:
    counts: Counter[tuple[str, int]] = Counter()
    for position in range(model.SubgraphsLength()):
        graph = model.Subgraphs(position)
        for index in range(graph.OperatorsLength()):
            code = model.OperatorCodes(graph.Operators(index).OpcodeIndex())
            # Files older than the 32-bit field have the code in the deprecated one only.
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            name = _text(code.CustomCode()) or OPERATOR_NAMES.get(number, str(number))
            counts[(name, code.Version())] += 1
    return tuple(
        OperatorView(name=name, version=version, count=count) for (name, version), count in counts.most_common()
    )


def _parts(model: Any, *, own: bool) -> tuple[PartView, ...]:
    dtypes: dict[str, list[str]] = defaultdict(list)
    sizes: Counter[str] = Counter()
    shared: Counter[str] = Counter()
    inside: set[int] = set()
    outside = _SeenBytes()
    for position in range(model.SubgraphsLength()):
        graph = model.Subgraphs(position)
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            buffer = model.Buffers(tensor.Buffer())
            size = buffer.Size() if buffer.Offset() > 1 else buffer.DataLength()
            if not size:
                continue
            name = _part_name(_text(tensor.Name())) if own else FOREIGN
            dtype = TYPE_NAMES.get(tensor.Type(), str(tensor.Type()))
            known = dtypes[name]
            if tensor.ShapeLength() > 1 and dtype not in known:
                known.append(dtype)
            if buffer.Offset() > 1:
                fresh = outside.add(buffer.Offset(), buffer.Offset() + size)
            else:
                fresh = 0 if tensor.Buffer() in inside else size
                inside.add(tensor.Buffer())
            sizes[name] += fresh
            shared[name] += size - fresh
    return tuple(
        PartView(name=name, dtypes=tuple(found), num_bytes=sizes[name], shared_bytes=shared[name])
        for name, found in dtypes.items()
    )


class _SeenBytes:
    """Which bytes of the file some part has already: an expert's weights are a slice of its bank's."""

    def __init__(self) -> None:
        # Disjoint ranges, in order.
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> int:
        """Note [start, end); returns how many of its bytes are new."""
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        touched = list(zip(self._starts[first:last], self._ends[first:last], strict=True))
        known = sum(min(high, end) - max(low, start) for low, high in touched)
        self._starts[first:last] = [min([start, *(low for low, _ in touched)])]
        self._ends[first:last] = [max([end, *(high for _, high in touched)])]
        return end - start - known


def _part_name(tensor_name: str) -> str:
    """The part that a tensor of ours belongs to, by the start of its name."""
    first = tensor_name.split("/", 1)[0]
    return first if first.startswith(_OWN_PARTS) else COMBINE
