"""Walk a .tflite's flatbuffer without trusting a byte of it.

A TFLite interpreter follows the offsets in a file as they stand; one wrong offset ends the process. This walk follows
the same offsets first, by the tables of ``tflite_schema``: every table, vtable, vector, string and union must lie
inside the file, aligned as its type asks. Its work is bounded: what a file may describe is limited by the file's size,
so that a small hostile file that refers to one table a million times is refused instead of followed.
Layer: device. Imports the standard library and ``moe_edge.runtime.tflite_schema``.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

from moe_edge.runtime.tflite_schema import FILE_IDENTIFIER, TABLES, UNIONS

Span: TypeAlias = "tuple[int, int]"
"""A vector of scalars or a string: (position of the first element, number of elements)."""
Row: TypeAlias = "list[Any]"
"""A table's values in slot order: ints, spans, rows, lists of rows; 0 or None where the file has none."""

_U16 = Struct("<H").unpack_from
_U32 = Struct("<I").unpack_from
_I32 = Struct("<i").unpack_from
_SCALARS: dict[int, Callable[..., tuple[int]]] = {
    1: Struct("<B").unpack_from,
    2: _U16,
    4: _U32,
    8: Struct("<Q").unpack_from,
}
_MAX_EXPANSION = 16
"""A file may describe this many times its own size: writers share vectors, such as scales, between tables."""
_SLACK_BYTES = 65536

_SCALAR, _STRING, _VECTOR, _TABLES, _TABLE, _UNION = range(6)


class FlatbufferError(ValueError):
    """The bytes are no flatbuffer of the TFLite schema; the message says where and why."""


class _Field(NamedTuple):
    """One field of a table: what it is, its bytes in the table, and what it refers to."""

    slot: int
    kind: int
    width: int
    target: Any = None


class _Layout(NamedTuple):
    """A table type: its fields and the row of a table that has none of them."""

    fields: tuple[_Field, ...]
    empty: tuple[Any, ...]


_Shape: TypeAlias = "tuple[int, list[tuple[int, int, int, int, Any]], tuple[Any, ...]]"
"""What a vtable says: bytes of a table, (offset, slot, kind, width, target) of each field there, the empty row."""

_layouts: dict[str, _Layout] = {}


def _layout(description: str) -> _Layout:
    """Read one line of ``tflite_schema``."""
    if description not in _layouts:
        fields: list[_Field] = []
        empty: list[Any] = []
        for slot, code in enumerate(description.split()):
            empty.append(0 if code.isdigit() or code == "g" else None)
            if code.isdigit():
                fields.append(_Field(slot, _SCALAR, int(code), _SCALARS[int(code)]))
            elif code == "g":
                fields.append(_Field(slot, _SCALAR, 4, _I32))
            elif code == "s":
                fields.append(_Field(slot, _STRING, 4))
            elif code.startswith("<"):
                fields.append(_Field(slot, _UNION, 4, UNIONS[code[1:]]))
            elif code.startswith("["):
                inner = code[1:-1]
                if inner.isdigit() or inner == "g":
                    fields.append(_Field(slot, _VECTOR, 4, 4 if inner == "g" else int(inner)))
                else:
                    fields.append(_Field(slot, _TABLES, 4, TABLES[inner]))
            elif code != "-":
                fields.append(_Field(slot, _TABLE, 4, TABLES[code]))
        _layouts[description] = _Layout(tuple(fields), tuple(empty))
    return _layouts[description]


_SUBGRAPH = TABLES["SubGraph"]


