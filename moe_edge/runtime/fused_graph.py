"""Run ``serving_default``, the whole mixture in one graph, for one row or many.

Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_edge.runtime.backends import Backend, allocate
from moe_edge.runtime.int8_edges import Int8Edges
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.model_structure import Signature
from moe_edge.runtime.subgraphs import SubgraphRunner, open_subgraph

if TYPE_CHECKING:
    import numpy.typing as npt

    Answers = dict[str, npt.NDArray[Any]]

MAX_BATCH = 256
"""Rows of one invoke: more adds memory for activations and no speed."""


class FusedGraph:
    """The interpreters of one file: one for single rows, never resized, and one that is resized to each batch.

    Not safe for concurrent use: a pool lends it to one call at a time.
    """

    def __init__(
        self, file: ModelFile, backend: Backend, signature: Signature, *, num_threads: int, xnnpack: bool
    ) -> None:
        """Make the interpreter for single rows.

        Raises:
            BackendError: If the runtime refuses the file.
            ModelFileError: If the runtime refuses the graph.
        """
        self._file = file
        self._backend = backend
        self._options = {"num_threads": num_threads, "xnnpack": xnnpack}
        self._signature = signature
        self._names = tuple(signature.outputs)
        self._prediction = self._names.index("prediction")
        tensors = file.subgraphs[signature.subgraph].tensors
        self._output_shapes = {name: tensors[index].shape[1:] for name, index in signature.outputs.items()}
        self._edges: Int8Edges | None = None
        self._integer = tensors[signature.inputs["x"]].dtype == "int8"
        self._single = self._open()
        self._batch: SubgraphRunner | None = None

    def answer(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The prediction alone, float32 (n, K): the runtime's own memory, to be read or copied before the next call."""
        if len(rows) == 1 and self._edges is None:
            return self._single.run(rows)[self._prediction]
        return self.run(rows)["prediction"]

    def run(self, rows: npt.NDArray[np.float32]) -> Answers:
        """Answer rows.

        Args:
            rows: float32 (n, ...), contiguous; n may be 0.

        Returns:
            Name of each output -> float32 (n, ...), the caller's own copy.
        """
        if len(rows) == 1:
            return self._named([array.copy() for array in self._invoke(self._single, rows)])
        total = len(rows)
        dtype = np.int8 if self._integer else np.float32
        answers = [np.empty((total, *shape), dtype=dtype) for shape in self._output_shapes.values()]
        for start in range(0, total, MAX_BATCH):
            chunk = rows[start : start + MAX_BATCH]
            if self._batch is None:
                self._batch = self._open()
            for whole, array in zip(answers, self._invoke(self._batch, chunk), strict=True):
                whole[start : start + len(chunk)] = array
        return self._named(answers)

    def _invoke(self, runner: SubgraphRunner, rows: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[Any]]:
        return runner.run(rows if self._edges is None else self._edges.quantize(rows))

    def _named(self, arrays: list[npt.NDArray[Any]]) -> Answers:
        answers = dict(zip(self._names, arrays, strict=True))
        return answers if self._edges is None else dict(self._edges.dequantize(answers))

    def _open(self) -> SubgraphRunner:
        interpreter = self._backend.interpreter(self._file.loadable, **self._options)  # type: ignore[arg-type]
        allocate(self._backend, interpreter)
        if self._integer and self._edges is None:
            self._edges = Int8Edges(interpreter, self._signature.inputs["x"], self._signature.outputs)
        return open_subgraph(
            self._backend, interpreter, self._file, self._signature.name, inputs=("x",), outputs=self._names
        )
