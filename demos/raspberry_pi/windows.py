"""Cut a stream of samples into windows; a gap restarts the window, it never stretches it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from samples import CHANNELS, Sample

LATE = 1.5
"""Periods without a sample from which samples are missing."""
EARLY = 0.2
"""Periods below which a sample is a repetition, or the clock ran backwards."""


class WindowCutter:
    """Collects samples until a window is full.

    Attributes:
        samples: Samples taken.
        gaps: Times that the window was restarted.
        missing: Samples that should have come in gaps, as far as the times tell.
        lost: Samples that had come and are in no window because of a gap.
    """

    def __init__(self, *, steps: int, hop: int, rate: float) -> None:
        """Start with an empty window.

        Args:
            steps: Samples of a window.
            hop: Samples from the start of one to the start of the next, from 1 to ``steps``.
            rate: Samples a second.

        Raises:
            ValueError: If ``hop`` is out of range.
        """
        if not 1 <= hop <= steps:
            raise ValueError(f"expected a hop from 1 to {steps} samples, got {hop}")
        self._steps, self._hop, self._period = steps, hop, 1 / rate
        self._window = np.empty((steps, CHANNELS), dtype=np.float32)
        self._filled = self._fresh = 0
        self._last: float | None = None
        self._broken = True
        self.samples = self.gaps = self.missing = self.lost = 0

    def push(self, sample: Sample) -> npt.NDArray[np.float32] | None:
        """Take a sample.

        Returns:
            A full window, float32 (steps, 6), a copy; or None. A sample with a value that isn't finite is a gap.
        """
        waited = 1.0 if self._last is None else (sample.time - self._last) / self._period
        if not math.isfinite(waited):
            self._restart(0)
            self._last = None
            return None
        if waited > LATE or waited < EARLY:
            self._restart(max(0, round(waited) - 1))
        self._last = sample.time
        if len(sample.values) != CHANNELS or not all(map(math.isfinite, sample.values)):
            self._restart(1)
            return None
        self.samples += 1
        self._broken = False
        self._window[self._filled] = sample.values
        self._filled += 1
        self._fresh += 1
        if self._filled < self._steps:
            return None
        window: npt.NDArray[np.float32] = self._window.copy()
        self._window[: self._steps - self._hop] = window[self._hop :]
        self._filled, self._fresh = self._steps - self._hop, 0
        return window

    def _restart(self, missing: int) -> None:
        self.missing += missing
        # One gap, however many samples of it are bad.
        self.gaps += not self._broken
        self._broken = True
        self.lost += self._fresh
        self._filled = self._fresh = 0
