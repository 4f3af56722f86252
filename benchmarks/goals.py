"""What speed and memory should reach, and whether one run did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_edge.runtime.benchmark.campaign import Result


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Attributes:
        what: What is compared.
        limit: The number to reach, or None for a line that is only shown.
        measured: The number of this run.
        at_least: Whether more is better.
        unit: Written after the numbers.
        note: What else to know: spread, absolute figures.
    """

    what: str
    limit: float | None
    measured: float
    at_least: bool = False
    unit: str = "×"
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it holds; None for a line that is only shown."""
        if self.limit is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def cells(self) -> list[str]:
        """A row of Markdown."""
        sign = "≥" if self.at_least else "≤"
        limit = "shown" if self.limit is None else f"{sign} {self.limit:g} {self.unit}"
        verdict = {True: "reached", False: "**not reached**", None: "-"}[self.reached]
        return [self.what, limit, f"{self.measured:.2f} {self.unit}", verdict, self.note]


def ratio(slower: Result, faster: Result, *, batch: int = 1, other_batch: int | None = None) -> tuple[float, str]:
    """Median of the rounds' ratios, and their spread with the absolute times."""
    first, second = slower.at(batch), faster.at(other_batch or batch)
    ratios = np.asarray(first.round_us) / np.asarray(second.round_us)
    note = f"{ratios.min():.2f} to {ratios.max():.2f}; {first.p50_us:,.1f} µs against {second.p50_us:,.1f} µs"
    return float(np.median(ratios)), note


def by_name(results: Sequence[Result], refused: dict[str, str]) -> dict[str, Result]:
    """Results by name; what couldn't be measured is said at once."""
    for reason in refused.values():
        print(f"Not measured: {reason}", flush=True)
    return {result.name: result for result in results}


def time_rows(results: Sequence[Result], title: str) -> list[list[str]]:
    """Rows of the table of times."""
    return [
        [
            title,
            result.name,
            f"{times.batch_size:,}",
            f"{times.p50_us:,.1f}",
            f"{times.low_us:,.1f} to {times.high_us:,.1f}",
            f"{times.p99_us:,.1f}",
            f"{times.rows_per_second:,.0f}",
        ]
        for result in results
        for times in result.times
    ]
