"""What can be measured on a device: the Predictor at one of its operating points, and the bare interpreter.

A subject is made inside a process of its own by ``worker``; peers elsewhere follow the same shape.
Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from moe_edge.runtime.backends import AUTO, allocate, load_backend
from moe_edge.runtime.benchmark.part_times import measure_parts
from moe_edge.runtime.predictor import Predictor

Rows = npt.NDArray[np.float32]
Call = Callable[[Rows], Any]


class Answers(NamedTuple):
    """What a subject says of rows.

    Attributes:
        prediction: float32 (n, K).
        experts_per_row: Experts that ran for each row, int64 (n,); None where that has no meaning.
    """

    prediction: Rows
    experts_per_row: npt.NDArray[np.int64] | None = None


class Subject(Protocol):
    """Something that answers rows; made with keyword options that JSON can carry."""

    @staticmethod
    def load(options: dict[str, Any]) -> None:
        """Import the libraries, so that opening is timed without them."""

    def runner(self, batch: int) -> Call:
        """Make what is timed: answers blocks of exactly ``batch`` rows, all preparation done."""

    def answers(self, rows: Rows) -> Answers:
        """Answer any number of rows."""

    def parts(self, rows: Rows) -> dict[str, float]:
        """Median microseconds of each part run alone; empty where there are none to tell apart."""


class PredictorSubject:
    """``moe_edge.Predictor`` as a user calls it: rows in, labels or numbers out."""

    def __init__(self, *, model: str, backend: str = AUTO, num_threads: int = 1, **point: Any) -> None:
        """Open a file.

        Args:
            model: Path of the .tflite.
            backend: The runtime.
            num_threads: Threads that one call may use.
            point: ``mode``, ``mass``, ``top_k``, ``max_experts``, ``xnnpack``, as the Predictor takes them.
        """
        self._options: dict[str, Any] = {
            "model": model,
            "backend": backend,
            "num_threads": num_threads,
            "xnnpack": point.get("xnnpack"),
        }
        self._mode = point.get("mode", "auto")
        self._predictor: Any = Predictor(model, backend=backend, num_threads=num_threads, **point)
        self.backend = self._predictor.backend

    @staticmethod
    def load(options: dict[str, Any]) -> None:
        """Import the runtime."""
        load_backend(options.get("backend", AUTO))

    def runner(self, batch: int) -> Call:
        """``predict`` itself."""
        call: Call = self._predictor.predict
        return call

    def answers(self, rows: Rows) -> Answers:
        """Answers, and how many experts each took."""
        raw = self._predictor.predict_raw(rows)
        weights = raw["routing_weights"]
        # An expert that didn't run has no weight; a dense graph computes all, unless it gathers the chosen ones.
        gathers = self._predictor.manifest.layout == "gather"
        if self._mode == "routed" or gathers:
            ran = np.count_nonzero(weights, axis=1).astype(np.int64)
        else:
            ran = np.full(len(weights), self._predictor.num_experts, dtype=np.int64)
        return Answers(raw["prediction"], ran)

    def parts(self, rows: Rows) -> dict[str, float]:
        """The native invokes that this file is made of."""
        return measure_parts(rows=rows, **self._options)


class BareInterpreterSubject:
    """The runtime's own interpreter on the same file: set_tensor, invoke, get_tensor, nothing checked."""

    def __init__(
        self,
        *,
        model: str,
        backend: str = AUTO,
        num_threads: int = 1,
        xnnpack: bool | None = None,
        batch_model: str | None = None,
    ) -> None:
        """Open a file.

        Args:
            model: Path of the .tflite; its first output is the answer.
            backend: The runtime.
            num_threads: Threads that one call may use.
            xnnpack: As the Predictor takes it.
            batch_model: A file for more than one row, where ``model`` can't be resized; None for ``model``.
        """
        self._backend: Any = load_backend(backend)
        self.backend = self._backend.name
        self._options: dict[str, Any] = {"model": model, "num_threads": num_threads, "xnnpack": xnnpack}
        self._batch_options = {**self._options, "model": batch_model or model}
        self._single: Any = self._backend.interpreter(**self._options)
        allocate(self._backend, self._single)

    @staticmethod
    def load(options: dict[str, Any]) -> None:
        """Import the runtime."""
        load_backend(options.get("backend", AUTO))

    def runner(self, batch: int) -> Call:
        """An interpreter whose input is ``batch`` rows for good."""
        interpreter = self._single if batch == 1 else self._backend.interpreter(**self._batch_options)
        place = interpreter.get_input_details()[0]
        if batch != 1:
            interpreter.resize_tensor_input(place["index"], [batch, *place["shape"][1:]])
            allocate(self._backend, interpreter)
        source, target = place["index"], interpreter.get_output_details()[0]["index"]

        def call(rows: Rows) -> Any:
            interpreter.set_tensor(source, rows)
            interpreter.invoke()
            return interpreter.get_tensor(target)

        return call

    def answers(self, rows: Rows) -> Answers:
        """Answers one row after the other, as a fixed batch of 1 allows."""
        call = self.runner(1)
        return Answers(np.concatenate([call(rows[index : index + 1]) for index in range(len(rows))]))

    def parts(self, rows: Rows) -> dict[str, float]:
        """None."""
        return {}
