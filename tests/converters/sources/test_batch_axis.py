"""The batch's place in a graph that was converted for a fixed number of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, new_model, schema
from moe_edge_converters.sources.batch_axis import choose_probe, free_probed_batch


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2000)))
def test_the_probe_is_a_prime_that_divides_no_size(sizes):
    probe = choose_probe(sizes)
    assert probe >= 97 and all(probe % divisor for divisor in range(2, probe))
    assert all(size % probe for size in sizes if size)


def test_the_next_prime_is_taken_where_sizes_collide():
    assert choose_probe([]) == 97
    assert choose_probe([97]) == 101
    assert choose_probe([194, 101 * 5]) == 103


def fixed_graph(rows):
    """x (rows, 6) -> time-major (2, rows, 3) and back, plus a constant of ``rows`` equal rows: sized for ``rows``."""
    builder = GraphBuilder(new_model("fixed"), "main")
    x = builder.input("x", (6,))
    tensors = builder.subgraph.tensors
    tensors[x].shape = [rows, 6]

    def add(operator, inputs, shape, options=None):
        out = builder.tensor(operator.lower(), shape)
        builder.operator(operator, inputs, [out], options)
        return out

    shaped = add("RESHAPE", [x, builder.constant("a", np.array([rows, 2, 3], np.int32))], (rows, 2, 3))
    order = builder.constant("order", np.array([1, 0, 2], np.int32))
    turned = add("TRANSPOSE", [shaped, order], (2, rows, 3), schema.TransposeOptionsT())
    begin, steps = (builder.constant(name, np.full(3, value, np.int32)) for name, value in (("zero", 0), ("one", 1)))
    end = builder.constant("end", np.array([1, rows, 3], np.int32))
    cut = add("STRIDED_SLICE", [turned, begin, end, steps], (1, rows, 3), schema.StridedSliceOptionsT())
    flat = add("RESHAPE", [cut, builder.constant("b", np.array([rows, 3], np.int32))], (rows, 3))
    offset = builder.constant("offset", np.tile(np.array([[1, 2, 3]], np.float32), (rows, 1)))
    builder.output("y", builder.binary("ADD", flat, offset, name="sum"))
    return builder.model


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_freed_graph_takes_any_number_of_rows(mixtures, batch):
    model = fixed_graph(97)
    free_probed_batch(model, 97)
    graph = model.subgraphs[0]
    assert [list(graph.tensors[index].shape) for index in (*graph.inputs, *graph.outputs)] == [[1, 6], [1, 3]]
    rows = np.random.default_rng(0).normal(size=(batch, 6)).astype(np.float32)
    (got,) = mixtures.run_by_position(pack(model), rows)
    np.testing.assert_allclose(got, rows[:, :3] + [1, 2, 3], rtol=1e-6)


def test_constants_that_differ_from_row_to_row_stay():
    builder = GraphBuilder(new_model("fixed"), "main")
    builder.constant("table", np.arange(97 * 2, dtype=np.float32).reshape(97, 2))
    free_probed_batch(builder.model, 97)
    assert list(builder.subgraph.tensors[0].shape) == [97, 2]
