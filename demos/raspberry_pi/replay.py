"""Replay recordings as a sensor would give them, faster if wanted, with the sensor turned if wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from samples import CHANNELS, Sample

from moe_edge.errors import DataError

PAUSE = 1.0
"""Seconds without samples between two recordings: nobody's window spans two exercises."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recordings:
    """Raw recordings, one after another.

    Attributes:
        samples: float32 (n, 6).
        lengths: Samples of each recording.
        labels: Exercise of each.
        people: Who, of each.
        rate: Samples a second.
    """

    samples: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    people: tuple[int, ...]
    rate: float

    @classmethod
    def read(cls, path: Path) -> Recordings:
        """Read what ``demos/motion/train.py`` wrote.

        Raises:
            DataError: If the file is missing or isn't such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                found = cls(
                    samples=content["samples"].astype(np.float32),
                    lengths=content["lengths"].astype(np.int64),
                    labels=tuple(map(str, content["names"])),
                    people=tuple(map(int, content["people"])),
                    rate=float(content["rate"]),
                )
        except FileNotFoundError as error:
            raise DataError(
                f"there is no {path}; copy held_out.npz there, which demos/motion/train.py writes"
            ) from error
        except Exception as error:  # zip, header, shape: NumPy raises a dozen kinds
            raise DataError(
                f"{path}: expected recordings of demos/motion/train.py, got something else ({error})"
            ) from error
        if found.samples.ndim != 2 or found.samples.shape[1] != CHANNELS or found.lengths.sum() != len(found.samples):
            raise DataError(f"{path}: expected samples (n, {CHANNELS}) and lengths that add up to n")
        return found

    def __len__(self) -> int:
        """Number of recordings."""
        return len(self.lengths)

    def each(self, index: int) -> npt.NDArray[np.float32]:
        """The samples of one recording."""
        start = int(self.lengths[:index].sum())
        return self.samples[start : start + int(self.lengths[index])]


class Replay:
    """Recordings in order, again and again."""

    def __init__(
        self,
        recordings: Recordings,
        *,
        speed: float = 1.0,
        repeat: bool = True,
        turn: npt.NDArray[np.float64] | None = None,
        turn_after: int = 0,
    ) -> None:
        """Prepare.

        Args:
            recordings: What to replay.
            speed: 1 as recorded, 10 ten times as fast, 0 as fast as answers come.
            repeat: Whether to begin anew at the end.
            turn: How the sensor sits after ``turn_after`` samples, a rotation (3, 3).
            turn_after: Samples before it is turned.
        """
        self.name = "replay of held-out people"
        self._recordings, self._speed, self._repeat = recordings, speed, repeat
        self._turn, self._turn_after = turn, turn_after
        self._open = True

    def __iter__(self) -> Iterator[Sample]:
        """Samples at their time."""
        begun, clock, given = time.monotonic(), 0.0, 0
        step = 1 / self._recordings.rate
        while True:
            for index, label in enumerate(self._recordings.labels):
                rows = self._recordings.each(index)
                turned = None if self._turn is None else turn_rows(rows, self._turn)
                for number, row in enumerate(rows):
                    if not self._open:
                        return
                    if self._speed:
                        time.sleep(max(0.0, begun + clock / self._speed - time.monotonic()))
                    now = row if turned is None or given < self._turn_after else turned[number]
                    yield Sample(clock, tuple(now.tolist()), label)
                    clock, given = clock + step, given + 1
                clock += PAUSE
            if not self._repeat:
                return

    def close(self) -> None:
        """Stop."""
        self._open = False


def turn_rows(rows: npt.NDArray[np.float32], turn: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """What a turned sensor would have given: (n, 6)."""
    return np.concatenate([rows[:, :3] @ turn.T, rows[:, 3:] @ turn.T], axis=1).astype(np.float32)


def parse_turn(text: str) -> npt.NDArray[np.float64]:
    """A rotation given as axis and degrees, such as ``z90`` or ``x-45``.

    Raises:
        ValueError: If it is neither.
    """
    axis = "xyz".find(text[:1]) if text else -1
    try:
        angle = np.deg2rad(float(text[1:]))
    except ValueError:
        axis = -1
    if axis < 0 or not np.isfinite(angle):
        raise ValueError(f"expected an axis and degrees, such as z90, got {text!r}")
    turn = np.eye(3)
    one, other = (axis + 1) % 3, (axis + 2) % 3
    turn[one, one] = turn[other, other] = np.cos(angle)
    turn[other, one] = np.sin(angle)
    turn[one, other] = -np.sin(angle)
    return turn
