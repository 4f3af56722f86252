"""Time forward passes on the device that runs them.

Times are in microseconds, taken with ``time.perf_counter_ns``; the median is what to quote, because single calls are
disturbed by whatever else the machine does.
Layer: device. Imports NumPy and the standard library.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class LatencyStats:
    """How long one call took.

    Attributes:
        num_runs: Timed calls.
        batch_size: Rows a call.
        median_us: Half of the calls were at least this fast.
        p90_us: Nine of ten calls were at least this fast.
        min_us: The fastest call.
    """

    num_runs: int
    batch_size: int
    median_us: float
    p90_us: float
    min_us: float

    @property
    def per_row_us(self) -> float:
        """Median microseconds a row."""
        return self.median_us / self.batch_size


def measure_latency(
    predict: Callable[[npt.NDArray[np.float32]], Any],
    features: npt.NDArray[np.float32],
    *,
    num_runs: int = 200,
    num_warmup: int = 20,
) -> LatencyStats:
    """Time ``predict(features)`` after a warm-up.

    Args:
        predict: Called with ``features``; what it returns is dropped.
        features: float32, shape (batch, ...), batch at least 1; the time is taken per call, not per row.
        num_runs: Timed calls, at least 1.
        num_warmup: Calls before the clock starts, so that caches are warm and tensors allocated.

    Returns:
        Percentiles over ``num_runs`` calls.

    Raises:
        ValueError: If there are no rows, ``num_runs`` < 1 or ``num_warmup`` < 0.
    """
    if features.ndim < 1 or not len(features):
        raise ValueError(f"expected features with at least one row, got shape {features.shape}")
    if num_runs < 1 or num_warmup < 0:
        raise ValueError(f"expected num_runs >= 1 and num_warmup >= 0, got {num_runs} and {num_warmup}")
    for _ in range(num_warmup):
        predict(features)
    elapsed_ns = np.empty(num_runs, dtype=np.int64)
    for run in range(num_runs):
        start = time.perf_counter_ns()
        predict(features)
        elapsed_ns[run] = time.perf_counter_ns() - start
    elapsed_us = elapsed_ns / 1000.0
    return LatencyStats(
        num_runs=num_runs,
        batch_size=len(features),
        median_us=float(np.median(elapsed_us)),
        p90_us=float(np.quantile(elapsed_us, 0.9)),
        min_us=float(elapsed_us.min()),
    )
