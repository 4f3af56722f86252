"""The sensor demo on an emulated Raspberry Pi: the wheel, its folder and the model, and the desktop's answers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DEMOS = Path(__file__).parents[2] / "demos"

pytestmark = [pytest.mark.slow, pytest.mark.device]

OPTIONS = ("--json", "--speed", "0", "--windows", "300", "--turn", "z90", "--turn-after", "160")


def test_replay_answers_and_alarms_as_on_the_desktop(boards, motion_folder, tmp_path):
    run = DEMOS / "raspberry_pi" / "run.py"
    here = subprocess.run(
        [sys.executable, str(run), "--model", str(motion_folder), "--state", str(tmp_path / "here"), *OPTIONS],
        capture_output=True,
        text=True,
        check=False,
    )
    there = boards["Pi 4, LiteRT"].python(run, "--model", motion_folder, "--state", tmp_path / "there", *OPTIONS)
    assert here.returncode == there.returncode == 0, here.stderr + there.stderr
    expected, found = ([json.loads(line) for line in result.stdout.splitlines()] for result in (here, there))
    assert len(expected) == len(found) == 300
    for key in ("window", "time", "label", "expert", "truth", "alarms", "turn"):
        assert [line[key] for line in found] == [line[key] for line in expected], key
    assert any(line["alarms"] for line in found) and not found[159]["alarms"]
    for key in ("confidence", "weights"):
        np.testing.assert_allclose([line[key] for line in found], [line[key] for line in expected], atol=2e-6)
    for name in ("turned", "gate", "unsure"):
        np.testing.assert_allclose(
            [line["figures"][name] for line in found], [line["figures"][name] for line in expected], atol=2e-3
        )
