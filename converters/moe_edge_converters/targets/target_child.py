"""Answer rows with a runtime that another Python, or only another process, has.

Run as a script: ``python target_child.py RUNTIME MODEL ROWS ANSWERS`` with RUNTIME ``tflite-runtime`` or
``tflite-micro``, rows as ``.npy``, answers written as ``.npz``. Imports nothing of moe-edge, because that Python may be
another one; a runtime that ends its process takes nobody else along.
Layer: desktop (converters), stand-alone: NumPy and the runtime.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

SERVING = "serving_default"


def answer_signatures(interpreter: Any, rows: Any) -> dict[str, Any]:
    """Run the whole graph, and the routed signatures where the file has them, row by row.

    The gate's features go to every expert, all answers to ``combine``: what a host does that routes to all experts.

    Args:
        interpreter: A TFLite interpreter, old or new.
        rows: float32 (n, ...).

    Returns:
        ``signature/output`` -> float32 (n, ...).
    """
    runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
    experts = sorted((name for name in runners if name.startswith("expert_")), key=lambda name: int(name[7:]))
    edges = {name: (runner.get_input_details(), runner.get_output_details()) for name, runner in runners.items()}
    collected: dict[str, list[Any]] = {}

    def call(signature: str, **inputs: Any) -> dict[str, Any]:
        taken, given = edges[signature]
        encoded = {name: _encode(value, *_edge(taken[name])) for name, value in inputs.items()}
        answers = runners[signature](**encoded)
        outputs = {name: _decode(value, *_edge(given[name])) for name, value in answers.items()}
        for name, value in outputs.items():
            collected.setdefault(f"{signature}/{name}", []).append(value[0])
        return outputs

    for row in rows:
        call(SERVING, x=row[None])
        if "gate" in runners and "combine" in runners:
            gate = call("gate", x=row[None])
            answers = [call(name, features=gate["features"])["output"] for name in experts]
            call("combine", routing_weights=gate["routing_weights"], outputs=np.stack(answers, axis=1))
    return {name: np.stack(values) for name, values in collected.items()}


def _edge(detail: dict[str, Any]) -> tuple[Any, float, int]:
    """An input's or output's dtype, scale and zero point."""
    scale, zero = detail["quantization"]
    return detail["dtype"], float(scale), int(zero)


def _encode(values: Any, dtype: Any, scale: float, zero: int) -> Any:
    """Numbers as a graph's input takes them: float32, or rounded to its int8 scale."""
    if not np.issubdtype(dtype, np.integer) or not scale:
        return np.ascontiguousarray(values, dtype=dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(dtype)


def _decode(values: Any, dtype: Any, scale: float, zero: int) -> Any:
    """A graph's answers as float32; a copy."""
    if not np.issubdtype(dtype, np.integer) or not scale:
        return np.array(values)
    return ((np.asarray(values, dtype=np.float32) - zero) * scale).astype(np.float32)


def run_tflite_runtime(content: bytes, rows: Any) -> dict[str, Any]:
    """All signatures on tflite-runtime."""
    from tflite_runtime.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return {**answer_signatures(interpreter, rows), "runtime": f"tflite-runtime {metadata.version('tflite-runtime')}"}


def run_tflite_micro(content: bytes, rows: Any) -> dict[str, Any]:
    """The first subgraph on TFLite Micro, outputs by position, and the arena that it needs."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(content)
    taken, given = _micro_edge(interpreter.get_input_details(0)), _micro_edge(interpreter.get_output_details(0))
    collected: list[Any] = []
    for row in rows:
        interpreter.set_input(_encode(row[None], *taken), 0)
        interpreter.invoke()
        collected.append(_decode(interpreter.get_output(0)[0], *given))
    arena = _smallest_arena(runtime, content, _recorded_arena(interpreter))
    version = f"tflite-micro {metadata.version('tflite-micro')}"
    return {f"{SERVING}/prediction": np.stack(collected), "arena_bytes": arena, "runtime": version}


def _micro_edge(detail: dict[str, Any]) -> tuple[Any, float, int]:
    """As ``_edge``, in TFLite Micro's words."""
    parameters = detail["quantization_parameters"]
    if len(parameters["scales"]) == 0:
        return detail["dtype"], 0.0, 0
    return detail["dtype"], float(parameters["scales"][0]), int(parameters["zero_points"][0])


def _recorded_arena(interpreter: Any) -> int:
    """What the interpreter says it used; it says so on the process's own error stream only."""
    with tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        found = re.search(rb"Arena allocation total (\d+) bytes", said.read())
    if found is None:
        raise RuntimeError("TFLite Micro didn't say how large its arena is")
    return int(found[1])


def _smallest_arena(runtime: Any, content: bytes, recorded: int) -> int:
    """The smallest arena, in steps of 256 bytes from what was recorded, in which the file still runs.

    Each size is tried in a fork: where the arena is too small, TFLite Micro may end its process.
    """
    size = (recorded + 255) // 256 * 256
    while size < 4 * recorded + 65536:
        child = os.fork()
        if child == 0:
            _try_arena(runtime, content, size)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return size
        size += 256
    raise RuntimeError(f"no arena up to {size} bytes works")


def _try_arena(runtime: Any, content: bytes, size: int) -> None:
    """Run once and leave the process; the chatter of a failure helps nobody."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        runtime.Interpreter.from_bytes(content, arena_size=size).invoke()
        status = 0
    finally:
        os._exit(status)


def main(arguments: list[str]) -> int:
    """Run one file."""
    name, model, rows, answers = arguments
    run = {"tflite-runtime": run_tflite_runtime, "tflite-micro": run_tflite_micro}[name]
    np.savez(answers, **run(Path(model).read_bytes(), np.load(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
