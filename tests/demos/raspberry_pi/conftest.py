"""The sensor demo's modules, and samples."""

import sys
from pathlib import Path

import numpy as np
import pytest

DEMOS = Path(__file__).parents[3] / "demos"
sys.path.insert(0, str(DEMOS / "raspberry_pi"))


@pytest.fixture
def stream():
    """Samples at 50 Hz from a time on: ``stream(0.0, 250)``."""
    from samples import Sample

    def make(start, count, *, seed=0):
        rows = np.random.default_rng(seed).normal(size=(count, 6)).tolist()
        return [Sample(start + index / 50, tuple(row)) for index, row in enumerate(rows)]

    return make
