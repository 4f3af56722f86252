"""Build the C host of demos/c and run it here, or cross-compiled on an emulated Raspberry Pi."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SOURCES = ROOT / "demos" / "c"
BUILD = SOURCES / "build"
CROSS = "aarch64-linux-gnu"

sys.path.insert(0, str(ROOT / "tests" / "device"))

from emulated_pi import BOARDS, FOLDER, EmulatedPi, set_up  # noqa: E402

PI_4 = BOARDS["Pi 4, LiteRT"]


class CannotBuildError(Exception):
    """No compiler, or no emulated board, and why."""


def build(board: str | None = None, *, sanitize: bool = False, target: str = "") -> Path:
    """Compile demos/c, once for all that ask.

    Args:
        board: None for this machine, ``arm64`` for the emulated Raspberry Pi 4.
        sanitize: With AddressSanitizer and UndefinedBehaviorSanitizer.
        target: Of the Makefile; by default the program.

    Returns:
        The folder with ``moe`` in it.

    Raises:
        CannotBuildError: If there is no compiler.
        RuntimeError: If the sources don't compile.
    """
    options = [] if board is None else [f"CC={cross_compiler()}"]
    if shutil.which("make") is None or shutil.which("gcc") is None:
        _set_up_compilers()
    machine = _machine("gcc") if board is None else CROSS
    folder = BUILD / (f"{machine}-sanitized" if sanitize else machine)
    options += ["SANITIZE=1"] if sanitize else []
    command = ["make", "-s", "-C", str(SOURCES), *options, f"OUT={folder}", *filter(None, [target])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"demos/c doesn't compile: {result.stderr.strip()[-2000:]}")
    return folder


@functools.cache
def cross_compiler() -> str:
    """The command of a C compiler for 64-bit ARM, installed or unpacked if need be."""
    return _set_up_compilers()


@functools.cache
def _set_up_compilers() -> str:
    command = ["bash", str(SOURCES / "setup.sh"), str(FOLDER.with_name(".cross"))]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if result.returncode != 0:
        raise CannotBuildError(f"demos/c/setup.sh: {result.stderr.strip()[-600:]}")
    return result.stdout.strip()


@functools.cache
def _machine(compiler: str) -> str:
    return subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=True).stdout.strip()


@functools.cache
def _emulated() -> EmulatedPi:
    reason = set_up()
    if reason is not None:
        raise CannotBuildError(reason)
    # The checkout itself stands for the installed wheel.
    return EmulatedPi(PI_4, ROOT)


def library(board: str | None = None) -> Path:
    """LiteRT's shared library, of this machine or of the board."""
    if board is not None:
        _emulated()
        return FOLDER / PI_4.site / "ai_edge_litert" / "libLiteRt.so"
    spec = importlib.util.find_spec("ai_edge_litert")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name("libLiteRt.so")


def command(program: Path, *arguments: object, board: str | None = None, plugin: bool = False) -> list[str]:
    """The command line that runs a compiled program, here or under QEMU."""
    words = [str(program), *map(str, arguments)]
    # All of the board's command but its Python.
    return words if board is None else [*_emulated().command(plugin=plugin)[:-2], *words]


def run(
    *arguments: object, board: str | None = None, sanitize: bool = False, given: bytes = b"", at: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run ``moe`` with LiteRT's library named.

    Args:
        arguments: Its options and arguments.
        board: None or ``arm64``.
        sanitize: The sanitized program.
        given: Its standard input.
        at: Another library.
    """
    program = build(board, sanitize=sanitize) / "moe"
    words = command(program, "--library", at or library(board), *arguments, board=board)
    environment = {key: value for key, value in os.environ.items() if key != "MOE_LITERT"}
    return subprocess.run(words, input=given, capture_output=True, check=False, timeout=300, env=environment)


@functools.cache
def counting_program() -> Path:
    """``count_row.c``, cross-compiled."""
    folder = build("arm64", target="library")
    program = folder / "count_row"
    words = [cross_compiler(), "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", f"-I{SOURCES}", "-o", str(program)]
    subprocess.run(
        [*words, str(HERE / "count_row.c"), str(folder / "libmoe.a"), "-ldl", "-lm"], check=True, capture_output=True
    )
    return program


def count(model: Path, mode: str, *, top_k: int = 1) -> int:
    """Exact instructions of one row on the emulated Pi 4, LiteRT 2.3.0, in C.

    Args:
        model: A .tflite of moe-edge.
        mode: ``dense``, or ``file`` or ``few``: routed, and who weighs the answers.
        top_k: Experts that run, routed.
    """
    words = command(counting_program(), library("arm64"), model, mode, top_k, board="arm64", plugin=True)
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    if result.returncode != 0:
        raise RuntimeError(f"{mode}: {result.stderr.strip()[-800:]}")
    marks = [int(place) for place in re.findall(r"^mark \d+ at (\d+)$", result.stderr, re.MULTILINE)]
    spans = [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]
    # The first half marks nothing at all: what marking itself costs. The first few of each are warm-up.
    half = len(spans) // 2
    return int(statistics.median(spans[half:]) - statistics.median(spans[:half]))
