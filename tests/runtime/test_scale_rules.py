from __future__ import annotations

import struct

import pytest

from moe_edge.runtime.flatbuffer_verifier import FlatbufferError
from moe_edge.runtime.scale_rules import check_scales


def check(scales, zeros=(), *, dtype="int8", shape=(4, 3), axis=0):
    content = b"skip" + struct.pack(f"<{len(scales)}f", *scales)
    zero_points = (len(content), len(zeros)) if zeros else None
    content += struct.pack(f"<{len(zeros)}q", *zeros)
    check_scales(content, (4, len(scales)), zero_points, dtype=dtype, shape=shape, axis=axis, where="tensor 1")


def test_what_quantizers_write_passes():
    check((0.5,))
    check((0.5,), (-128,))
    check((0.5, 0.0, 1e-30, 2.0), (0, 0, 0, 0))
    check((0.5, 1, 2), (0,), axis=1)
    check((2**-126,), (2**31 - 1,), dtype="int32")
    check((0.1,), (99999,), dtype="float32")


@pytest.mark.parametrize(
    ("scales", "zeros", "message"),
    [
        ((0.0,), (), "scales must be"),
        ((-1.0,), (), "scales must be"),
        ((float("nan"),), (), "scales must be"),
        ((float("inf"), 1, 1, 1), (), "scales must be"),
        ((1e-38,), (), "none subnormal"),
        ((1, 1, 1e-40, 1), (), "none subnormal"),
        ((1, 1, 1), (), r"3 scales do not fit shape \(4, 3\)"),
        ((1, 1, 1, 1), (0, 0), "4 scales but 2 zero points"),
        ((1,), (128,), "outside int8"),
        ((1, 1, 1, 1), (0, 0, 0, -129), "outside int8"),
        ((1,), (2**62,), "outside int8"),
    ],
)
def test_what_ends_a_process_is_refused(scales, zeros, message):
    with pytest.raises(FlatbufferError, match=f"tensor 1: .*{message}"):
        check(scales, zeros)


def test_an_axis_that_isnt_there():
    with pytest.raises(FlatbufferError, match="do not fit"):
        check((1, 1), axis=2**31)
