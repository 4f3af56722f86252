"""A float32 TFLite graph to reason about: its operators as nodes, and the values of its tensors for given rows.

Operators with a fused activation are two nodes here: the arithmetic writes a tensor of its own (a *virtual* one, which
no interpreter knows), and the activation reads it. Knows nothing about mixtures.
Layer: desktop (converters).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.graphs.graph import TENSOR_TYPES
from moe_edge_converters.schemes.audit import OPERATOR_NAMES

Array = npt.NDArray[Any]

_FUSED = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}
"""ActivationFunctionType to the operator that does the same."""
_DTYPES: dict[int, Any] = {code: dtype for dtype, code in TENSOR_TYPES.items()}


@dataclass(frozen=True, eq=False)
class Node:
    """One operator, or the activation fused into it.

    Attributes:
        position: Place in topological order.
        kind: The operator's name, such as ``FULLY_CONNECTED``.
        inputs: Tensors that it reads; -1 for one left out.
        outputs: Tensors that it writes.
        options: The schema's options object, or None.
        operator: The schema's operator, which for a fused activation is the one that holds it.
    """

    position: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any
    operator: Any


class FloatGraph:
    """Subgraph 0 of a model with one input and one output.

    Attributes:
        model: The schema's object form.
        nodes: In topological order.
        producers: Tensor to the node that writes it.
        shapes: Tensor to its shape, batch of 1 included.
        constants: Tensor to its stored value.
        x, output: The input and the output tensor.
    """

    def __init__(self, content: bytes) -> None:
        self.model = read_model(content)
        graph = self.model.subgraphs[0]
        self.tensors = list(graph.tensors)
        self.x, self.output = int(graph.inputs[0]), int(graph.outputs[0])
        self.shapes = {
            index: tuple(int(size) for size in (() if tensor.shape is None else tensor.shape))
            for index, tensor in enumerate(self.tensors)
        }
        self.constants: dict[int, Array] = {}
        for index, tensor in enumerate(self.tensors):
            data = self.model.buffers[tensor.buffer].data
            if data is not None and len(data) and tensor.type in _DTYPES:
                value = np.frombuffer(bytes(data), dtype=_DTYPES[tensor.type])
                self.constants[index] = value.reshape(self.shapes[index])
        self.nodes: list[Node] = []
        for operator in graph.operators:
            self._add(operator)
        self.producers = {tensor: node for node in self.nodes for tensor in node.outputs}

    def _add(self, operator: Any) -> None:
        kind = OPERATOR_NAMES[self.model.operatorCodes[operator.opcodeIndex].builtinCode]
        inputs = tuple(int(index) for index in operator.inputs)
        outputs = tuple(int(index) for index in operator.outputs)
        options = operator.builtinOptions
        fused = _FUSED.get(getattr(options, "fusedActivationFunction", 0) or 0)
        if fused is not None:
            virtual = len(self.shapes)
            self.shapes[virtual] = self.shapes[outputs[0]]
            self.nodes.append(Node(len(self.nodes), kind, inputs, (virtual,), options, operator))
            self.nodes.append(Node(len(self.nodes), fused, (virtual,), outputs, None, operator))
        else:
            self.nodes.append(Node(len(self.nodes), kind, inputs, outputs, options, operator))

    def size(self, tensor: int) -> int:
        """Values of a tensor."""
        return int(np.prod(self.shapes[tensor], dtype=np.int64))

    def is_virtual(self, tensor: int) -> bool:
        """Whether the tensor lies between an operator and its fused activation."""
        return tensor >= len(self.tensors)

    def is_float(self, tensor: int) -> bool:
        """Whether the tensor is float32."""
        return self.is_virtual(tensor) or self.tensors[tensor].type == schema.TensorType.FLOAT32

    def descendants(self, tensor: int) -> set[int]:
        """Tensors that depend on ``tensor``, itself included."""
        found = {tensor}
        for node in self.nodes:
            if not found.isdisjoint(node.inputs):
                found.update(node.outputs)
        return found

    def ancestors(self, tensors: Iterable[int], *, stop: int | None = None) -> set[int]:
        """Tensors that ``tensors`` depend on, themselves included; what lies before ``stop`` isn't followed."""
        found: set[int] = set()
        waiting = list(tensors)
        while waiting:
            tensor = waiting.pop()
            if tensor in found or tensor < 0:
                continue
            found.add(tensor)
            if tensor != stop and tensor in self.producers:
                waiting.extend(self.producers[tensor].inputs)
        return found


