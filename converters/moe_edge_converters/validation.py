"""Run the trained model and the shipped file on the same rows, and compare them.

The file is run by the very ``Predictor`` that ships; the arithmetic of the comparison is ``moe_edge.parity``.
Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.errors import DataError, ModelFileError
from moe_edge.manifest import Manifest
from moe_edge.parity import Answers, ParityReport, compare_answers
from moe_edge.runtime.mixture_density import MixtureDensity
from moe_edge.runtime.predictor import Predictor
from moe_edge.schema import FeatureSchema
from moe_edge.task import Task
from moe_edge_converters.file_writer import pack
from moe_edge_converters.gate_answers import gate_answers
from moe_edge_converters.graphs.fused_graph import build_fused_graph
from moe_edge_converters.sources.extraction import is_own_mixture
from moe_edge_converters.sources.source import PLAIN, MixtureSource, read_source
from moe_edge_converters.sources.tracing import row_shape

BATCH = 512
"""Rows a call: bounds the memory of both sides."""


def keras_answers(model: Any, features: npt.ArrayLike, targets: npt.ArrayLike | None = None) -> Answers:
    """The answers and routing of a mixture made of this package's layers.

    Args:
        model: The ``keras.Model`` in memory.
        features: float32 (n, d), raw rows; NaN where a value is missing.
        targets: True outputs (n, K), at which a Gaussian mixture's density is taken.

    Raises:
        ModelFileError: If ``model`` is no mixture.
        DataError: If there are no rows.
    """
    from moe_edge.training.outputs import expert_outputs

    rows = _rows(features, model.input_shape[1:])
    outputs = expert_outputs(model).predict(rows, batch_size=BATCH, verbose=0)
    answers = Answers(prediction=outputs["prediction"], routing_weights=outputs["routing_weights"])
    if targets is None or "expert_sigmas" not in outputs:
        return answers
    return _at_targets(answers, outputs["expert_means"], outputs["expert_sigmas"], targets)


def source_answers(source: MixtureSource, features: npt.ArrayLike) -> Answers:
    """The answers of a model from elsewhere, and the routing of the mixture that was recognised in it.

    Args:
        source: The model and its mixture, whose numbers ``read_source`` has compared.
        features: float32 (n, ...), raw rows.

    Raises:
        DataError: If there are no rows.
    """
    rows = _rows(features, source.spec.input_shape)
    parts = [source.predict(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
    graph, _ = build_fused_graph(source.spec, ["float32"] * source.spec.num_experts)
    routing = gate_answers(pack(graph), "routing_weights", rows)
    assert routing is not None  # every fused graph gives it
    return Answers(prediction=np.concatenate(parts).reshape(len(rows), -1), routing_weights=routing)


def tflite_answers(predictor: Predictor, features: npt.ArrayLike, targets: npt.ArrayLike | None = None) -> Answers:
    """The shipped file's answers and routing, by the predictor that ships.

    Args:
        predictor: An open predictor.
        features: float32 (n, d), raw rows; NaN where a value is missing.
        targets: True outputs (n, K), at which a Gaussian mixture's density is taken.

    Raises:
        DataError: If there are no rows, or the predictor refuses them.
    """
    rows = _rows(features, predictor.manifest.input_shape)
    parts = [predictor.predict_raw(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    answers = Answers(prediction=joined["prediction"], routing_weights=joined["routing_weights"])
    if targets is None or not predictor.has_density:
        return answers
    return _at_targets(answers, joined["expert_means"], joined["expert_sigmas"], targets)


def _at_targets(answers: Answers, means: npt.ArrayLike, sigmas: npt.ArrayLike, targets: npt.ArrayLike) -> Answers:
    """The answers with what their distribution says of the true outputs."""
    weights = np.asarray(answers.routing_weights)
    density = MixtureDensity(weights=weights, means=np.asarray(means), sigmas=np.asarray(sigmas))
    truth = np.asarray(targets, dtype=np.float64).reshape(len(weights), -1)
    return replace(answers, log_density=density.joint_log_density(truth), probability_below=density.cdf(truth))


def validate(
    model: Any,
    predictor: Predictor,
    features: npt.ArrayLike,
    targets: npt.ArrayLike | None,
    *,
    row_numbers: npt.ArrayLike | None = None,
) -> ParityReport:
    """Compare a Keras mixture, from here or from elsewhere, with the file that was made from it.

    Args:
        model: The ``keras.Model`` in memory, or a ``TracedModel`` of a SavedModel.
        predictor: An open ``Predictor`` of the ``.tflite``.
        features: float32 (n, d), raw rows that training didn't see; NaN where a value is missing.
        targets: Class codes (n,), or true outputs (n, K); None where they aren't known.
        row_numbers: Each row's number in its table, counted from 1.

    Raises:
        ConversionError: If no mixture is recognised in a model from elsewhere.
        DataError: If there are no rows, or shapes don't fit.
    """
    truth = targets if predictor.task is Task.REGRESSION else None
    if is_own_mixture(model):
        expected = keras_answers(model, features, truth)
    else:
        plain = predictor.manifest.provenance.get("form") == PLAIN
        expected = source_answers(read_source(model, rows=features, fuse=not plain), features)
    return compare_answers(
        expected,
        tflite_answers(predictor, features, truth),
        targets,
        task=predictor.task,
        labels=predictor.labels,
        row_numbers=row_numbers,
    )


def _rows(features: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim < 2 or not len(rows):
        raise DataError(f"expected at least one row to compare, of shape {shape}, got an array of shape {rows.shape}")
    if rows[0].size != int(np.prod(shape)):
        raise DataError(f"expected rows of {int(np.prod(shape))} values, got {rows[0].size}")
    return rows.reshape(len(rows), *shape)


def check_same_mixture(model: Any, schema: FeatureSchema | None, manifest: Manifest, *, source: str) -> None:
    """Refuse a file that was made from another mixture.

    Args:
        model: The ``keras.Model`` or ``TracedModel``.
        schema: The schema that travels with it, or None for a plain Keras model.
        manifest: What the file says of itself.
        source: The ``.tflite``, for messages.

    Raises:
        ModelFileError: If columns, categories, labels, task or shapes differ.
    """
    shapes = [("values a row", int(np.prod(row_shape(model))), int(np.prod(manifest.input_shape)))]
    if is_own_mixture(model):
        shapes.append(("outputs", int(model.output_shape[-1]), len(manifest.schema.labels)))
    differences: list[tuple[str, Any, Any]] = [item for item in shapes if item[1] != item[2]]
    if schema is not None:
        texts = (
            ("task", schema.task.value, manifest.schema.task.value),
            ("target", schema.target, manifest.schema.target),
            ("columns", list(schema.names), list(manifest.schema.names)),
            ("labels", list(schema.labels), list(manifest.schema.labels)),
            ("categories", _categories(schema), _categories(manifest.schema)),
        )
        differences += [item for item in texts if item[1] != item[2]]
    if differences:
        what, expected, got = differences[0]
        raise ModelFileError(
            f"{source}: expected the file that was converted from this model ({what}: {_short(expected)}), "
            f"got another one's ({what}: {_short(got)}); give the file's own model, or convert this one"
        )


def _categories(schema: FeatureSchema) -> list[tuple[str, ...]]:
    return [column.categories for column in schema.columns]


def _short(value: object, limit: int = 120) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
