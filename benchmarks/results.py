"""Keep ``benchmarks/RESULTS.md``: one section a benchmark, replaced when that benchmark runs again."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from moe_edge.atomic import write_atomically

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = (
    "# Results\n\nEach section names the command that wrote it. Ratios within one run count; the machine is shared.\n"
)


def circumstances() -> str:
    """Device, versions, date and command, for the foot of a section."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("ai-edge-litert", "ai-edge-quantizer", "numpy")
    )
    command = " ".join(["python", *sys.argv])
    return (
        f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; Python "
        f"{platform.python_version()}, {versions}; {datetime.date.today().isoformat()}; `{command}`"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers aligned to the right."""
    marks = ["---" if index == 0 else "--:" for index in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *rows))


def write_section(name: str, body: str) -> None:
    """Put a section into RESULTS.md, in the place of the one of the same name."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else TITLE
    sections = text.split("\n## ")
    head, others = sections[0], [part for part in sections[1:] if not part.startswith(f"{name}\n")]
    others.append(f"{name}\n\n{body}\n\n{circumstances()}\n")
    others.sort()
    write_atomically(RESULTS, ("\n## ".join([head.rstrip("\n") + "\n", *others])).encode())
    print(f"\n## {name}\n\n{body}\n\nWrote {RESULTS}")
