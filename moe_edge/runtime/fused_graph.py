"""Run ``serving_default``, the whole mixture in one graph, for one row or many.

Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_edge.errors import BackendError, ModelFileError
from moe_edge.runtime.backends import Backend, allocate
from moe_edge.runtime.int8_edges import Int8Edges
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.model_structure import Signature

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_BATCH = 256
"""Rows of one invoke: more adds memory for activations and no speed."""
_KEPT_BATCHES = 2
"""Resized interpreters kept: whole batches, and the remainder of a table."""


class FusedGraph:
    """The interpreters of one file: one for single rows, never resized, and one for each batch size in use.

    Not safe for concurrent use: the owner holds a lock.
    """

    def __init__(self, file: ModelFile, backend: Backend, signature: Signature, *, num_threads: int) -> None:
        """Make the interpreter for single rows.

        Raises:
            BackendError: If the runtime refuses the file.
            ModelFileError: If the runtime refuses the graph.
        """
        self._file = file
        self._backend = backend
        self._num_threads = num_threads
        self._outputs = signature.outputs
        self._input = signature.inputs["x"]
        tensors = file.subgraphs[signature.subgraph].tensors
        self._row_shape = tensors[self._input].shape[1:]
        self._output_shapes = {name: tensors[index].shape[1:] for name, index in self._outputs.items()}
        self._single: Any = self._interpreter()
        allocate(backend, self._single)
        integer = tensors[self._input].dtype == "int8"
        self._edges = Int8Edges(self._single, self._input, self._outputs) if integer else None
        self._batches: OrderedDict[int, Any] = OrderedDict()

    def run(self, rows: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """Answer rows.

        Args:
            rows: float32 (n, ...), contiguous; n may be 0.

        Returns:
            Name of each output -> float32 (n, ...), the caller's own copy.
        """
        if len(rows) == 1:
            return self._invoke(self._single, rows)
        if len(rows) <= MAX_BATCH:
            return self._invoke(self._batch(len(rows)), rows) if len(rows) else self._nothing()
        chunks = [self._answer_chunk(rows[start : start + MAX_BATCH]) for start in range(0, len(rows), MAX_BATCH)]
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in self._outputs}

    def close(self) -> None:
        """Release the interpreters."""
        self._single = None
        self._batches.clear()

    def _answer_chunk(self, rows: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        return self._invoke(self._single if len(rows) == 1 else self._batch(len(rows)), rows)

    def _invoke(self, interpreter: Any, rows: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        interpreter.set_tensor(self._input, rows if self._edges is None else self._edges.quantize(rows))
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise BackendError(self._backend.refusal(error)) from error
        # get_tensor copies.
        answers = {name: interpreter.get_tensor(index) for name, index in self._outputs.items()}
        for name, shape in self._output_shapes.items():
            # What a tensor's entry says of its shape and what its operator writes are two things in a hostile file.
            if answers[name].shape != (len(rows), *shape):
                raise ModelFileError(
                    f"{self._file.source}: expected {name!r} of shape {(len(rows), *shape)}, the graph gives "
                    f"{answers[name].shape}; convert the model again"
                )
        return answers if self._edges is None else self._edges.dequantize(answers)

    def _batch(self, size: int) -> Any:
        """The interpreter for batches of ``size`` rows, made or remembered."""
        if size in self._batches:
            self._batches.move_to_end(size)
            return self._batches[size]
        interpreter = self._interpreter()
        interpreter.resize_tensor_input(self._input, [size, *self._row_shape])
        allocate(self._backend, interpreter)
        while len(self._batches) >= _KEPT_BATCHES:
            self._batches.popitem(last=False)
        self._batches[size] = interpreter
        return interpreter

    def _interpreter(self) -> Any:
        return self._backend.interpreter(self._file.loadable, num_threads=self._num_threads)

    def _nothing(self) -> dict[str, npt.NDArray[np.float32]]:
        return {name: np.empty((0, *shape), dtype=np.float32) for name, shape in self._output_shapes.items()}
