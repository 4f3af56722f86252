"""Time the parts of a mixture natively: gate, each expert, the combination, the whole graph.

Each part is one subgraph, invoked directly on inputs that lie in its tensors already, so that what remains of a
prediction's time is Python's.
Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.runtime.backends import AUTO, allocate, load_backend
from moe_edge.runtime.model_check import SIGNATURE
from moe_edge.runtime.model_file import ModelFile

WHOLE = "whole graph"
_ROWS = 16
"""Rows that each part is timed on, so that one lucky row doesn't stand for all."""


def measure_parts(
    *,
    model: str,
    rows: npt.NDArray[np.float32],
    backend: str = AUTO,
    num_threads: int = 1,
    xnnpack: bool | None = None,
    runs: int = 200,
) -> dict[str, float]:
    """Time each part of a file.

    Args:
        model: Path of the .tflite.
        rows: float32 (n, ...) raw rows, at least one.
        backend: The runtime.
        num_threads: Threads that one call may use.
        xnnpack: As the Predictor takes it.
        runs: Timed invokes a part, at least 1.

    Returns:
        ``whole graph``, ``gate``, ``expert_0`` ..., ``combine`` (those that the file has) -> median microseconds.
    """
    with ModelFile.open(model) as file:
        chosen = load_backend(backend)
        interpreter = chosen.interpreter(file.loadable, num_threads=num_threads, xnnpack=xnnpack)
        allocate(chosen, interpreter)
        native: Any = interpreter._interpreter
        feeds: dict[str, list[npt.NDArray[Any]]] = {}
        sample = rows[:_ROWS]
        whole, gate = file.signatures[SIGNATURE], file.signatures.get("gate")
        dtype = file.subgraphs[whole.subgraph].tensors[whole.inputs["x"]].dtype
        times = {}
        if dtype == "float32":
            times[WHOLE] = _time(native, whole.subgraph, whole.inputs["x"], sample, runs)
        if gate is None or dtype != "float32":
            return times
        native.AllocateTensors(gate.subgraph)
        times["gate"] = _time(native, gate.subgraph, gate.inputs["x"], sample, runs)
        features = []
        for row in sample:
            native.SetTensor(gate.inputs["x"], row[None], gate.subgraph)
            native.Invoke(gate.subgraph)
            features.append(np.array(native.GetTensor(gate.outputs["features"], gate.subgraph))[0])
        feeds["features"] = features
        experts = [name for name in file.signatures if name.startswith("expert_")]
        for name in sorted(experts, key=lambda name: int(name.split("_")[1])):
            expert = file.signatures[name]
            native.AllocateTensors(expert.subgraph)
            times[name] = _time(native, expert.subgraph, expert.inputs["features"], np.stack(features), runs)
        combine = file.signatures.get("combine")
        if combine is not None:
            native.AllocateTensors(combine.subgraph)
            tensors = file.subgraphs[combine.subgraph].tensors
            for name, index in combine.inputs.items():
                shape = tensors[index].shape
                # Equal weights: what the combination costs doesn't depend on the values.
                value = np.full(shape, 1 / shape[1] if name == "routing_weights" else 0.5, dtype=np.float32)
                native.SetTensor(index, value, combine.subgraph)
            times["combine"] = _time_invokes(native, combine.subgraph, runs)
        return times


def _time(native: Any, subgraph: int, place: int, rows: npt.NDArray[np.float32], runs: int) -> float:
    """Median over rows of the median time of an invoke."""
    each = max(1, runs // len(rows))
    medians = []
    for row in rows:
        native.SetTensor(place, np.ascontiguousarray(row[None]), subgraph)
        medians.append(_time_invokes(native, subgraph, each))
    return float(np.median(medians))


def _time_invokes(native: Any, subgraph: int, runs: int) -> float:
    invoke, clock = native.Invoke, time.perf_counter_ns
    invoke(subgraph)
    elapsed = np.empty(runs, dtype=np.int64)
    for run in range(runs):
        start = clock()
        invoke(subgraph)
        elapsed[run] = clock() - start
    return float(np.median(elapsed)) / 1000
