"""One run: samples to answers, answers to log and displays, the state to its file now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from journal import Journal
from monitor import Answer, Monitor
from samples import Sample
from state_file import StateFile

SAVE_EVERY = 60.0
"""Seconds between two writes of the state: what a power cut can cost."""


class Session:
    """A monitor with its files.

    Attributes:
        monitor: What answers.
        journal: The log.
        state: The state's file.
    """

    def __init__(
        self,
        monitor: Monitor,
        folder: Path,
        *,
        notify: Callable[[str], None],
        save_every: float = SAVE_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on where the state file ends.

        Args:
            monitor: What answers.
            folder: For the state and the log; exists.
            notify: Called with what someone should know.
            save_every: Seconds by ``clock``.
            clock: For saving.
        """
        self.monitor = monitor
        self.journal = Journal(folder / "sensor.log")
        self.state = StateFile(folder / "state.json")
        self._notify, self._save_every, self._clock = notify, save_every, clock
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._label = ""
        saved = self.state.load()
        if saved is not None:
            try:
                monitor.restore(saved)
            except ValueError as error:
                self.state.set_aside(f"{self.state.path}: {error}")
        self._tell(self.state)
        self._saved_at = clock()
        self.journal.write({"event": "start", **monitor.counters})
        self._tell(self.journal)

    def run(self, samples: Iterator[Sample]) -> Iterator[Answer]:
        """Answers as they come, until the samples end or ``stop`` is called."""
        for sample in samples:
            if self._stop.is_set():
                return
            answer = self.take(sample)
            if answer is not None:
                yield answer

    def take(self, sample: Sample) -> Answer | None:
        """One sample; logs what changed."""
        gaps = self.monitor.counters["gaps"]
        with self._lock:
            answer = self.monitor.push(sample)
        if self.monitor.counters["gaps"] != gaps:
            self._log({"event": "gap", "time": round(sample.time, 3), "missing": self.monitor.counters["missing"]})
        if answer is not None:
            if answer.label != self._label or answer.began or answer.ended:
                self._label = answer.label
                self._log({"event": "answer", **answer.to_record(), "began": answer.began, "ended": answer.ended})
            if self._clock() - self._saved_at >= self._save_every:
                self.save()
        return answer

    def save(self) -> bool:
        """Write the state; False where the disk is full."""
        self._saved_at = self._clock()
        written = self.state.save(self.monitor.to_state())
        self._tell(self.state)
        return written

    def stop(self) -> None:
        """Ask ``run`` to end with the next sample."""
        self._stop.set()

    def close(self) -> None:
        """Save, and let go of the files."""
        self._log({"event": "stop", **self.monitor.counters})
        self.save()
        self.journal.close()
        self.monitor.close()

    def snapshot(self, source: str) -> dict[str, Any]:
        """What a display shows, as JSON; may be called from any thread."""
        with self._lock:
            return self._snapshot(source)

    def _snapshot(self, source: str) -> dict[str, Any]:
        monitor, answer = self.monitor, self.monitor.history[-1] if self.monitor.history else None
        return {
            "source": source,
            "labels": list(monitor.labels),
            "usage": [round(share, 4) for share in monitor.usage],
            "counters": monitor.counters,
            "windows_per_second": round(monitor.windows_per_second, 2),
            "dropped_log_lines": self.journal.dropped,
            "thresholds": monitor.profile.thresholds,
            "drift_windows": monitor.profile.windows,
            "answer": None
            if answer is None
            else {
                **answer.to_record(),
                "probabilities": [round(share, 4) for share in answer.probabilities],
                "drift_ready": answer.drift.ready,
                "drift_seen": answer.drift.seen,
                "entropy": round(answer.drift.entropy, 3),
            },
            "history": [
                {"label": each.label, "confidence": round(each.confidence, 3), "alarm": bool(each.drift.alarms)}
                for each in list(monitor.history)
            ],
        }

    def _log(self, entry: dict[str, Any]) -> None:
        self.journal.write(entry)
        self._tell(self.journal)

    def _tell(self, part: Journal | StateFile) -> None:
        if part.message:
            self._notify(part.message)
            part.message = ""
