"""What a .tflite's tables say, checked against each other, before an interpreter believes them.

The flatbuffer verifier proves that offsets stay inside the file. This module proves that indices mean something
(tensors, buffers, operator codes, subgraphs), that constants have the bytes of their shape, that data flows forward
(nothing is read before it is written, no constant is written to), that control flow has no recursion, and that
scales are numbers.
Layer: device. Imports NumPy, ``flatbuffer_verifier``, ``tflite_schema``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from moe_edge.runtime.flatbuffer_verifier import FlatbufferError, FlatbufferVerifier, Row, Span
from moe_edge.runtime.integrity import find_head
from moe_edge.runtime.operand_rules import check_operands
from moe_edge.runtime.operator_rules import check_operator
from moe_edge.runtime.scale_rules import check_scales
from moe_edge.runtime.tflite_schema import CUSTOM_OPERATOR, SCHEMA_VERSION, TENSOR_TYPES, UNIONS

_MAX_RANK = 16
_MAX_ACTIVATION_BYTES = 2**28
"""Of one tensor that isn't stored in the file: a few bytes of shape may ask for any amount of memory."""
_MAX_SUBGRAPH_RUNS = 65536
"""How many times control flow may enter a subgraph in all, were every branch taken once."""


class Tensor(NamedTuple):
    """One tensor: its shape without wildcards, type as in ``TENSOR_TYPES``, and its place if constant.

    No name: nothing here goes by it, and names are a third of what a file of many experts costs in memory.
    """

    shape: tuple[int, ...]
    dtype: str
    constant: Span | None


class Signature(NamedTuple):
    """A named way to run the model.

    Attributes:
        name: Such as ``serving_default``.
        subgraph: Index of the subgraph that it runs.
        inputs: Name of each input -> index of its tensor in the subgraph.
        outputs: Name of each output -> index of its tensor in the subgraph.
    """

    name: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


