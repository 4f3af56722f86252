"""The process that holds one subject and answers orders, one line of JSON each: ``python -m ...benchmark.worker``.

A process of its own, so that memory and start-up are the subject's alone, and libraries of peers don't meet.
Layer: device. Imports NumPy and ``moe_edge.runtime`` modules; what the subject needs when it is named.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from moe_edge.errors import MoeEdgeError
from moe_edge.runtime.benchmark.process_memory import MemoryUse, read_memory_use

WARMUP_CALLS = 20
MAX_CALLS = 5000
"""Calls of one measurement, however short they are."""


class Worker:
    """One subject and the rows that it is measured on."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Import, then open, then answer a first row; each timed."""
        module, name = order["factory"].split(":")
        start = time.perf_counter_ns()
        factory: Any = getattr(import_module(module), name)
        factory.load(order["options"])
        self._rows = np.load(order["rows"], allow_pickle=False)
        imported = time.perf_counter_ns()
        before = read_memory_use()
        opening = time.perf_counter_ns()
        self._subject: Any = factory(**order["options"])
        opened = time.perf_counter_ns()
        self._runners: dict[int, Callable[[Any], Any]] = {1: self._subject.runner(1)}
        self._runners[1](self._rows[:1])
        answered = time.perf_counter_ns()
        self.opened = {
            "import_ms": (imported - start) / 1e6,
            "init_ms": (opened - opening) / 1e6,
            "first_row_ms": (answered - opening) / 1e6,
            "backend": getattr(self._subject, "backend", None),
            "memory_before": _record(before),
            "memory": _record(read_memory_use()),
        }

    def time(self, order: dict[str, Any]) -> dict[str, Any]:
        """Time calls of ``batch`` rows, going through the table, for about ``budget_ms``."""
        batch, budget_ns = order["batch"], order["budget_ms"] * 1e6
        if batch not in self._runners:
            self._runners[batch] = self._subject.runner(batch)
        run, blocks = self._runners[batch], self._blocks(batch)
        clock = time.perf_counter_ns
        start = clock()
        # Every block once, so that each expert's weights have been read before the clock starts.
        for index in range(max(WARMUP_CALLS, len(blocks))):
            run(blocks[index % len(blocks)])
            if clock() - start > budget_ns / 2:
                break
        elapsed: list[int] = []
        start = clock()
        while len(elapsed) < MAX_CALLS and (len(elapsed) < order["min_calls"] or clock() - start < budget_ns):
            block = blocks[len(elapsed) % len(blocks)]
            begin = clock()
            run(block)
            elapsed.append(clock() - begin)
        return {"elapsed_ns": elapsed}

    def memory(self, order: dict[str, Any]) -> dict[str, Any]:
        """Memory now, after all that has been run."""
        return {"memory": _record(read_memory_use())}

    def answers(self, order: dict[str, Any]) -> dict[str, Any]:
        """Answer the whole table into a file; says how many experts ran."""
        answers = self._subject.answers(self._rows)
        np.save(order["output"], np.asarray(answers.prediction), allow_pickle=False)
        ran = answers.experts_per_row
        return {"experts_per_row": None if ran is None else float(np.mean(ran))}

    def parts(self, order: dict[str, Any]) -> dict[str, Any]:
        """Time the parts."""
        return {"parts_us": self._subject.parts(self._rows)}

    def _blocks(self, batch: int) -> list[Any]:
        """Contiguous blocks of ``batch`` rows; a table shorter than a block is repeated."""
        rows = self._rows
        if len(rows) < batch:
            rows = np.concatenate([rows] * -(-batch // len(rows)))
        return [
            rows[start : start + batch].copy() for start in range(0, min(len(rows) - batch, 512 * batch) + 1, batch)
        ]


def _record(use: MemoryUse | None) -> dict[str, int] | None:
    return None if use is None else use._asdict()


def serve() -> int:
    """Answer orders until standard input ends."""
    # Libraries print on standard output as they like: the answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker: Worker | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if worker is None:
                worker = Worker(order)
                reply = worker.opened
            else:
                reply = getattr(worker, order["op"])(order)
        except MoeEdgeError as error:
            reply = {"refused": str(error)}
        except Exception as error:  # whatever a peer's library raises is told, not lost
            reply = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
        if worker is None:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(serve())