class FlatbufferVerifier:
    """Walks one flatbuffer.

    Attributes:
        furthest: End of the furthest byte that the walk met; weights may follow from there on.
    """

    def __init__(self, content: Any) -> None:
        """Prepare to walk ``content``, anything with a buffer: bytes, a memory map."""
        self._content = content
        self._size = len(content)
        self._budget = self._size * _MAX_EXPANSION + _SLACK_BYTES
        self._vtables: dict[tuple[int, str], _Shape] = {}
        self.furthest = 8

    def walk(self) -> Row:
        """Verify the flatbuffer but its subgraphs, which ``subgraph`` verifies one by one.

        All their rows at once would be most of what opening a file of many experts costs in memory.

        Returns:
            The ``Model`` table's row, see ``tflite_schema``; each subgraph is the position of its table.

        Raises:
            FlatbufferError: If anything lies outside the file, is misaligned, or describes far more than it holds.
        """
        if self._size < 8:
            raise FlatbufferError(f"expected at least 8 bytes, got {self._size}")
        if bytes(self._content[4:8]) != FILE_IDENTIFIER:
            raise FlatbufferError(f"expected the identifier TFL3 at byte 4, got {bytes(self._content[4:8])!r}")
        return self._table(_U32(self._content, 0)[0], TABLES["Model"])

    def subgraph(self, at: int) -> Row:
        """Verify a subgraph and everything that it refers to; errors as of ``walk``."""
        return self._table(at, _SUBGRAPH)

    def _read_vtable(self, vtable: int, description: str) -> _Shape:
        """The length of a vtable's tables, and which fields they have where."""
        content, size = self._content, self._size
        if vtable < 0 or vtable & 1 or vtable + 4 > size:
            raise FlatbufferError(f"a vtable lies outside the file or misaligned, at byte {vtable}")
        vtable_bytes, table_bytes = _U16(content, vtable)[0], _U16(content, vtable + 2)[0]
        if vtable_bytes < 4 or vtable_bytes & 1 or vtable + vtable_bytes > size or table_bytes < 4:
            raise FlatbufferError(f"the vtable at byte {vtable} has an impossible length")
        self.furthest = max(self.furthest, vtable + vtable_bytes)
        present = []
        layout = _layout(description)
        for field in layout.fields:
            entry = 4 + 2 * field.slot
            if entry + 2 > vtable_bytes:
                break
            offset = _U16(content, vtable + entry)[0]
            if offset:
                if offset < 4 or offset + field.width > table_bytes:
                    raise FlatbufferError(f"the vtable at byte {vtable} puts a field outside its table")
                present.append((offset, *field))
        self._vtables[vtable, description] = found = (table_bytes, present, layout.empty)
        return found

    def _table(self, at: int, description: str) -> Row:
        """Verify the table at byte ``at`` and everything that it refers to."""
        content, size = self._content, self._size
        if at & 3 or at + 4 > size:
            raise FlatbufferError(f"a table lies outside the file or misaligned, at byte {at}")
        vtable = at - _I32(content, at)[0]
        shape = self._vtables.get((vtable, description)) or self._read_vtable(vtable, description)
        table_bytes, present, empty = shape
        if at + table_bytes > size:
            raise FlatbufferError(f"the table at byte {at} ends outside the file")
        self._spend(4 + table_bytes, at + table_bytes)
        row = list(empty)
        for offset, slot, kind, width, target in present:
            where = at + offset
            if where % width:
                raise FlatbufferError(f"a field at byte {where} is misaligned")
            if kind == _SCALAR:
                row[slot] = target(content, where)[0]
                continue
            place = where + _U32(content, where)[0]
            if kind == _VECTOR:
                row[slot] = self._vector(place, target)
            elif kind == _TABLES:
                start, count = self._vector(place, 4)
                places = [entry + _U32(content, entry)[0] for entry in range(start, start + 4 * count, 4)]
                row[slot] = places if target is _SUBGRAPH else [self._table(entry, target) for entry in places]
            elif kind == _STRING:
                row[slot] = self._string(place)
            elif kind == _TABLE:
                row[slot] = self._table(place, target)
            else:
                row[slot] = self._union(place, row[slot - 1], target)
        return row

    def _union(self, at: int, type_code: int, members: dict[int, str]) -> Row:
        """Verify a union's table; a type of a newer schema can't be checked and is refused."""
        if type_code not in members:
            raise FlatbufferError(f"a union at byte {at} has the unknown type {type_code}")
        return self._table(at, members[type_code])

    def _vector(self, at: int, width: int) -> Span:
        """Verify a vector of ``width``-byte scalars or of 4-byte offsets."""
        if at & 3 or at + 4 > self._size:
            raise FlatbufferError(f"a vector lies outside the file or misaligned, at byte {at}")
        count = _U32(self._content, at)[0]
        end = at + 4 + count * width
        if end > self._size:
            raise FlatbufferError(f"the vector at byte {at} ends outside the file")
        if count and (at + 4) % width:
            raise FlatbufferError(f"the vector at byte {at} is misaligned")
        self._spend(end - at, end)
        return at + 4, count

    def _string(self, at: int) -> Span:
        """Verify a string: in the file, and ended by a zero byte."""
        start, count = self._vector(at, 1)
        if start + count >= self._size or self._content[start + count] != 0:
            raise FlatbufferError(f"the string at byte {at} has no end")
        return start, count

    def _spend(self, described: int, end: int) -> None:
        """Count what was met against what a file of this size may describe."""
        self._budget -= described
        if self._budget < 0:
            raise FlatbufferError(f"it describes more than {_MAX_EXPANSION} times its own size")
        if end > self.furthest:  # noqa: PLR1730 - called for every vector: max() costs as much as the rest
            self.furthest = end
