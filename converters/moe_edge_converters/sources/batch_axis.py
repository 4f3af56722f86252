"""Give a graph that TensorFlow converted for a fixed number of rows a free batch.

Converted for one row, the batch is a dimension like any other of size 1: TensorFlow drops it, swaps it, folds it into
others, and the graph fails on two rows. Converted for an unknown number, shapes are computed at run time, operator by
operator. So a piece is converted for a prime number of rows of which no size in it is a multiple: wherever the prime
stands in the result, there is the batch.
Layer: desktop (converters).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from moe_edge_converters.graphs.graph import operator_code

_FIRST_PROBE = 97
"""Larger than most batch-like sizes (heads, time steps), small enough for constants of that many rows."""

# SLICE can't be resized; -1 makes it fail loudly where the probe's size would silently cut rows off.
_ALL = {"RESHAPE": -1, "SLICE": -1, "STRIDED_SLICE": np.iinfo(np.int32).max}
"""Operators that name the batch's size in a constant, and what stands there for "as many rows as come"."""

_SIZE_INPUT = {"RESHAPE": 1, "SLICE": 2, "STRIDED_SLICE": 2}
"""Which input that constant is."""


def choose_probe(sizes: Iterable[int]) -> int:
    """The smallest prime from 97 on that divides none of the sizes."""
    known = {size for size in sizes if size}
    return next(
        number
        for number in itertools.count(_FIRST_PROBE, 2)
        if all(number % divisor for divisor in range(3, int(number**0.5) + 1, 2))
        and all(size % number for size in known)
    )


def free_probed_batch(model: Any, probe: int) -> None:
    """Turn a graph for ``probe`` rows into one for one row that hosts may resize.

    Args:
        model: The schema's object form; changed in place.
        probe: The number of rows that it was converted for, from ``choose_probe``.
    """
    for graph in model.subgraphs:
        for operator in graph.operators:
            _free_sizes(model, graph, operator, probe)
            _free_broadcast(model, graph, operator, probe)
        for tensor in graph.tensors:
            if _data(model, tensor) is not None:
                _shrink_constant(model, tensor, probe)
            elif tensor.shape is not None:
                tensor.shape = [size // probe if size % probe == 0 else size for size in map(int, tensor.shape)]
            tensor.shapeSignature = None


def _data(model: Any, tensor: Any) -> Any:
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else data


def _free_sizes(model: Any, graph: Any, operator: Any, probe: int) -> None:
    """Let an operator that names sizes take as many rows as come."""
    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    name = next((name for name in _ALL if getattr(schema.BuiltinOperator, name) == code), None)
    if name is None:
        return
    place = _SIZE_INPUT[name]
    data = _data(model, graph.tensors[operator.inputs[place]]) if len(operator.inputs) > place else None
    if data is not None:
        sizes = np.frombuffer(bytes(data), dtype=np.int32)
    elif name == "RESHAPE":
        sizes = np.asarray(graph.tensors[operator.outputs[0]].shape, dtype=np.int32)
    else:
        return
    batch = (sizes != 0) & (sizes % probe == 0)
    if not batch.any():
        return
    freed = np.where(batch, np.int32(_ALL[name]), sizes).astype(np.int32)
    inputs = list(operator.inputs)
    # A constant of its own: others may use the one that was there.
    inputs[place : place + 1] = [_add_constant(model, graph, freed)]
    operator.inputs = inputs
    if name == "RESHAPE":
        operator.builtinOptions = schema.ReshapeOptionsT()
        operator.builtinOptions.newShape = freed.tolist()
        operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions


def _free_broadcast(model: Any, graph: Any, operator: Any, probe: int) -> None:
    """Repeat by a product with ones, which takes the batch from its other input; BROADCAST_TO names every size."""
    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    target = graph.tensors[operator.outputs[0]]
    if code != schema.BuiltinOperator.BROADCAST_TO or target.type != schema.TensorType.FLOAT32:
        return
    sizes = [int(size) for size in target.shape]
    if not any(size and size % probe == 0 for size in sizes):
        return
    shape = [size // probe if size % probe == 0 else size for size in sizes]
    ones = schema.TensorT()
    ones.name, ones.shape, ones.type = f"{len(graph.tensors)}/ones", shape, schema.TensorType.FLOAT32
    ones.buffer = _add_buffer(model, np.ones(shape, dtype=np.float32).tobytes())
    graph.tensors.append(ones)
    operator.opcodeIndex = operator_code(model, "MUL")
    operator.inputs = [int(operator.inputs[0]), len(graph.tensors) - 1]
    operator.builtinOptions, operator.builtinOptionsType = schema.MulOptionsT(), schema.BuiltinOptions.MulOptions


def _add_constant(model: Any, graph: Any, values: npt.NDArray[np.int32]) -> int:
    constant = schema.TensorT()
    constant.name = f"{len(graph.tensors)}/shape"
    constant.shape = [len(values)]
    constant.type = schema.TensorType.INT32
    constant.buffer = _add_buffer(model, values.tobytes())
    graph.tensors.append(constant)
    return len(graph.tensors) - 1


def _add_buffer(model: Any, content: bytes) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, dtype=np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _shrink_constant(model: Any, tensor: Any, probe: int) -> None:
    """Keep one row of a constant that is the same for every row; it broadcasts."""
    shape = [int(size) for size in tensor.shape] if tensor.shape is not None else []
    if not shape or shape[0] != probe:
        return
    rows = np.frombuffer(bytes(_data(model, tensor)), dtype=np.uint8).reshape(probe, -1)
    if (rows == rows[0]).all():
        tensor.shape = [1, *shape[1:]]
        tensor.buffer = _add_buffer(model, rows[0].tobytes())


def free_batch(model: Any) -> None:
    """Let hosts resize the batch of a graph converted for one row: every RESHAPE gets -1 in the batch's place."""
    for graph in model.subgraphs:
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.RESHAPE:
                continue
            shape = list(graph.tensors[operator.outputs[0]].shape)
            if not shape or shape[0] != 1 or graph.tensors[operator.inputs[0]].shape[0] != 1:
                continue
            target = np.array([-1, *shape[1:]], dtype=np.int32)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(target.tobytes(), dtype=np.uint8)
            model.buffers.append(buffer)
            constant = schema.TensorT()
            constant.name = f"{len(graph.tensors)}/shape"
            constant.shape = [len(target)]
            constant.type = schema.TensorType.INT32
            constant.buffer = len(model.buffers) - 1
            graph.tensors.append(constant)
            operator.inputs = [operator.inputs[0], len(graph.tensors) - 1]
            operator.builtinOptions = schema.ReshapeOptionsT()
            operator.builtinOptions.newShape = target.tolist()
            operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
