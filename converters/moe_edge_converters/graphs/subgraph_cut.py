"""Cut a piece out of a subgraph as a subgraph of its own, which shares the constants' bytes.

Works on any model, float or quantized, and knows nothing about Keras or mixtures.
Layer: desktop (converters).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import Alias

_BITS = {
    schema.TensorType.FLOAT32: 32,
    schema.TensorType.FLOAT16: 16,
    schema.TensorType.INT32: 32,
    schema.TensorType.INT64: 64,
    schema.TensorType.INT16: 16,
    schema.TensorType.INT8: 8,
    schema.TensorType.INT4: 4,
}
_COLUMNWISE = ("TANH", "LOGISTIC", "RELU", "RELU6", "QUANTIZE", "DEQUANTIZE")
"""Operators that treat each column alone: a slice of their answer is their answer to a slice."""


class SubgraphCutter:
    """Copies what lies between some tensors of subgraph 0 into new subgraphs.

    Attributes:
        aliases: Buffers that hold slices of other buffers, for the file writer to store once.
        unaliased: Names of weights whose slice starts in the middle of a byte, so that it is stored again.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.source = model.subgraphs[0]
        self.aliases: dict[int, Alias] = {}
        self.unaliased: list[str] = []
        self._producers = {
            output: position for position, operator in enumerate(self.source.operators) for output in operator.outputs
        }
        self._by_name = {_name(tensor): index for index, tensor in enumerate(self.source.tensors)}

    def tensor(self, name: str) -> int:
        """A tensor of subgraph 0 by name."""
        try:
            return self._by_name[name]
        except KeyError:
            raise ConversionError(f"expected a tensor {name!r} in the fused graph, got none") from None

    def producer(self, tensor: int) -> Any:
        """The operator that writes a tensor."""
        return self.source.operators[self._producers[tensor]]

    def cut(self, name: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Subgraph:
        """Copy the operators between ``inputs`` and ``outputs`` into a new subgraph.

        A SPLIT of a layer named ``bank_...`` isn't copied: the layer is cut down to the columns that are needed.

        Args:
            name: The new subgraph's name.
            inputs: Names for the tensors of subgraph 0 that become inputs.
            outputs: Names for those that become outputs.
        """
        piece = Subgraph(self.model, name)
        for input_name, index in inputs.items():
            piece.subgraph.inputs.append(piece.place(index, self.source.tensors[index], name=input_name))
        self._copy_needed(piece, list(outputs.values()))
        for output_name, index in outputs.items():
            piece.subgraph.tensors[piece.places[index]].name = output_name
            piece.subgraph.outputs.append(piece.places[index])
        return piece

    def cut_slice(self, piece: Subgraph, tensor: int, column: int, count: int) -> int:
        """Copy what writes one of ``count`` equal slices of a tensor (1, n) into a piece; returns the slice's tensor.

        The tensor is a layer's answer, whose weights are cut to the slice, or joined from ``count`` tensors.
        """
        operator = self.producer(tensor)
        if self._name(operator) != "CONCATENATION":
            self._copy_needed(piece, [self._bank_input(tensor)])
            return self._cut_columns(piece, tensor, column, count)
        wanted_tensor = int(operator.inputs[column])
        self._copy_needed(piece, [wanted_tensor])
        return piece.places[wanted_tensor]

    def _copy_needed(self, piece: Subgraph, outputs: list[int]) -> None:
        """Copy what lies between tensors that the piece has and ``outputs``."""
        positions, wanted = self._needed(set(piece.places), outputs)
        for position in positions:
            operator = self.source.operators[position]
            if self._is_bank(operator):
                for column, output in enumerate(operator.outputs):
                    if output in wanted:
                        self._cut_columns(piece, operator.inputs[1], column, len(operator.outputs), output)
            else:
                self._copy(piece, operator)

    def _name(self, operator: Any) -> str:
        code = self.model.operatorCodes[operator.opcodeIndex].builtinCode
        return next(str(name) for name, value in vars(schema.BuiltinOperator).items() if value == code)

    def _is_bank(self, operator: Any) -> bool:
        return self._name(operator) == "SPLIT" and _name(self.source.tensors[operator.inputs[1]]).startswith(
            ("bank_", "gate/bank")
        )

    def _needed(self, boundary: set[int], outputs: Any) -> tuple[list[int], set[int]]:
        """Positions of the operators between boundary and outputs, in the graph's order; and the tensors used."""
        needed: set[int] = set()
        wanted: set[int] = set()
        stack = list(outputs)
        while stack:
            tensor = stack.pop()
            wanted.add(tensor)
            if tensor in boundary or tensor not in self._producers:
                continue
            position = self._producers[tensor]
            if position not in needed:
                needed.add(position)
                operator = self.source.operators[position]
                # Of a bank only what it is given is needed; its layer is rebuilt for the columns.
                first = self._bank_input(operator.inputs[1]) if self._is_bank(operator) else None
                stack.extend([first] if first is not None else operator.inputs)
        return sorted(needed), wanted

    def _bank_input(self, tensor: int) -> int:
        """What the layer behind a bank's SPLIT is given."""
        while self._name(self.producer(tensor)) in _COLUMNWISE:
            tensor = self.producer(tensor).inputs[0]
        return int(self.producer(tensor).inputs[0])

    def _copy(self, piece: Subgraph, operator: Any) -> None:
        copied = copy.copy(operator)
        copied.inputs = [
            -1 if index < 0 else piece.place(index, self.source.tensors[index]) for index in operator.inputs
        ]
        copied.outputs = [piece.place(index, self.source.tensors[index]) for index in operator.outputs]
        piece.subgraph.operators.append(copied)

    def _cut_columns(self, piece: Subgraph, tensor: int, column: int, count: int, target: int | None = None) -> int:
        """Rebuild the part of a layer that writes one of ``count`` equal slices of ``tensor``'s columns."""
        operator = self.producer(tensor)
        copied = copy.copy(operator)
        if self._name(operator) in _COLUMNWISE:
            copied.inputs = [self._cut_columns(piece, operator.inputs[0], column, count)]
        else:
            x, weights, bias = operator.inputs
            copied.inputs = [
                piece.place(x, self.source.tensors[x]),
                self._cut_weights(piece, weights, column, count),
                -1 if bias < 0 else self._cut_constant(piece, bias, column, count),
            ]
        if target is not None:
            out = piece.place(target, self.source.tensors[target])
        else:
            shape = list(self.source.tensors[tensor].shape)
            out = piece.add(self.source.tensors[tensor], shape=[*shape[:-1], shape[-1] // count])
        copied.outputs = [out]
        piece.subgraph.operators.append(copied)
        return out

    def _cut_weights(self, piece: Subgraph, weights: int, column: int, count: int) -> int:
        """Rows of a weight tensor, also where it is stored in float16 behind a DEQUANTIZE."""
        if weights not in self._producers:
            return self._cut_constant(piece, weights, column, count)
        operator = self.producer(weights)
        copied = copy.copy(operator)
        copied.inputs = [self._cut_constant(piece, operator.inputs[0], column, count)]
        tensor = self.source.tensors[weights]
        out = piece.add(tensor, shape=[tensor.shape[0] // count, *tensor.shape[1:]])
        copied.outputs = [out]
        piece.subgraph.operators.append(copied)
        return out

    def _cut_constant(self, piece: Subgraph, index: int, column: int, count: int) -> int:
        """One of ``count`` equal slices of a constant along its first axis; its bytes are an alias."""
        tensor = self.source.tensors[index]
        rows = tensor.shape[0] // count
        bits = rows * math.prod(tensor.shape[1:]) * _BITS[tensor.type]
        data = bytes(self.model.buffers[tensor.buffer].data)
        buffer = schema.BufferT()
        start = column * bits
        if start % 8 == 0:
            content = data[start // 8 : math.ceil((start + bits) / 8)]
            self.aliases[len(self.model.buffers)] = Alias(buffer=tensor.buffer, offset=start // 8)
        else:
            content = _shift_nibble(data[start // 8 : (start + bits + 7) // 8])[: math.ceil(bits / 8)]
            self.unaliased.append(_name(tensor))
        buffer.data = np.frombuffer(content, dtype=np.uint8)
        self.model.buffers.append(buffer)
        out = piece.add(tensor, shape=[rows, *tensor.shape[1:]], buffer=len(self.model.buffers) - 1)
        quantization = tensor.quantization
        if quantization is not None and quantization.scale is not None and len(quantization.scale) > 1:
            own = copy.copy(quantization)
            own.scale = quantization.scale[column * rows : (column + 1) * rows]
            own.zeroPoint = quantization.zeroPoint[column * rows : (column + 1) * rows]
            piece.subgraph.tensors[out].quantization = own
        return out


class Subgraph:
    """A subgraph under construction.

    Attributes:
        places: Tensor of the source to tensor of this subgraph.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.subgraph = schema.SubGraphT()
        self.subgraph.name = name
        self.subgraph.tensors, self.subgraph.operators = [], []
        self.subgraph.inputs, self.subgraph.outputs = [], []
        model.subgraphs.append(self.subgraph)
        self.index = len(model.subgraphs) - 1
        self.places: dict[int, int] = {}

    def place(self, index: int, tensor: Any, *, name: str | None = None) -> int:
        """The copy of a source's tensor, made on first use."""
        if index not in self.places:
            self.places[index] = self.add(tensor, name=name)
        return self.places[index]

    def add(
        self, tensor: Any, *, shape: list[int] | None = None, buffer: int | None = None, name: str | None = None
    ) -> int:
        """Add a copy of a tensor, with another shape, buffer or name."""
        copied = copy.copy(tensor)
        if shape is not None:
            copied.shape = shape
        if buffer is not None:
            copied.buffer = buffer
        if name is not None:
            copied.name = name
        self.subgraph.tensors.append(copied)
        return len(self.subgraph.tensors) - 1


def _shift_nibble(data: bytes) -> bytes:
    """Drop the first 4-bit value of packed pairs, low nibble first."""
    packed = np.frombuffer(data, dtype=np.uint8)
    values = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[1:]
    values = np.append(values, np.zeros(len(values) % 2, dtype=np.uint8))
    return bytes((values[0::2] | (values[1::2] << 4)).astype(np.uint8))


def _name(tensor: Any) -> str:
    name = tensor.name
    return name.decode() if isinstance(name, bytes) else str(name or "")
