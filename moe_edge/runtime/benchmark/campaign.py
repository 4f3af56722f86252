"""Measure several subjects against each other: in alternating rounds, so that what disturbs the machine meets all.

Times are in microseconds, memory in bytes.
Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.runtime.benchmark.worker_process import SubjectRefusedError, WorkerProcess

Progress = Callable[[int, str], None]


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A subject by name.

    Attributes:
        name: What tables call it.
        factory: ``module:Class`` of the subject, see ``subjects.Subject``.
        options: Its keyword options.
        batches: Rows a call that it is timed with; None for the campaign's.
    """

    name: str
    factory: str
    options: dict[str, Any] = field(default_factory=dict)
    batches: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class CallTimes:
    """How long one call took.

    Attributes:
        batch_size: Rows a call.
        num_calls: Timed calls, all rounds together.
        p50_us: Median of the rounds' medians.
        p90_us: Nine of ten calls, all rounds together, were at least this fast.
        p99_us: 99 of 100 were.
        low_us: The fastest round's median.
        high_us: The slowest round's median.
        round_us: Each round's median, in order: ratios are taken round by round.
    """

    batch_size: int
    num_calls: int
    p50_us: float
    p90_us: float
    p99_us: float
    low_us: float
    high_us: float
    round_us: tuple[float, ...]

    @property
    def rows_per_second(self) -> float:
        """Rows answered in a second at the median."""
        return self.batch_size / self.p50_us * 1e6


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one subject gave.

    Attributes:
        name: As its entrant's.
        times: One a batch size.
        init_ms: Opening, libraries imported before.
        first_row_ms: Opening and the first answer.
        import_ms: Importing its libraries.
        backend: The runtime, or None for peers.
        memory_before: ``rss_bytes`` and ``anonymous_bytes`` before opening; None where the system doesn't tell.
        memory_open: The same after opening and one row.
        memory: The same at the end.
        experts_per_row: Mean number of experts that ran for a row, or None.
        prediction: Its answers to all rows, or None if they weren't asked for.
        parts_us: Parts run alone, median microseconds; empty if not asked for.
    """

    name: str
    times: tuple[CallTimes, ...]
    init_ms: float
    first_row_ms: float
    import_ms: float
    backend: str | None
    memory_before: dict[str, int] | None
    memory_open: dict[str, int] | None
    memory: dict[str, int] | None
    experts_per_row: float | None = None
    prediction: npt.NDArray[np.float32] | None = None
    parts_us: dict[str, float] = field(default_factory=dict)

    def at(self, batch: int) -> CallTimes:
        """The times of one batch size."""
        return next(times for times in self.times if times.batch_size == batch)


def run_campaign(
    entrants: Sequence[Entrant],
    rows: npt.NDArray[np.float32],
    *,
    batches: Sequence[int] = (1,),
    rounds: int = 5,
    budget_ms: float = 100.0,
    num_threads: int = 1,
    answers: bool = False,
    parts_of: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[list[Result], dict[str, str]]:
    """Measure subjects in one run.

    Every round goes through all subjects, every second one backwards.

    Args:
        entrants: The subjects; all are opened first, each in its own process, and stay open.
        rows: float32 (n, ...) that they answer, in blocks.
        batches: Rows a call, each at least 1.
        rounds: Rounds, at least 1.
        budget_ms: What one measurement of one round may take; at least three calls are made.
        num_threads: Threads that libraries may use.
        answers: Whether to keep the answers to all rows.
        parts_of: Names of the subjects whose parts are timed.
        progress: Called with (1, name of the next step).

    Returns:
        One result a subject, in order, and the name of each subject that couldn't be measured -> why.
    """
    notify = progress or (lambda steps, note: None)
    refused: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moe-edge-benchmark-")))
        table = folder / "rows.npy"
        np.save(table, np.ascontiguousarray(rows, dtype=np.float32))
        open_workers: dict[str, WorkerProcess] = {}
        for entrant in entrants:
            notify(0, f"opening {entrant.name}")
            try:
                worker = WorkerProcess(
                    entrant.name, entrant.factory, dict(entrant.options), table, num_threads=num_threads
                )
            except SubjectRefusedError as error:
                refused[entrant.name] = str(error)
                continue
            open_workers[entrant.name] = stack.enter_context(worker)
        samples: dict[tuple[str, int], list[npt.NDArray[np.float64]]] = {}
        places = [(e.name, batch) for e in entrants if e.name in open_workers for batch in (e.batches or batches)]
        for number in range(rounds):
            for name, batch in places if number % 2 == 0 else places[::-1]:
                if name in refused:
                    continue
                notify(1, f"round {number + 1}: {name}, {batch} rows")
                try:
                    taken = open_workers[name].time(batch, budget_ms=budget_ms)
                except SubjectRefusedError as error:
                    refused[name] = str(error)
                    continue
                samples.setdefault((name, batch), []).append(taken)
        results = []
        for entrant in entrants:
            if entrant.name in open_workers and entrant.name not in refused:
                try:
                    times = [_summarise(batch, samples[entrant.name, batch]) for batch in entrant.batches or batches]
                    wants_parts = entrant.name in parts_of
                    results.append(_collect(open_workers[entrant.name], times, folder, answers, wants_parts))
                except SubjectRefusedError as error:
                    refused[entrant.name] = str(error)
    return results, refused


def _summarise(batch: int, rounds: list[npt.NDArray[np.float64]]) -> CallTimes:
    medians = [float(np.median(taken)) for taken in rounds]
    together = np.concatenate(rounds)
    return CallTimes(
        batch_size=batch,
        num_calls=len(together),
        p50_us=float(np.median(medians)),
        p90_us=float(np.quantile(together, 0.9)),
        p99_us=float(np.quantile(together, 0.99)),
        low_us=min(medians),
        high_us=max(medians),
        round_us=tuple(medians),
    )


def _collect(worker: WorkerProcess, times: list[CallTimes], folder: Path, answers: bool, parts: bool) -> Result:
    opened = worker.opened
    memory = worker.memory()
    prediction, experts = worker.answers(folder / "answers.npy") if answers else (None, None)
    return Result(
        name=worker.name,
        times=tuple(times),
        init_ms=opened["init_ms"],
        first_row_ms=opened["first_row_ms"],
        import_ms=opened["import_ms"],
        backend=opened["backend"],
        memory_before=opened["memory_before"],
        memory_open=opened["memory"],
        memory=memory,
        experts_per_row=experts,
        prediction=prediction,
        parts_us=worker.parts() if parts else {},
    )
