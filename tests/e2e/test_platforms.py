"""The table of golden vectors over all platforms, on two kinds of file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLATFORMS = 10
MISSING = [tool for tool in ("chromium", "npm", "gcc") if shutil.which(tool) is None]


@pytest.mark.slow
@pytest.mark.device
@pytest.mark.skipif(bool(MISSING) and not os.environ.get("CI"), reason=f"no {', '.join(MISSING)} here")
def test_every_platform_gives_the_stored_answers():
    command = [sys.executable, str(ROOT / "benchmarks" / "platforms.py"), "--smoke"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + PLATFORMS
    assert all(row.count("/") == 2 for row in rows[1:]), "dense and routed of both files, everywhere"
    assert f"All {2 * PLATFORMS} agree." in result.stderr
