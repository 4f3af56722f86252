"""Judge one candidate of the ladder on validation rows.

Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from moe_edge.config import Task
from moe_edge.runtime.latency import measure_latency

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a file does on validation rows.

    Attributes:
        num_bytes: Its size without manifest.
        num_rows: Validation rows.
        metric: Accuracy in [0, 1], or RMSE in the target's unit.
        correct: Rows with the right class; 0 for regression.
        class_names, class_correct: Right rows of each class.
        agreement: Share of rows with the float32 file's class; 1 for regression.
        route_agreement: Share of rows whose strongest expert is the float32 file's.
        route_flips: Rows whose strongest expert is another.
        latency_us: Median microseconds of one row.
        classes, routes: The answers that the next trials are compared with.
    """

    num_bytes: int
    num_rows: int
    metric: float
    correct: int
    class_names: tuple[str, ...]
    class_correct: tuple[int, ...]
    agreement: float
    route_agreement: float
    route_flips: int
    latency_us: float
    classes: npt.NDArray[np.int64] = field(repr=False)
    routes: npt.NDArray[np.int64] = field(repr=False)


def run_trial(content: bytes, rows: Rows, target: npt.NDArray[Any], *, task: Task, reference: Trial | None) -> Trial:
    """Run a file on validation rows.

    Args:
        content: The file.
        rows: float32 (n, ...).
        target: int64 (n,) codes, or float32 (n, K).
        task: Classification or regression.
        reference: The float32 file's trial, None for itself.
    """
    prediction, weights = _run(content, rows)
    classes, routes = prediction.argmax(axis=1), weights.argmax(axis=1)
    right = classes == target if task is Task.CLASSIFICATION else np.zeros(len(rows), dtype=bool)
    names = np.unique(target) if task is Task.CLASSIFICATION else np.empty(0, dtype=np.int64)
    metric = float(right.mean())
    if task is Task.REGRESSION:
        metric = float(np.sqrt(np.mean(np.square(prediction - target.reshape(prediction.shape)))))
    flips = 0 if reference is None else int((routes != reference.routes).sum())
    same = task is Task.REGRESSION or reference is None
    return Trial(
        num_bytes=len(content),
        num_rows=len(rows),
        metric=metric,
        correct=int(right.sum()),
        class_names=tuple(str(name) for name in names),
        class_correct=tuple(int(right[target == name].sum()) for name in names),
        agreement=1.0 if same or reference is None else float((classes == reference.classes).mean()),
        route_agreement=1 - flips / len(rows),
        route_flips=flips,
        latency_us=_latency(content, rows[:1]),
        classes=classes,
        routes=routes,
    )


def _run(content: bytes, rows: Rows) -> tuple[Rows, Rows]:
    """Prediction (n, K) and routing_weights (n, E): the first two outputs of the first subgraph."""
    interpreter = Interpreter(model_content=content)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rows)
    interpreter.invoke()
    prediction, weights, *_ = (interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details())
    return prediction, weights


def _latency(content: bytes, row: Rows) -> float:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]

    def invoke(features: Rows) -> None:
        interpreter.set_tensor(index, features)
        interpreter.invoke()

    return measure_latency(invoke, row).median_us