class GraphRunner:
    """Runs a graph row by row; some tensors may be given instead of computed."""

    def __init__(self, graph: FloatGraph, overridden: tuple[int, ...] = ()) -> None:
        """Prepare.

        Args:
            graph: The graph.
            overridden: Tensors whose values ``run`` is given.
        """
        self._inputs = (graph.x, *overridden)
        model = read_model(pack(graph.model))
        subgraph = model.subgraphs[0]
        for tensor in overridden:
            for operator in subgraph.operators:
                if tensor in list(operator.outputs):
                    unused = schema.TensorT()
                    unused.name, unused.shape = f"unused/{tensor}", list(graph.shapes[tensor])
                    unused.type = subgraph.tensors[tensor].type
                    subgraph.tensors.append(unused)
                    operator.outputs = [
                        len(subgraph.tensors) - 1 if index == tensor else index for index in operator.outputs
                    ]
        subgraph.inputs = list(self._inputs)
        # Signatures name inputs; one that names too few would be refused.
        model.signatureDefs = []
        self._interpreter = plain_interpreter(pack(model))
        self._readable = {
            index
            for index in range(len(graph.tensors))
            if index in graph.producers or index in graph.constants or index in self._inputs
        }

    def run(
        self, row: Array, overrides: Mapping[int, Array] | None = None, *, wanted: Iterable[int] | None = None
    ) -> dict[int, Array]:
        """Tensors' values.

        Args:
            row: float32, one row, with or without the batch of 1.
            overrides: A value for each overridden tensor.
            wanted: Tensors to read; all of them when None.
        """
        values = {self._inputs[0]: row, **(overrides or {})}
        for detail in self._interpreter.get_input_details():
            value = np.asarray(values[detail["index"]], dtype=detail["dtype"]).reshape(detail["shape"])
            self._interpreter.set_tensor(detail["index"], value)
        self._interpreter.invoke()
        found = {}
        for index in sorted(self._readable) if wanted is None else sorted(self._readable.intersection(wanted)):
            try:
                found[index] = self._interpreter.get_tensor(index)
            except ValueError:  # A tensor without data: nothing wrote it.
                continue
        return found


def plain_interpreter(content: bytes) -> Any:
    """An interpreter whose every tensor can be read after a run, in plain float32 arithmetic."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def run_node(graph: FloatGraph, node: Node, values: Mapping[int, Array]) -> list[Array]:
    """Run one operator alone.

    Args:
        graph: The graph that it stands in.
        node: The operator.
        values: A value for each input that isn't a stored constant; others are taken from the graph.

    Returns:
        The value of each output.
    """
    model = schema.ModelT()
    model.version = 3
    source = graph.model.operatorCodes[node.operator.opcodeIndex]
    model.operatorCodes, model.buffers = [source], [schema.BufferT()]
    model.metadata, model.signatureDefs = [], []
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.inputs, subgraph.outputs = [], [], []
    places: dict[int, int] = {-1: -1}

    def place(tensor: int) -> int:
        if tensor not in places:
            entry = schema.TensorT()
            entry.name, entry.shape = f"t{tensor}", list(graph.shapes[tensor])
            entry.type = schema.TensorType.FLOAT32 if graph.is_virtual(tensor) else graph.tensors[tensor].type
            entry.buffer, entry.hasRank = 0, True
            if tensor in graph.constants and tensor not in values:
                buffer = schema.BufferT()
                buffer.data = np.frombuffer(graph.constants[tensor].tobytes(), dtype=np.uint8)
                model.buffers.append(buffer)
                entry.buffer = len(model.buffers) - 1
            subgraph.tensors.append(entry)
            places[tensor] = len(subgraph.tensors) - 1
        return places[tensor]

    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.builtinOptions, operator.builtinOptionsType = copy.copy(node.options), node.operator.builtinOptionsType
    if getattr(operator.builtinOptions, "fusedActivationFunction", 0):
        operator.builtinOptions.fusedActivationFunction = 0
    operator.inputs = [place(tensor) for tensor in node.inputs]
    operator.outputs = [place(tensor) for tensor in node.outputs]
    subgraph.operators = [operator]
    given = [tensor for tensor in dict.fromkeys(node.inputs) if tensor in values]
    subgraph.inputs = [places[tensor] for tensor in given]
    subgraph.outputs = list(operator.outputs)
    model.subgraphs = [subgraph]
    interpreter = plain_interpreter(pack(model))
    for tensor in given:
        interpreter.set_tensor(places[tensor], np.asarray(values[tensor]).reshape(graph.shapes[tensor]))
    interpreter.invoke()
    return [interpreter.get_tensor(index) for index in operator.outputs]
