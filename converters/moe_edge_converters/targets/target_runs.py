"""Run a file on the runtimes that this machine has, in child processes.

Layer: desktop (converters).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moe_edge.errors import ConversionError
from moe_edge_converters.targets import target_child

Rows = npt.NDArray[np.float32]

TIMEOUT_S = 300.0
"""A run of 200 rows takes seconds; a runtime that takes longer hangs."""


@dataclass(frozen=True, kw_only=True)
class TargetRun:
    """What a runtime answered.

    Attributes:
        runtime: Its name and version.
        answers: ``signature/output`` -> float32 (n, ...).
        arena_bytes: Smallest tensor arena that works (TFLite Micro), or None.
    """

    runtime: str
    answers: dict[str, npt.NDArray[np.float32]] = field(repr=False)
    arena_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class ForeignRuntime:
    """A runtime that may be installed here, or in another Python that an environment variable names.

    Attributes:
        name: As ``target_child`` calls it.
        module: What it is imported as.
        variable: Environment variable with the path of a Python that has it.
    """

    name: str
    module: str
    variable: str

    def find_python(self) -> Path | None:
        """The Python that has it, or None.

        Raises:
            ConversionError: If the environment variable names no file.
        """
        named = os.environ.get(self.variable)
        if named:
            if not Path(named).is_file():
                raise ConversionError(f"expected a Python with {self.module} in ${self.variable}, got no file {named}")
            return Path(named)
        return Path(sys.executable) if util.find_spec(self.module) is not None else None


TFLITE_RUNTIME = ForeignRuntime(
    name="tflite-runtime", module="tflite_runtime", variable="MOE_EDGE_TFLITE_RUNTIME_PYTHON"
)
TFLITE_MICRO = ForeignRuntime(name="tflite-micro", module="tflite_micro", variable="MOE_EDGE_TFLITE_MICRO_PYTHON")


def run_litert(content: bytes, rows: Rows, *, xnnpack: bool = True) -> TargetRun:
    """All signatures on LiteRT, in this process: the reference of every target.

    Args:
        content: The file.
        rows: float32 (n, ...).
        xnnpack: Whether XNNPACK computes what it can, as it does by default.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return TargetRun(
        runtime=f"LiteRT {metadata.version('ai-edge-litert')}",
        answers=target_child.answer_signatures(interpreter, rows),
    )


def run_foreign(runtime: ForeignRuntime, content: bytes, rows: Rows) -> TargetRun | None:
    """Run a file on a runtime in a child process.

    Args:
        runtime: Which.
        content: The file.
        rows: float32 (n, ...).

    Returns:
        Its answers, or None when no Python here has it.

    Raises:
        ConversionError: If it refuses the file, hangs, or dies of it.
    """
    python = runtime.find_python()
    if python is None:
        return None
    with tempfile.TemporaryDirectory(prefix="moe-edge-") as folder:
        model, given, answers = (Path(folder) / name for name in ("model.tflite", "rows.npy", "answers.npz"))
        model.write_bytes(content)
        np.save(given, rows)
        command = [str(python), target_child.__file__, runtime.name, str(model), str(given), str(answers)]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ConversionError(f"{runtime.name} didn't answer {len(rows)} rows in {TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise ConversionError(f"can't start {python}: {error}; mend ${runtime.variable}") from error
        if result.returncode != 0:
            raise ConversionError(f"{runtime.name} can't run this file: {_reason(result)}")
        with np.load(answers) as loaded:
            found = {name: loaded[name] for name in loaded.files}
    arena = found.pop("arena_bytes", None)
    return TargetRun(
        runtime=str(found.pop("runtime")), answers=found, arena_bytes=None if arena is None else int(arena)
    )


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    """Why a child failed: what the runtime itself said comes before Python's traceback."""
    if result.returncode < 0:
        return f"it ended its process (signal {-result.returncode})"
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    said = []
    for line in lines:
        if line.startswith("Traceback"):
            break
        if not line.startswith(("INFO", "WARNING")):
            said.append(line)
    return "; ".join([*said[-2:], *lines[-1:]]) or f"it ended with {result.returncode}"
