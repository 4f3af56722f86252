"""A log that can't fill the disk, and that a full disk can't stop the demo with."""

from __future__ import annotations

import json
import logging
import logging.handlers
from contextlib import suppress
from pathlib import Path
from typing import Any

MAX_BYTES, BACKUPS = 256 * 1024, 3


class _Handler(logging.handlers.RotatingFileHandler):
    """Rotates; after an error it closes the file, and tries anew with the next line."""

    failing = False
    written = dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it as dropped."""
        begun = self.failing
        self.failing = False
        try:
            if begun:
                self._end_cut_line()
            super().emit(record)
        except OSError:
            self.handleError(record)
        if self.failing:
            self.dropped += 1
        else:
            self.written += 1

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Called by the library when a line can't be written."""
        self.failing = True
        if self.stream is not None:
            # What is left in the buffer can't be written either; closing throws it away.
            with suppress(OSError, ValueError):
                self.stream.close()
            self.stream = None

    def _end_cut_line(self) -> None:
        """The disk may have filled in the middle of a line."""
        path = Path(self.baseFilename)
        if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")


class Journal:
    """One JSON document a line, in files that rotate: at most ``(backups + 1) * max_bytes``.

    Attributes:
        message: What happened last that someone should know: set once when lines begin to be dropped, and once when
            they are written again.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, backups: int = BACKUPS) -> None:
        """Prepare; the file is opened with the first line."""
        self.message = ""
        self._handler = _Handler(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", delay=True)
        self._was_failing = False

    @property
    def dropped(self) -> int:
        """Lines that could not be written."""
        return self._handler.dropped

    @property
    def written(self) -> int:
        """Lines written."""
        return self._handler.written

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line; never raises for a disk's sake."""
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
        self._handler.emit(logging.LogRecord("journal", logging.INFO, "", 0, text, None, None))
        if self._handler.failing != self._was_failing:
            self._was_failing = self._handler.failing
            path = self._handler.baseFilename
            self.message = (
                f"can't write {path}; the log stops until it can, answers go on"
                if self._was_failing
                else f"{path} can be written again; {self.dropped} lines were dropped"
            )

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError, ValueError):
            self._handler.close()
