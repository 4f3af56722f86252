"""What survives a restart, in one small file: written whole or not at all, checked when read, set aside if damaged."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from moe_edge.atomic import write_atomically
from moe_edge.errors import MoeEdgeError

FORMAT = 1


class StateFile:
    """A JSON document with its digest.

    Attributes:
        message: What happened last that someone should know, or empty.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is read."""
        self.path = path
        self.message = ""
        self._failing = False

    def load(self) -> dict[str, Any] | None:
        """What was saved, or None; ``message`` says why where there was a file."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.message = f"can't read {self.path}: {error.strerror}; starting anew"
            return None
        try:
            digest, body = content.split(b"\n", 1)
            if hashlib.sha256(body).hexdigest().encode() != digest:
                raise ValueError("its digest doesn't fit")
            document = json.loads(body)
            if document["format"] != FORMAT:
                raise ValueError(f"expected format {FORMAT}, got {document['format']}")
            state: dict[str, Any] = document["state"]
        except (ValueError, KeyError, TypeError) as error:
            self.set_aside(f"{self.path} is damaged ({error})")
            return None
        return state

    def set_aside(self, reason: str) -> None:
        """Keep a file that can't be used for whoever wants to look, and start anew."""
        aside = self.path.with_name(self.path.name + ".damaged")
        with suppress(OSError):
            self.path.replace(aside)
        self.message = f"{reason}; set aside as {aside.name}, starting anew"

    def save(self, state: dict[str, Any]) -> bool:
        """Write the state.

        Returns:
            Whether it was written. If not (a full disk), the file is as it was, and ``message`` says so, once.
        """
        body = json.dumps({"format": FORMAT, "state": state}, separators=(",", ":")).encode()
        try:
            write_atomically(self.path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        except MoeEdgeError as error:
            if not self._failing:
                self.message = f"{error}; going on without saving"
            self._failing = True
            return False
        if self._failing:
            self.message = f"{self.path} can be written again"
        self._failing = False
        return True
