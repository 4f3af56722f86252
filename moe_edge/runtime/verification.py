"""Verify a file where it will run: its bytes, its signatures, and the answers that it gave where it was written.

Nothing but the file is needed: ``convert`` stores a few rows in it with their answers and routing (golden vectors).
Layer: device. Imports NumPy and ``moe_edge`` modules of the device side.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moe_edge.errors import ModelFileError
from moe_edge.runtime.backends import AUTO, Backend, allocate, load_backend
from moe_edge.runtime.latency import measure_latency
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.modes import DENSE, ROUTED
from moe_edge.runtime.predictor import Predictor

if TYPE_CHECKING:
    from moe_edge.manifest import Manifest

FLOAT_TOLERANCE = 1e-6
"""For weights and activations in float: other processors add in another order. Measured, relative to answers of 1:
1.2e-7 between x86-64 and ARM, 4.8e-7 between runtimes."""
OLD_FLOAT_TOLERANCE = 1e-5
"""For files written before routing was stored too, whose answers have six digits."""
INT8_STEP = 1 / 256
"""One step of an int8 probability. On one runtime int8 kernels of two processors differ by at most one."""
OTHER_RUNTIME_STEPS = 5
"""Another runtime than the one that wrote the golden vectors rounds int8 otherwise: measured 2 steps in a tenth of a
mixture's values, up to 0.02 on single rows of tables."""
WRITER = "litert"
"""The runtime whose answers are in the file."""
_FLOAT_SCHEMES = {"float32", "float16"}


@dataclass(frozen=True, kw_only=True)
class ModeCheck:
    """How one mode's answers compare with those in the file.

    Attributes:
        mode: ``dense`` or ``routed`` (with every expert that counts as trained, so that it must answer like dense).
        max_difference: Largest difference of a predicted value, divided by the larger of 1 and the stored value.
        max_routing_difference: Largest difference of an expert's weight; None where the file has none stored.
        same_labels: Rows with the stored answer's class; None for regression.
        us_per_row: Median microseconds of one row, through ``Predictor.predict``, warmed up.
    """

    mode: str
    max_difference: float
    max_routing_difference: float | None
    same_labels: int | None
    us_per_row: float

    @property
    def worst(self) -> float:
        """The larger of both differences."""
        return max(self.max_difference, self.max_routing_difference or 0.0)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found.

    Attributes:
        sha256: Of the whole file, in hexadecimal, to compare with the desktop's.
        num_bytes: The file's length.
        backend: The runtime that ran it.
        backend_version: Its version.
        scheme: The scheme that the file was converted with.
        signatures: Names of all signatures, each of which has run.
        num_rows: Golden rows in the file.
        tolerance: Largest difference that passes.
        modes: What each mode answered.
        not_routed: Why mode routed wasn't run, or None.
    """

    sha256: str
    num_bytes: int
    backend: str
    backend_version: str
    scheme: str
    signatures: tuple[str, ...]
    num_rows: int
    tolerance: float
    modes: tuple[ModeCheck, ...] = field(default=())
    not_routed: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every mode answers as stored."""
        # A value that isn't finite counts as infinitely far, so it fails.
        return all(check.worst <= self.tolerance for check in self.modes)


def verify(
    model: str | os.PathLike[str] | bytes, *, backend: str = AUTO, tolerance: float | None = None
) -> Verification:
    """Verify a file written by moe-edge on this machine.

    Args:
        model: Path of the .tflite, or its bytes.
        backend: The runtime, see ``moe_edge.runtime.backends``.
        tolerance: Largest difference that passes, relative to the larger of 1 and the stored value; by default
            ``default_tolerance``.

    Returns:
        What was found; ``passed`` says whether answers are within the tolerance.

    Raises:
        ModelFileError: If the file is damaged, foreign, has no golden vectors, or a signature doesn't run.
        BackendError: If no runtime imports, or this one is known to answer the file wrongly.
        ValueError: If ``tolerance`` isn't a positive number.
    """
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise ValueError(f"expected a tolerance above 0, got {tolerance}")
    with Predictor(model, backend=backend, mode=DENSE) as dense:
        manifest = dense.manifest
        file = dense.file
        file.verify_weights()
        rows = golden_rows(manifest, file.source)
        chosen = load_backend(backend)
        _run_signatures(file, chosen)
        largest = default_tolerance(manifest, chosen.name) if tolerance is None else tolerance
        checks = [_check(dense, rows, DENSE)]
        not_routed = None
        try:
            # The whole mass: every expert that counts as trained runs, so the answers are the whole graph's.
            routed = Predictor(model, backend=backend, mode=ROUTED, mass=1.0)
        except ModelFileError as error:
            not_routed = str(error).removeprefix(f"{file.source}: ")
        else:
            with routed:
                checks.append(_check(routed, rows, ROUTED))
        return Verification(
            sha256=hashlib.sha256(file.content).hexdigest(),
            num_bytes=len(file.content),
            backend=chosen.name,
            backend_version=chosen.version,
            scheme=manifest.scheme,
            signatures=tuple(file.signatures),
            num_rows=len(rows),
            tolerance=largest,
            modes=tuple(checks),
            not_routed=not_routed,
        )


