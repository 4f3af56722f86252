"""The C host's reading of rows, called through ctypes: every float32 comes back bit for bit, nothing crashes."""

import ctypes
import subprocess

import numpy as np
import pytest
from c_host import SOURCES
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
tables = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=floats)
SIZE = 512


class Format(ctypes.Structure):
    """``rows_format``."""

    _fields_ = [
        ("width", ctypes.c_size_t),
        ("binary", ctypes.c_bool),
        ("missing", ctypes.c_bool),
        ("header", ctypes.c_bool),
    ]


class Rows(ctypes.Structure):
    """``rows``."""

    _fields_ = [
        ("format", Format),
        ("name", ctypes.c_char_p),
        ("file", ctypes.c_void_p),
        ("line", ctypes.c_void_p),
        ("room", ctypes.c_size_t),
        ("line_number", ctypes.c_size_t),
        ("row_number", ctypes.c_size_t),
    ]


@pytest.fixture(scope="module")
def read(host, tmp_path_factory):
    """Reads a file's content: the rows until the end, or the message."""
    folder = tmp_path_factory.mktemp("rows")
    library, path = folder / "librows.so", folder / "rows"
    options = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-shared", "-fPIC", "-fsanitize=undefined"]
    options += ["-fsanitize-undefined-trap-on-error"]
    subprocess.run(["gcc", *options, "-o", str(library), str(SOURCES / "rows.c"), "-lm"], check=True)
    c = ctypes.CDLL(str(library))

    def call(content: bytes, width: int, *, binary=False, missing=False, header=False):
        path.write_bytes(content)
        name = str(path).encode()  # rows keep a pointer to it
        rows, error = Rows(), ctypes.create_string_buffer(SIZE)
        row = np.empty(width, np.float32)
        c.rows_open.restype = ctypes.c_bool
        asked = Format(width, binary, missing, header)
        assert c.rows_open(ctypes.byref(rows), name, asked, error, ctypes.c_size_t(SIZE))
        found = []
        while (
            status := c.rows_next(ctypes.byref(rows), row.ctypes.data_as(ctypes.c_void_p), error, ctypes.c_size_t(SIZE))
        ) > 0:
            found.append(row.copy())
        c.rows_close(ctypes.byref(rows))
        return np.array(found).reshape(-1, width) if status == 0 else error.value.decode()

    return call


@given(
    table=tables, written=st.sampled_from(["%.9g", "%.8e", "%+.17g", " %.9g\t"]), end=st.sampled_from(["\n", "\r\n"])
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_as_text_come_back_bit_for_bit(read, table, written, end):
    text = end.join(",".join(written % value for value in row) for row in table.tolist())
    for content, header in ((text, False), (text + end, False), ("a,b,c" + end + text, True)):
        got = read(content.encode(), table.shape[1], header=header)
        assert not isinstance(got, str), got
        assert got.view(np.int32).tolist() == table.view(np.int32).tolist()


@given(table=tables, more=st.integers(1, 3))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_raw_numbers_come_back_bit_for_bit(read, table, more):
    got = read(table.tobytes(), table.shape[1], binary=True)
    assert got.tobytes() == table.tobytes()
    assert "bytes" in read(table.tobytes() + b"\0" * more, table.shape[1], binary=True)


@given(table=tables, seed=st.integers(0, 2**16))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_missing_values_stay_in_their_places(read, table, seed):
    rng = np.random.default_rng(seed)
    absent = rng.random(table.shape) < 0.3
    words = rng.choice(["", " ", "nan", "NaN"], table.shape)
    text = "\n".join(
        ",".join(word if gone else repr(value) for word, gone, value in zip(*cells, strict=True))
        for cells in zip(words.tolist(), absent.tolist(), table.tolist(), strict=True)
    )
    got = read(text.encode() + b"\n", table.shape[1], missing=True)
    assert not isinstance(got, str), got
    assert np.isnan(got).tolist() == absent.tolist()
    assert got[~absent].tolist() == table[~absent].tolist()
    if absent.any() and table.shape[1] > 1:
        assert "expected a finite number" in read(text.encode(), table.shape[1])


@given(content=st.binary(max_size=200), width=st.integers(1, 4), binary=st.booleans(), missing=st.booleans())
@example(content=b"1," * 99, width=1, binary=False, missing=True)
@example(content=b"\n", width=1, binary=False, missing=True)
@example(content=b"0x1p3,1e-50", width=2, binary=False, missing=False)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_rows_or_one_line(read, content, width, binary, missing):
    got = read(content, width, binary=binary, missing=missing)
    if isinstance(got, str):
        assert got and "\n" not in got
    else:
        assert not np.isinf(got).any() and (missing or not np.isnan(got).any())
