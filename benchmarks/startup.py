"""From nothing to the first answer: moe-edge's predictor against NumPy and the bare interpreter on the same file.

Fresh processes in alternating order; the ratio of medians counts. Run: ``make bench``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from file_sizes import NUM_FEATURES, mixture
from results import table, write_section

from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme

RUNS = 25

BARE = f"""
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=MODEL)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.zeros((1, {NUM_FEATURES}), np.float32))
interpreter.invoke()
interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
"""
OURS = f"""
import numpy as np
from moe_edge import Predictor
Predictor(MODEL).predict(np.zeros((1, {NUM_FEATURES}), np.float32))
"""


def seconds(code: str, model: Path) -> float:
    """Wall time of a fresh process, compiled modules cached as on any installed machine."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code.replace("MODEL", repr(str(model)))], check=True, env=variables, stderr=-3
    )
    return time.perf_counter() - start


def main() -> None:
    """Time both, alternating."""
    rows = np.random.default_rng(0).normal(size=(2000, NUM_FEATURES)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.tflite"
        convert_spec(mixture(5), model, reference=None, rows=rows, options=ConversionOptions(scheme=Scheme.W8A8))
        times: dict[str, list[float]] = {BARE: [], OURS: []}
        for code in times:
            seconds(code, model)
        for _ in range(RUNS):
            for code, found in times.items():
                found.append(seconds(code, model))
    bare, ours = (statistics.median(found) for found in times.values())
    low, high = (min(times[OURS]) / min(times[BARE]), max(times[OURS]) / max(times[BARE]))
    lines = [
        ["numpy + bare interpreter", f"{1000 * bare:.0f}", "1"],
        ["import moe_edge, Predictor, first answer", f"{1000 * ours:.0f}", f"{ours / bare:.2f}"],
    ]
    intro = f"Median of {RUNS} fresh processes each, alternating; ratio of fastest {low:.2f}, of slowest {high:.2f}."
    write_section("Start-up", f"{intro}\n\n{table(['from nothing to one answer', 'ms', 'ratio'], lines)}")


if __name__ == "__main__":
    main()
