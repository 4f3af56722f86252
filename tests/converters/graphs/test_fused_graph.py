"""The fused graph equals the mixture computed in NumPy, for every way of combining, row by row in any batch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.config import Combine
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.graphs.fused_graph import plan_banks
from moe_edge_converters.spec import HeadSpec

TOLERANCE = 1e-5
"""Relative to the largest answer; sums in another order move the last bits of a float32."""


def check(mixtures, spec, rows, schemes=None):
    """Compare a mixture's graph with the reference; returns the graph's outputs."""
    content = pack(mixtures.fuse(spec, schemes)[0])
    expected = mixtures.reference(spec, rows)
    got = mixtures.run_by_position(content, rows)
    wanted = list(vars(expected).values())[: len(got)]
    assert wanted[-1] is not None
    for values, answer in zip(wanted, got, strict=True):
        assert answer.dtype == np.float32 and answer.shape == values.shape
        np.testing.assert_allclose(answer, values, rtol=0, atol=TOLERANCE * max(1, np.abs(values).max()))
    return got


@pytest.mark.parametrize("combine", list(Combine))
@pytest.mark.parametrize("preprocess", [None, True])
def test_equals_numpy(mixtures, combine, preprocess):
    spec = mixtures.make_spec(combine=combine, preprocess=preprocess)
    got = check(mixtures, spec, mixtures.make_rows(spec, 100, missing=0.05))
    assert len(got) == (5 if combine is Combine.GAUSSIAN else 2)


def test_the_oracle_tells_experts_apart(mixtures):
    """Guard of the tests above: a mixture with two experts swapped answers otherwise by far more than the tolerance."""
    spec = mixtures.make_spec()
    rows = mixtures.make_rows(spec, 100)
    swapped = mixtures.replace(spec, experts=(spec.experts[1], spec.experts[0], *spec.experts[2:]))
    difference = mixtures.reference(spec, rows).prediction - mixtures.reference(swapped, rows).prediction
    assert np.abs(difference).max() > 0.05


@pytest.mark.parametrize("combine", list(Combine))
@pytest.mark.parametrize(
    "hidden",
    [(), (6,), (8, 5, 4), [(8, 5), (), (8, 5), (3,)], [(4,), (5,), (6,), (7,)], [(4,), (9, 2), (4,), (9, 2)]],
    ids=str,
)
def test_experts_of_any_depth_and_size(mixtures, combine, hidden):
    spec = mixtures.make_spec(num_experts=4, combine=combine, hidden=hidden)
    check(mixtures, spec, mixtures.make_rows(spec, 50))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.fixed_dictionaries(
        {
            "num_experts": st.integers(2, 9),
            "num_columns": st.integers(1, 7),
            "num_outputs": st.integers(1, 5),
            "combine": st.sampled_from(Combine),
            "hidden": st.sampled_from([(), (4,), (4, 3)]),
            "gate_hidden": st.sampled_from([(), (3,), (3, 5)]),
            "seed": st.integers(0, 1000),
        }
    )
)
def test_any_size_equals_numpy(mixtures, sizes):
    spec = mixtures.make_spec(preprocess=True, **sizes)
    check(mixtures, spec, mixtures.make_rows(spec, 5))


@pytest.mark.parametrize("activation", ["relu", "relu6", "tanh", "sigmoid", "linear"])
def test_hidden_activations(mixtures, activation):
    rng = np.random.default_rng(5)
    spec = mixtures.make_spec()
    spec = mixtures.replace(
        spec,
        experts=tuple(mixtures.make_network(rng, (6, 8, 4), "softmax", activation) for _ in range(3)),
        gate=mixtures.make_network(rng, (6, 8, 3), "softmax", activation),
    )
    # Large rows reach the flat ends of relu6, tanh and sigmoid.
    check(mixtures, spec, 4 * mixtures.make_rows(spec, 50))


def test_two_layouts_of_one_mixture_answer_alike(mixtures):
    """Schemes only decide the banks here: several banks, and experts in none."""
    spec = mixtures.make_spec(num_experts=5)
    schemes = ["w8a8", "float32", "w8a8", "float32", "float16"]
    _, banks = mixtures.fuse(spec, schemes)
    assert [(bank.experts, bank.scheme) for bank in banks] == [((0, 2), "w8a8"), ((1, 3), "float32")]
    rows = mixtures.make_rows(spec, 50)
    check(mixtures, spec, rows, schemes)
    check(mixtures, spec, rows)


def test_banks_hold_equal_shapes_and_schemes(mixtures):
    spec = mixtures.make_spec(num_experts=5, hidden=[(8,), (4,), (8,), (8, 8), (4,)])
    banks = plan_banks(spec, ["w8a8"] * 5)
    assert [bank.experts for bank in banks] == [(0, 2), (1, 4)]
    assert len({bank.name for bank in banks}) == 2
    assert plan_banks(spec, ["w8a8", "w8a8", "float32", "w8a8", "float16"]) == ()


def test_sigma_stops_at_the_experts_limits(mixtures):
    spec = mixtures.make_spec(combine=Combine.GAUSSIAN, num_outputs=1)
    same = mixtures.replace(spec, experts=spec.experts[:1] * 3, head=HeadSpec(min_sigma=0.5, max_sigma=0.6))
    rows = 10 * mixtures.make_rows(same, 200)
    sigma = check(mixtures, same, rows)[2]
    # Equal experts: no spread between them, so the mixture's sigma is an expert's.
    assert sigma.min() == pytest.approx(0.5, rel=1e-3) and sigma.max() == pytest.approx(0.6, rel=1e-3)


@pytest.mark.parametrize("delegate", [True, False])
@pytest.mark.parametrize("combine", list(Combine))
def test_rows_agree_in_batches(mixtures, combine, delegate):
    spec = mixtures.make_spec(num_experts=5, combine=combine, hidden=[(8, 5)] * 3 + [(4,)] * 2, preprocess=True)
    rows = mixtures.make_rows(spec, 64, missing=0.05)
    content = pack(mixtures.fuse(spec)[0])
    singles = [mixtures.run_by_position(content, row[None], delegate=delegate) for row in rows]
    for batch in mixtures.BATCHES:
        got = mixtures.run_by_position(content, rows[:batch], delegate=delegate)
        for position, values in enumerate(got):
            single = np.concatenate([answer[position] for answer in singles[:batch]])
            np.testing.assert_allclose(values, single, rtol=1e-5, atol=1e-6 * np.abs(single).max())


def test_hosts_find_the_answer_by_position_and_by_name(mixtures):
    spec = mixtures.make_spec(combine=Combine.GAUSSIAN)
    model = read_model(pack(mixtures.fuse(spec)[0]))
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    assert signature.signatureKey == b"serving_default" and signature.subgraphIndex == 0
    named = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
    assert list(named) == ["prediction", "routing_weights", "sigma", "expert_means", "expert_sigmas"]
    assert list(graph.outputs) == list(named.values())
    # Hosts without signatures go by the tensors' own names.
    assert [graph.tensors[index].name.decode() for index in graph.outputs] == list(named)
    assert {graph.tensors[index].shape[0] for index in [*graph.inputs, *graph.outputs]} == {1}
