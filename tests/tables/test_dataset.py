import numpy as np
import pytest

from moe_edge.config import Task
from moe_edge.errors import DataError
from moe_edge.schema import ColumnKind
from moe_edge.tables.dataset import dataset_from_arrays, encode_dataset, read_dataset
from moe_edge.tables.targets import infer_task

ROWS = "size,colour,price,kind\n" + "".join(
    f"{index},{'red' if index % 2 else 'green'},{index * 1000 if index != 4 else 'NA'},{'ab'[index % 2]}\n"
    for index in range(10)
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(ROWS)
    return path


def test_a_table_becomes_features_codes_and_labels(table):
    dataset = read_dataset(table, target="kind")
    assert dataset.features.dtype == np.float32
    assert dataset.features.shape == (10, 3)
    assert dataset.schema.labels == ("a", "b")
    assert dataset.schema.columns[1].kind is ColumnKind.CATEGORICAL
    assert dataset.schema.columns[1].categories == ("green", "red")
    assert dataset.missing == {"price": 1}
    assert dataset.schema.columns[2].missing_share == pytest.approx(0.1)
    assert dataset.target.tolist() == [0, 1] * 5


def test_the_same_table_read_with_its_schema_is_the_same_dataset(table):
    dataset = read_dataset(table, target="kind", drop=["size"])
    again = encode_dataset(table, dataset.schema)
    assert again.fingerprint == dataset.fingerprint
    assert np.array_equal(again.features, dataset.features, equal_nan=True)


def test_one_changed_value_or_row_order_changes_the_fingerprint(table):
    dataset = read_dataset(table, target="kind")
    table.write_text(ROWS.replace("3000", "3001"))
    assert encode_dataset(table, dataset.schema).fingerprint != dataset.fingerprint
    lines = ROWS.splitlines()
    table.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert encode_dataset(table, dataset.schema).fingerprint != dataset.fingerprint


def test_parquet_and_csv_of_one_table_share_a_fingerprint(table, tmp_path):
    import pandas as pd

    pd.read_csv(table).to_parquet(tmp_path / "t.parquet")
    dataset = read_dataset(table, target="kind")
    assert encode_dataset(tmp_path / "t.parquet", dataset.schema).fingerprint == dataset.fingerprint


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_arrays_round_trip_by_position(tmp_path, name):
    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    y = np.arange(12) % 3
    path = tmp_path / name
    if name == "a.npz":
        np.savez(path, x=x, y=y)
    else:
        np.save(path, np.column_stack([x, y]).astype(np.float32))
    dataset = read_dataset(path)
    assert dataset.schema.labels == ("0", "1", "2")
    named = dataset_from_arrays(x, y, names=["width", "height"])
    assert encode_dataset(path, named.schema).fingerprint == dataset.fingerprint == named.fingerprint
    np.save(tmp_path / "rows.npy", x)
    assert encode_dataset(tmp_path / "rows.npy", named.schema, require_target=False).target is None


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (ROWS, {"target": "kin"}, "did you mean 'kind'"),
        (ROWS, {}, "expected --target"),
        (ROWS, {"target": "price"}, "got none in 1 of 10"),
        (ROWS, {"target": "kind", "drop": ["size", "colour", "price"]}, "at least one feature"),
        (ROWS, {"target": "kind", "drop": ["colr"]}, "no column 'colr'"),
        (ROWS, {"target": "kind", "task": Task.REGRESSION}, "expected a number, got 'a'"),
        (ROWS, {"target": "kind", "group": "kind"}, "neither dropped"),
        ("a,y\n" + "1,x\n" * 5, {"target": "y"}, "only 'x'"),
        ("a,y\n" + "1,x\n" * 5 + "2,z\n", {"target": "y"}, "1 of 'z'"),
        ("a,y\n" + "1e60,x\n2,z\n" * 5, {"target": "y"}, "finite float32"),
        ("a,y\n" + "inf,x\n2,z\n" * 5, {"target": "y"}, "finite float32"),
        ("a,y\n" + "1,0.5\n" * 5, {"target": "y", "task": Task.REGRESSION}, "values that differ"),
        ("a,y\n" + "1,0.5\n2,inf\n" * 5, {"target": "y", "task": Task.REGRESSION}, "finite float32"),
    ],
)
def test_unfit_tables_are_refused_in_one_line(table, text, options, said):
    table.write_text(text)
    with pytest.raises(DataError) as raised:
        read_dataset(table, **options)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_table_of_another_kind_is_refused_with_its_schema(table):
    schema = read_dataset(table, target="kind").schema
    for old, new, said in [
        ("colour", "color", "missing column 'colour'"),
        ("red", "blue", "expected a category seen in training, got 'blue'"),
        (",a\n", ",c\n", "expected a label seen in training, got 'c'"),
        ("kind", "sort", "no target 'kind'"),
    ]:
        table.write_text(ROWS.replace(old, new))
        with pytest.raises(DataError, match=said):
            encode_dataset(table, schema)


