"""A small disk that can really be full, for the soak."""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

SIZE_MIB = 4


class SmallDisk:
    """A folder whose disk can be filled.

    Attributes:
        folder: For the state and the log.
        kind: What it is, in words.
    """

    def __init__(self, folder: Path, *, mounted: bool) -> None:
        """Take a folder, on a disk of its own or not."""
        self.folder = folder
        self.kind = f"tmpfs of {SIZE_MIB} MiB, filled" if mounted else "writes refused by RLIMIT_FSIZE"
        self._mounted = mounted
        self._ballast = folder / "ballast"
        self._limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        """From now on no byte can be written."""
        if not self._mounted:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._limit[1]))
            return
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """There is space again."""
        if not self._mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)
            return
        self._ballast.unlink()

    def log_bytes(self) -> int:
        """Bytes of all log files."""
        return sum(path.stat().st_size for path in self.folder.glob("sensor.log*"))


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[SmallDisk]:
    """A disk mounted in ``place`` where that is allowed."""
    folder = place / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)]
    mounted = (
        shutil.which("mount") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    disk = SmallDisk(folder, mounted=mounted)
    try:
        yield disk
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        else:
            disk.free()
