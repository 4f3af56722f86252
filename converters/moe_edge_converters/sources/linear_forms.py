"""Pull linear forms back through a graph: which values, times which numbers, make up a tensor.

Reverse-mode differentiation of the operators that are linear in what varies: sums, products with known tensors, layers
without activation, and every operator that only moves values. How a weighted sum was spelled doesn't matter then.
Layer: desktop (converters).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moe_edge_converters.sources.float_graph import Array, FloatGraph, Node, run_node

Matrix = npt.NDArray[np.float64]

MOVING = frozenset(
    {
        *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "STRIDED_SLICE", "SLICE", "SPLIT", "SPLIT_V", "UNPACK"),
        *("GATHER", "GATHER_ND", "BROADCAST_TO", "TILE", "PACK", "CONCATENATION", "REVERSE_V2", "PAD", "PADV2"),
        *("SELECT", "SELECT_V2", "MIRROR_PAD"),
    }
)
"""Operators whose every output value is one of their input values (or a padding zero)."""
WEIGHTED = frozenset({"FULLY_CONNECTED", "BATCH_MATMUL"})
"""Linear operators that may hold a layer's weights."""
SCALING = frozenset({"ADD", "SUB", "MUL", "DIV", "NEG", "ADD_N", "SUM", "MEAN"})
LINEAR = MOVING | WEIGHTED | SCALING

_MAX_EXACT = 1 << 24
"""float32 counts exactly up to here: positions of values travel through operators as numbers."""


@dataclass
class Form:
    """``offset + sum over tensors of matrix @ tensor.flat``: K linear functions of a graph's tensors.

    Attributes:
        parts: Tensor to its matrix, float64 (K, values of the tensor).
        offset: float64 (K,).
    """

    parts: dict[int, Matrix]
    offset: Matrix


