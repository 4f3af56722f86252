"""Splicing another tool's graph into the mixture: the same answers, names of the part's own, softmax or not."""

import numpy as np
import pytest

from moe_edge.config import Combine
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.graphs.graph import GraphBuilder, new_model
from moe_edge_converters.graphs.network_graph import add_network, ends_in_softmax
from moe_edge_converters.spec import GraphNetwork


def as_graph(network, num_inputs):
    """A dense network as a .tflite of its own, as an expert of any other architecture comes."""
    builder = GraphBuilder(new_model("foreign"), "main")
    out = add_network(builder, builder.input("serving_default_x:0", (num_inputs,)), network, prefix="")
    builder.output("StatefulPartitionedCall:0", out)
    closing = network.layers[-1].activation == "softmax"
    return GraphNetwork(model=pack(builder.model), num_outputs=network.num_outputs, ends_in_softmax=closing)


@pytest.mark.parametrize("combine", list(Combine))
def test_spliced_experts_answer_like_dense_ones(mixtures, combine):
    spec = mixtures.make_spec(num_experts=4, combine=combine)
    experts = [as_graph(expert, 6) if index % 2 else expert for index, expert in enumerate(spec.experts)]
    mixed = mixtures.replace(spec, experts=tuple(experts), gate=as_graph(spec.gate, 6))
    rows = mixtures.make_rows(spec, 64)
    expected = mixtures.reference(spec, rows)
    model, banks = mixtures.fuse(mixed)
    assert [bank.experts for bank in banks] == [(0, 2)]
    for batch in mixtures.BATCHES:
        prediction, weights, *_ = mixtures.run_by_position(pack(model), rows[:batch])
        np.testing.assert_allclose(
            prediction, expected.prediction[:batch], atol=1e-5 * np.abs(expected.prediction).max()
        )
        np.testing.assert_allclose(weights, expected.routing_weights[:batch], atol=1e-5)


def test_spliced_tensors_carry_their_parts_name(mixtures):
    spec = mixtures.make_spec()
    mixed = mixtures.replace(spec, experts=tuple(as_graph(expert, 6) for expert in spec.experts))
    names = mixtures.tensors_of(mixtures.fuse(mixed)[0])
    for index in range(3):
        assert sum(name.startswith(f"expert_{index}/") for name in names) >= 9
    assert len(names) == len(mixtures.fuse(mixed)[0].subgraphs[0].tensors)


def test_the_source_graph_stays_as_it_was(mixtures):
    """One network may be spliced in again and again: conversion builds the graph several times."""
    spec = mixtures.make_spec()
    network = as_graph(spec.experts[0], 6)
    before = bytes(network.model)
    mixed = mixtures.replace(spec, experts=(network, network, network))
    first, second = (pack(mixtures.fuse(mixed)[0]) for _ in range(2))
    assert first == second and bytes(network.model) == before


def test_a_closing_softmax_is_left_out_on_request(mixtures):
    spec = mixtures.make_spec()
    network = as_graph(spec.experts[0], 6)
    assert ends_in_softmax(network) and ends_in_softmax(spec.experts[0])
    rows = mixtures.make_rows(spec, 9)
    answers = []
    for softmax in (True, False):
        builder = GraphBuilder(new_model("test"), "main")
        out = add_network(builder, builder.input("x", (6,)), network, prefix="expert_0/", softmax=softmax)
        builder.output("answer", out)
        answers.append(mixtures.run_by_position(pack(builder.model), rows)[0])
    np.testing.assert_allclose(answers[0].sum(axis=1), 1, atol=1e-6)
    powers = np.exp(answers[1])
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), answers[0], atol=1e-6)


def test_spliced_experts_quantize(mixtures):
    spec = mixtures.make_spec(num_columns=16, hidden=(12, 8))
    mixed = mixtures.replace(spec, experts=tuple(as_graph(expert, 16) for expert in spec.experts))
    rows = mixtures.make_rows(spec, 300)
    content, _ = mixtures.quantize_spec(mixed, "w8a8", rows)
    types = {name: tensor.type for name, tensor in mixtures.tensors_of(read_model(content)).items()}
    weights = [name for name in types if name.startswith("expert_") and name.endswith("/weights")]
    assert len(weights) == 9 and {types[name] for name in weights} == {9}  # INT8
    prediction = mixtures.run_by_position(content, rows)[0]
    assert np.abs(prediction - mixtures.reference(spec, rows).prediction).max() < 0.06
