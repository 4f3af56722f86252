"""Trace any Keras model, or a SavedModel folder, to one float32 TFLite graph: how it was spelled in Python is gone.

Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from moe_edge.errors import ConversionError, ModelFileError
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.sources.batch_axis import choose_probe, free_batch, free_probed_batch
from moe_edge_converters.sources.float_graph import plain_interpreter
from moe_edge_converters.sources.tensorflow_graphs import quiet_tensorflow, write_graph

Rows = npt.NDArray[np.float32]

_SIGNATURES = ("serving_default", "serve")
_CHECK_ROWS = 3
_FORBIDDEN_OPERATIONS = frozenset(
    {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles", "LoadLibrary", "Save"}
)
"""Operations by which a SavedModel reaches for files or Python; a model that answers rows needs none."""


@dataclass(frozen=True, kw_only=True)
class TracedModel:
    """A model as one graph.

    Attributes:
        content: The bytes of a float32 .tflite: one subgraph, a batch of 1 (RESHAPEs leave it free), one input, one
            output, builtin operators only, variables frozen.
        predict: The source's own answers: float32 (n, ...) rows to float32 (n, K).
        input_shape: Shape of one raw row, without the batch.
    """

    content: bytes
    predict: Callable[[Rows], Rows]
    input_shape: tuple[int, ...]


def is_saved_model(path: Path) -> bool:
    """Whether a path is a folder with a SavedModel in it."""
    return path.is_dir() and (path / "saved_model.pb").is_file()


def row_shape(model: Any) -> tuple[int, ...]:
    """Shape of one row of a Keras model of any kind, or of a traced one, without the batch.

    Raises:
        ConversionError: If it takes several inputs, was never called, or a dimension is free.
    """
    if isinstance(model, TracedModel):
        return model.input_shape
    inputs = getattr(model, "inputs", None)
    shapes: Any
    if inputs:
        if len(inputs) != 1:
            raise ConversionError(
                f"expected a model with one input, a row, got {len(inputs)} inputs; join them into one array"
            )
        shapes = tuple(inputs[0].shape)
    else:
        config = model.get_build_config() or {} if hasattr(model, "get_build_config") else {}
        shapes = config.get("input_shape")
        if not isinstance(shapes, (tuple, list)) or not shapes:
            raise ConversionError(
                f"expected a model that knows its input's shape, got {type(model).__name__} {model.name!r}, which was "
                "never called; call it on one batch of rows first"
            )
    sizes = tuple(shapes)[1:]
    if not sizes or any(not isinstance(size, int) for size in sizes):
        raise ConversionError(
            f"expected rows of a fixed shape, got {tuple(shapes)}; give every dimension but the batch"
        )
    return tuple(int(size) for size in sizes)


def trace_keras(model: Any) -> TracedModel:
    """Trace a Keras model: functional, Sequential or subclassed.

    Raises:
        ConversionError: If it has several inputs or outputs, or TFLite's builtin operators can't express it.
    """
    import tensorflow as tf

    shape = row_shape(model)
    inputs = getattr(model, "inputs", None)
    dtype = tf.as_dtype(inputs[0].dtype if inputs else "float32")

    def call(features: Any) -> Any:
        return model(features if dtype == tf.float32 else tf.cast(features, dtype), training=False)

    def predict(rows: Rows) -> Rows:
        batches = [call(tf.constant(rows[start : start + 256])) for start in range(0, len(rows), 256)]
        return np.concatenate([np.asarray(_only(batch, "output")) for batch in batches]).astype(np.float32)

    return TracedModel(content=_convert(call, shape, _sizes(model.weights)), predict=predict, input_shape=shape)


def trace_saved_model(folder: Path) -> TracedModel:
    """Trace the serving signature of a SavedModel folder.

    Raises:
        ModelFileError: If there is none, it can't be loaded, or it reaches for files or Python code.
        ConversionError: If it has several inputs or outputs, or TFLite's builtin operators can't express it.
    """
    import tensorflow as tf

    _check_operations(folder)
    try:
        with quiet_tensorflow():
            loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises errors of many kinds for damaged folders.
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"{folder}: TensorFlow can't load this SavedModel: {reason}; save it again") from error
    names = list(loaded.signatures)
    name = next((name for name in (*_SIGNATURES, *names) if name in names), None)
    if name is None:
        raise ModelFileError(f"{folder}: expected a SavedModel with a serving signature; write it with model.export")
    function = loaded.signatures[name]
    spec = _only(function.structured_input_signature[1], "input")
    key = next(iter(function.structured_input_signature[1]))
    sizes = spec.shape.as_list()[1:] if spec.shape.rank else []
    if not sizes or None in sizes:
        raise ConversionError(f"{folder}: expected rows of a fixed shape, got {spec.shape}")

    def call(features: Any) -> Any:
        return function(**{key: tf.cast(features, spec.dtype)})

    batch = spec.shape[0]
    if batch not in (None, 1):
        raise ConversionError(
            f"{folder}: expected a signature for any number of rows, got one for {batch}; save it with a free batch"
        )

    def predict(rows: Rows) -> Rows:
        size = batch or 256
        parts = [call(tf.constant(rows[start : start + size])) for start in range(0, len(rows), size)]
        return np.concatenate([np.asarray(_only(part, "output")) for part in parts]).astype(np.float32)

    # The loaded variables live as long as ``loaded``, which the closures keep.
    predict.__dict__["source"] = loaded
    return TracedModel(
        content=_convert(call, tuple(sizes), _sizes(function.variables)), predict=predict, input_shape=tuple(sizes)
    )


def _only(values: Any, what: str) -> Any:
    """The single tensor of a structure."""
    import tensorflow as tf

    flat = tf.nest.flatten(values)
    if len(flat) != 1:
        raise ConversionError(
            f"expected a model with one {what}, got {len(flat)}; build a model around the {what} that devices need"
        )
    return flat[0]


def _check_operations(folder: Path) -> None:
    """Read the graph as data, before TensorFlow runs any of it."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString((folder / "saved_model.pb").read_bytes())
    except Exception as error:  # Protobuf's DecodeError has another home in each version.
        raise ModelFileError(f"{folder}: expected a SavedModel, got a saved_model.pb that can't be read") from error
    for meta in content.meta_graphs:
        nodes = [*meta.graph_def.node, *(node for f in meta.graph_def.library.function for node in f.node_def)]
        for node in nodes:
            if node.op in _FORBIDDEN_OPERATIONS:
                raise ModelFileError(
                    f"{folder}: the operation {node.op} runs Python or touches files; export the model without it"
                )


