"""The audit reads the file that came, not the wish: it fails where the quantizer skipped something."""

import pytest

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.schemes.audit import check_schemes, weighted_operators
from moe_edge_converters.schemes.scheme import Scheme

LOSSY = ["float16", "dynamic_w8", "w8a8", "w8a16", "w4"]


@pytest.fixture(scope="module")
def mixture(mixtures):
    spec = mixtures.make_spec(num_columns=16, hidden=(12, 8))
    return spec, mixtures.make_rows(spec, 300)


@pytest.mark.parametrize("scheme", LOSSY)
def test_what_was_asked_passes(mixtures, mixture, scheme):
    content, asked = mixtures.quantize_spec(*[mixture[0], scheme, mixture[1]])
    check_schemes(read_model(content), asked)


@pytest.mark.parametrize("skipped", ["expert_1", "bank_0"])
@pytest.mark.parametrize("scheme", LOSSY)
def test_a_skipped_part_is_named(mixtures, mixture, scheme, skipped):
    content, asked = mixtures.quantize_spec(mixture[0], scheme, mixture[1], skip=[skipped])
    with pytest.raises(ConversionError, match=rf"{skipped} FULLY_CONNECTED: expected {scheme}.*got weights float32"):
        check_schemes(read_model(content), asked)


def test_all_wrong_operators_are_counted(mixtures, mixture):
    model = read_model(pack(mixtures.fuse(mixture[0])[0]))
    # bank, two later layers of each of three experts.
    asked = {"gate": Scheme.FLOAT32, "bank_0": Scheme.W8A8, **{f"expert_{index}": Scheme.W8A8 for index in range(3)}}
    with pytest.raises(ConversionError, match=r"bank_0 .* and 6 more operators; choose another scheme"):
        check_schemes(model, asked)


def test_a_rounded_gate_is_found(mixtures, mixture):
    content, asked = mixtures.quantize_spec(mixture[0], "w8a8", mixture[1], gate="dynamic_w8")
    check_schemes(read_model(content), asked)
    with pytest.raises(ConversionError, match="gate FULLY_CONNECTED: expected float32"):
        check_schemes(read_model(content), {**asked, "gate": Scheme.FLOAT32})


def test_a_part_that_nobody_asked_for_must_be_float(mixtures, mixture):
    content, asked = mixtures.quantize_spec(mixture[0], "float16", mixture[1])
    del asked["expert_2"]
    with pytest.raises(ConversionError, match="expert_2 FULLY_CONNECTED: expected float32"):
        check_schemes(read_model(content), asked)


def test_a_weight_only_file_is_no_w8a8(mixtures, mixture):
    """int8 weights alone are not enough: the activations count too."""
    content, asked = mixtures.quantize_spec(mixture[0], "dynamic_w8", mixture[1])
    wrong = {part: Scheme.W8A8 if scheme is Scheme.DYNAMIC_W8 else scheme for part, scheme in asked.items()}
    with pytest.raises(ConversionError, match=r"activations int8.*got weights int8, activations float32"):
        check_schemes(read_model(content), wrong)


def test_every_dense_layer_is_seen(mixtures, mixture):
    found = weighted_operators(read_model(pack(mixtures.fuse(mixture[0])[0])))
    counts = {part: sum(operator.part == part for operator in found) for part in {operator.part for operator in found}}
    assert counts == {"gate": 2, "bank_0": 1, "expert_0": 2, "expert_1": 2, "expert_2": 2}
