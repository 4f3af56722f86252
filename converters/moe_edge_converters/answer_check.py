"""Run a written file through the Predictor that ships, and compare its answers with the source model's.

Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge.runtime.predictor import Predictor
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, new_model

LOSSLESS_TOLERANCE = 1e-4
"""Largest difference of a float32 file from the source, relative to the largest answer (at least 1).

Sums in another order move the last bits: 1e-6 is usual; deep or wide experts reach a few 1e-5.
"""


LEAST_AGREEMENT = 0.5
"""A file that gives another class for half of its own training rows is broken, not merely rounded.

What is good enough is decided on held-out rows, by ``moe-edge validate``.
"""


@dataclass(frozen=True, kw_only=True)
class AnswerCheck:
    """How a file's answers compare with its source's on the same rows.

    Attributes:
        num_rows: Rows compared.
        max_abs_error: Largest absolute difference of a predicted value.
        spread_share: Root mean square difference as a share of the standard deviation of the source's answers, of the
            output where it is largest; None for classification, and where an output never changes.
        top1_agreement: Share of rows with the same class; None for regression.
        predictions: The file's own answers, float32 (n, K).
        routing_weights: The weight of each expert in them, float32 (n, E).
    """

    num_rows: int
    max_abs_error: float
    spread_share: float | None
    top1_agreement: float | None
    predictions: npt.NDArray[np.float32] = field(repr=False)
    routing_weights: npt.NDArray[np.float32] = field(repr=False)


def check_answers(
    file: Path | bytes,
    rows: npt.NDArray[np.float32],
    expected: npt.NDArray[np.float32],
    *,
    task: Task,
    lossless: bool,
) -> AnswerCheck:
    """Run a file and compare.

    Args:
        file: The file, or its bytes.
        rows: float32 (n, ...) raw rows.
        expected: float32 (n, K), the source's answers.
        task: Classification or regression.
        lossless: Whether the file must equal the source up to rounding.

    Raises:
        ConversionError: If an answer isn't finite, or a lossless file differs.
    """
    with Predictor(file) as predictor:
        raw = predictor.predict_raw(rows)
    got = raw["prediction"]
    if got.shape != expected.shape:
        raise ConversionError(f"expected answers of shape {expected.shape}, the file gives {got.shape}")
    if not np.isfinite(expected).all():
        raise ConversionError("the source model answers with NaN or infinity; train it again before converting")
    bad = np.flatnonzero(~np.isfinite(got).all(axis=1))
    if bad.size:
        raise ConversionError(
            f"expected finite answers, the file gives NaN or infinity for row {bad[0]} and {bad.size - 1} more; "
            "choose another scheme"
        )
    error = float(np.abs(got - expected).max())
    scale = max(1.0, float(np.abs(expected).max()))
    if lossless and error > LOSSLESS_TOLERANCE * scale:
        raise ConversionError(
            f"the float32 file differs from its source by {error:.3g}, "
            f"expected at most {LOSSLESS_TOLERANCE * scale:.3g}"
        )
    agreement = None
    share = None
    if task is Task.REGRESSION:
        spread = expected.astype(np.float64).std(axis=0)
        distance = np.sqrt(((got.astype(np.float64) - expected) ** 2).mean(axis=0))
        share = float((distance / spread).max()) if np.all(spread > 0) else None
    if task is Task.CLASSIFICATION:
        agreement = float((got.argmax(axis=1) == expected.argmax(axis=1)).mean())
        if agreement < LEAST_AGREEMENT:
            raise ConversionError(
                f"the file gives its source's class for {agreement:.0%} of {len(rows)} rows, expected at least "
                f"{LEAST_AGREEMENT:.0%}; choose another scheme, such as w8a16 or float16"
            )
    return AnswerCheck(
        num_rows=len(rows),
        max_abs_error=error,
        spread_share=share,
        top1_agreement=agreement,
        predictions=got,
        routing_weights=raw["routing_weights"],
    )


def start_runtime() -> None:
    """Run a tiny graph: the runtime prints its notice about the XNNPACK delegate on the first one of a process."""
    model = new_model("start")
    builder = GraphBuilder(model, "start")
    x = builder.input("x", (1,))
    builder.subgraph.outputs.append(builder.binary("ADD", x, x, name="y"))
    run_plain(pack(model), np.ones((2, 1), dtype=np.float32))


def run_plain(content: bytes, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Run a model's first output without manifest or checks: the reference for a mixture that is only data."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rows)
    interpreter.invoke()
    answers: npt.NDArray[np.float32] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return answers
