"""Instructions of one row on emulated Raspberry Pis, dense against routed, into docs/RASPBERRY_PI.md: make device."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "device")]

from emulated_pi import BOARDS, EmulatedPi, install, set_up  # noqa: E402
from mixtures import make_top_1  # noqa: E402

from moe_edge.atomic import atomic_path  # noqa: E402
from shared.wheel import build_wheel  # noqa: E402

PAGE = ROOT / "docs" / "RASPBERRY_PI.md"
MODES = {"invoke": "the runtime as it is", "plain": "without XNNPACK"}
LAYOUTS = ("fully_connected", "gather")
SIZES = ((32, 128), (32, 512), (64, 512))
"""Experts, and units of each one's hidden layer."""
GROWING_ON = ("Pi 4, LiteRT", "Pi 4, tflite-runtime")


def main() -> None:
    """Count on every board and write the tables."""
    reason = set_up()
    if reason is not None:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory(prefix="moe-edge-device-") as name:
        folder = Path(name)
        install(build_wheel(folder), folder / "site")
        pis = {name: EmulatedPi(board, folder / "site") for name, board in BOARDS.items()}
        files = {size: make_pair(folder, *size) for size in SIZES}
        tables = {"boards": count_boards(pis, files[SIZES[0]]), "sizes": count_sizes(pis, files)}
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in tables.items():
        text = put(text, name, lines)
        print("\n".join(lines))
    with atomic_path(PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_pair(folder: Path, experts: int, hidden: int) -> tuple[Path, Path]:
    """One mixture, with all experts computed and with the one gathered."""
    dense, routed = (
        make_top_1(folder / f"{kind}-{experts}-{hidden}.tflite", kind, experts=experts, hidden=hidden)
        for kind in LAYOUTS
    )
    return dense, routed


def count_boards(pis: dict[str, EmulatedPi], files: tuple[Path, Path]) -> list[str]:
    """One mixture on every board."""
    dense, routed = files
    lines = ["| board, runtime | run | dense | routed | ratio |", "|---|---|--:|--:|--:|"]
    for pi in pis.values():
        for mode, words in MODES.items():
            counts = cells(pi.count(dense, mode), pi.count(routed, mode))
            lines.append(f"| {pi.board.name} (`{pi.board.cpu}`) | {words} | {counts} |")
        counts = cells(pi.count(dense, "dense"), pi.count(dense, "routed"))
        lines.append(f"| | `Predictor`, by signatures, Python included | {counts} |")
    return lines


def count_sizes(pis: dict[str, EmulatedPi], files: dict[tuple[int, int], tuple[Path, Path]]) -> list[str]:
    """Growing mixtures on one board, with each runtime."""
    lines = ["| experts | board, runtime | run | dense | routed | ratio |", "|---|---|---|--:|--:|--:|"]
    for (experts, hidden), (dense, routed) in files.items():
        for name in GROWING_ON:
            for mode, words in MODES.items():
                counts = cells(pis[name].count(dense, mode), pis[name].count(routed, mode))
                lines.append(f"| {experts} × 64-{hidden}-10 | {name} | {words} | {counts} |")
    return lines


def cells(dense: int, routed: int) -> str:
    """Both counts and their ratio, as cells of a table."""
    return f"{dense:,} | {routed:,} | {dense / routed:.1f} ×"


def put(text: str, table: str, lines: list[str]) -> str:
    """The page with one table replaced between its marks."""
    start, end = f"<!-- make device: {table} -->", f"<!-- end of {table} -->"
    before, rest = text.split(start)
    return "\n".join([before + start, *lines, end]) + rest.split(end)[1]


if __name__ == "__main__":
    main()
