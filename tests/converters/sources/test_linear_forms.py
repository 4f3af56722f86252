"""Forms pulled back through a graph give the graph's own values, whatever the operators."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, new_model
from moe_edge_converters.sources.float_graph import FloatGraph, GraphRunner
from moe_edge_converters.sources.linear_forms import LINEAR, FormPuller, WeightUse


def graph_of(build):
    """A graph of one row of six values; ``build(builder, x)`` returns its output."""
    model = new_model("test")
    builder = GraphBuilder(model, "main")
    x = builder.input("x", (6,))
    builder.subgraph.outputs.append(build(builder, x))
    return FloatGraph(pack(model))


def check(graph, row, *, exact=1e-5):
    """Pull the output back to x and compare with what the graph answers."""
    values = GraphRunner(graph).run(row)
    varying = graph.descendants(graph.x)
    puller = FormPuller(graph, {tensor: value for tensor, value in values.items() if tensor not in varying})
    form = puller.pull(puller.identity(graph.output), lambda node: node.kind in LINEAR)
    assert set(form.parts) <= {graph.x}
    got = form.offset + form.parts.get(graph.x, np.zeros((len(form.offset), 6))) @ row.reshape(-1)
    np.testing.assert_allclose(got, values[graph.output].reshape(-1), rtol=exact, atol=exact)


STEPS = ("layer", "scale", "shift", "fold", "split", "pick", "sum", "repeat")


def apply(builder, tensor, step, rng):
    """One linear operator of a random kind."""
    shape = builder.shape(tensor)
    size = int(np.prod(shape))
    if step == "layer":
        flat = builder.flatten(tensor, name="flat")
        units = int(rng.integers(1, 7))
        return builder.fully_connected(flat, rng.normal(size=(units, size)), rng.normal(size=units), name="layer")
    if step in ("scale", "shift"):
        other = builder.constant(step, rng.normal(size=(1, *shape[1:])).astype(np.float32))
        return builder.binary("MUL" if step == "scale" else "SUB", tensor, other, name=step)
    if step == "fold" and size % 2 == 0:
        return builder.reshape(tensor, (2, size // 2), name="fold")
    if step == "split" and shape[-1] % 2 == 0:
        first, second = builder.split(tensor, 2, names=["first", "second"])
        return builder.binary("ADD", first, second, name="added") if rng.integers(2) else second
    if step == "pick" and len(shape) == 2:
        return builder.gather_columns(tensor, rng.integers(0, shape[1], 4).tolist(), name="pick")
    if step == "sum" and len(shape) == 3:
        return builder.sum(tensor, 1, name="sum")
    if step == "repeat":
        return builder.concatenate([tensor, tensor], name="repeat")
    return tensor


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_any_chain_of_linear_operators_is_its_form(steps, seed):
    rng = np.random.default_rng(seed)

    def build(builder, x):
        out = x
        for step in steps:
            if np.prod(builder.shape(out)) > 64:
                break
            out = apply(builder, out, step, rng)
        return builder.binary("ADD", out, builder.constant("zero", np.zeros((1, 1), np.float32)), name="out")

    check(graph_of(build), rng.normal(size=(1, 6)).astype(np.float32), exact=1e-4)


def test_a_product_of_two_varying_tensors_stops_the_form():
    graph = graph_of(lambda builder, x: builder.binary("MUL", x, x, name="square"))
    puller = FormPuller(graph, {})
    form = puller.pull(puller.identity(graph.output), lambda node: node.kind in LINEAR)
    assert set(form.parts) == {graph.output}


@pytest.mark.parametrize("columns", [[0], [1, 3], [0, 1, 2, 3]])
def test_only_the_weights_of_the_wanted_values_count_as_used(columns):
    weights = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    graph = graph_of(lambda builder, x: builder.fully_connected(x, weights, np.zeros(4), name="layer"))
    puller = FormPuller(graph, graph.constants)
    use = WeightUse()
    puller.pull(puller.identity(graph.output, np.array(columns)), lambda node: True, use=use)
    (mask,) = (mask for tensor, mask in use.masks.items() if graph.shapes[tensor] == (4, 6))
    assert np.flatnonzero(mask.reshape(4, 6).all(axis=1)).tolist() == columns
    assert mask.sum() == 6 * len(columns)


def test_a_fused_activation_is_a_step_of_its_own():
    weights = np.ones((2, 6), np.float32)
    graph = graph_of(lambda builder, x: builder.fully_connected(x, weights, np.zeros(2), activation="relu", name="a"))
    assert [node.kind for node in graph.nodes] == ["FULLY_CONNECTED", "RELU"]
    assert graph.is_virtual(graph.nodes[0].outputs[0])


def test_a_tensor_can_be_given_instead_of_computed():
    graph = graph_of(lambda builder, x: builder.unary("EXP", builder.softmax(x, name="gate"), name="out"))
    gate = next(tensor for node in graph.nodes if node.kind == "SOFTMAX" for tensor in node.outputs)
    given_value = np.zeros((1, 6), np.float32)
    values = GraphRunner(graph, (gate,)).run(np.ones((1, 6), np.float32), {gate: given_value})
    np.testing.assert_array_equal(values[graph.output], np.ones((1, 6)))
