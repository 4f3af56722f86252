"""One file put together in memory: schemes, coverage, signatures, sharing, and what is missing."""

import numpy as np
import pytest

from moe_edge.config import Combine
from moe_edge.errors import ConversionError
from moe_edge_converters.assembly import assemble, writes_routed
from moe_edge_converters.file_writer import pack, serialize
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.audit import weighted_operators
from moe_edge_converters.schemes.scheme import Scheme


@pytest.fixture(scope="module")
def spec(mixtures):
    return mixtures.make_spec(num_experts=4, num_columns=16, hidden=(24, 16), preprocess=True)


@pytest.mark.parametrize("combine", list(Combine))
@pytest.mark.parametrize("routed", [None, True, False])
def test_routed_signatures_by_default_where_routing_is_safe(mixtures, combine, routed):
    spec = mixtures.make_spec(combine=combine)
    options = ConversionOptions(scheme=Scheme.FLOAT32, routed=routed)
    safe = combine in (Combine.PROBABILITIES, Combine.GAUSSIAN)
    expected = safe if routed is None else routed
    assert writes_routed(spec, options) is expected
    assembly = assemble(spec, options, None)
    assert len(assembly.model.signatureDefs) == (1 + 1 + spec.num_experts + 1 if expected else 1)
    assert bool(assembly.aliases) is expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (ConversionOptions(), "w8a8"),
        (ConversionOptions(scheme=Scheme.W4, expert_schemes={1: Scheme.W8A16}), "w8a16"),
        (ConversionOptions(scheme=Scheme.FLOAT32, gate_scheme=Scheme.W8A8), "w8a8"),
    ],
)
def test_a_calibrating_scheme_asks_for_rows(spec, options, named):
    with pytest.raises(ConversionError, match=f"scheme {named} measures the ranges .* got none; give calibration="):
        assemble(spec, options, None)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_coverage_is_measured_only_where_needed(mixtures, spec, scheme):
    assembly = assemble(spec, ConversionOptions(scheme=scheme), mixtures.make_rows(spec, 300))
    assert (assembly.coverage is not None) == scheme.needs_calibration
    if assembly.coverage is not None:
        assert assembly.coverage.num_rows == 300 and len(assembly.coverage.own) == 4


def test_every_part_gets_what_was_asked(mixtures, spec):
    options = ConversionOptions(
        scheme=Scheme.W8A8, expert_schemes={2: Scheme.W4, 3: Scheme.FLOAT32}, gate_scheme=Scheme.FLOAT16
    )
    assembly = assemble(spec, options, mixtures.make_rows(spec, 300))
    found = {}
    for operator in weighted_operators(assembly.model):
        found.setdefault(operator.part, set()).add((operator.weights, operator.activations))
    assert found["gate"] == {("float16", "float32")}
    assert found["bank_0"] == found["expert_0"] == found["expert_1"] == {("int8", "int8")}
    assert found["expert_2"] == {("int4", "float32")} and found["expert_3"] == {("float32", "float32")}


def test_the_float_graph_stays_the_yardstick(mixtures, spec):
    """Its digest says that two files come from one model, whatever their schemes; banks may cut it differently."""
    rows = mixtures.make_rows(spec, 300)
    contents = {
        assemble(spec, ConversionOptions(scheme=scheme, routed=routed), rows).float_content
        for scheme in Scheme
        for routed in (None, False)
    }
    assert len(contents) == 1
    (content,) = contents
    np.testing.assert_allclose(
        mixtures.run_by_position(content, rows)[0], mixtures.reference(spec, rows).prediction, atol=1e-5
    )


def test_stages_are_told(mixtures, spec):
    stages = []
    assemble(
        spec,
        ConversionOptions(),
        mixtures.make_rows(spec, 300),
        progress=lambda steps, note: stages.append((steps, note)),
    )
    assert stages == [(1, "calibrating"), (1, "quantizing")]


def test_self_contained_is_told_apart(mixtures, spec):
    rows = mixtures.make_rows(spec, 300)
    shared, alone = (assemble(spec, ConversionOptions(self_contained=own), rows) for own in (False, True))
    assert (shared.self_contained, alone.self_contained) == (False, True)
    assert pack(shared.model) == pack(alone.model), "sharing is a matter of writing, not of the graph"
    assert len(serialize(shared.model, manifest=None, aliases=shared.aliases)) < len(pack(alone.model))
