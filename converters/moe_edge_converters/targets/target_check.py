"""Accept a file for a target: run it there and compare its answers with LiteRT's, or, elsewhere, check its tables.

Layer: desktop (converters).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.errors import ConversionError
from moe_edge.extras import install_command
from moe_edge_converters.file_writer import read_model
from moe_edge_converters.graphs.fused_graph import SERVING
from moe_edge_converters.graphs.routed_signatures import COMBINE
from moe_edge_converters.schemes.audit import TYPE_NAMES
from moe_edge_converters.targets.accelerator import plan_acceleration
from moe_edge_converters.targets.microcontroller import resolver_operators, strip_metadata
from moe_edge_converters.targets.operator_support import check_micro, check_tflite_runtime, list_operators
from moe_edge_converters.targets.target import Evidence, Target, TargetReport
from moe_edge_converters.targets.target_runs import TFLITE_MICRO, TFLITE_RUNTIME, TargetRun, run_foreign, run_litert

Rows = npt.NDArray[np.float32]

MAX_ROWS = 200
"""Rows that a target answers: as many as every written file answers before it is called done."""

FLOAT_TOLERANCE = 1e-4
"""Largest difference of a float file's answers, relative to the largest answer (at least 1): sums in another order."""

QUANTIZED_TOLERANCE = 0.05
"""Largest difference of a quantized file's answers, relative to their range. Runtimes round an int8 activation
differently in its last step, 1/255 of a layer's range, and later layers carry it on; a wrong kernel is off by the
range itself."""

MIN_AGREEMENT = 0.98
"""Share of rows with LiteRT's class: 4 rows in 200 may lie so near a border that the last step decides."""

_WEB_INPUTS, _WEB_OUTPUTS = ("float32", "int32"), ("float32", "int32")


def check_target(content: bytes, target: Target, rows: Rows, *, classifies: bool = True) -> TargetReport:
    """Accept a file for a target, or say why not.

    Args:
        content: The file.
        target: Where it is meant to run.
        rows: float32 (n, ...) raw rows; the first 200 are answered.
        classifies: Whether ``prediction`` holds probabilities, so that classes can be compared.

    Raises:
        ConversionError: If the target refuses it, or answers otherwise than LiteRT.
    """
    rows = np.ascontiguousarray(rows[:MAX_ROWS], dtype=np.float32)
    if len(rows) == 0:
        raise ConversionError("expected rows to answer, got none")
    checks = {
        Target.LITERT: _check_litert,
        Target.TFLITE_RUNTIME: _check_tflite_runtime,
        Target.WEB: _check_web,
        Target.INT8_ACCELERATOR: _check_accelerator,
        Target.MICROCONTROLLER: _check_microcontroller,
    }
    return checks[target](content, rows, classifies)


def _check_litert(content: bytes, rows: Rows, classifies: bool) -> TargetReport:
    """The reference itself: that it answers every signature with numbers is all that can be said."""
    del classifies
    run = run_litert(content, rows)
    for name, answers in run.answers.items():
        if not np.isfinite(answers).all():
            raise ConversionError(f"{run.runtime} answers {name} with NaN or infinity; choose another scheme")
    return _ran(Target.LITERT, run, rows, None, None)


def _check_tflite_runtime(content: bytes, rows: Rows, classifies: bool) -> TargetReport:
    operators = list_operators(read_model(content))
    check_tflite_runtime(operators)
    run = run_foreign(TFLITE_RUNTIME, content, rows)
    if run is None:
        note = (
            "operators and versions are known there; to have it answer rows, name a Python that has tflite-runtime "
            f"2.14 in ${TFLITE_RUNTIME.variable}"
        )
        return TargetReport(
            target=Target.TFLITE_RUNTIME,
            evidence=Evidence.CHECKED,
            runtime="the operators of tflite-runtime 2.14.0",
            operators=_names(content),
            notes=(note,),
        )
    if not run.runtime.startswith("tflite-runtime 2.14"):
        raise ConversionError(f"expected tflite-runtime 2.14, got {run.runtime}; mend ${TFLITE_RUNTIME.variable}")
    error, agreement = _compare(run_litert(content, rows), run, content, classifies=classifies, where=run.runtime)
    return _ran(Target.TFLITE_RUNTIME, run, rows, error, agreement)


def _check_microcontroller(content: bytes, rows: Rows, classifies: bool) -> TargetReport:
    model = read_model(content)
    if len(model.subgraphs) > 1:
        raise ConversionError(
            f"expected {SERVING} alone for a microcontroller, got {len(model.subgraphs)} subgraphs; "
            "convert with --target microcontroller"
        )
    check_micro(list_operators(model))
    array = strip_metadata(content)
    run = run_foreign(TFLITE_MICRO, array, rows)
    operators = resolver_operators(array)
    if run is None:
        note = (
            "operators and dtypes are known there; to have it answer rows here (Linux x86-64): "
            f"{install_command('targets')}"
        )
        return TargetReport(
            target=Target.MICROCONTROLLER,
            evidence=Evidence.CHECKED,
            runtime="the operators of TFLite Micro",
            operators=operators,
            array_bytes=len(array),
            notes=(note,),
        )
    error, agreement = _compare(run_litert(content, rows), run, content, classifies=classifies, where=run.runtime)
    return _ran(Target.MICROCONTROLLER, run, rows, error, agreement, operators=operators, array_bytes=len(array))


