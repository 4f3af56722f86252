"""The sensor demo's modules, and one small model for those tests that need one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DEMOS = Path(__file__).parents[3] / "demos"
sys.path.insert(0, str(DEMOS / "raspberry_pi"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """What ``demos/motion/train.py --smoke`` writes."""
    folder = tmp_path_factory.mktemp("motion-model")
    command = [sys.executable, str(DEMOS / "motion" / "train.py"), "-o", str(folder), "--smoke"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def stream():
    """Samples at 50 Hz from a time on: ``stream(0.0, 250)``."""
    from samples import Sample

    def make(start, count, *, seed=0):
        rows = np.random.default_rng(seed).normal(size=(count, 6)).tolist()
        return [Sample(start + index / 50, tuple(row)) for index, row in enumerate(rows)]

    return make
