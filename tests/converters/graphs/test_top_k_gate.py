"""Top-k routing in the graph: the reference's experts and weights, ties and rows that aren't numbers included."""

import subprocess

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge import routing
from moe_edge_converters.file_writer import pack, read_model, serialize
from moe_edge_converters.graphs.fused_graph import build_fused_graph
from moe_edge_converters.graphs.gathered_graph import build_gathered_graph
from moe_edge_converters.graphs.graph import GraphBuilder, new_model
from moe_edge_converters.graphs.top_k_gate import add_top_k, scatter_weights
from moe_edge_converters.targets.operator_support import check_tflite_runtime, list_operators

RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
NUM_EXPERTS = 9

# Runs in a Python with tflite-runtime 2.14: a file and rows in, all outputs out.
OLD_RUNTIME = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter, OpResolverType
rows = np.load(sys.argv[2])
answers = []
for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
    interpreter = Interpreter(sys.argv[1], experimental_op_resolver_type=resolver)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, rows)
    interpreter.invoke()
    answers.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
np.savez(sys.argv[3], *(np.stack(each) for each in zip(*answers)))
"""


def router(top_k: int) -> bytes:
    """Weights (1, E) in; routing weights (1, E) and the chosen experts out."""
    builder = GraphBuilder(new_model("test"), "main")
    values, indices = add_top_k(builder, builder.input("weights", (NUM_EXPERTS,)), top_k)
    weights = scatter_weights(builder, values, indices, NUM_EXPERTS)
    builder.output("routing_weights", weights)
    builder.output("chosen", indices)
    return pack(builder.model)


ROUTERS = {top_k: router(top_k) for top_k in (1, 2, 4, NUM_EXPERTS)}


def run(content, rows, resolver=OpResolverType.AUTO):
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, rows)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def reference(weights, top_k):
    chosen = routing.top_k_experts(weights, top_k)
    mask = np.zeros(weights.shape, dtype=bool)
    np.put_along_axis(mask, chosen, True, axis=1)
    return routing.renormalise(weights, mask), chosen


# Few different values, so that most rows have ties, for the largest too.
tied = st.lists(
    st.lists(st.sampled_from([1e-30, 0.125, 0.25, 0.5]), min_size=NUM_EXPERTS, max_size=NUM_EXPERTS),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(tied, st.sampled_from(list(ROUTERS)), st.sampled_from(RESOLVERS))
def test_of_equal_weights_the_lower_expert_is_taken(rows, top_k, resolver):
    rows = np.array(rows, dtype=np.float32)
    weights, chosen = run(ROUTERS[top_k], rows, resolver)
    expected, experts = reference(rows, top_k)
    np.testing.assert_array_equal(chosen.reshape(len(rows), -1), experts)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    if top_k == 1:
        assert set(np.unique(weights)) == {0.0, 1.0}


def hostile_rows():
    """Rows of weights that aren't numbers, between two that are."""
    rows = np.random.default_rng(0).uniform(0.1, 1, (6, NUM_EXPERTS)).astype(np.float32)
    rows[1] = np.nan
    rows[2, 0] = np.nan
    rows[3, -1] = np.nan
    rows[4] = np.inf
    return rows


def assert_harmless(weights, chosen, top_k):
    """Experts that exist; NaN where all weights are, and the sound rows as if they were alone."""
    assert chosen.min() >= 0 and chosen.max() < NUM_EXPERTS
    assert np.isnan(weights[[1, 4]]).all()
    rows = hostile_rows()
    np.testing.assert_allclose(weights[[0, 5]], reference(rows[[0, 5]], top_k)[0], rtol=1e-6)


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("top_k", ROUTERS)
def test_rows_that_are_no_numbers_choose_experts_that_exist(top_k, resolver):
    assert_harmless(*run(ROUTERS[top_k], hostile_rows(), resolver), top_k)


def test_tflite_runtime_does_the_same(old_runtime_python, tmp_path):
    tied_rows = np.random.default_rng(1).choice([0.125, 0.25, 0.5], (200, NUM_EXPERTS)).astype(np.float32)
    for top_k, content in ROUTERS.items():
        (tmp_path / "router.tflite").write_bytes(content)
        for name, rows in (("hostile", hostile_rows()), ("tied", tied_rows)):
            np.save(tmp_path / "rows.npy", rows)
            command = [old_runtime_python, "-c", OLD_RUNTIME, *(tmp_path / f for f in ("router.tflite", "rows.npy"))]
            subprocess.run([*command, tmp_path / "answers.npz"], check=True, capture_output=True)
            with np.load(tmp_path / "answers.npz") as found:
                for weights, chosen in zip(found["arr_0"], found["arr_1"], strict=True):
                    if name == "hostile":
                        assert_harmless(weights, chosen, top_k)
                    else:
                        np.testing.assert_array_equal(chosen.reshape(len(rows), -1), reference(rows, top_k)[1])


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("top_k", [1, 2])
def test_a_row_that_is_no_numbers_gets_no_answer(mixtures, top_k, batch, resolver):
    """RELU may make numbers of NaN: the weight says that there is no answer."""
    spec = mixtures.make_spec(num_experts=5)
    rows = mixtures.make_rows(spec, batch)
    clean = rows.copy()
    rows[0] = np.nan
    gathered, aliases = build_gathered_graph(spec, top_k)
    computed, _ = build_fused_graph(mixtures.replace(spec, top_k=top_k), ["float32"] * 5)
    for content in (serialize(gathered, manifest=None, aliases=aliases), pack(computed)):
        answers = run(content, rows, resolver)
        assert all(np.isnan(answer[0]).all() for answer in answers)
        for answer, expected in zip(answers, run(content, clean, resolver), strict=True):
            np.testing.assert_array_equal(answer[1:], expected[1:])


@pytest.mark.parametrize("top_k", ROUTERS)
def test_tflite_runtime_knows_the_operators(top_k):
    check_tflite_runtime(list_operators(read_model(ROUTERS[top_k])))