def test_whole_numbers_name_the_same_class_with_and_without_a_fraction(table):
    table.write_text("a,y\n" + "1,3\n2,4\n" * 5)
    dataset = read_dataset(table, target="y")
    table.write_text("a,y\n" + "1,3.0\n2,4.0\n" * 5)
    assert encode_dataset(table, dataset.schema).fingerprint == dataset.fingerprint


def test_several_targets_make_a_regression(table):
    table.write_text("a,u,v\n" + "".join(f"{n},{n * 0.5},{n * n}\n" for n in range(9)))
    dataset = read_dataset(table, target="u,v")
    assert dataset.schema.task is Task.REGRESSION
    assert dataset.schema.labels == ("u", "v")
    assert dataset.target.shape == (9, 2)
    assert encode_dataset(table, dataset.schema).fingerprint == dataset.fingerprint


def test_a_group_column_is_no_feature(table):
    dataset = read_dataset(table, target="kind", group="colour")
    assert dataset.schema.names == ("size", "price")
    assert len(set(dataset.groups.tolist())) == 2


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        (["a", "b"], Task.CLASSIFICATION),
        (["1", "2", "1"], Task.CLASSIFICATION),
        (["1.5", "2.5"], Task.REGRESSION),
        (np.arange(100), Task.REGRESSION),
        (np.array([0.0, 1.0]), Task.CLASSIFICATION),
        ([True, False], Task.CLASSIFICATION),
    ],
)
def test_the_task_is_read_off_the_target(cells, task):
    assert infer_task(cells) is task


def test_labels_given_for_codes_must_cover_them():
    with pytest.raises(DataError, match="codes from 0 to 1"):
        dataset_from_arrays(np.zeros((6, 1)), np.arange(6) % 3, labels=["a", "b"])


def test_cells_are_refused_with_the_file_and_the_row(tmp_path):
    rows = [f"{index},{index % 2}" for index in range(30)]
    rows[4] = "abc,0"
    (tmp_path / "t.csv").write_text("a,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"t\.csv: column 'a': expected numbers, .* such as 'abc' in row 5"):
        read_dataset(tmp_path / "t.csv", target="label")


def test_a_target_is_not_guessed_within_windows(tmp_path):
    windows = np.random.default_rng(0).normal(size=(40, 5, 3))
    np.save(tmp_path / "win.npy", windows)
    with pytest.raises(DataError, match=r"rows of shape \(5, 3\); save rows and targets .*--target x4_2$"):
        read_dataset(tmp_path / "win.npy")
    assert read_dataset(tmp_path / "win.npy", target="x4_2").schema.target == "x4_2"
    np.save(tmp_path / "flat.npy", windows.reshape(40, 15))
    assert read_dataset(tmp_path / "flat.npy").schema.target == "x14"
