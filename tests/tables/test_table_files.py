import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_edge.errors import DataError
from moe_edge.runtime.csv_rows import read_chunks
from moe_edge.schema import FeatureSchema
from moe_edge.tables.columns import encode_column
from moe_edge.tables.table_files import Table, read_table


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "empty file"),
        ("a.csv", "a,b\n", "header only"),
        ("a.csv", "a,a\n1,2\n", "'a' twice"),
        ("a.csv", ",a\n1,2\n", "column 1 has no name"),
        ("a.csv", "a,b\n1,2\n3\n", "line 3: expected 2 values"),
        ("a.csv", "a;b\n1;2\n", "separated by commas"),
        ("a.csv", "1.5,2\n3,4\n", "add a header"),
        ("a.csv", b"a,b\n\xff,2\n", "UTF-8"),
        ("a.csv", "a\n" + "x" * 200_000 + "\n", "expected CSV"),
        ("a.parquet", b"no parquet", "Parquet"),
        ("a.npz", b"no zip", "npz"),
        ("a.npy", b"\x93NUMPY", "npy"),
        ("a.xlsx", "a", "expected a table that ends in"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path, name, content, said):
    with pytest.raises(DataError) as raised:
        read_table(write(tmp_path / name, content))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_table(tmp_path / "none.csv")


def test_pickles_in_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object), y=np.zeros(1))
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    for name in ("a.npz", "a.npy"):
        with pytest.raises(DataError, match="expected a"):
            read_table(tmp_path / name)


def test_an_npz_without_x_says_what_it_has(tmp_path):
    np.savez(tmp_path / "a.npz", data=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"\['data'\]"):
        read_table(tmp_path / "a.npz")


def test_arrays_name_their_columns_and_target(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((3, 2)), y=np.arange(3))
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    assert read_table(tmp_path / "a.npz").names == ("x0", "x1", "y")
    assert read_table(tmp_path / "a.npz").target == "y"
    assert read_table(tmp_path / "a.npy").names == ("x0", "x1")


def test_parquet_keeps_whole_numbers_whole(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(
        pa.table({"i": [1, None, 3], "f": [0.5, 1.5, 2.5], "s": ["a", None, "b"]}), tmp_path / "a.parquet"
    )
    table = read_table(tmp_path / "a.parquet")
    assert list(table.column("i")) == [1, None, 3]
    assert list(table.column("s")) == ["a", None, "b"]
    assert isinstance(table.column("f"), np.ndarray)


CELL = st.text(alphabet='ab1 ,"\n\ré;', max_size=4)


@given(rows=st.lists(st.tuples(st.just("1"), CELL), min_size=1, max_size=4))
def test_csv_cells_are_those_that_the_device_reads(rows, tmp_path_factory):
    import csv

    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("n", "c"), *rows])
    table = read_table(path)
    from moe_edge.tables.columns import describe_column

    try:
        column = describe_column("c", table.column("c"), categorical=True)
    except DataError:
        return
    from moe_edge.config import Task

    schema = FeatureSchema(columns=(column,), target="y", task=Task.REGRESSION, labels=("y",))
    on_device = np.concatenate(list(read_chunks(path, schema)))[:, 0]
    assert np.array_equal(encode_column(column, table.column("c")), on_device, equal_nan=True)


def test_a_table_has_rows_and_names():
    with pytest.raises(DataError, match="at least one column"):
        Table((), (), "t")


def test_rows_of_several_dimensions_are_laid_flat_and_named_by_their_place(tmp_path):
    from moe_edge.training import dataset_from_arrays, read_dataset

    x, y = np.arange(36.0).reshape(6, 2, 3), [0, 1] * 3
    np.savez(tmp_path / "t.npz", x=x, y=y)
    dataset = read_dataset(tmp_path / "t.npz")
    assert dataset.schema.names == ("x0_0", "x0_1", "x0_2", "x1_0", "x1_1", "x1_2")
    assert dataset.row_shape == (2, 3)
    np.testing.assert_array_equal(dataset.features, x.reshape(6, 6))
    assert read_dataset(tmp_path / "t.npz", drop=["x0_1"]).row_shape is None
    labelled = dataset_from_arrays(x, y, labels=["no", "yes"])
    assert labelled.row_shape == (2, 3) and labelled.fingerprint == dataset.fingerprint
    assert dataset_from_arrays(x.reshape(6, 6), y).row_shape is None
