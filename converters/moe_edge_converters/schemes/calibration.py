"""Measure the ranges of a mixture's activations on training rows, expert by expert.

Plain minimum and maximum: the quantizer's own moving average over single rows loses the extremes (its gate answers are
twenty times further off). An expert's tensors are measured on the rows that matter to it or nearly do, so that rows it
never answers don't widen its ranges, and near misses, which quantization may route to it, are covered.
Layer: desktop (converters).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from moe_edge.errors import ConversionError

MIN_ROWS_PER_EXPERT = 64
"""An expert with fewer rows of its own is topped up with the rows nearest to it."""

MAX_ROWS = 4096
"""More rows than this are thinned out evenly: ranges no longer move, and memory would."""

CHUNK = 256
"""Rows run at once."""

_EXPERT_TENSOR = re.compile(r"^expert_(\d+)/")

Ranges = dict[str, dict[str, npt.NDArray[Any]]]
Progress = Callable[[int, str], None]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many calibration rows speak for each expert.

    Attributes:
        num_rows: Rows that calibration used.
        own: For each expert, rows where its gate weight is at least 1/E or among the two largest.
        used: For each expert, rows its ranges were measured on: its own, topped up from the nearest.
    """

    num_rows: int
    own: tuple[int, ...]
    used: tuple[int, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each expert that no row routes to: its ranges come from the nearest rows alone."""
        return tuple(
            f"expert_{index} is among the two strongest for none of {self.num_rows} calibration rows: it was "
            f"calibrated on the {used} rows nearest to it, and adds bytes but hardly an answer; "
            "train with more load balancing"
            for index, (own, used) in enumerate(zip(self.own, self.used, strict=True))
            if own == 0
        )


def thin_rows(rows: npt.NDArray[Any], limit: int = MAX_ROWS) -> npt.NDArray[Any]:
    """Keep at most ``limit`` rows, evenly spread over the table."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]


def cover_experts(
    routing_weights: npt.NDArray[np.float32], minimum: int = MIN_ROWS_PER_EXPERT
) -> tuple[npt.NDArray[np.bool_], Coverage]:
    """Choose each expert's calibration rows.

    Args:
        routing_weights: float32 (n, E).
        minimum: Rows that each expert gets at least, as far as there are rows.

    Returns:
        Boolean (n, E), whether row r speaks for expert e; and the counts.

    Raises:
        ConversionError: If the gate gives an expert no weight at all on any row.
    """
    num_rows, num_experts = routing_weights.shape
    best = min(2, num_experts)
    second = np.partition(routing_weights, -best, axis=1)[:, -best][:, None]
    # A weight of exactly 0 is no near miss, even when ties make it the second largest.
    chosen = ((routing_weights >= 1 / num_experts) | (routing_weights >= second)) & (routing_weights > 0)
    own = chosen.sum(axis=0)
    for expert in np.flatnonzero(routing_weights.max(axis=0) <= 0):
        raise ConversionError(
            f"expert_{expert} has no calibration row: expected at least one of {num_rows} rows to give it some weight, "
            "got none. Give more rows, train again (moe-edge train keeps experts alive by default), "
            "or choose --scheme dynamic_w8, which needs no calibration"
        )
    for expert in np.flatnonzero(own < minimum):
        nearest = np.argsort(-routing_weights[:, expert], kind="stable")[:minimum]
        chosen[nearest, expert] = True
    return chosen, Coverage(num_rows=num_rows, own=tuple(own.tolist()), used=tuple(chosen.sum(axis=0).tolist()))


def measure_ranges(
    content: bytes, rows: npt.NDArray[np.float32], *, progress: Progress | None = None
) -> tuple[Ranges, Coverage]:
    """Run a float32 fused graph and note every activation's range.

    Args:
        content: The float32 model.
        rows: float32 (n, ...), raw rows as the graph takes them.
        progress: Called with (rows done, note).

    Returns:
        Tensor name to ``min``, ``max`` and ``num_samples``, as the quantizer takes it; and the coverage.
    """
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    # A table of one row has the graph's own shape and is never resized to.
    interpreter.allocate_tensors()
    weights_index = next(
        detail["index"] for detail in interpreter.get_output_details() if detail["name"] == "routing_weights"
    )
    input_index = interpreter.get_input_details()[0]["index"]
    activations = _activation_tensors(interpreter)
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]

    def run(chunk: npt.NDArray[np.float32]) -> None:
        if tuple(interpreter.get_input_details()[0]["shape"]) != chunk.shape:
            interpreter.resize_tensor_input(input_index, chunk.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(input_index, chunk)
        interpreter.invoke()

    routing = []
    for chunk in chunks:
        run(chunk)
        routing.append(interpreter.get_tensor(weights_index))
    chosen, coverage = cover_experts(np.concatenate(routing))
    ranges: dict[str, tuple[float, float]] = {}
    done = 0
    for chunk in chunks:
        run(chunk)
        mask = chosen[done : done + len(chunk)]
        for name, index in activations.items():
            values = interpreter.get_tensor(index)
            match = _EXPERT_TENSOR.match(name)
            if match and len(values) == len(chunk):
                values = values[mask[:, int(match.group(1))]]
            if values.size:
                low, high = ranges.get(name, (np.inf, -np.inf))
                ranges[name] = (min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values))))
        done += len(chunk)
        if progress is not None:
            progress(len(chunk), "calibrating")
    return {
        name: {
            # The quantizer wants arrays of one element and of the tensor's rank, and a count of rows.
            "min": np.full((1, 1), low, dtype=np.float32),
            "max": np.full((1, 1), high, dtype=np.float32),
            "num_samples": np.array(len(rows)),
        }
        for name, (low, high) in ranges.items()
    }, coverage


def _activation_tensors(interpreter: Any) -> dict[str, int]:
    """Float32 tensors that operators write, by name."""
    written = {int(index) for operator in interpreter._get_ops_details() for index in operator["outputs"]}
    written |= {int(detail["index"]) for detail in interpreter.get_input_details()}
    return {
        detail["name"]: detail["index"]
        for detail in interpreter.get_tensor_details()
        if detail["index"] in written and detail["dtype"] is np.float32
    }