def _convert(call: Callable[[Any], Any], shape: tuple[int, ...], sizes: Iterable[int]) -> bytes:
    """Freeze and convert ``call`` for one float32 row; hosts may resize the batch wherever the model allows it.

    Args:
        call: The model.
        shape: Of one row.
        sizes: Other sizes in the model that no number of rows should be mistaken for.
    """
    probe = choose_probe((*shape, *sizes))
    try:
        model = read_model(_convert_rows(call, shape, probe))
        free_probed_batch(model, probe)
        free = _is_resizable(model, shape)
    except (ConversionError, ValueError, RuntimeError):
        free = False
    if not free:
        # The parts of a recognised mixture that name the number of rows may still be those that are written anew.
        model = read_model(_convert_rows(call, shape, 1))
        free_batch(model)
    _name_cast_types(model)
    return pack(model)


def _convert_rows(call: Callable[[Any], Any], shape: tuple[int, ...], num_rows: int) -> bytes:
    """Freeze and convert ``call`` for a fixed number of float32 rows."""
    import tensorflow as tf

    signature = tf.TensorSpec([num_rows, *shape], tf.float32, name="features")
    with quiet_tensorflow():
        try:
            function = tf.function(lambda features: _only(call(features), "output")).get_concrete_function(signature)
        except ConversionError:
            raise
        except Exception as error:  # Whatever the user's layers raise.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ConversionError(f"the model can't be traced for {num_rows} rows: {reason[:300]}") from error
        output = function.outputs[0]
        if output.shape.rank is not None and (output.shape.rank < 2 or output.shape[0] != num_rows):
            raise ConversionError(
                f"expected a model that gives one answer a row, got shape {output.shape} for {num_rows} rows; check "
                "the layers that mix rows"
            )
        return write_graph(function, subject="the model")


def _sizes(weights: Iterable[Any]) -> list[int]:
    return [int(size) for weight in weights for size in weight.shape]


def _is_resizable(model: Any, shape: tuple[int, ...]) -> bool:
    """Whether a graph answers several rows at once as it answers them one by one."""
    rows = np.random.default_rng(0).integers(0, 2, size=(_CHECK_ROWS, *shape)).astype(np.float32)
    interpreter = plain_interpreter(pack(model))
    x = interpreter.get_input_details()[0]["index"]
    answers = []
    try:
        for batch in (*(row[None] for row in rows), rows):
            interpreter.resize_tensor_input(x, batch.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(x, batch)
            interpreter.invoke()
            answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    except (RuntimeError, ValueError):
        return False
    *single, together = answers
    expected = np.concatenate(single)
    return together.shape == expected.shape and bool(np.allclose(together, expected, rtol=1e-4, atol=1e-5))


def _name_cast_types(model: Any) -> None:
    """Write the types of each CAST where the converter left them out; our file check wants them said."""
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            if code == schema.BuiltinOperator.CAST and operator.builtinOptions is None:
                options = schema.CastOptionsT()
                options.inDataType = graph.tensors[operator.inputs[0]].type
                options.outDataType = graph.tensors[operator.outputs[0]].type
                operator.builtinOptions, operator.builtinOptionsType = options, schema.BuiltinOptions.CastOptions
