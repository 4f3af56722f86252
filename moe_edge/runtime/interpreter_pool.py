"""A few interpreters of one file, lent to the threads that ask: one for each call that really runs at the same time.

Layer: device. Imports the standard library and ``moe_edge.errors``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

from moe_edge.errors import BackendError

MAX_INTERPRETERS = 8
"""Each may hold its own packed copy of the weights; beyond the number of cores they would only wait for one another."""

Engine = TypeVar("Engine")


class _Forks:
    """Counts how often this process is the child of a fork."""

    count = 0


def _forked() -> None:
    _Forks.count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class InterpreterPool(Generic[Engine]):
    """Lends engines. Lending and giving back take no lock while no thread waits.

    Use ``take`` and ``give`` in ``try``/``finally``.
    """

    def __init__(self, make: Callable[[], Engine], *, limit: int | None = None) -> None:
        """Make the first engine, so that a file that can't run is refused here.

        Args:
            make: Makes one more engine; called with no lock held but the pool's.
            limit: Most engines; by default the number of cores, at least 2 and at most ``MAX_INTERPRETERS``.
        """
        self._make = make
        self._limit = limit or max(2, min(os.cpu_count() or 1, MAX_INTERPRETERS))
        self._condition = Condition()
        self._forks = _Forks.count
        self._waiting = 0
        self._closed = False
        self._free = [make()]
        self._count = 1

    def take(self) -> Engine:
        """Borrow an engine, waiting for one when all are busy.

        Raises:
            BackendError: If the pool was closed, or this process was forked from the one that opened it.
        """
        if self._closed or self._forks != _Forks.count:
            self._refuse()
        try:
            return self._free.pop()  # one bytecode of a list: no other thread comes between
        except IndexError:
            return self._take_slowly()

    def give(self, engine: Engine) -> None:
        """Give an engine back."""
        if self._closed:
            return
        self._free.append(engine)
        if self._waiting:
            with self._condition:
                self._condition.notify()
        if self._closed:
            self._free.clear()  # closed meanwhile: nobody else will drop it

    def close(self) -> bool:
        """Let the engines go, busy ones when they come back; returns whether this call did it."""
        if self._forks != _Forks.count:
            return False
        with self._condition:
            if self._closed:
                return False
            self._closed = True
            self._free.clear()
            self._condition.notify_all()
        return True

    def _take_slowly(self) -> Engine:
        with self._condition:
            while True:
                if self._closed:
                    self._refuse()
                if self._free:
                    try:
                        return self._free.pop()
                    except IndexError:
                        continue
                if self._count < self._limit:
                    self._count += 1
                    break
                self._waiting += 1
                try:
                    # Who gives back between the look at _free and this wait sees _waiting only if it looks late.
                    self._condition.wait(timeout=0.05 if not self._free else 0)
                finally:
                    self._waiting -= 1
        try:
            return self._make()
        except BaseException:
            with self._condition:
                self._count -= 1
                self._condition.notify()
            raise

    def _refuse(self) -> None:
        if self._closed:
            raise BackendError("expected an open predictor, got one that was closed; make a new Predictor")
        raise BackendError(
            "expected a predictor opened in this process, got one from before a fork; make a new Predictor here"
        )
