"""The README keeps its word: its Python runs, its commands exist, its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from moe_edge.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_tour_runs_as_pasted(tmp_path):
    (block,) = re.findall(r"<!-- tests/test_readme.py.*?-->\n```python\n(.*?)```", TEXT, flags=re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert re.search(r"\d \(\d+\.\d%\); expert_\d \d+%", result.stdout)
    assert (tmp_path / "guide.tflite").stat().st_size > 10_000


@pytest.mark.slow
def test_other_experts_and_gates_work_as_pasted(tmp_path):
    (block,) = re.findall(r"<!-- tests/test_readme.py runs this block -->\n```\n(.*?)```", TEXT, flags=re.DOTALL)
    (tmp_path / "demo-output").mkdir()
    digits = load_digits()
    header = ",".join([*(f"pixel_{index}" for index in range(64)), "digit"])
    table = np.column_stack([digits.data, digits.target])[:600]
    np.savetxt(tmp_path / "demo-output" / "digits.csv", table, "%d", ",", header=header, comments="")
    for line in block.splitlines():
        command = [sys.executable, "-c", "from moe_edge.cli.main import main; main()", *shlex.split(line)[1:]]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
    assert "What the gate asks" in (tmp_path / "kinds.html").read_text()
    assert (tmp_path / "kinds.tflite").stat().st_size > 10_000


def test_every_command_is_in_the_readme_and_no_other():
    named = set(re.findall(r"^moe-edge (\w+)", TEXT, flags=re.MULTILINE))
    assert named <= set(COMMANDS)
    assert all(f"| `{name}` |" in TEXT for name in COMMANDS)


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (ROOT / target).exists(), target


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make (\w+)", TEXT, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