def default_tolerance(manifest: Manifest, backend: str) -> float:
    """The difference that a sound file may show on this runtime.

    Args:
        manifest: What the file says of itself.
        backend: Name of the runtime.

    Returns:
        ``FLOAT_TOLERANCE`` where all parts compute in float, else one int8 step, ``OTHER_RUNTIME_STEPS`` of them on a
        runtime other than the writer's.
    """
    if manifest.io == "float32" and {part.scheme for part in manifest.parts} <= _FLOAT_SCHEMES:
        return FLOAT_TOLERANCE if manifest.golden.routing_weights else OLD_FLOAT_TOLERANCE
    # A little more than a step: the stored answer is itself rounded to eight digits.
    return INT8_STEP * 1.001 * (1 if backend == WRITER else OTHER_RUNTIME_STEPS)


def golden_rows(manifest: Manifest, source: str) -> npt.NDArray[np.float32]:
    """The rows stored in a file, NaN for missing values.

    Returns:
        float32 (n, *input_shape), n at least 1.

    Raises:
        ModelFileError: If there are none, or they don't fit the model or their answers.
    """
    golden = manifest.golden
    if not golden.inputs:
        raise ModelFileError(f"{source}: expected golden vectors in the file, got none; convert the model again")
    size = int(np.prod(manifest.input_shape))
    widths = (
        ("inputs", golden.inputs, size),
        ("predictions", golden.predictions, len(manifest.schema.labels)),
        ("routing_weights", golden.routing_weights or (), manifest.num_experts),
    )
    for name, table, width in widths:
        absent = name == "routing_weights" and not table
        if not absent and (len(table) != len(golden.inputs) or any(len(row) != width for row in table)):
            raise ModelFileError(
                f"{source}: expected {len(golden.inputs)} golden {name} of {width} values, got others; "
                "convert the model again"
            )
    values = [[np.nan if cell is None else cell for cell in row] for row in golden.inputs]
    return np.asarray(values, dtype=np.float32).reshape(-1, *manifest.input_shape)


def _check(predictor: Predictor, rows: npt.NDArray[np.float32], mode: str) -> ModeCheck:
    """Answer the golden rows one by one, as a device does, and compare."""
    golden = predictor.manifest.golden
    answers = [predictor.predict_raw(row[None]) for row in rows]
    prediction = np.concatenate([answer["prediction"] for answer in answers])
    expected = np.asarray(golden.predictions, dtype=np.float64)
    routing = None
    if golden.routing_weights:
        weights = np.concatenate([answer["routing_weights"] for answer in answers])
        routing = largest_difference(weights, np.asarray(golden.routing_weights, dtype=np.float64))
    same = None
    if predictor.task.value == "classification":
        same = int((prediction.argmax(axis=1) == expected.argmax(axis=1)).sum())
    # The way that takes one row at a time, which ``benchmark`` measures too; ``predict_raw`` takes batches.
    latency = measure_latency(predictor.predict, rows[:1], num_runs=50)
    return ModeCheck(
        mode=mode,
        max_difference=largest_difference(prediction, expected),
        max_routing_difference=routing,
        same_labels=same,
        us_per_row=latency.median_us,
    )


def largest_difference(got: npt.NDArray[Any], expected: npt.NDArray[np.float64]) -> float:
    """The largest difference relative to the larger of 1 and what was expected; infinite where a value isn't finite."""
    difference = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")


def _run_signatures(file: ModelFile, backend: Backend) -> None:
    """Run every signature once, on zeros.

    Raises:
        ModelFileError: If the runtime refuses one, or it gives a shape other than the file's.
    """
    interpreter = backend.interpreter(file.loadable)
    allocate(backend, interpreter)
    for name, signature in file.signatures.items():
        tensors = file.subgraphs[signature.subgraph].tensors
        given = {
            key: np.zeros(tensors[index].shape, dtype=tensors[index].dtype) for key, index in signature.inputs.items()
        }
        try:
            answers = interpreter.get_signature_runner(name)(**given)
        except (RuntimeError, ValueError) as error:
            raise ModelFileError(
                f"{file.source}: the signature {name} doesn't run: {backend.refusal(error)}"
            ) from error
        for key, index in signature.outputs.items():
            if tuple(answers[key].shape) != tensors[index].shape:
                raise ModelFileError(
                    f"{file.source}: expected {key} of {name} to have shape {tensors[index].shape}, "
                    f"got {tuple(answers[key].shape)}; convert the model again"
                )
