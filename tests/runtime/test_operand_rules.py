from __future__ import annotations

import pytest

from moe_edge.runtime.flatbuffer_verifier import FlatbufferError
from moe_edge.runtime.operand_rules import check_operands

ADD, FULLY_CONNECTED, RESHAPE, SPLIT, CUSTOM, ONE_HOT = 0, 9, 22, 49, 32, 85
HASH_TABLE, FIND, VAR_HANDLE, READ, ASSIGN = 136, 137, 142, 143, 144


def check(code, reads, writes, *, state=False):
    check_operands(code, list(reads), list(writes), writes_state=state, where="here")


def test_what_converters_write_passes():
    check(FULLY_CONNECTED, ("float32", "int8", "float32"), ("float32",))
    check(RESHAPE, ("int8", "int32"), ("int8",))
    check(SPLIT, ("int32", "float32"), ("float32", "float32"))
    check(ONE_HOT, ("int32", "int32", "float32", "float32"), ("float32",))
    check(VAR_HANDLE, (), ("resource",))
    check(READ, ("resource",), ("float32",))
    check(ASSIGN, ("resource", "float32"), ())
    check(HASH_TABLE, (), ("resource",))
    check(FIND, ("resource", "string", "int64"), ("int64",))
    check(CUSTOM, ("variant",), ("string",))


@pytest.mark.parametrize(
    ("code", "reads", "writes", "state", "message"),
    [
        (ADD, ("float32", "float32"), ("float32",), True, "writes a variable"),
        (ADD, ("string", "float32"), ("float32",), False, "touches a string"),
        (FULLY_CONNECTED, ("float32", "resource"), ("float32",), False, "touches a resource"),
        (ADD, ("float32", "float32"), ("variant",), False, "touches a variant"),
        (RESHAPE, ("float32", "int32"), ("uint8",), False, "makes uint8 of float32 by copying"),
        (SPLIT, ("int32", "float32"), ("float32", "int8"), False, "of float32 by copying"),
        (ONE_HOT, ("int32", "float16", "float32", "float32"), ("float32",), False, "expected a depth of int32"),
        (ONE_HOT, ("int32", "int8", "float32", "float32"), ("float32",), False, "expected a depth of int32"),
        (ONE_HOT, ("int32", "int32", "float32", "float32"), ("int8",), False, "makes int8 of float32"),
        (ASSIGN, ("float32", "float32"), (), False, "expected a resource"),
        (READ, (), ("float32",), False, "expected a resource"),
        (VAR_HANDLE, (), ("float32",), False, "expected a resource"),
    ],
)
def test_what_ends_a_process_is_refused(code, reads, writes, state, message):
    with pytest.raises(FlatbufferError, match=message):
        check(code, reads, writes, state=state)
