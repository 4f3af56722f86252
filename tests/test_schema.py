from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.config import Task
from moe_edge.errors import DataError
from moe_edge.schema import MISSING_TOKENS, Column, ColumnKind, FeatureSchema, numbered_schema

TEXTS = st.text(min_size=1, max_size=8).map(str.strip).filter(lambda text: text and text not in MISSING_TOKENS)


def make_schema(*columns: Column) -> FeatureSchema:
    return FeatureSchema(columns=columns, target="y", task=Task.CLASSIFICATION, labels=("a", "b"))


MIXED = make_schema(Column(name="n"), Column(name="c", kind=ColumnKind.CATEGORICAL, categories=("red", "green", "1")))


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6, unique=True), st.data())
def test_a_category_is_its_place(categories, data):
    schema = make_schema(Column(name="c", kind=ColumnKind.CATEGORICAL, categories=tuple(categories)))
    chosen = data.draw(st.lists(st.sampled_from(categories), max_size=10))
    codes = schema.encode_rows([{"c": f" {text} "} for text in chosen])
    assert [categories[int(code)] for code in codes[:, 0]] == chosen


@settings(max_examples=100, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_is_itself_as_number_and_as_text(value):
    rows = make_schema(Column(name="n")).encode_rows([[value], [repr(value)], [f" {value!r} "], [np.float32(value)]])
    np.testing.assert_array_equal(rows[:, 0], np.float32(value))


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), np.float64("nan"), " ", *MISSING_TOKENS])
def test_missing_values_become_nan(missing):
    assert np.isnan(MIXED.encode_rows([{"n": missing, "c": "red"}])[0, 0])


def test_a_category_may_be_called_like_a_missing_value():
    schema = make_schema(Column(name="c", kind=ColumnKind.CATEGORICAL, categories=("None", "NA")))
    np.testing.assert_array_equal(schema.encode_rows([["NA"], ["None"]])[:, 0], [1, 0])
    assert np.isnan(schema.encode_rows([["null"]])[0, 0])


def test_rows_by_position_and_by_name():
    by_name = MIXED.encode_rows([{"c": 1, "n": "2", "other": object()}])
    np.testing.assert_array_equal(by_name, MIXED.encode_rows([["2", "1"]]))
    assert by_name.dtype == np.float32 and MIXED.encode_rows([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"n": 1}, "missing column 'c', 1 of the model's 2; got 'n'"),
        ({"n": 1, "cc": "red"}, "is 'cc' meant to be 'c'"),
        ([1], "row 1: expected 2 values"),
        (["x", "red"], "row 1, column 'n': expected a number, got 'x'"),
        (["1,5", "red"], "expected a number"),
        (["1_000", "red"], "expected a number"),
        ([[1], "red"], "expected a number"),
        (["inf", "red"], "finite"),
        ([1e39, "red"], "finite"),
        ([1, "gren"], "did you mean 'green'"),
        ([1, "xyz"], "known: 'red', 'green', '1'"),
    ],
)
def test_bad_rows(row, message):
    with pytest.raises(DataError, match=message):
        MIXED.encode_rows([row])


def test_schemas_that_can_not_be():
    with pytest.raises(ValueError, match="at least one"):
        make_schema()
    with pytest.raises(ValueError, match="unique"):
        make_schema(Column(name="n"), Column(name="n"))
    with pytest.raises(ValueError, match="categories"):
        Column(name="c", kind=ColumnKind.CATEGORICAL)
    with pytest.raises(ValueError, match="categories"):
        Column(name="c", categories=("a",))


def test_long_lists_of_names_are_cut():
    schema = numbered_schema(40, 2, Task.CLASSIFICATION)
    with pytest.raises(DataError, match=r"and 31 more, 39 of the model's 40; got 'x0'"):
        schema.encode_rows([{"x0": 1}])
