"""Run Python and moe-edge as on a Raspberry Pi: QEMU's user mode in the folder that ``setup.sh`` makes.

Emulated are the processor's instructions; times mean nothing, but answers are those of ARM kernels and counts of
instructions are exact.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".device"
MOE_EDGE = HERE / "moe_edge_here.py"
COUNT = HERE / "count_instructions.py"


@dataclass(frozen=True)
class Board:
    """A board and the packages on it."""

    name: str
    root: str
    cpu: str
    site: str
    runtime: str
    emulator: str = "qemu-aarch64"


BOARDS = {
    board.name: board
    for board in (
        # Always a named processor: QEMU's default has SME, with which int8 kernels answer wrongly, silently.
        Board("Pi 3, LiteRT", "root-pi3", "cortex-a53", "site-arm64", "litert"),
        Board("Pi 4, LiteRT", "root-pi4", "cortex-a72", "site-arm64", "litert"),
        Board("Pi 5, LiteRT", "root-pi5", "cortex-a76", "site-arm64", "litert"),
        Board("Pi 4, tflite-runtime", "root-pi4", "cortex-a72", "site-arm64-old", "tflite-runtime"),
        Board("32-bit, tflite-runtime", "root-pi2", "cortex-a7", "site-armhf", "tflite-runtime", "qemu-arm"),
    )
}


def set_up() -> str | None:
    """Make the folder, or find it made; returns why it can't be made, or None."""
    if not sys.platform.startswith("linux") or shutil.which("bash") is None:
        return "expected Linux with bash"
    result = subprocess.run(
        ["bash", str(HERE / "setup.sh"), str(FOLDER)],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    return None if result.returncode == 0 else f"tests/device/setup.sh: {result.stderr.strip()[-600:]}"


def install(wheel: Path, site: Path) -> None:
    """Unpack the project's wheel, as pip does on the board; its dependencies are in the boards' own folders."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)


@dataclass(frozen=True)
class EmulatedPi:
    """One board on which the wheel is installed.

    Attributes:
        board: Which.
        site: Folder with the project's wheel.
    """

    board: Board
    site: Path

    def command(self, *arguments: object, plugin: bool = False) -> list[str]:
        """The command line that runs the board's Python on ``arguments``."""
        root = FOLDER / self.board.root
        found, environment = shutil.which(self.board.emulator), []
        if found is None:
            found = str(FOLDER / "host/usr/bin" / self.board.emulator)
            environment = [f"LD_LIBRARY_PATH={FOLDER}/host/usr/lib/x86_64-linux-gnu"]
        path = f"{self.site}:{FOLDER / self.board.site}"
        return [
            "env", "-i", *environment, found, "-cpu", self.board.cpu, "-L", str(root),
            *(["-plugin", str(FOLDER / "instruction_counter.so")] if plugin else []),
            "-U", "LD_LIBRARY_PATH", "-E", "PYTHONHASHSEED=0", "-E", "LC_ALL=C.UTF-8", "-E", "COLUMNS=120",
            "-E", f"PYTHONPATH={path}", str(root / "usr/bin/python3.11"), "-s", *map(str, arguments),
        ]  # fmt: skip

    def python(self, *arguments: object, plugin: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the board's Python."""
        return subprocess.run(
            self.command(*arguments, plugin=plugin), capture_output=True, text=True, check=False, timeout=300, cwd="/"
        )

    def moe_edge(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run the command line of the installed wheel."""
        return self.python(MOE_EDGE, self._starter(), *arguments)

    def count(self, model: Path, mode: str) -> int:
        """Exact instructions of one row.

        Args:
            model: A .tflite of moe-edge.
            mode: ``invoke`` for the runtime's own work on the whole graph, ``plain`` the same without XNNPACK, ``dense`` or ``routed`` for
                ``Predictor.predict_raw``, Python included.
        """
        result = self.python(COUNT, model, mode, plugin=True)
        if result.returncode != 0:
            raise RuntimeError(f"{self.board.name}: {result.stderr.strip()[-800:]}")
        marks = [int(place) for place in re.findall(r"^mark \d+ at (\d+)$", result.stderr, re.MULTILINE)]
        spans = [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]
        # The first half marks nothing at all: what marking itself costs. The first few of each are warm-up.
        half = len(spans) // 2
        return int(statistics.median(spans[half:]) - statistics.median(spans[:half]))

    def _starter(self) -> Path:
        """A host's script that starts the board's Python: without binfmt_misc no kernel starts an ARM program itself."""
        script = self.site / f"python-{self.board.root}-{self.board.site}"
        if not script.exists():
            words = " ".join(f"'{word}'" for word in self.command())
            script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            script.chmod(0o755)
        return script


def must_run() -> bool:
    """In CI a board that can't be made is a failure, elsewhere a reason to skip."""
    return bool(os.environ.get("CI"))
