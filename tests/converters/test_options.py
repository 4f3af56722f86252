"""Options of a conversion: each expert's scheme, and what follows from the schemes."""

import pytest

from moe_edge.errors import ConversionError
from moe_edge_converters.options import ConversionOptions, parse_scheme
from moe_edge_converters.schemes.scheme import Scheme


def test_each_expert_has_the_common_scheme_or_its_own():
    options = ConversionOptions(scheme=Scheme.W8A8, expert_schemes={2: Scheme.W4, 0: Scheme.FLOAT16})
    assert options.schemes_of(4) == [Scheme.FLOAT16, Scheme.W8A8, Scheme.W4, Scheme.W8A8]


@pytest.mark.parametrize("index", [-1, 4, 100])
def test_a_scheme_for_an_expert_that_is_not_there(index):
    options = ConversionOptions(expert_schemes={index: Scheme.W4})
    with pytest.raises(ConversionError, match=f"expected experts 0 to 3, got a scheme for expert {index}"):
        options.schemes_of(4)


@pytest.mark.parametrize(
    ("options", "calibrates", "lossless"),
    [
        (ConversionOptions(), True, False),
        (ConversionOptions(scheme=Scheme.FLOAT32), False, True),
        (ConversionOptions(scheme=Scheme.W4), False, False),
        (ConversionOptions(scheme=Scheme.FLOAT32, gate_scheme=Scheme.W8A16), True, False),
        (ConversionOptions(scheme=Scheme.FLOAT32, expert_schemes={1: Scheme.W8A8}), True, False),
        (ConversionOptions(scheme=Scheme.FLOAT32, expert_schemes={1: Scheme.FLOAT16}), False, False),
    ],
)
def test_one_part_is_enough_to_need_calibration_or_to_lose(options, calibrates, lossless):
    assert (options.needs_calibration, options.lossless) == (calibrates, lossless)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_schemes_by_name(scheme):
    assert parse_scheme(scheme.value) is scheme and parse_scheme(scheme) is scheme


@pytest.mark.parametrize("name", ["int8", "W4", "", "auto"])
def test_an_unknown_scheme_lists_those_there_are(name):
    with pytest.raises(ConversionError, match=r"expected a scheme among float32, .*w4, got"):
        parse_scheme(name)
