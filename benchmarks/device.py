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
START, END = "<!-- make device writes from here -->", "<!-- to here -->"
MODES = {"invoke": "the runtime as it is", "plain": "without XNNPACK"}


def main() -> None:
    """Count on every board and write the table."""
    reason = set_up()
    if reason is not None:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory(prefix="moe-edge-device-") as name:
        folder = Path(name)
        install(build_wheel(folder), folder / "site")
        dense, routed = (make_top_1(folder / f"{kind}.tflite", kind) for kind in ("fully_connected", "gather"))
        lines = ["| board, runtime | run | dense | routed | ratio |", "|---|---|--:|--:|--:|"]
        for board in BOARDS.values():
            pi = EmulatedPi(board, folder / "site")
            for mode, words in MODES.items():
                all_, one = pi.count(dense, mode), pi.count(routed, mode)
                lines.append(f"| {board.name} (`{board.cpu}`) | {words} | {all_:,} | {one:,} | {all_ / one:.1f} × |")
            all_, one = pi.count(dense, "dense"), pi.count(dense, "routed")
            lines.append(f"| | `Predictor`, by signatures, Python included | {all_:,} | {one:,} | {all_ / one:.1f} × |")
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    with atomic_path(PAGE) as temporary:
        temporary.write_text("\n".join([before + START, *lines, END]) + after, encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
