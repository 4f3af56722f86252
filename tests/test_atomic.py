from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from moe_edge.atomic import atomic_path, check_writable, write_atomically
from moe_edge.errors import MoeEdgeError


def test_writes_the_whole_file_with_the_usual_mode(tmp_path):
    path = tmp_path / "out.tflite"
    write_atomically(path, b"first")
    (tmp_path / "plain").write_bytes(b"")
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    path.chmod(0o640)
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second" and path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.tflite", "plain"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_leaves_what_was_there(tmp_path, error, existing):
    path = tmp_path / "out.csv"
    if existing:
        path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path and temporary.suffix == ".csv"
            raise error

    with pytest.raises(error):
        fail()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"] * existing


def test_paths_that_can_not_be_written(tmp_path):
    for path, message in (
        (tmp_path / "none" / "x.csv", "there is no folder"),
        (tmp_path, "got the folder"),
    ):
        with pytest.raises(MoeEdgeError, match=message):
            check_writable(path)
        with pytest.raises(MoeEdgeError, match=message):
            write_atomically(path, b"x")
    with pytest.raises(MoeEdgeError, match=r"ends in .tflite, got .*x.csv; try .*x.tflite"):
        check_writable(tmp_path / "x.csv", suffix=".tflite")
    check_writable(tmp_path / "x.csv", suffix=".csv")
    assert not list(tmp_path.iterdir())


def test_a_pipe_or_a_device_is_never_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(MoeEdgeError, match="a device or a pipe; write to standard output"):
        write_atomically(pipe, b"x")
    assert pipe.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["pipe.csv"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(MoeEdgeError, match="permission denied"):
            write_atomically(tmp_path / "x", b"x")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_told(tmp_path):
    def fill() -> None:
        with atomic_path(tmp_path / "x"):
            raise OSError(28, "No space left on device")

    with pytest.raises(MoeEdgeError, match="No space left on device"):
        fill()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="sends an interrupt")
def test_an_interrupt_leaves_nothing_half_written(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from moe_edge.atomic import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "x.csv"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_takes_no_files_is_told_with_advice(tmp_path, monkeypatch):
    def refuse(**_options):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("moe_edge.atomic.tempfile.mkstemp", refuse)
    with pytest.raises(MoeEdgeError, match=r"No such file or directory; choose another place with -o$"):
        write_atomically(tmp_path / "x.csv", b"")
