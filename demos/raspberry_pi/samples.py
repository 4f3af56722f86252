"""What a sensor gives: samples with their times, from whatever source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

CHANNELS = 6
RATE = 50.0
"""Samples a second that the model was trained on."""


@dataclass(frozen=True)
class Sample:
    """One reading.

    Attributes:
        time: Seconds on any clock that only moves forward.
        values: Accelerations x, y, z in g, then rates of turn x, y, z in rad/s; NaN where a value could not be read.
        label: What is known to be true of a replayed sample, else empty.
    """

    time: float
    values: tuple[float, ...]
    label: str = ""


class SampleSource(Protocol):
    """Gives samples until it is closed or has no more."""

    name: str

    def __iter__(self) -> Iterator[Sample]:
        """Samples, oldest first; may wait for the next."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...
