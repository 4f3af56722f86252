"""Write TFLite graphs operator by operator: a thin builder over the schema's own object classes.

Knows nothing about Keras or mixtures. Every tensor has a fixed batch of 1, and every operator chosen here still gives
the right rows when a host resizes the batch: slices are SPLIT or GATHER, and each RESHAPE has -1 for the batch.
Layer: desktop (converters).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[Any]
TensorIndex = int

TENSOR_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}

FUSED_ACTIVATIONS = {
    "linear": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
"""Activations that FULLY_CONNECTED and ADD apply themselves."""

UNARY_ACTIVATIONS = {"tanh": "TANH", "sigmoid": "LOGISTIC"}
"""Activations that are operators of their own."""


def new_model(description: str) -> Any:
    """An empty model whose buffer 0 is the empty buffer, as the format demands."""
    model = schema.ModelT()
    model.version = 3
    model.description = description
    model.operatorCodes = []
    model.subgraphs = []
    model.buffers = [schema.BufferT()]
    model.metadata = []
    model.signatureDefs = []
    return model


def operator_code(model: Any, name: str, version: int = 1) -> int:
    """The index of a builtin operator in the model's table, added when it isn't there."""
    code = getattr(schema.BuiltinOperator, name)
    for index, known in enumerate(model.operatorCodes):
        if known.builtinCode == code and known.version == version:
            return index
    entry = schema.OperatorCodeT()
    entry.builtinCode = code
    # Readers older than the 32-bit field look here; 127 says "see the other field".
    entry.deprecatedBuiltinCode = min(code, 127)
    entry.version = version
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


def add_signature(model: Any, name: str, subgraph: int, inputs: dict[str, int], outputs: dict[str, int]) -> None:
    """Name a subgraph's inputs and outputs for hosts."""

    def tensor_maps(tensors: dict[str, int]) -> list[Any]:
        maps = []
        for tensor_name, index in tensors.items():
            entry = schema.TensorMapT()
            entry.name = tensor_name
            entry.tensorIndex = index
            maps.append(entry)
        return maps

    signature = schema.SignatureDefT()
    signature.signatureKey = name
    signature.subgraphIndex = subgraph
    signature.inputs = tensor_maps(inputs)
    signature.outputs = tensor_maps(outputs)
    model.signatureDefs.append(signature)


