"""Ctrl-C on real processes: one line, exit code 130, and nothing half-written, whatever the command."""

import os
import signal
import subprocess
import sys
import time

import click
import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge.cli import main as main_module
from moe_edge.cli.interruption import INTERRUPTED, will_write
from moe_edge.cli.main import main

# Says "ready" once the command has begun (or, where it writes, once it knows what), not while Python itself starts.
BEGUN = (
    "import moe_edge.cli.main as m; get = m.LazyGroup.get_command\n"
    "def told(self, ctx, name):\n    print('ready', flush=True)\n    return get(self, ctx, name)\n"
    "m.LazyGroup.get_command = told\nm.main()"
)
WRITES = (
    "import moe_edge.cli.interruption as i; will_write = i.will_write\n"
    "def told(path):\n    will_write(path)\n    print('ready', flush=True)\n"
    "i.will_write = told\nimport moe_edge.cli.main as m\nm.main()"
)


@pytest.fixture(scope="module")
def files(mixture_file, tmp_path_factory):
    """A model's file, and a table that takes it seconds to answer."""
    folder = tmp_path_factory.mktemp("files")
    model = mixture_file("plain", scheme="float32")
    from moe_edge.runtime.predictor import Predictor

    with Predictor(model) as predictor:
        width = int(np.prod(predictor.manifest.input_shape))
    np.save(folder / "rows.npy", np.zeros((3_000_000, width), dtype=np.float32))
    return model, folder / "rows.npy"


def interrupt(arguments, *, after=0.0, ready=lambda: True, script=BEGUN):
    """Run a command as a terminal would, press Ctrl-C, and give its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors.strip().splitlines()


def test_predict_stopped_while_it_writes(files, tmp_path):
    model, rows = files
    output = tmp_path / "answers.csv"

    def begun():
        return any(path.stat().st_size for path in tmp_path.iterdir())

    code, errors = interrupt(["predict", model, rows, "-o", output], ready=begun)
    assert (code, errors) == (130, [f"Stopped: nothing was written to {output}"])
    assert list(tmp_path.iterdir()) == []


def test_benchmark_stopped_with_its_workers(files):
    assert interrupt(["benchmark", files[0], "--rounds", 1000], after=1.5) == (130, ["Stopped"])


def test_convert_stopped_while_tensorflow_loads(files, tmp_path):
    keras, output = tmp_path / "never-read.keras", tmp_path / "m.tflite"
    keras.write_bytes(b"")
    code, errors = interrupt(["convert", keras, "-o", output, "--scheme", "float16"], script=WRITES)
    assert (code, errors) == (130, [f"Stopped: nothing was written to {output}"])
    assert list(tmp_path.iterdir()) == [keras]


def test_verify_never_ends_as_if_it_had_failed(files):
    # It may be over before the signal comes.
    assert interrupt(["verify", files[0]]) in ((130, ["Stopped"]), (0, []))


@pytest.mark.parametrize("error", [KeyboardInterrupt, click.Abort])
@pytest.mark.parametrize("name", list(main_module.COMMANDS))
def test_every_command_ends_alike(monkeypatch, name, error):
    @click.command(name)
    def stopped():
        raise error

    monkeypatch.setattr(main_module.LazyGroup, "get_command", lambda *_: stopped)
    result = CliRunner().invoke(main, [name])
    assert (result.exit_code, result.stderr) == (INTERRUPTED, "Stopped\n")


def test_what_was_written_before_is_not_denied(monkeypatch, tmp_path):
    old, new = tmp_path / "m.tflite", tmp_path / "new"
    old.write_text("old")

    @click.command()
    def stopped():
        will_write(old)
        new.write_text("new")
        new.replace(old)
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module.LazyGroup, "get_command", lambda *_: stopped)
    result = CliRunner().invoke(main, ["convert"])
    assert result.exit_code == INTERRUPTED
    assert result.stderr == f"Stopped: {old} was written, what follows it was not done\n"
