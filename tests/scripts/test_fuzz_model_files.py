"""A short run of the fuzz script on real files: no signal, no hang, only errors of ours. CI runs it; 10,000 by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "fuzz_model_files.py"


def fuzz(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def corpus(mixture_file):
    kinds = (
        ("plain", "float32"),
        ("plain", "w4"),
        ("table", "w8a8"),
        ("table", "float16"),
        ("regression", "dynamic_w8"),
    )
    return [mixture_file(kind, scheme=scheme) for kind, scheme in kinds]


def test_damaged_files_never_end_the_process(corpus, mixture_file, tmp_path):
    gathered = [mixture_file(kind) for kind in ("gathered_1", "gathered_2")]
    result = fuzz(*corpus, *gathered, "--count", 400, "--seed", 20, "--keep", tmp_path / "finds", "--json")
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    report = json.loads(result.stdout)
    assert report["finds"] == [] and sum(report["verdicts"].values()) == 400
    # The mutants are no mere noise: many pass the checks and run.
    assert report["verdicts"]["refused"] > 100 and report["verdicts"]["answered"] > 30
    assert set(report["ran"]) >= {"change_meaning", "change_fields", "flip_bits"}


@pytest.mark.slow
def test_what_no_file_may_cause_is_found_and_kept(corpus, tmp_path):
    """With the checks of operands switched off, mutants that end the process are found."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sys, runpy\n"
        "import moe_edge.runtime.model_structure as structure\n"
        "structure.check_operands = lambda *arguments, **options: None\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "import fuzz_model_files\n"
        "fuzz_model_files.__file__ = __file__\n"
        "sys.exit(fuzz_model_files.main())\n"
    )
    command = [sys.executable, str(script), *map(str, corpus), "--count", "1500", "--keep", str(tmp_path / "finds")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 1, result.stdout + result.stderr[-2000:]
    assert "FOUND mutant" in result.stdout and "ended with -" in result.stdout
    assert list((tmp_path / "finds").iterdir())