class GraphBuilder:
    """Builds one subgraph of ``model``; methods add an operator and return its output tensor's index.

    Tensor names matter: the quantizer picks its rule for an operator by the name of the operator's output.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.subgraph = schema.SubGraphT()
        self.subgraph.name = name
        self.subgraph.tensors = []
        self.subgraph.operators = []
        self.subgraph.inputs = []
        self.subgraph.outputs = []
        self._names: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], TensorIndex] = {}
        model.subgraphs.append(self.subgraph)
        self.index = len(model.subgraphs) - 1

    def shape(self, tensor: TensorIndex) -> tuple[int, ...]:
        """The tensor's shape, batch included."""
        return tuple(int(size) for size in self.subgraph.tensors[tensor].shape)

    def unique_name(self, name: str) -> str:
        """A tensor name that this subgraph doesn't have yet."""
        candidate, count = name, 1
        while candidate in self._names:
            candidate = f"{name}_{count}"
            count += 1
        self._names.add(candidate)
        return candidate

    def tensor(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> TensorIndex:
        """Add a tensor that an operator will write."""
        entry = schema.TensorT()
        entry.name = self.unique_name(name)
        entry.shape = [int(size) for size in shape]
        entry.type = TENSOR_TYPES[np.dtype(dtype)]
        entry.buffer = 0
        entry.hasRank = True
        self.subgraph.tensors.append(entry)
        return len(self.subgraph.tensors) - 1

    def input(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> TensorIndex:
        """Add a graph input of shape (1, ...)."""
        index = self.tensor(name, (1, *shape), dtype)
        self.subgraph.inputs.append(index)
        return index

    def constant(self, name: str, value: Array | Sequence[int], dtype: Any = None) -> TensorIndex:
        """Add a constant; equal constants of one subgraph are stored once."""
        array = np.array(value, dtype=dtype, order="C")
        content = array.tobytes()
        key = (array.dtype.str, array.shape, content)
        if key in self._constants:
            return self._constants[key]
        index = self.tensor(name, array.shape, array.dtype)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, dtype=np.uint8)
        self.model.buffers.append(buffer)
        self.subgraph.tensors[index].buffer = len(self.model.buffers) - 1
        self._constants[key] = index
        return index

    def operator(
        self, name: str, inputs: Sequence[TensorIndex], outputs: Sequence[TensorIndex], options: Any = None
    ) -> None:
        """Add a builtin operator."""
        entry = schema.OperatorT()
        entry.opcodeIndex = operator_code(self.model, name)
        entry.inputs = list(inputs)
        entry.outputs = list(outputs)
        if options is not None:
            entry.builtinOptions = options
            entry.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.subgraph.operators.append(entry)

    def output(self, name: str, tensor: TensorIndex) -> TensorIndex:
        """Make a tensor a graph output under a name of its own.

        The name stands in the tensor too, because hosts without signatures go by it.
        """
        self.subgraph.tensors[tensor].name = self.unique_name(name)
        self.subgraph.outputs.append(tensor)
        return tensor

    # Operators ---------------------------------------------------------------------------------------------------

    def fully_connected(
        self, x: TensorIndex, weights: Array, bias: Array, *, activation: str = "linear", name: str
    ) -> TensorIndex:
        """``activation(x @ weights.T + bias)``.

        Args:
            x: Tensor of shape (1, inputs).
            weights: float32, shape (units, inputs), TFLite's order.
            bias: float32, shape (units,).
            activation: One that the operator or a following operator applies.
            name: Name of the output tensor; weights and bias get it as a prefix.
        """
        fused = FUSED_ACTIVATIONS.get(activation)
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = fused or 0
        units = weights.shape[0]
        out = self.tensor(name if fused is not None else f"{name}/linear", (1, units))
        inputs = [
            x,
            self.constant(f"{name}/weights", weights, np.float32),
            self.constant(f"{name}/bias", bias, np.float32),
        ]
        self.operator("FULLY_CONNECTED", inputs, [out], options)
        if fused is not None:
            return out
        return self.activation(out, activation, name=name)

    def activation(self, x: TensorIndex, activation: str, *, name: str) -> TensorIndex:
        """Apply an activation as an operator of its own."""
        if activation == "linear":
            return x
        if activation == "softmax":
            return self.softmax(x, name=name)
        operators = {**UNARY_ACTIVATIONS, "relu": "RELU", "relu6": "RELU6"}
        out = self.tensor(name, self.shape(x))
        self.operator(operators[activation], [x], [out])
        return out

    def softmax(self, x: TensorIndex, *, name: str) -> TensorIndex:
        """Softmax over the last axis."""
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        out = self.tensor(name, self.shape(x))
        self.operator("SOFTMAX", [x], [out], options)
        return out

    def split(self, x: TensorIndex, count: int, *, names: Sequence[str]) -> list[TensorIndex]:
        """Cut the last axis into ``count`` equal pieces."""
        *leading, size = self.shape(x)
        options = schema.SplitOptionsT()
        options.numSplits = count
        outs = [self.tensor(name, (*leading, size // count)) for name in names]
        axis = self.constant("split/axis", np.int32(len(leading)).reshape(()))
        self.operator("SPLIT", [axis, x], outs, options)
        return outs

    def concatenate(self, tensors: Sequence[TensorIndex], *, name: str) -> TensorIndex:
        """Join along the last axis; a single tensor is returned as it is."""
        if len(tensors) == 1:
            return tensors[0]
        *leading, _ = self.shape(tensors[0])
        options = schema.ConcatenationOptionsT()
        options.axis = len(leading)
        dtype = next(d for d, code in TENSOR_TYPES.items() if code == self.subgraph.tensors[tensors[0]].type)
        out = self.tensor(name, (*leading, sum(self.shape(tensor)[-1] for tensor in tensors)), dtype)
        self.operator("CONCATENATION", list(tensors), [out], options)
        return out

    def reshape(self, x: TensorIndex, shape: Sequence[int], *, name: str, dtype: Any = np.float32) -> TensorIndex:
        """Reshape the row to ``shape``; the batch stays free."""
        options = schema.ReshapeOptionsT()
        options.newShape = [-1, *(int(size) for size in shape)]
        out = self.tensor(name, (1, *shape), dtype)
        target = self.constant(f"{name}/shape", np.array(options.newShape, dtype=np.int32))
        self.operator("RESHAPE", [x, target], [out], options)
        return out

    def flatten(self, x: TensorIndex, *, name: str) -> TensorIndex:
        """Reshape to (batch, values of a row), where it isn't so already."""
        shape = self.shape(x)
        return x if len(shape) == 2 else self.reshape(x, (math.prod(shape[1:]),), name=name)

    def sum(self, x: TensorIndex, axis: int, *, keep_dims: bool = False, name: str) -> TensorIndex:
        """Sum over one axis, counted with the batch as axis 0; the axis goes, or stays as one of size 1."""
        shape = list(self.shape(x))
        shape[axis : axis + 1] = [1] if keep_dims else []
        options = schema.ReducerOptionsT()
        options.keepDims = keep_dims
        out = self.tensor(name, shape)
        self.operator("SUM", [x, self.constant("sum/axis", np.array([axis], dtype=np.int32))], [out], options)
        return out

    def gather_columns(self, x: TensorIndex, columns: Sequence[int], *, name: str) -> TensorIndex:
        """Pick columns of (1, d) by index, in any order, repeats allowed."""
        options = schema.GatherOptionsT()
        options.axis = 1
        out = self.tensor(name, (1, len(columns)))
        indices = self.constant(f"{name}/columns", np.array(columns, dtype=np.int32))
        self.operator("GATHER", [x, indices], [out], options)
        return out

    def gather(self, table: TensorIndex, rows: TensorIndex, *, name: str) -> TensorIndex:
        """Pick rows of a constant table (n, ...) by an int32 tensor (1,) or (1, k): (1, ...) or (1, k, ...)."""
        options = schema.GatherOptionsT()
        options.axis = 0
        out = self.tensor(name, (*self.shape(rows), *self.shape(table)[1:]))
        self.operator("GATHER", [table, rows], [out], options)
        return out

    def top_k(self, x: TensorIndex, k: int, *, names: tuple[str, str]) -> tuple[TensorIndex, TensorIndex]:
        """The k largest values of the last axis and their indices (int32), the largest first."""
        values = self.tensor(names[0], (*self.shape(x)[:-1], k))
        indices = self.tensor(names[1], (*self.shape(x)[:-1], k), np.int32)
        count = self.constant("top_k/k", np.int32(k).reshape(()))
        self.operator("TOPK_V2", [x, count], [values, indices], schema.TopKV2OptionsT())
        return values, indices

    def one_hot(self, indices: TensorIndex, depth: int, *, name: str) -> TensorIndex:
        """Each int32 index as a row of float32: (1, ...) to (1, ..., depth), all zeros for an index out of range."""
        options = schema.OneHotOptionsT()
        options.axis = -1
        out = self.tensor(name, (*self.shape(indices), depth))
        count = self.constant("one_hot/depth", np.int32(depth).reshape(()))
        on, off = (self.constant(f"one_hot/{word}", np.float32(word == "on").reshape(())) for word in ("on", "off"))
        self.operator("ONE_HOT", [indices, count, on, off], [out], options)
        return out

    def batch_matmul(self, a: TensorIndex, b: TensorIndex, *, transpose_b: bool = False, name: str) -> TensorIndex:
        """``a @ b`` over the last two axes, the leading ones broadcast."""
        options = schema.BatchMatMulOptionsT()
        options.adjY = transpose_b
        *leading, rows, _ = self.shape(a)
        columns = self.shape(b)[-2 if transpose_b else -1]
        out = self.tensor(name, (*np.broadcast_shapes(tuple(leading), self.shape(b)[:-2]), rows, columns))
        self.operator("BATCH_MATMUL", [a, b], [out], options)
        return out

    def biased(self, x: TensorIndex, bias: TensorIndex, *, activation: str, name: str) -> TensorIndex:
        """``activation(x + bias)``, in one operator where ADD applies the activation itself."""
        fused = FUSED_ACTIVATIONS.get(activation)
        out = self.binary("ADD", x, bias, name=name if fused is not None else f"{name}/sum")
        self.subgraph.operators[-1].builtinOptions.fusedActivationFunction = fused or 0
        return out if fused is not None else self.activation(out, activation, name=name)

    def binary(self, operator: str, a: TensorIndex, b: TensorIndex, *, name: str, dtype: Any = None) -> TensorIndex:
        """An elementwise operator with broadcasting: ADD, SUB, MUL, DIV, MINIMUM, MAXIMUM, EQUAL, NOT_EQUAL."""
        options_class = {
            "ADD": schema.AddOptionsT,
            "SUB": schema.SubOptionsT,
            "MUL": schema.MulOptionsT,
            "DIV": schema.DivOptionsT,
            "MINIMUM": schema.MaximumMinimumOptionsT,
            "MAXIMUM": schema.MaximumMinimumOptionsT,
            "EQUAL": schema.EqualOptionsT,
            "NOT_EQUAL": schema.NotEqualOptionsT,
        }[operator]
        if dtype is None:
            dtype = np.bool_ if operator in ("EQUAL", "NOT_EQUAL") else np.float32
        out = self.tensor(name, np.broadcast_shapes(self.shape(a), self.shape(b)), dtype)
        self.operator(operator, [a, b], [out], options_class())
        return out

    def unary(self, operator: str, x: TensorIndex, *, name: str) -> TensorIndex:
        """An elementwise float operator: EXP, SQRT, ..."""
        options = schema.ExpOptionsT() if operator == "EXP" else None
        out = self.tensor(name, self.shape(x))
        self.operator(operator, [x], [out], options)
        return out

    def select(self, condition: TensorIndex, a: TensorIndex, b: TensorIndex, *, name: str) -> TensorIndex:
        """``a`` where the condition holds, else ``b``."""
        out = self.tensor(name, np.broadcast_shapes(self.shape(a), self.shape(b)))
        self.operator("SELECT_V2", [condition, a, b], [out], schema.SelectV2OptionsT())
        return out

    def to_float(self, x: TensorIndex, *, name: str) -> TensorIndex:
        """Cast bool to float32."""
        options = schema.CastOptionsT()
        options.inDataType = schema.TensorType.BOOL
        options.outDataType = schema.TensorType.FLOAT32
        out = self.tensor(name, self.shape(x))
        self.operator("CAST", [x], [out], options)
        return out