class Subgraph(NamedTuple):
    """One subgraph: its tensors, and which of them go in and come out, by index."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class ModelStructure(NamedTuple):
    """What a verified file holds.

    Attributes:
        signatures: The signatures by name, in the file's order.
        subgraphs: The subgraphs.
        metadata: Name of each metadata entry -> position and bytes of its buffer in the file.
        head: Where the flatbuffer ends and the weights begin.
    """

    signatures: dict[str, Signature]
    subgraphs: tuple[Subgraph, ...]
    metadata: dict[str, Span]
    head: int


def read_structure(content: Any) -> ModelStructure:
    """Verify a whole file.

    Args:
        content: The file, bytes or a memory map.

    Raises:
        FlatbufferError: If it isn't a .tflite that an interpreter may be given.
    """
    return _StructureReader(content, FlatbufferVerifier(content)).read()


class _StructureReader:
    """Checks the rows of one file against each other."""

    def __init__(self, content: Any, verifier: FlatbufferVerifier) -> None:
        self._content = content
        self._verifier = verifier
        model = verifier.walk()
        self._version, self._codes, self._subgraphs, _, self._buffers = model[:5]
        self._metadata, self._signatures = model[6] or [], model[7] or []
        self._places: list[Span] = []
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}

    def read(self) -> ModelStructure:
        if self._version != SCHEMA_VERSION:
            raise FlatbufferError(f"expected schema version {SCHEMA_VERSION}, got {self._version}")
        if not self._subgraphs or not self._buffers or self._codes is None:
            raise FlatbufferError("it has no subgraph, no buffers or no operator codes")
        for code in self._codes:
            if max(code[0], code[3]) == CUSTOM_OPERATOR and not code[1]:
                raise FlatbufferError("a custom operator has no name")
        head = self._place_buffers()
        subgraphs, calls = [], []
        for index, at in enumerate(self._subgraphs):
            row = self._verifier.subgraph(at)
            subgraphs.append(self._subgraph(row, f"subgraph {index}"))
            calls.append([callee for operator in row[3] for callee in self._callees(operator)])
        self._check_control_flow(calls)
        if head < (furthest := self._verifier.furthest):
            raise FlatbufferError(f"weights at byte {head} overlap the flatbuffer, which ends at byte {furthest}")
        return ModelStructure(
            signatures=self._read_signatures(subgraphs),
            subgraphs=tuple(subgraphs),
            metadata={
                self._text(name): self._places[_index(buffer, self._places, "metadata")]
                for name, buffer in self._metadata
            },
            head=head,
        )

    def _place_buffers(self) -> int:
        """Find every buffer's bytes; returns where the weights begin."""
        end = len(self._content)
        head = find_head((offset for _, offset, _ in self._buffers), total_bytes=end)
        for index, (data, offset, size) in enumerate(self._buffers):
            if offset > 1:
                if data is not None and data[1]:
                    raise FlatbufferError(f"buffer {index} has its bytes twice")
                if size > end - offset:
                    raise FlatbufferError(f"buffer {index} ends at byte {offset + size} of a file of {end}")
                self._places.append((offset, size))
            else:
                self._places.append(data or (0, 0))
        return head

    def _subgraph(self, row: Row, where: str) -> Subgraph:
        tensor_rows, inputs, outputs, operators = row[:4]
        if tensor_rows is None or operators is None:
            raise FlatbufferError(f"{where} has no tensors or no operators")
        tensors = tuple(self._tensor(tensor, index, where) for index, tensor in enumerate(tensor_rows))
        count = len(tensors)
        ins, outs = self._indices(inputs, count, where), self._indices(outputs, count, where)
        self._check_quantization(tensor_rows, tensors, where)
        variables = [bool(tensor[5]) for tensor in tensor_rows]
        subgraph = Subgraph(tensors, ins, outs)
        self._check_data_flow(subgraph, variables, operators, where)
        return subgraph

    def _tensor(self, row: Row, index: int, where: str) -> Tensor:
        shape, type_code, buffer, _, _, is_variable, sparsity, signature = row[:8]
        if type_code not in TENSOR_TYPES:
            raise FlatbufferError(f"{where}, tensor {index}: unknown type {type_code}")
        dtype, bits = TENSOR_TYPES[type_code]
        # Experts are alike: a shape is kept once.
        dims = self._shapes.setdefault(found := self._integers(shape), found)
        if len(dims) > _MAX_RANK or any(dim < 0 for dim in dims) or (signature and signature[1] > _MAX_RANK):
            raise FlatbufferError(f"{where}, tensor {index}: impossible shape {dims[:_MAX_RANK]}")
        needed = (math.prod(dims) * bits + 7) // 8
        at, size = place = self._places[_index(buffer, self._places, where)]
        if not size:
            if needed > _MAX_ACTIVATION_BYTES:
                raise FlatbufferError(f"{where}, tensor {index}: asks for {needed} bytes of memory")
            return Tensor(dims, dtype, None)
        if is_variable:
            raise FlatbufferError(f"{where}, tensor {index}: a variable has constant bytes")
        if bits and sparsity is None and size != needed:
            raise FlatbufferError(f"{where}, tensor {index}: expected {needed} bytes for {dtype} {dims}, got {size}")
        if bits > 8 and at % min(bits // 8, 8):
            raise FlatbufferError(f"{where}, tensor {index}: its bytes at {at} are misaligned for {dtype}")
        return Tensor(dims, dtype, place)

    def _check_quantization(self, rows: list[Row], tensors: tuple[Tensor, ...], where: str) -> None:
        for index, (row, tensor) in enumerate(zip(rows, tensors, strict=True)):
            if row[4] is None:
                continue
            _, _, scales, zero_points, details_type, details, axis = row[4]
            if details_type in (2, 3) and details is not None:
                for reference in details[:2]:
                    if reference != 0xFFFFFFFF:
                        _index(reference, tensors, f"{where}, tensor {index}: block scales")
            if not scales or not scales[1]:
                continue
            check_scales(
                self._content,
                scales,
                zero_points,
                dtype=tensor.dtype,
                shape=tensor.shape,
                axis=axis,
                where=f"{where}, tensor {index}",
            )

    def _check_data_flow(self, subgraph: Subgraph, variables: list[bool], operators: list[Row], where: str) -> None:
        """Nothing is read before it is written, and nothing constant or given is written to."""
        tensors = subgraph.tensors
        written = [bool(tensor.constant) or variable for tensor, variable in zip(tensors, variables, strict=True)]
        for index in subgraph.inputs:
            if tensors[index].constant:
                raise FlatbufferError(f"{where}: input tensor {index} is a constant")
            written[index] = True
        for number, operator in enumerate(operators):
            place = f"{where}, operator {number}"
            _index(operator[0], self._codes, place)
            reads = self._indices(operator[1], len(tensors), place, optional=True)
            writes = self._indices(operator[2], len(tensors), place)
            code = self._codes[operator[0]]
            check_operator(max(code[0], code[3]), operator, reads, len(writes), place)
            if any(
                len(tensors[index].shape) > 1 and 0 in tensors[index].shape for index in (*reads, *writes) if index >= 0
            ):
                # Empty lists are usual, of axes or sizes; kernels of matrices divide by their sides.
                raise FlatbufferError(f"{place} works on a tensor with a side of 0")
            for index in reads:
                # A tensor without elements has no bytes to be written, and nothing is read from it.
                if index >= 0 and not written[index] and 0 not in tensors[index].shape:
                    raise FlatbufferError(f"{place} reads tensor {index} before anything writes it")
            check_operands(
                max(code[0], code[3]),
                [tensors[index].dtype for index in reads if index >= 0],
                [tensors[index].dtype for index in writes],
                writes_state=any(variables[index] for index in writes),
                where=place,
            )
            for index in writes:
                if written[index]:
                    raise FlatbufferError(f"{place} writes tensor {index}, which already holds a value")
                written[index] = True
            self._indices(operator[8], len(tensors), place, optional=True)
            if operator[9] > 1 and operator[10] > len(self._content) - operator[9]:
                raise FlatbufferError(f"{place}: its options end outside the file")
        for index in subgraph.outputs:
            if not written[index]:
                raise FlatbufferError(f"{where}: nothing writes output tensor {index}")

    def _check_control_flow(self, calls: list[list[int]]) -> None:
        """Subgraphs that operators call exist, never call themselves, and multiply to a bounded number of runs."""
        runs: dict[int, int] = {}
        for root in range(len(calls)):
            stack = [(root, iter(calls[root]))]
            on_path = {root}
            while stack:
                caller, rest = stack[-1]
                callee = next(rest, None)
                if callee is None:
                    stack.pop()
                    on_path.discard(caller)
                    runs[caller] = 1 + sum(runs[called] for called in calls[caller])
                    if runs[caller] > _MAX_SUBGRAPH_RUNS:
                        raise FlatbufferError("control flow multiplies its subgraphs without end")
                elif callee in on_path:
                    raise FlatbufferError(f"subgraph {callee} calls itself")
                elif callee not in runs:
                    on_path.add(callee)
                    stack.append((callee, iter(calls[callee])))

    def _callees(self, operator: Row) -> Iterable[int]:
        for type_code, options, union in ((operator[3], operator[4], _CALLS), (operator[11], operator[12], _CALLS_2)):
            if options is None or type_code not in union:
                continue
            for slot in union[type_code]:
                found = options[slot]
                for callee in [found] if isinstance(found, int) else self._integers(found):
                    # -1 stands for "calls none" in composite operators.
                    if callee != -1:
                        yield _index(callee, self._subgraphs, "control flow")

    def _read_signatures(self, subgraphs: list[Subgraph]) -> dict[str, Signature]:
        signatures: dict[str, Signature] = {}
        for inputs, outputs, key, _, number in self._signatures:
            name = self._text(key)
            if name in signatures:
                raise FlatbufferError(f"two signatures are called {name!r}")
            subgraph = subgraphs[_index(number, subgraphs, f"signature {name!r}")]
            signatures[name] = Signature(
                name,
                number,
                self._tensor_map(inputs, subgraph.inputs, name),
                self._tensor_map(outputs, subgraph.outputs, name),
            )
        return signatures

    def _tensor_map(self, rows: list[Row] | None, allowed: tuple[int, ...], signature: str) -> dict[str, int]:
        named = {self._text(name): index for name, index in rows or []}
        if len(named) != len(rows or []) or not set(named.values()) <= set(allowed):
            raise FlatbufferError(f"signature {signature!r} names tensors that its subgraph does not take or give")
        return named

    def _integers(self, span: Span | None) -> tuple[int, ...]:
        if not span or not span[1]:
            return ()
        if span[1] == 1:
            return (int.from_bytes(self._content[span[0] : span[0] + 4], "little", signed=True),)
        return tuple(np.frombuffer(self._content, "<i4", span[1], span[0]).tolist())

    def _indices(self, span: Span | None, count: int, where: str, *, optional: bool = False) -> tuple[int, ...]:
        found = self._integers(span)
        lowest = -1 if optional else 0
        if found and not (min(found) >= lowest and max(found) < count):
            raise FlatbufferError(f"{where}: expected tensor indices in [{lowest}, {count}), got {found[:8]}")
        return found

    def _text(self, span: Span | None) -> str:
        if span is None:
            return ""
        return bytes(self._content[span[0] : span[0] + span[1]]).decode("utf-8", "replace")


def _index(index: int, items: Any, where: str) -> int:
    if not 0 <= index < len(items):
        raise FlatbufferError(f"{where}: expected an index below {len(items)}, got {index}")
    return index


def _slots_of_subgraphs(union: str) -> dict[int, tuple[int, ...]]:
    """Union type -> slots that hold indices of subgraphs."""
    return {
        code: slots
        for code, fields in UNIONS[union].items()
        if (slots := tuple(slot for slot, kind in enumerate(fields.split()) if "g" in kind))
    }


_CALLS = _slots_of_subgraphs("BuiltinOptions")
_CALLS_2 = _slots_of_subgraphs("BuiltinOptions2")