@dataclass
class WeightUse:
    """Which values of which stored constants something uses as a layer's weights.

    Attributes:
        masks: Constant to bool, its shape flattened.
    """

    masks: dict[int, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def add(self, tensor: int, mask: Array) -> None:
        """Mark values as used."""
        flat = np.asarray(mask, dtype=bool).reshape(-1)
        self.masks[tensor] = self.masks[tensor] | flat if tensor in self.masks else flat.copy()


class FormPuller:
    """Pulls forms back through one graph.

    Attributes:
        graph: The graph.
        known: Tensors that don't vary, with their values.
    """

    def __init__(self, graph: FloatGraph, known: Mapping[int, Array], *, moves: dict[int, Array] | None = None) -> None:
        """Prepare.

        Args:
            graph: The graph.
            known: Tensors that don't vary, with their values.
            moves: Where values come from, by node: shared by pullers of one graph, as long as what decides it (slices,
                indices, conditions) is stored in the graph.
        """
        self.graph = graph
        self.known = known
        self._moves = {} if moves is None else moves

    def identity(self, tensor: int, indices: Array | None = None) -> Form:
        """The form that is a tensor's values, or those at flat ``indices``."""
        size = self.graph.size(tensor)
        chosen = np.arange(size) if indices is None else indices
        matrix = np.zeros((len(chosen), size))
        matrix[np.arange(len(chosen)), chosen] = 1
        return Form({tensor: matrix}, np.zeros(len(chosen)))

    def pull(self, form: Form, through: Callable[[Node], bool], *, use: WeightUse | None = None) -> Form:
        """Replace tensors by what they are made of, as far as ``through`` allows and operators are linear.

        Args:
            form: Where to start.
            through: Whether a node may be passed.
            use: Told of the weights met on the way.

        Returns:
            A form over tensors that can't be, or may not be, replaced; none of them known.
        """
        parts, offset = {}, form.offset.copy()
        waiting: dict[int, Matrix] = {}
        order: list[tuple[int, int]] = []

        def push(tensor: int, matrix: Matrix) -> None:
            if not matrix.any():
                return
            if tensor in waiting:
                waiting[tensor] = waiting[tensor] + matrix
                return
            waiting[tensor] = matrix
            node = self.graph.producers.get(tensor)
            heapq.heappush(order, (-(node.position if node else -1), tensor))

        for tensor, matrix in form.parts.items():
            push(tensor, matrix)
        while order:
            _, tensor = heapq.heappop(order)
            matrix = waiting.pop(tensor)
            if not matrix.any():
                continue
            if tensor in self.known:
                offset += matrix @ np.asarray(self.known[tensor], dtype=np.float64).reshape(-1)
                continue
            node = self.graph.producers.get(tensor)
            step = self._step(node, tensor, matrix, offset, use) if node is not None and through(node) else None
            if step is None:
                parts[tensor] = matrix
                continue
            for source, pulled in step:
                push(source, pulled)
        return Form(parts, offset)

    def _step(
        self, node: Node, tensor: int, matrix: Matrix, offset: Matrix, use: WeightUse | None
    ) -> list[tuple[int, Matrix]] | None:
        """Pull one tensor through the node that writes it; None where the node isn't linear in what varies."""
        if node.kind in MOVING:
            return self._move(node, tensor, matrix)
        kind = node.kind
        if kind in ("ADD", "SUB", "ADD_N"):
            signs = (1, -1) if kind == "SUB" else (1,) * len(node.inputs)
            return [
                (source, sign * self._unbroadcast(matrix, tensor, source))
                for source, sign in zip(node.inputs, signs, strict=True)
            ]
        if kind == "NEG":
            return [(node.inputs[0], -matrix)]
        if kind in ("SUM", "MEAN"):
            return self._reduce(node, tensor, matrix)
        varying = [index for index in node.inputs[:2] if index not in self.known]
        if len(varying) != 1 or (kind == "DIV" and varying[0] != node.inputs[0]):
            return None
        if kind in ("MUL", "DIV"):
            return [(varying[0], self._scale(node, tensor, matrix, varying[0]))]
        if kind == "FULLY_CONNECTED":
            return self._fully_connected(node, matrix, use)
        if kind == "BATCH_MATMUL":
            return [(varying[0], self._batch_matmul(node, tensor, matrix, varying[0], use))]
        return None

    def _value(self, tensor: int) -> Matrix:
        return np.asarray(self.known[tensor], dtype=np.float64).reshape(self.graph.shapes[tensor])

    def _unbroadcast(self, matrix: Matrix, tensor: int, source: int) -> Matrix:
        """Sum over the axes along which ``source`` was repeated to make ``tensor``."""
        shape, target = self.graph.shapes[tensor], self.graph.shapes[source]
        full = matrix.reshape(len(matrix), *shape)
        padded = (1,) * (len(shape) - len(target)) + target
        axes = tuple(axis + 1 for axis, size in enumerate(padded) if size == 1 and shape[axis] != 1)
        return np.asarray(full.sum(axis=axes)).reshape(len(matrix), -1)

    def _scale(self, node: Node, tensor: int, matrix: Matrix, source: int) -> Matrix:
        other = self._value(node.inputs[1] if source == node.inputs[0] else node.inputs[0])
        full = matrix.reshape(len(matrix), *self.graph.shapes[tensor])
        return self._unbroadcast(full / other if node.kind == "DIV" else full * other, tensor, source)

    def _reduce(self, node: Node, tensor: int, matrix: Matrix) -> list[tuple[int, Matrix]] | None:
        source, axes_at = node.inputs[:2]
        if axes_at not in self.known:
            return None
        shape = self.graph.shapes[source]
        axes = {int(axis) % len(shape) for axis in np.asarray(self.known[axes_at]).reshape(-1)}
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        full = np.broadcast_to(matrix.reshape(len(matrix), *kept), (len(matrix), *shape)).reshape(len(matrix), -1)
        if node.kind == "MEAN":
            full = full / int(np.prod([shape[axis] for axis in axes]))
        return [(source, np.ascontiguousarray(full))]

    def _fully_connected(self, node: Node, matrix: Matrix, use: WeightUse | None) -> list[tuple[int, Matrix]]:
        x, weights = node.inputs[:2]
        units, size = self.graph.shapes[weights]
        by_unit = matrix.reshape(len(matrix), -1, units)
        pulled: list[tuple[int, Matrix]] = []
        if weights in self.known:
            if use is not None and weights in self.graph.constants:
                rows = by_unit.any(axis=(0, 1))
                use.add(weights, np.repeat(rows, size))
            pulled.append((x, (by_unit @ self._value(weights)).reshape(len(matrix), -1)))
        else:
            rows_of_x = self._value(x).reshape(-1, size)
            pulled.append((weights, np.einsum("klu,li->kui", by_unit, rows_of_x).reshape(len(matrix), -1)))
        if len(node.inputs) > 2 and node.inputs[2] >= 0:
            pulled.append((node.inputs[2], by_unit.sum(axis=1)))
        return pulled

    def _batch_matmul(self, node: Node, tensor: int, matrix: Matrix, source: int, use: WeightUse | None) -> Matrix:
        left, right = node.inputs[:2]
        full = matrix.reshape(len(matrix), *self.graph.shapes[tensor])
        left_turned, right_turned = bool(node.options.adjX), bool(node.options.adjY)
        if source == left:
            other = self._value(right)
            other = other if right_turned else np.swapaxes(other, -1, -2)
            pulled = full @ other
            turned, known = left_turned, right
        else:
            other = self._value(left)
            other = other if left_turned else np.swapaxes(other, -1, -2)
            pulled = other @ full
            turned, known = right_turned, left
        if use is not None and known in self.graph.constants:
            self._mark_matmul(node, full, known, use)
        if turned:
            pulled = np.swapaxes(pulled, -1, -2)
        shape = pulled.shape[1:]
        target = self.graph.shapes[source]
        padded = (1,) * (len(shape) - len(target)) + target
        axes = tuple(axis + 1 for axis, size in enumerate(padded) if size == 1 and shape[axis] != 1)
        return np.asarray(pulled.sum(axis=axes)).reshape(len(matrix), -1)

    def _mark_matmul(self, node: Node, full: Matrix, known: int, use: WeightUse) -> None:
        """Which columns (or rows, when the weights stand on the left) of the stored weights are used."""
        on_right = known == node.inputs[1]
        wanted = full.any(axis=(0, -2 if on_right else -1))
        shape = self.graph.shapes[known]
        turned = bool(node.options.adjY if on_right else node.options.adjX)
        outer = (shape[-2] if turned else shape[-1]) if on_right else (shape[-1] if turned else shape[-2])
        wanted = wanted.reshape(-1, outer)
        count = int(np.prod(shape[:-2], dtype=np.int64))
        wanted = wanted if len(wanted) == count else np.broadcast_to(wanted.any(axis=0), (count, outer))
        along_last = turned != on_right
        mask = wanted[:, None, :] if along_last else wanted[:, :, None]
        use.add(known, np.broadcast_to(mask, (count, *shape[-2:])))

    def _move(self, node: Node, tensor: int, matrix: Matrix) -> list[tuple[int, Matrix]] | None:
        places = self._origin(node, tensor)
        if places is None:
            return None
        pulled = []
        for source, start, size in self._spans(node):
            here = (places >= start) & (places < start + size)
            if not here.any():
                continue
            part = np.zeros((len(matrix), size))
            np.add.at(part.T, places[here] - start, matrix[:, here].T)
            pulled.append((source, part))
        return pulled

    def _spans(self, node: Node) -> list[tuple[int, int, int]]:
        """(tensor, first number, values) of each float input whose values the node moves; numbers count from 1."""
        spans, start = [], 1
        for source in dict.fromkeys(node.inputs):
            if source >= 0 and self.graph.is_float(source):
                spans.append((source, start, self.graph.size(source)))
                start += self.graph.size(source)
        return spans

    def _origin(self, node: Node, tensor: int) -> Array | None:
        """For each value of ``tensor`` the number of the input value that it is; 0 for a padding zero."""
        if tensor in self._moves:
            return self._moves[tensor]
        spans = self._spans(node)
        if not spans or spans[-1][1] + spans[-1][2] >= _MAX_EXACT:
            return None
        moved = {source for source, _, _ in spans}
        deciding = [source for source in node.inputs if source >= 0 and source not in moved]
        if any(source not in self.known for source in deciding):
            return None
        values: dict[int, Array] = {
            source: np.arange(start, start + size, dtype=np.float32) for source, start, size in spans
        }
        values |= {source: self.known[source] for source in deciding if source not in self.graph.constants}
        outputs = run_node(self.graph, node, values)
        origins = {
            output: np.rint(value).astype(np.int64).reshape(-1)
            for output, value in zip(node.outputs, outputs, strict=True)
        }
        if all(source in self.graph.constants for source in deciding):
            self._moves.update(origins)
        return origins[tensor]
