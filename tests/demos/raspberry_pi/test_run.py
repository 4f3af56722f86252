"""The sensor demo as a user runs it: JSON lines, terminal, page, restarts, a day's soak."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import tty
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from moe_edge import Predictor

DEMO = Path(__file__).parents[3] / "demos" / "raspberry_pi"
RUN = str(DEMO / "run.py")

pytestmark = pytest.mark.slow


def command(motion_folder, state, *options):
    return [sys.executable, RUN, "--model", str(motion_folder), "--state", str(state), "--speed", "0", *options]


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def test_json_lines_are_the_predictors_answers(motion_folder, tmp_path):
    result = subprocess.run(
        command(motion_folder, tmp_path, "--json", "--windows", "60"), capture_output=True, text=True, check=True
    )
    lines = lines_of(result.stdout)
    assert [line["window"] for line in lines] == list(range(1, 61))
    with np.load(motion_folder / "held_out.npz") as held:
        first = held["samples"][: held["lengths"][0]]
        name = str(held["names"][0])
    count = (len(first) - 100) // 50 + 1
    windows = np.stack([first[start : start + 100] for start in range(0, count * 50, 50)])
    with Predictor(motion_folder / "motion.tflite") as predictor:
        expected = predictor.explain(windows)
    assert [line["label"] for line in lines[:count]] == expected.labels.tolist()
    np.testing.assert_allclose([line["confidence"] for line in lines[:count]], expected.confidence, atol=2e-6)
    np.testing.assert_allclose([line["weights"] for line in lines[:count]], expected.routing_weights, atol=2e-6)
    assert {line["truth"] for line in lines[:count]} == {name}


def test_nothing_of_the_training_stack_is_imported(motion_folder, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = {command(motion_folder, tmp_path, '--json', '--windows', '3')[1:]!r}\n"
        f"sys.path.insert(0, {str(DEMO)!r})\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'pandas', 'matplotlib', 'moe_edge.training', 'moe_edge_converters'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_goes_on_where_it_was(motion_folder, tmp_path, end):
    with subprocess.Popen(
        command(motion_folder, tmp_path, "--json", "--windows", "200"), stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        first.stdout.read()
    endless = command(motion_folder, tmp_path, "--json")
    with subprocess.Popen(endless, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout is not None
        line = json.loads(second.stdout.readline())
        # The 150 windows that figures are taken over came along: no new start.
        assert line["window"] == 201 and line["figures"]["unsure"] > 0
        second.send_signal(end)
        second.stdout.read()
    assert second.returncode == (0 if end == signal.SIGTERM else -end)
    third = subprocess.run(
        command(motion_folder, tmp_path, "--json", "--windows", "1"), capture_output=True, text=True, check=True
    )
    begun = lines_of(third.stdout)[0]["window"]
    # Killed, it has lost what came after the last save; the state itself is whole.
    assert begun > 201 if end == signal.SIGTERM else begun == 201
    assert "damaged" not in third.stderr
    restarts = [
        json.loads(line)["restarts"] for line in (tmp_path / "sensor.log").read_text().splitlines() if '"start"' in line
    ]
    assert restarts == [0, 1, 2 if end == signal.SIGTERM else 1]


def test_a_damaged_or_foreign_state_is_set_aside(motion_folder, tmp_path):
    for content in (b"nonsense", None):
        if content is None:
            from state_file import StateFile

            StateFile(tmp_path / "state.json").save({"model": "another"})
        else:
            (tmp_path / "state.json").write_bytes(content)
        result = subprocess.run(
            command(motion_folder, tmp_path, "--json", "--windows", "1"), capture_output=True, text=True, check=True
        )
        assert "set aside as state.json.damaged" in result.stderr
        assert lines_of(result.stdout)[0]["window"] == 1
        (tmp_path / "state.json").unlink()


def test_the_terminal_shows_label_experts_and_drift(motion_folder, tmp_path):
    result = subprocess.run(
        command(motion_folder, tmp_path, "--windows", "160"),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "120"},
    )
    for words in ("expert_3", "in training", "turned", "gate", "unsure", "160 windows", "confidence"):
        assert words in result.stdout


def test_the_page_serves_this_computer_only(motion_folder, tmp_path):
    arguments = command(motion_folder, tmp_path, "--json", "--page", "0")
    arguments[arguments.index("--speed") + 1] = "5"
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None and demo.stderr is not None
            address = next(line for line in demo.stderr if "page: http://127.0.0.1:" in line).split()[-1]
            demo.stdout.readline()
            state = json.load(urllib.request.urlopen(address + "state.json"))
            assert state["answer"]["label"] in state["labels"] and len(state["answer"]["weights"]) == 4
            with urllib.request.urlopen(address) as page:
                text, policy = page.read().decode(), page.headers["Content-Security-Policy"]
            assert "http" not in text and "default-src 'none'" in policy
            for request in (address + "state.py", urllib.request.Request(address, headers={"Host": "evil.example"})):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(request)
                assert refused.value.code in (403, 404)
                refused.value.close()
        finally:
            demo.terminate()


def test_a_serial_port_is_watched(motion_folder, tmp_path):
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with np.load(motion_folder / "held_out.npz") as held:
        rows = held["samples"][:200]
    arguments = command(
        motion_folder, tmp_path, "--source", "serial", "--port", os.ttyname(theirs), "--json", "--windows", "3"
    )
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        # What arrives before the port is open is thrown away; the log begins after that.
        wait_for(tmp_path / "sensor.log", demo)
        os.write(ours, b"\n")  # whoever joins waits for a line's end
        for number, row in enumerate(rows):
            os.write(ours, (f"{number / 50:.3f}," + ",".join(f"{value:.7g}" for value in row) + "\n").encode())
        output, errors = demo.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert demo.returncode == 0, errors
    with Predictor(motion_folder / "motion.tflite") as predictor:
        expected = predictor.predict(np.stack([rows[start : start + 100] for start in (0, 50, 100)]))
    assert [line["label"] for line in lines_of(output)] == expected.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "serial", "--port", "/dev/no-such-port"], "can't open /dev/no-such-port"),
        (["--turn", "w90"], "expected an axis and degrees, such as z90, got 'w90'"),
        (["--hop", "101"], "expected a hop from 1 to 100 samples, got 101"),
        (["--recordings", RUN], "expected recordings of demos/motion/train.py"),
        (["--source", "imu", "--bus", "77"], "can't open I2C bus 77"),
    ],
)
def test_mistakes_are_one_line(motion_folder, tmp_path, options, message):
    result = subprocess.run(command(motion_folder, tmp_path, *options), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_device_without_the_model_says_what_to_copy(motion_folder, tmp_path):
    # On the device this folder stands alone: no training beside it.
    shutil.copytree(DEMO, tmp_path / "sensor", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "motion"
    run = [
        sys.executable,
        str(tmp_path / "sensor" / "run.py"),
        "--model",
        str(folder),
        "--json",
        "--windows",
        "1",
        "--speed",
        "0",
    ]
    result = subprocess.run(run, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "lacks motion.tflite, drift.json, held_out.npz; copy them" in result.stderr
    folder.mkdir()
    for name in ("motion.tflite", "drift.json", "held_out.npz"):
        shutil.copy(motion_folder / name, folder)
    assert subprocess.run(run, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("mounted", [True, False])
def test_the_soak_passes(motion_folder, mounted, tmp_path, monkeypatch):
    if not mounted:
        # Without mount(8) on the path the kernel refuses writes instead.
        monkeypatch.setenv("PATH", str(tmp_path))
    result = subprocess.run(
        [sys.executable, str(DEMO / "soak.py"), "--model", str(motion_folder), "--smoke"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "FAIL" not in result.stdout and "windows classified" in result.stdout


def test_the_soak_fails_when_ordinary_wear_alarms(motion_folder, tmp_path):
    folder = tmp_path / "strict"
    shutil.copytree(motion_folder, folder, ignore=shutil.ignore_patterns("state"))
    profile = json.loads((folder / "drift.json").read_text())
    profile["thresholds"]["unsure"] = 0.001
    (folder / "drift.json").write_text(json.dumps(profile))
    result = subprocess.run(
        [sys.executable, str(DEMO / "soak.py"), "--model", str(folder), "--hours", "0.2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 1 and "FAIL: false alarms a day" in result.stdout


def require_systemd():
    """Have systemd-analyze: installed when root; in CI it must be there."""
    if shutil.which("systemd-analyze") is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "systemd"]):
            subprocess.run(["apt-get", *step], env=environment, capture_output=True, check=False)
    if shutil.which("systemd-analyze") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("expected systemd-analyze; run: apt-get install systemd")


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    require_systemd()
    unit = (DEMO / "moe-edge-sensor.service").read_text()
    for promise in (
        "Restart=always",
        "DynamicUser=yes",
        "StateDirectory=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ):
        assert promise in unit
    # Its program lies on the device only; here any executable stands for it.
    checked = tmp_path / "moe-edge-sensor.service"
    checked.write_text(unit.replace("/opt/moe-edge/bin/python", sys.executable))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(checked)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert str(checked.name) not in result.stderr
