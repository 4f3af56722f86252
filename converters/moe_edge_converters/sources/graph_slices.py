"""Cut any network out of a graph: whole tensors verbatim, a few values of a shared tensor by rebuilding their part.

Layer: desktop (converters).
"""

from __future__ import annotations

import copy
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.graph import GraphBuilder, new_model, operator_code
from moe_edge_converters.schemes.audit import tensor_name
from moe_edge_converters.sources.float_graph import Array, Node
from moe_edge_converters.sources.linear_forms import LINEAR, Form, FormPuller, WeightUse
from moe_edge_converters.sources.network_slices import is_identity, needed_columns, softmax_group
from moe_edge_converters.spec import GraphNetwork

ELEMENTWISE = frozenset(
    {
        *("RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU", "ELU", "GELU", "HARD_SWISH", "LOGISTIC", "TANH"),
        *("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW", "SQUARE", "SQRT", "RSQRT"),
        *("EXP", "LOG", "ABS", "NEG", "SIN", "COS", "SIGN", "ERF", "FLOOR", "CEIL", "ROUND"),
    }
)
"""Operators whose output values depend on the input values at their own place."""

_WEIGHT_INPUTS = frozenset(
    {
        *("FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "GATHER"),
        *("EMBEDDING_LOOKUP", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "LSTM"),
    }
)

_MAX_DEPTH = 200
"""Nested operators followed value by value; deeper networks are copied whole."""


class NetworkCutter:
    """Builds one network, from ``features`` to a form's values."""

    def __init__(self, puller: FormPuller, features: int, use: WeightUse, *, whole: bool) -> None:
        """Prepare.

        Args:
            puller: Of the graph; it must not know tensors that depend on ``features``.
            features: The tensor that becomes the network's input.
            use: Told of the weights.
            whole: Whether tensors on the way belong to this network alone, so that they are copied as they stand.
        """
        self._all = whole
        self._puller, self._graph, self._features, self._use = puller, puller.graph, features, use
        self._model = new_model("network")
        self._builder = GraphBuilder(self._model, "network")
        self._input = self._builder.input("features", self._graph.shapes[features][1:])
        self._whole: dict[int, int] = {features: self._input}
        self._slices: dict[tuple[int, bytes], int] = {}

    def cut_tensor(self, tensor: int) -> GraphNetwork:
        """The network that writes a whole tensor, operator by operator as it stands."""
        return self._finish(self._copy(tensor))

    def cut_form(self, form: Form) -> GraphNetwork:
        """The network that gives a form's K values."""
        return self._finish(self._add_form(form, 0))

    def _finish(self, out: int) -> GraphNetwork:
        builder = self._builder
        if out == self._input or not builder.subgraph.operators:
            raise ConversionError("expected a network between features and answer, got none")
        builder.subgraph.outputs.append(out)
        last = builder.subgraph.operators[-1]
        code = self._model.operatorCodes[last.opcodeIndex].builtinCode
        size = math.prod(builder.shape(out)[1:])
        # A softmax over several groups isn't a softmax over the answer.
        closing = (
            code == schema.BuiltinOperator.SOFTMAX and out in list(last.outputs) and builder.shape(out)[-1] == size
        )
        return GraphNetwork(model=pack(self._model), num_outputs=size, ends_in_softmax=bool(closing))

    # Whole tensors -----------------------------------------------------------------------------------------------

    def _copy(self, tensor: int) -> int:
        """Copy what writes a tensor, back to the features."""
        order: list[Node] = []
        seen: set[int] = set()
        waiting = [tensor]
        while waiting:
            current = waiting.pop()
            if current in self._whole or current in seen or current < 0:
                continue
            seen.add(current)
            node = self._graph.producers.get(current)
            if node is not None:
                order.append(node)
                waiting.extend(node.inputs)
        done: set[int] = set()
        for node in sorted(order, key=lambda node: node.position):
            # A fused activation is the second node of one operator.
            if self._graph.is_virtual(node.outputs[0]) or id(node.operator) in done:
                continue
            done.add(id(node.operator))
            self._copy_operator(node)
        return self._place(tensor)

    def _copy_operator(self, node: Node) -> None:
        operator = node.operator
        code = self._graph.model.operatorCodes[operator.opcodeIndex]
        first = next(other for other in self._graph.nodes if other.operator is operator)
        copied = copy.copy(operator)
        copied.opcodeIndex = operator_code(self._model, first.kind, code.version)
        copied.inputs = [-1 if index < 0 else self._place(int(index)) for index in operator.inputs]
        copied.outputs = [self._place(int(index)) for index in operator.outputs]
        self._builder.subgraph.operators.append(copied)
        if first.kind in _WEIGHT_INPUTS:
            for index in operator.inputs:
                if index in self._graph.constants and self._graph.is_float(index) and self._graph.size(index) > 1:
                    self._use.add(int(index), np.ones(self._graph.size(index), dtype=bool))

    def _place(self, tensor: int) -> int:
        if tensor not in self._whole:
            name = tensor_name(self._graph.tensors[tensor]).split(";")[0] or f"tensor_{tensor}"
            if tensor in self._graph.constants:
                self._whole[tensor] = self._builder.constant(name, self._graph.constants[tensor])
            else:
                source = copy.copy(self._graph.tensors[tensor])
                source.name, source.shapeSignature, source.buffer = self._builder.unique_name(name), None, 0
                self._builder.subgraph.tensors.append(source)
                self._whole[tensor] = len(self._builder.subgraph.tensors) - 1
        return self._whole[tensor]

    # Some values of a tensor -------------------------------------------------------------------------------------

    def _add_form(self, form: Form, depth: int) -> int:
        """A (1, K) tensor with the form's values."""

        def through(node: Node) -> bool:
            return node.kind in LINEAR and self._features not in node.outputs

        form = self._puller.pull(form, through, use=self._use)
        total: int | None = None
        for tensor, matrix in form.parts.items():
            columns = needed_columns(matrix)
            term = self._add_values(tensor, columns, depth + 1)
            kernel = matrix[:, columns]
            offset = form.offset if total is None else np.zeros_like(form.offset)
            if not is_identity(kernel) or offset.any():
                term = self._builder.fully_connected(
                    term, kernel.astype(np.float32), offset.astype(np.float32), name=f"linear_{tensor}"
                )
            total = term if total is None else self._builder.binary("ADD", total, term, name=f"sum_{tensor}")
        if total is None:
            # Something constant, such as a learned scale.
            return self._builder.constant("constant", form.offset.astype(np.float32).reshape(1, -1))
        return total

    def _add_values(self, tensor: int, indices: Array, depth: int) -> int:
        """A (1, n) tensor with the values of ``tensor`` at flat ``indices``."""
        key = (tensor, indices.tobytes())
        if key not in self._slices:
            self._slices[key] = self._slice(tensor, indices, depth)
        return self._slices[key]

    def _slice(self, tensor: int, indices: Array, depth: int) -> int:
        graph, builder = self._graph, self._builder
        node = graph.producers.get(tensor)
        full = len(indices) == graph.size(tensor) and bool((indices == np.arange(len(indices))).all())
        if tensor != self._features and node is not None and depth < _MAX_DEPTH and not (full and self._all):
            if node.kind in ELEMENTWISE:
                return self._slice_elementwise(node, tensor, indices, depth)
            if node.kind == "SOFTMAX" and softmax_group(graph, tensor, indices):
                inner = self._add_form(self._puller.identity(node.inputs[0], indices), depth + 1)
                return builder.softmax(inner, name=f"softmax_{tensor}")
        whole = builder.flatten(self._copy(tensor), name=f"flat_{tensor}")
        if full:
            return whole
        return builder.gather_columns(whole, [int(index) for index in indices], name=f"columns_{tensor}")

    def _slice_elementwise(self, node: Node, tensor: int, indices: Array, depth: int) -> int:
        graph, builder = self._graph, self._builder
        inputs = []
        for source in node.inputs:
            size = graph.size(source)
            spread = np.broadcast_to(np.arange(size).reshape(graph.shapes[source]), graph.shapes[tensor])
            at = spread.reshape(-1)[indices]
            if source in self._puller.known:
                values = np.asarray(self._puller.known[source], dtype=np.float32).reshape(-1)[at]
                inputs.append(builder.constant(f"constant_{source}", values.reshape(1, -1)))
            else:
                inputs.append(self._add_form(self._puller.identity(source, at), depth + 1))
        out = builder.tensor(f"{node.kind.lower()}_{tensor}", (1, len(indices)))
        version = 1
        if not graph.is_virtual(node.inputs[0]):
            version = graph.model.operatorCodes[node.operator.opcodeIndex].version
        entry = schema.OperatorT()
        entry.opcodeIndex = operator_code(self._model, node.kind, version)
        entry.inputs, entry.outputs = inputs, [out]
        if node.options is not None:
            entry.builtinOptions = copy.copy(node.options)
            entry.builtinOptionsType = node.operator.builtinOptionsType
            if getattr(entry.builtinOptions, "fusedActivationFunction", 0):
                entry.builtinOptions.fusedActivationFunction = 0
        builder.subgraph.operators.append(entry)
        return out
