"""The preprocessing in the graph equals PreprocessSpec.apply, bit for bit where it can."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, new_model
from moe_edge_converters.graphs.preprocess_graph import add_preprocess
from moe_edge_converters.spec import PreprocessSpec


def build(spec):
    model = new_model("preprocessing alone")
    builder = GraphBuilder(model, "main")
    builder.output("features", add_preprocess(builder, builder.input("x", (spec.num_columns,)), spec))
    return pack(model)


@st.composite
def preprocessing(draw):
    """A specification and rows for it: columns in any order, missing values, categories known and unknown."""
    num_columns = draw(st.integers(1, 6))
    order = draw(st.permutations(range(num_columns)))
    num_categorical = draw(st.integers(0, num_columns))
    categorical = tuple((column, draw(st.integers(1, 4))) for column in order[:num_categorical])
    numeric = tuple(order[num_categorical:])
    # A float32 subnormal may be flushed to zero by a runtime; no table's statistics are that small.
    numbers = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)

    def vector(values):
        return np.array([draw(values) for _ in numeric], np.float32)

    low = vector(st.floats(-10, -0.5, width=32))
    spec = PreprocessSpec(
        num_columns=num_columns,
        numeric=numeric,
        fill=vector(numbers),
        mean=vector(numbers),
        inverse_scale=vector(st.floats(2**-12, 2**12, width=32)),
        low=low,
        high=-low,
        categorical=categorical,
    )
    counts = dict(categorical)
    rows = [
        [
            draw(st.one_of(st.just(np.nan), st.integers(0, counts[column]) if column in counts else numbers))
            for column in range(num_columns)
        ]
        for _ in range(draw(st.integers(1, 3)))
    ]
    return spec, np.array(rows, np.float32)


@settings(max_examples=60, deadline=None)
@given(case=preprocessing())
def test_graph_equals_the_specification(mixtures, case):
    spec, rows = case
    (got,) = mixtures.run_by_position(build(spec), rows)
    np.testing.assert_allclose(got, spec.apply(rows), rtol=1e-6, atol=1e-6)


def test_a_missing_category_is_no_category(mixtures):
    spec = mixtures.make_preprocess(np.random.default_rng(0), 3, categorical=((1, 3),))
    rows = np.array([[0, np.nan, 0], [0, 2, 0], [0, 3, 0]], np.float32)
    (got,) = mixtures.run_by_position(build(spec), rows)
    np.testing.assert_array_equal(got[:, 2:], [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_outliers_stop_at_the_clip(mixtures):
    spec = mixtures.make_preprocess(np.random.default_rng(0), 4)
    rows = np.full((2, 4), 1e30, np.float32) * [[1], [-1]]
    (got,) = mixtures.run_by_position(build(spec), rows.astype(np.float32))
    np.testing.assert_array_equal(got, [spec.high, spec.low])


@pytest.mark.parametrize("delegate", [True, False])
def test_rows_agree_in_batches(mixtures, delegate):
    rng = np.random.default_rng(3)
    spec = mixtures.make_preprocess(rng, 5, categorical=((4, 2), (0, 3)))
    rows = rng.normal(size=(64, 5)).astype(np.float32)
    rows[:, [0, 4]] = rng.integers(0, 3, (64, 2))
    rows[rng.random(rows.shape) < 0.2] = np.nan
    content = build(spec)
    single = np.concatenate([mixtures.run_by_position(content, row[None], delegate=delegate)[0] for row in rows])
    for batch in mixtures.BATCHES:
        (got,) = mixtures.run_by_position(content, rows[:batch], delegate=delegate)
        np.testing.assert_array_equal(got, single[:batch])
