"""The golden vectors of every kind of file on every platform, into docs/PLATFORMS.md: make platforms.

A file carries rows with the answers and the routing that it gave where it was written (x86-64, LiteRT). Here other
processors, runtimes and languages answer these rows again, dense and routed. Exit code 1 where one is past its
tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("", "device", "demos/web", "demos/c")]

from c_answers import answers as answers_in_c  # noqa: E402
from chromium_answers import answers as answers_in_chromium  # noqa: E402
from emulated_pi import BOARDS, EmulatedPi, install, set_up  # noqa: E402
from mixtures import make_files  # noqa: E402

from moe_edge.atomic import atomic_path  # noqa: E402
from moe_edge.runtime.model_file import ModelFile  # noqa: E402
from moe_edge.runtime.verification import default_tolerance, golden_rows, largest_difference  # noqa: E402
from shared.old_runtime import make_python  # noqa: E402
from shared.seeded_mixtures import write_mixture  # noqa: E402
from shared.wheel import build_wheel  # noqa: E402

PAGE = ROOT / "docs" / "PLATFORMS.md"
START, END = "<!-- make platforms writes from here -->", "<!-- to here -->"
SMOKE = ("float32", "w8a8")
MODES = ("dense", "routed")

Worst = dict[str, float]
"""Mode -> the largest difference of an answer or a routing weight from the stored one."""


@dataclass(frozen=True)
class Platform:
    """Something that answers rows.

    Attributes:
        name: Processor and what runs there.
        runtime: ``litert`` or ``tflite-runtime``, for the tolerance.
        measure: Path of a file -> what it gave.
    """

    name: str
    runtime: str
    measure: Callable[[Path], Worst]


def main() -> int:
    """Answer, print the table, and write it to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help=f"only the files {', '.join(SMOKE)}; writes no page")
    smoke = parser.parse_args().smoke
    if reason := set_up():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory(prefix="moe-edge-platforms-") as name:
        folder = Path(name)
        files = make_files(folder, partial(write_mixture, folder))
        if smoke:
            files = {kind: files[kind] for kind in SMOKE}
        found = {
            platform: {kind: platform.measure(path) for kind, path in files.items()}
            for platform in list_platforms(folder)
        }
        tolerances = {
            (platform, kind): tolerance(path, platform.runtime) for platform in found for kind, path in files.items()
        }
    lines = table(found, tolerances)
    print("\n".join(lines))
    if not smoke:
        write_page(lines)
    past = [
        f"{platform.name}, {kind}, {mode}: {worst:.2g}, expected at most {tolerances[platform, kind]:.2g}"
        for platform, kinds in found.items()
        for kind, modes in kinds.items()
        for mode, worst in modes.items()
        if not worst <= tolerances[platform, kind]
    ]
    print("\n".join(past) or f"All {sum(len(kinds) for kinds in found.values())} agree.", file=sys.stderr)
    return 1 if past else 0


def list_platforms(folder: Path) -> list[Platform]:
    """All of them, the wheel installed where it's needed."""
    site = folder / "site"
    install(build_wheel(folder), site)
    boards = [EmulatedPi(board, site) for board in BOARDS.values()]
    old = make_python(ROOT / ".venvs")
    return [
        Platform("x86-64, LiteRT", "litert", partial(verify_here, Path(sys.executable), site)),
        Platform("x86-64, tflite-runtime", "tflite-runtime", partial(verify_here, old, site)),
        *(
            Platform(f"{pi.board.cpu} (emulated), {pi.board.name}", pi.board.runtime, partial(verify_there, pi))
            for pi in boards
        ),
        Platform("Chromium, LiteRT.js", "litert", partial(compare, partial(answers_in_chromium, mass=1.0))),
        Platform("C on x86-64, libLiteRt", "litert", partial(compare, partial(answers_in_c, board=None))),
        Platform("C on arm64 (emulated), libLiteRt", "litert", partial(compare, partial(answers_in_c, board="arm64"))),
    ]


def verify_here(python: Path, site: Path, model: Path) -> Worst:
    """``moe-edge verify`` of the wheel in another Python of this machine."""
    command = [str(python), "-c", "from moe_edge.cli.main import main; main()", "verify", str(model), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return _worst(subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/"))


def verify_there(pi: EmulatedPi, model: Path) -> Worst:
    """``moe-edge verify`` on an emulated board."""
    return _worst(pi.moe_edge("verify", model, "--json"))


def _worst(result: subprocess.CompletedProcess[str]) -> Worst:
    if not result.stdout:
        raise SystemExit(result.stderr.strip())
    modes = json.loads(result.stdout)["modes"]
    return {mode["mode"]: max(mode["max_difference"], mode["max_routing_difference"] or 0.0) for mode in modes}


def compare(answers: Callable[..., Mapping[str, npt.NDArray[Any]]], model: Path) -> Worst:
    """What a host without moe-edge answers, against the vectors in the file."""
    with ModelFile.open(model) as file:
        manifest, rows = file.manifest, golden_rows(file.manifest, file.source)
    expected = {"prediction": manifest.golden.predictions, "routing_weights": manifest.golden.routing_weights}
    worst = {}
    for mode in MODES:
        got = answers(model, rows, mode)
        worst[mode] = max(
            largest_difference(got[name], np.asarray(values, dtype=np.float64)) for name, values in expected.items()
        )
    return worst


def tolerance(model: Path, runtime: str) -> float:
    """What ``moe-edge verify`` allows there."""
    with ModelFile.open(model) as file:
        return default_tolerance(file.manifest, runtime)


def table(found: Mapping[Platform, Mapping[str, Worst]], tolerances: Mapping[tuple[Platform, str], float]) -> list[str]:
    """Markdown: a row a platform, a column a file, ``dense / routed`` in each cell, bold where past the tolerance."""
    kinds = list(next(iter(found.values())))
    lines = [f"| platform | {' | '.join(kinds)} |", f"|---|{'--:|' * len(kinds)}"]
    for platform, cells in found.items():
        words = []
        for kind in kinds:
            values = " / ".join(f"{worst:.0e}" if worst else "0" for worst in cells[kind].values())
            agrees = all(worst <= tolerances[platform, kind] for worst in cells[kind].values())
            words.append(values if agrees else f"**{values}**")
        lines.append(f"| {platform.name} | {' | '.join(words)} |")
    return lines


def write_page(lines: list[str]) -> None:
    """Put the table in its place."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    with atomic_path(PAGE) as temporary:
        content = "\n".join([before + START, f"Made on {date.today():%Y-%m-%d}.", "", *lines, END]) + after
        temporary.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
