"""Refuse a Keras model that doesn't answer row by row, before it is converted to something that never was right.

The classical guide's own mixing function, a Lambda that multiplies the gate's output with the *list* of expert outputs
and sums, builds with a wrong shape and would convert silently to a (num_experts, num_classes) answer.
Layer: desktop (converters).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moe_edge.errors import ConversionError

_PROBE_ROWS = (1, 3)
"""Two batch sizes, no divisor of each other's that a wrong shape could match by chance."""


def check_answers_rows(model: Any) -> None:
    """Run a model on small batches and compare the number of answers with the number of rows.

    Raises:
        ConversionError: If it fails, or gives another number of answers than it was given rows.
    """
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) > 1:
        raise ConversionError(
            f"expected a model with one output, got {len(outputs)}; pass keras.Model(model.inputs, model.outputs[0]): "
            "the file gives the routing weights by itself"
        )
    if not getattr(model, "inputs", None) or len(model.inputs) != 1:
        return
    shape = [1 if size is None else int(size) for size in model.inputs[0].shape[1:]]
    for num_rows in _PROBE_ROWS:
        rows = np.random.default_rng(0).normal(size=(num_rows, *shape)).astype(np.float32)
        try:
            answers = np.asarray(model(rows, training=False))
        except Exception as error:  # Whatever the user's layers raise.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConversionError(_message(model, f"it fails on {num_rows} rows: {reason}")) from error
        if answers.ndim < 2 or answers.shape[0] != num_rows:
            raise ConversionError(_message(model, f"got shape {answers.shape} for {num_rows} rows"))


def _message(model: Any, symptom: str) -> str:
    advice = "check the layers that mix rows"
    for layer in model.layers:
        if type(layer).__name__ == "Lambda" and len(_flat_inputs(layer)) > 2:
            advice = (
                f"the Lambda {layer.name!r} multiplies the gate's output with the list of expert outputs: "
                "stack the experts on axis 1 (keras.ops.stack(experts, axis=1)), or use create_moe_model"
            )
    return f"expected a model that gives one answer a row, {symptom}; {advice}"


def _flat_inputs(layer: Any) -> list[Any]:
    return list(layer._inbound_nodes[-1].input_tensors) if layer._inbound_nodes else []
