"""Which tensors an operator may touch: handles, texts and state only where kernels expect them.

Tensors of type string, resource and variant have no fixed size; kernels of ordinary operators take them for numbers
and end the process, and so does a tensor that keeps its value between calls where an operator writes its answer.
Numbers are those of ``BuiltinOperator`` in the public TFLite schema.
Layer: device. Imports ``flatbuffer_verifier``.
"""

from __future__ import annotations

from collections.abc import Iterable

from moe_edge.runtime.flatbuffer_verifier import FlatbufferError
from moe_edge.runtime.tflite_schema import CUSTOM_OPERATOR

_HASH_TABLE, _FIND, _IMPORT, _TABLE_SIZE = 136, 137, 138, 139
_VAR_HANDLE, _READ_VARIABLE, _ASSIGN_VARIABLE = 142, 143, 144
_CALLERS = frozenset({118, 119, 129})
"""IF, WHILE, CALL_ONCE: hand on whatever they are given."""

_UNSIZED = frozenset({"string", "resource", "variant"})
_TAKE_UNSIZED = _CALLERS | {CUSTOM_OPERATOR, _HASH_TABLE, _FIND, _IMPORT, _TABLE_SIZE}
_TAKE_UNSIZED |= {_VAR_HANDLE, _READ_VARIABLE, _ASSIGN_VARIABLE}
_WANT_HANDLE = frozenset({_FIND, _IMPORT, _TABLE_SIZE, _READ_VARIABLE, _ASSIGN_VARIABLE})
_GIVE_HANDLE = frozenset({_HASH_TABLE, _VAR_HANDLE})

_ONE_HOT, _DEPTH = 85, 1

_COPIED_INPUT: dict[int, int] = {
    **dict.fromkeys((2, 22, 34, 36, 37, 38, 39, 43, 45, 60, 65, 69, 70, 83, 88, 93, 100, 101, 102, 105, 107, 130), 0),
    49: 1,  # SPLIT: the axis comes first
    64: 1,  # SELECT and SELECT_V2: the condition comes first
    123: 1,
    _ONE_HOT: 2,  # ONE_HOT: the value of ones, after indices and depth
}
"""Operators that hand values on unchanged -> the input that they come from. Several copy as many bytes as their input
has into a tensor that may be smaller: RESHAPE from float32 to uint8 writes past its end."""


def check_operands(
    code: int, read_types: list[str], written_types: list[str], *, writes_state: bool, where: str
) -> None:
    """Check one operator's tensors.

    Args:
        code: Its ``BuiltinOperator``.
        read_types: Types of the tensors it reads, as in ``TENSOR_TYPES``.
        written_types: Types of those it writes.
        writes_state: Whether one that it writes is marked as keeping its value between calls.
        where: For messages.

    Raises:
        FlatbufferError: If its kernel would take a handle or a text for numbers, or numbers for a handle.
    """
    if writes_state:
        # Recurrent layers change state that they read; no operator answers into it.
        raise FlatbufferError(f"{where} (kind {code}): writes a variable as its answer")
    if code not in _TAKE_UNSIZED and (unsized := _first_unsized((*read_types, *written_types))):
        raise FlatbufferError(f"{where} (kind {code}): touches a {unsized}, which it can't compute with")
    copied = _COPIED_INPUT.get(code)
    if copied is not None and copied < len(read_types) and set(written_types) - {read_types[copied]}:
        raise FlatbufferError(f"{where} (kind {code}): makes {written_types[0]} of {read_types[copied]} by copying")
    if code == _ONE_HOT and read_types[_DEPTH : _DEPTH + 1] != ["int32"]:
        # Kernels read four bytes there whatever its type says.
        raise FlatbufferError(
            f"{where} (kind {code}): expected a depth of int32, got {read_types[_DEPTH : _DEPTH + 1]}"
        )
    handles = read_types[:1] if code in _WANT_HANDLE else written_types[:1] if code in _GIVE_HANDLE else ["resource"]
    if handles != ["resource"]:
        raise FlatbufferError(f"{where} (kind {code}): expected a resource, got {handles}")


def _first_unsized(types: Iterable[str]) -> str | None:
    return next((dtype for dtype in types if dtype in _UNSIZED), None)
