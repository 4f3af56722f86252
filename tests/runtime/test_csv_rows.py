from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.config import Task
from moe_edge.errors import DataError
from moe_edge.runtime.csv_rows import CHUNK_ROWS, read_chunks, read_csv
from moe_edge.schema import MISSING_TOKENS, Column, ColumnKind, FeatureSchema

SCHEMA = FeatureSchema(
    columns=(
        Column(name="height"),
        Column(name="colour", kind=ColumnKind.CATEGORICAL, categories=("blue", 'a "quoted", one', "rot\ngrün")),
        Column(name="price"),
    ),
    target="kind",
    task=Task.CLASSIFICATION,
    labels=("bad", "good"),
)


def read(content: bytes | str) -> np.ndarray:
    file = io.BytesIO(content.encode() if isinstance(content, str) else content)
    rows = np.concatenate(list(read_csv(file, SCHEMA, source="t.csv")))
    assert not file.closed
    return rows


def test_columns_are_found_by_name():
    rows = read("\ufeffkind, price ,colour,height,note\r\ngood,3,blue,1.5,x\r\n\r\nbad,,blue, 2 ,\r\n")
    np.testing.assert_array_equal(rows, np.asarray([[1.5, 0, 3], [2, 0, np.nan]], dtype=np.float32))
    assert rows.dtype == np.float32


@pytest.mark.parametrize("token", MISSING_TOKENS)
def test_missing_tokens_are_those_of_training(token):
    assert np.isnan(read(f"height,colour,price\n{token},{token},1\n")[0, :2]).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.none() | st.sampled_from(SCHEMA.columns[1].categories),
            st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_what_the_csv_module_writes_is_read_back(rows):
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(SCHEMA.names)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    got = read(text.getvalue())
    np.testing.assert_array_equal(got, SCHEMA.encode_rows(rows))


def test_long_tables_come_in_chunks():
    lines = "height,colour,price\n" + "".join(f"{number},blue,0\n" for number in range(2 * CHUNK_ROWS + 5))
    chunks = list(read_csv(io.BytesIO(lines.encode()), SCHEMA, source="t.csv"))
    assert [len(chunk) for chunk in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 5]
    np.testing.assert_array_equal(np.concatenate(chunks)[:, 0], np.arange(2 * CHUNK_ROWS + 5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header line.*empty file"),
        (b"\n\n", "header line"),
        (b"height,price\n1,2\n", "missing column 'colour'"),
        (b"height,color,price\n", "is 'color' meant to be 'colour'"),
        (b"height;colour;price\n1;blue;2\n", "got semicolons"),
        (b"height\tcolour\tprice\n1\tblue\t2\n", "got tabs"),
        (b"height,colour,price,price\n1,blue,2,3\n", "'price' twice"),
        (b"height,colour,price\n1,blue,2\n1,blue\n", r"t.csv, line 3: expected 3 values as in the header, got 2"),
        (b"height,colour,price\n1,blue,2\n1,blue,2,4\n", "line 3.*got 4"),
        (b"height,colour,price\n1,blue,2\n\n\n1,blue,tall\n", "line 5: row 2, column 'price': expected a number"),
        (b"height,colour,price\n1,bleu,2\n", "did you mean 'blue'"),
        (b"height,colour,price\n1e60,blue,2\n", "finite float32"),
        (b"height,colour,price\n-inf,blue,2\n", "finite float32"),
        (b"height,colour,price\n1,gr\xfcn,2\n", "expected UTF-8 text.*save the table as UTF-8"),
        ("height,colour,price\n1,blue,2\n".encode("utf-16"), "expected UTF-8 text"),
        (b"height,colour,price\n1," + b"x" * 200_000 + b",2\n", "field larger than field limit"),
    ],
)
def test_bad_tables_name_the_line(content, message):
    with pytest.raises(DataError, match=message):
        read(content)


def test_a_header_alone_has_no_rows():
    assert list(read_csv(io.BytesIO(b"height,colour,price\n"), SCHEMA, source="t.csv")) == []


def test_arrays(tmp_path):
    x = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "named.npz", x=x, y=np.zeros(4))
    np.savez(tmp_path / "only.npz", rows=x)
    np.savez(tmp_path / "two.npz", a=x, b=x)
    np.save(tmp_path / "row.npy", x[0])
    np.save(tmp_path / "number.npy", np.float32(3))
    np.save(tmp_path / "objects.npy", np.asarray([{"x": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "empty.npy").touch()
    (tmp_path / "text.npz").write_bytes(b"not a zip")
    for name in ("x.npy", "named.npz", "only.npz"):
        np.testing.assert_array_equal(np.concatenate(list(read_chunks(tmp_path / name, SCHEMA))), x)
    assert next(read_chunks(tmp_path / "row.npy", SCHEMA)).shape == (1, 3)
    for name, message in (
        ("two.npz", "array called x, got a, b"),
        ("number.npy", "a single number"),
        ("objects.npy", "numpy.save"),
        ("empty.npy", "numpy.save"),
        ("text.npz", "numpy.save"),
        ("none.npy", "can't read"),
        ("none.csv", "can't read"),
        ("table.xlsx", "ends in .csv, .npy"),
    ):
        with pytest.raises(DataError, match=message):
            list(read_chunks(tmp_path / name, SCHEMA))


def test_parquet_where_the_desktop_packages_are(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(
        {"price": [3, 4], "colour": ["blue", None], "height": [1.5, math.nan], "kind": ["good", "bad"]}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    (rows,) = read_chunks(tmp_path / "t.parquet", SCHEMA)
    np.testing.assert_array_equal(rows, [[1.5, 0, 3], [np.nan, np.nan, 4]])
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="as Parquet"):
        list(read_chunks(tmp_path / "bad.parquet", SCHEMA))
