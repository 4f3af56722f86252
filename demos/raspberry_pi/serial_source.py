"""Samples from a serial port: a microcontroller that prints one CSV line a sample.

    123.456,0.01,-0.98,0.05,0.1,0.0,-0.2      seconds, three accelerations in g, three rates of turn in rad/s

Lines that are cut or garbled are counted and left out, which the windows see as a gap. A port that goes away (a pulled
cable) is opened again, once a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from samples import CHANNELS, Sample

from moe_edge.errors import DataError, require

_LONGEST_LINE = 256
_LARGEST = 1e4
"""Beyond any sensor's g or rad/s: a garbled number, which float32 may not even hold."""
"""Bytes after which a line without an end is noise: a wrong baud rate must not fill the memory."""


class SerialSource:
    """One serial port."""

    def __init__(self, port: str, *, baud: int = 115200, retry: float = 1.0) -> None:
        """Open the port.

        Args:
            port: Such as ``/dev/ttyACM0``.
            baud: Symbols a second, as the sender's.
            retry: Seconds from one try to open it anew to the next.

        Raises:
            DataError: If it can't be opened the first time.
            MissingDependencyError: If pyserial isn't installed.
        """
        require("serial", extra="demos", purpose="reading a serial port")
        import serial  # type: ignore[import-untyped]

        self.name = f"serial port {port}"
        self.bad_lines = 0
        self._port, self._baud, self._retry = port, baud, retry
        self._errors = (serial.SerialException, OSError)
        self._open = True
        try:
            self._serial = self._connect()
        except self._errors as error:
            raise DataError(f"can't open {port}: {error}; see: python -m serial.tools.list_ports") from error

    def __iter__(self) -> Iterator[Sample]:
        """Samples as they arrive; ends when closed."""
        rest, joined = b"", True
        while self._open:
            try:
                rest += self._serial.read(max(1, self._serial.in_waiting))
            except (*self._errors, TypeError):  # pyserial gives a TypeError when closed while it reads
                rest, joined = b"", True
                self._reconnect()
                continue
            if joined:
                # Whoever joins in the middle of a line takes the rest of it for a sample of another time.
                start = rest.find(b"\n") + 1
                if not start:
                    rest = b""
                    continue
                rest, joined = rest[start:], False
            *lines, rest = rest.split(b"\n")
            if len(rest) > _LONGEST_LINE:
                self.bad_lines, rest = self.bad_lines + 1, b""
            for line in lines:
                sample = self.parse(line)
                if sample is not None:
                    yield sample

    def parse(self, line: bytes) -> Sample | None:
        """One line as a sample; None, and counted, where it is none."""
        text = line.strip()
        if not text or text.startswith(b"#"):
            return None
        try:
            seconds, *values = (float(cell) for cell in text.split(b","))
        except ValueError:
            values = []
        if len(values) != CHANNELS or not all(abs(value) <= _LARGEST or math.isnan(value) for value in values):
            self.bad_lines += 1
            return None
        return Sample(seconds, tuple(values))

    def close(self) -> None:
        """Let go of the port."""
        self._open = False
        self._serial.close()

    def _connect(self) -> Any:
        import serial

        return serial.Serial(self._port, self._baud, timeout=0.2)

    def _reconnect(self) -> None:
        self._serial.close()
        while self._open:
            time.sleep(self._retry)
            try:
                self._serial = self._connect()
            except self._errors:
                continue
            return
