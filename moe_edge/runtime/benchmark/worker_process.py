"""Hold a subject in a process of its own and give it orders.

Layer: device. Imports NumPy and the standard library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.errors import MoeEdgeError

WORKER = "moe_edge.runtime.benchmark.worker"


class SubjectRefusedError(MoeEdgeError):
    """A subject can't be measured here: a library is missing, or it refuses the file."""


class WorkerProcess:
    """A running worker; use as a context manager.

    Attributes:
        name: What tables call the subject.
        opened: ``init_ms``, ``first_row_ms``, ``import_ms``, ``backend``, ``memory_before`` and ``memory`` (bytes).
    """

    def __init__(
        self,
        name: str,
        factory: str,
        options: dict[str, Any],
        rows: Path,
        *,
        num_threads: int = 1,
        python: str = sys.executable,
    ) -> None:
        """Start the process and open the subject in it.

        Args:
            name: What tables call it.
            factory: ``module:Class`` of the subject.
            options: Its keyword options.
            rows: An .npy file with float32 rows (n, ...).
            num_threads: Threads that its libraries may use.
            python: The interpreter that runs it.

        Raises:
            SubjectRefusedError: If it can't be opened; says why.
        """
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [python, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=_environment(num_threads),
        )
        try:
            self.opened = self._order({"factory": factory, "options": options, "rows": str(rows)})
        except BaseException:
            self.close()
            raise

    def time(self, batch: int, *, budget_ms: float, min_calls: int = 3) -> npt.NDArray[np.float64]:
        """Time calls of ``batch`` rows: microseconds of each call, in order."""
        reply = self._order({"op": "time", "batch": batch, "budget_ms": budget_ms, "min_calls": min_calls})
        return np.asarray(reply["elapsed_ns"], dtype=np.float64) / 1000

    def memory(self) -> dict[str, int] | None:
        """``rss_bytes`` and ``anonymous_bytes`` now; None where the system doesn't tell."""
        found: dict[str, int] | None = self._order({"op": "memory"})["memory"]
        return found

    def answers(self, output: Path) -> tuple[npt.NDArray[np.float32], float | None]:
        """Predictions for all rows, and the mean number of experts that ran for a row."""
        reply = self._order({"op": "answers", "output": str(output)})
        return np.load(output, allow_pickle=False), reply["experts_per_row"]

    def parts(self) -> dict[str, float]:
        """Median microseconds of each part run alone."""
        found: dict[str, float] = self._order({"op": "parts"})["parts_us"]
        return found

    def close(self) -> None:
        """End the process; a second call does nothing."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        orders, replies = self._process.stdin, self._process.stdout
        if orders is None or replies is None:
            raise SubjectRefusedError(f"{self.name}: expected a running process, got none")
        with suppress(BrokenPipeError):  # it ended: reading says so, with its last words
            orders.write(json.dumps(order) + "\n")
            orders.flush()
        line = replies.readline()
        if not line:
            raise SubjectRefusedError(f"{self.name}: its process ended without an answer: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        for key in ("refused", "failed"):
            if key in reply:
                raise SubjectRefusedError(f"{self.name}: {reply[key]}")
        return reply

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{lines[-1]} (exit code {code})" if lines else f"exit code {code}"


def _environment(num_threads: int) -> dict[str, str]:
    """The parent's environment, its import path, and one word for every library's threads."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(num_threads))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    return {**os.environ, **threads, **quiet, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
