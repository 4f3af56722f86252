"""demos/c/setup.sh without root: the ARM compiler unpacked into a folder compiles the host."""

import os
import subprocess

import pytest
from c_host import SOURCES
from emulated_pi import must_run


@pytest.mark.slow
def test_the_unpacked_compiler_compiles_the_host(host, tmp_path):
    result = subprocess.run(
        ["bash", str(SOURCES / "setup.sh"), str(tmp_path / "cross")],
        env={**os.environ, "UNPACK": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if result.returncode != 0:
        (pytest.fail if must_run() else pytest.skip)(result.stderr[-600:])
    compiler = result.stdout.strip()
    assert compiler == str(tmp_path / "cross" / "aarch64-linux-gnu-gcc")
    command = ["make", "-s", "-C", str(SOURCES), f"CC={compiler}", f"OUT={tmp_path / 'out'}"]
    subprocess.run(command, check=True, capture_output=True)
    header = (tmp_path / "out" / "moe").read_bytes()[:20]
    assert header[:4] == b"\x7fELF" and header[18] == 183, "expected a program for 64-bit ARM"
