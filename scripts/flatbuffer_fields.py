"""Find the fields of a .tflite, with their places in the bytes, for mutations that know what they change.

Written apart from ``moe_edge.runtime.flatbuffer_verifier``, whose mistakes it must not share; only the schema's table
is common.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from moe_edge.runtime.tflite_schema import TABLES, UNIONS


@dataclass(frozen=True)
class Field:
    """One number in the file.

    Attributes:
        at: Its first byte.
        width: Its bytes: 1, 2, 4 or 8.
        kind: ``scalar``, ``offset`` (to a table, vector or string), ``length`` (of a vector), ``element`` (of a vector
            of numbers), ``vtable`` (the way to a vtable) or ``slot`` (an entry of a vtable).
    """

    at: int
    width: int
    kind: str


MAX_ELEMENTS = 24
"""Elements of one vector that are listed; weights and scales would drown everything else."""


def list_fields(content: bytes) -> list[Field]:
    """Every field of a whole file's tables, in the order of a walk from the root."""
    fields = [Field(0, 4, "offset")]
    seen: set[tuple[int, str]] = set()
    pending = [(struct.unpack_from("<I", content, 0)[0], TABLES["Model"])]
    while pending:
        at, layout = pending.pop()
        if (at, layout) in seen:
            continue
        seen.add((at, layout))
        fields.append(Field(at, 4, "vtable"))
        vtable = at - struct.unpack_from("<i", content, at)[0]
        length = struct.unpack_from("<H", content, vtable)[0]
        fields += [Field(where, 2, "slot") for where in range(vtable, vtable + length, 2)]
        union_type = 0
        for slot, code in enumerate(layout.split()):
            entry = 4 + 2 * slot
            offset = struct.unpack_from("<H", content, vtable + entry)[0] if entry < length else 0
            if not offset or code == "-":
                union_type = 0
                continue
            where = at + offset
            if code.isdigit() or code == "g":
                width = 4 if code == "g" else int(code)
                fields.append(Field(where, width, "scalar"))
                union_type = content[where]
                continue
            fields.append(Field(where, 4, "offset"))
            target = where + struct.unpack_from("<I", content, where)[0]
            if code.startswith("<"):
                pending.append((target, UNIONS[code[1:]][union_type]))
            elif code == "s" or code.startswith("["):
                pending += _list_vector(content, target, code, fields)
            else:
                pending.append((target, TABLES[code]))
    return fields


def _list_vector(content: bytes, at: int, code: str, fields: list[Field]) -> list[tuple[int, str]]:
    """Add a vector's length and elements; returns the tables that it refers to."""
    fields.append(Field(at, 4, "length"))
    count = struct.unpack_from("<I", content, at)[0]
    inner = "1" if code == "s" else code[1:-1]
    if inner.isdigit() or inner == "g":
        width = 4 if inner == "g" else int(inner)
        places = range(at + 4, at + 4 + width * min(count, MAX_ELEMENTS), width)
        fields += [Field(place, width, "element") for place in places]
        return []
    places = range(at + 4, at + 4 + 4 * count, 4)
    fields += [Field(place, 4, "offset") for place in places]
    return [(place + struct.unpack_from("<I", content, place)[0], TABLES[inner]) for place in places]
