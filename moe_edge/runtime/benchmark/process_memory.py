"""How much memory this process holds, as the kernel counts it; Linux only, elsewhere not available.

Layer: device. Imports the standard library.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

# smaps_rollup counts exactly; status is there on older kernels, and lags behind by some pages.
_SOURCES = (
    (Path("/proc/self/smaps_rollup"), "Rss:", "Anonymous:"),
    (Path("/proc/self/status"), "VmRSS:", "RssAnon:"),
)


class MemoryUse(NamedTuple):
    """Memory of one process, in bytes.

    Attributes:
        rss_bytes: Resident: in physical memory, pages of mapped files included.
        anonymous_bytes: Resident and no file's: what can't be dropped and read again.
    """

    rss_bytes: int
    anonymous_bytes: int


def read_memory_use(sources: tuple[tuple[Path, str, str], ...] = _SOURCES) -> MemoryUse | None:
    """Read the memory of this process; None where the system doesn't tell."""
    for path, resident, anonymous in sources:
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        found = {line.split()[0]: line.split() for line in lines if line.strip()}
        try:
            return MemoryUse(int(found[resident][1]) * 1024, int(found[anonymous][1]) * 1024)
        except (KeyError, IndexError, ValueError):
            continue
    return None