def _check_web(content: bytes, rows: Rows, classifies: bool) -> TargetReport:
    """No browser runs here; what LiteRT.js asks of a file is asked of it, and LiteRT itself answers the rows."""
    del classifies
    model = read_model(content)
    signatures = {_text(signature.signatureKey): signature for signature in model.signatureDefs or []}
    if SERVING not in signatures:
        raise ConversionError(f"a page asks for {SERVING} by name, got the signatures {sorted(signatures)}")
    for name, signature in signatures.items():
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        for entry in signature.inputs:
            _check_web_edge(name, entry, tensors[entry.tensorIndex], _WEB_INPUTS)
        for entry in signature.outputs:
            _check_web_edge(name, entry, tensors[entry.tensorIndex], _WEB_OUTPUTS)
    run_litert(content, rows[:1])
    return TargetReport(
        target=Target.WEB,
        evidence=Evidence.CHECKED,
        runtime="what LiteRT.js 2.5 asks of a file",
        signatures=tuple(signatures),
        operators=_names(content),
        notes=(f"in the page, run signatures.{SERVING}: the default there is the first in the file",),
    )


def _check_web_edge(signature: str, entry: Any, tensor: Any, allowed: tuple[str, ...]) -> None:
    dtype = TYPE_NAMES[tensor.type]
    shape = [int(size) for size in tensor.shape]
    free = tensor.shapeSignature is not None and any(size < 0 for size in tensor.shapeSignature)
    place = f"signature {signature}, {_text(entry.name)}"
    if dtype not in allowed:
        raise ConversionError(f"LiteRT.js takes and gives {' or '.join(allowed)}: {place} is {dtype}")
    if free or min(shape, default=1) < 1:
        raise ConversionError(f"LiteRT.js needs a fixed batch: {place} has a free dimension in {shape}")


def _check_accelerator(content: bytes, rows: Rows, classifies: bool) -> TargetReport:
    del rows, classifies
    plan = plan_acceleration(read_model(content))
    return TargetReport(
        target=Target.INT8_ACCELERATOR,
        evidence=Evidence.CHECKED,
        runtime="operators that int8 compilers commonly take",
        operators=_names(content),
        notes=plan.notes(),
    )


def _ran(
    target: Target, run: TargetRun, rows: Rows, error: float | None, agreement: float | None, **others: Any
) -> TargetReport:
    names = dict.fromkeys(name.split("/")[0] for name in run.answers)
    return TargetReport(
        target=target,
        evidence=Evidence.RAN,
        runtime=run.runtime,
        num_rows=len(rows),
        max_abs_error=error,
        top1_agreement=agreement,
        signatures=tuple(names),
        arena_bytes=run.arena_bytes,
        **others,
    )


def _compare(
    reference: TargetRun, run: TargetRun, content: bytes, *, classifies: bool, where: str
) -> tuple[float, float | None]:
    """Hold a target's predictions, whole and routed, against LiteRT's.

    Returns:
        The largest difference, and the share of rows with the same class.

    Raises:
        ConversionError: If they differ by more than rounding explains.
    """
    quantized = any("int8" in op.inputs or "int4" in op.inputs for op in list_operators(read_model(content)))
    worst, agreements = 0.0, [1.0]
    for signature in (SERVING, COMBINE):
        got, expected = (answers.get(f"{signature}/prediction") for answers in (run.answers, reference.answers))
        if got is None or expected is None:
            continue
        if got.shape != expected.shape or not np.isfinite(got).all():
            raise ConversionError(f"{where} answers {signature} with NaN, infinity or another shape, {got.shape}")
        error = float(np.abs(got - expected).max())
        scale = float(np.ptp(expected)) if quantized else max(1.0, float(np.abs(expected).max()))
        allowed = (QUANTIZED_TOLERANCE if quantized else FLOAT_TOLERANCE) * scale
        worst = max(worst, error)
        if classifies:
            agreements.append(float((got.argmax(axis=1) == expected.argmax(axis=1)).mean()))
        if error > allowed or min(agreements) < MIN_AGREEMENT:
            same = f", the same class for {agreements[-1]:.1%} of the rows" if classifies else ""
            raise ConversionError(
                f"{where} answers {signature} otherwise than LiteRT: largest difference {error:.3g}, expected at most "
                f"{allowed:.3g}{same}; choose another scheme"
            )
    return worst, min(agreements) if classifies else None


def _names(content: bytes) -> tuple[str, ...]:
    return tuple(sorted({operator.name for operator in list_operators(read_model(content)) if not operator.subgraph}))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
