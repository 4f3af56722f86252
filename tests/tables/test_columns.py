"""A table must encode alike on the desktop (whole columns) and on the device (cell by cell)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_edge.errors import DataError
from moe_edge.schema import MISSING_TOKENS, Column, ColumnKind
from moe_edge.tables.columns import describe_column, encode_column

NUMBER_TEXTS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.integers(-(10**45), 10**45).map(str),
    st.sampled_from([*MISSING_TOKENS, " 1 ", "1_000", "-0", "1e39", "NAN", "-nan", "Infinity", "0x10", "1,5", "١٢"]),
)
CELLS = st.lists(
    st.one_of(NUMBER_TEXTS, st.floats(), st.integers(-(10**6), 10**6), st.none(), st.booleans()), min_size=1, max_size=8
)
TEXTS = st.lists(st.one_of(st.sampled_from(["red", " red", "NA", "3", "green ", ""]), st.text(max_size=3)), min_size=1)


def cell_by_cell(column, cells):
    return np.array([column.encode(cell, row=row + 1) for row, cell in enumerate(cells)], dtype=np.float32)


def assert_alike(column, cells):
    try:
        expected = cell_by_cell(column, cells)
    except DataError as error:
        with pytest.raises(DataError) as raised:
            encode_column(column, cells)
        assert str(raised.value) == str(error)
    else:
        assert np.array_equal(encode_column(column, cells), expected, equal_nan=True)


@given(CELLS)
def test_numbers_encode_as_on_the_device(cells):
    assert_alike(Column(name="x"), cells)


@given(TEXTS, st.sampled_from([("red", "green"), ("NA", "red"), ("3", "")]))
def test_categories_encode_as_on_the_device(cells, categories):
    assert_alike(Column(name="c", kind=ColumnKind.CATEGORICAL, categories=categories), cells)


@given(st.lists(st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.none(), st.booleans()), min_size=1))
def test_categories_that_are_no_texts_encode_as_on_the_device(cells):
    try:
        column = describe_column("c", cells, categorical=True)
    except DataError:
        return
    assert_alike(column, cells)


@given(st.lists(st.floats(width=32), min_size=1, max_size=5))
def test_arrays_encode_as_on_the_device(values):
    array = np.array(values, dtype=np.float32)
    assert_alike(Column(name="x"), array if not np.isinf(array).any() else array.tolist())


def test_texts_become_categories_in_natural_order():
    column = describe_column("size", ["10", "9", "big", "NA", "10 ", None], categorical=True)
    assert column.categories == ("9", "10", "big")
    assert math.isnan(encode_column(column, ["NA"])[0])


@pytest.mark.parametrize(
    ("cells", "advice"),
    [
        ([f"2024-01-{day:02d}" for day in range(1, 29)], "dates"),
        ([f"2024-01-{day:02d} 10:11:12" for day in range(1, 9)], "dates"),
        ([f"user-{number}" for number in range(200)], "200 different texts"),
        (["1", "2", "3", "12kg"], "'12kg'"),
        (["", "NA", None], "got none"),
        (np.array([np.nan, np.nan]), "got none"),
        ([[1], [2]], "list"),
    ],
)
def test_columns_that_are_no_features_are_refused_with_a_way_out(cells, advice):
    with pytest.raises(DataError, match="--drop") as raised:
        describe_column("c", cells)
    assert advice in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_column_of_many_texts_is_taken_when_asked_for():
    assert len(describe_column("c", [f"user-{n}" for n in range(200)], categorical=True).categories) == 200
