"""Every demo runs in its --smoke mode, and its own checks pass."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "demos"
DEMOS = sorted([*FOLDER.glob("*.py"), *FOLDER.glob("*/run.py")])


@pytest.mark.slow
@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_demo_runs(demo, tmp_path):
    result = subprocess.run(
        [sys.executable, str(demo), "--smoke"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() and "FAIL" not in result.stdout


def test_there_are_demos():
    assert DEMOS
