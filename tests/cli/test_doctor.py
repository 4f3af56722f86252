from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from moe_edge.cli import doctor
from moe_edge.cli.main import main
from moe_edge.runtime.installation import Machine

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_says_what_is_here():
    result = run()
    assert result.exit_code == 0, result.stderr
    for text in ("litert", "in use", "tflite-runtime", "Predictions run here, with litert", "Next: moe-edge demo"):
        assert text in result.stdout
    document = json.loads(run("--json").stdout)
    assert document["backend"] == "litert" and document["packages"]["pandas"] is not None
    assert document["machine"]["python"] == list(sys.version_info[:2])
    assert run("--quiet").output == ""


def test_nothing_can_run(monkeypatch):
    monkeypatch.setattr(doctor, "runtime_states", lambda: {"litert": (False, "not installed")})
    result = run()
    assert result.exit_code == 1 and "Install one: pip install" in result.stdout
    pi_zero = Machine(system="Linux", architecture="armv6l", python=(3, 11), libc="glibc", libc_version=(2, 36))
    monkeypatch.setattr(doctor, "this_machine", lambda: pi_zero)
    result = run()
    assert result.exit_code == 1
    assert "no wheel fits this machine" in result.stdout and "Linux armv6l" in result.stdout
    assert json.loads(run("--json").stdout)["pip"] is None


def test_the_emulation_trap_is_said_before_anything_is_imported(monkeypatch):
    said = []
    monkeypatch.setattr(doctor, "emulation_trap", lambda machine, cpuinfo: "this system is emulated")
    monkeypatch.setattr(doctor, "runtime_states", lambda: said.append("imported") or {"litert": (True, "2.3.0")})
    result = run("--json")
    assert "Warning: this system is emulated" in result.stderr and said == ["imported"]
    assert json.loads(result.stdout)["warning"] == "this system is emulated"


def test_a_device_without_the_desktop(old_runtime_python):
    result = subprocess.run(
        [old_runtime_python, "-c", "from moe_edge.cli.main import main; main()", "doctor"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Predictions run here, with tflite-runtime" in result.stdout
    assert "To train and convert here: pip install " in result.stdout
