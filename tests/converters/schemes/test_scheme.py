"""Schemes: one spelling each, and light to import."""

import subprocess
import sys

import pytest

from moe_edge_converters.schemes.scheme import Scheme


def test_every_scheme_says_what_it_is():
    assert len({scheme.summary for scheme in Scheme}) == len(Scheme)
    for scheme in Scheme:
        assert Scheme(scheme.value) is scheme
        # Ranges are measured exactly where activations are stored in few bits.
        assert scheme.needs_calibration == (scheme.activation_bits < 32)


@pytest.mark.parametrize("heavy", ["numpy", "tensorflow", "ai_edge_litert", "ai_edge_quantizer"])
def test_help_waits_for_nothing_heavy(heavy):
    code = f"import sys, moe_edge_converters.schemes.scheme; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
