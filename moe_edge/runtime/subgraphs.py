"""Run one signature of an interpreter again and again, without what a call through the public interface costs.

``SignatureRunner`` resizes and re-allocates on every call (about 11 us); ``Interpreter.invoke`` runs subgraph 0 only.
Both are thin Python over one native object, whose methods take a subgraph's index; LiteRT 2.3 and tflite-runtime 2.14
have the same ones. This is the only module that calls them; where they are absent, ``SignatureRunner`` does the work.
Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from moe_edge.errors import BackendError, ModelFileError
from moe_edge.runtime.backends import Backend
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.model_structure import Signature

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_NATIVE = ("ResizeInputTensor", "AllocateTensors", "SetTensor", "Invoke", "GetTensor", "tensor")


class SubgraphRunner(Protocol):
    """One signature, ready to run any number of rows. Not safe for concurrent use."""

    def run(self, first: Array, /, *more: Array) -> Sequence[Array]:
        """Run a batch.

        Args:
            first: The first input, contiguous, (n, ...), n at least 1.
            more: The second, where there is one.

        Returns:
            One array an output, in the order given on opening. They are the runtime's own memory: read or copy them
            before the next run.

        Raises:
            BackendError: If the runtime fails.
            ModelFileError: If the graph doesn't give the shapes that the file says.
        """
        ...


def open_subgraph(
    backend: Backend, interpreter: Any, file: ModelFile, name: str, *, inputs: Sequence[str], outputs: Sequence[str]
) -> SubgraphRunner:
    """Prepare one signature of an interpreter.

    Args:
        backend: The interpreter's runtime, for messages.
        interpreter: From ``Backend.interpreter``; keep it for this and nothing else.
        file: The file that it runs.
        name: The signature, known to be in ``file``.
        inputs: Its inputs, one or two, in the order in which ``run`` takes them.
        outputs: Its outputs, in the order in which ``run`` gives them.
    """
    signature = file.signatures[name]
    shapes = _Shapes(file, signature, inputs, outputs)
    native = getattr(interpreter, "_interpreter", None)
    if all(hasattr(native, method) for method in _NATIVE):
        return DirectSubgraph(backend, interpreter, signature, shapes)
    return PublicSubgraph(backend, interpreter, signature, shapes)


class _Shapes:
    """Shapes of one signature's inputs and outputs, without the batch, and what to say when they differ."""

    def __init__(self, file: ModelFile, signature: Signature, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        tensors = file.subgraphs[signature.subgraph].tensors
        self.input_names, self.output_names = tuple(inputs), tuple(outputs)
        self.input_indices = [signature.inputs[name] for name in inputs]
        self.output_indices = [signature.outputs[name] for name in outputs]
        self.inputs = [tensors[index].shape[1:] for index in self.input_indices]
        self._outputs = [(name, tensors[signature.outputs[name]].shape[1:]) for name in outputs]
        self._source = file.source

    def check(self, arrays: Sequence[Array], rows: int) -> None:
        """What a tensor's entry says of its shape and what its operator writes are two things in a hostile file."""
        for array, (name, shape) in zip(arrays, self._outputs, strict=True):
            if array.shape != (rows, *shape):
                raise ModelFileError(
                    f"{self._source}: expected {name!r} of shape {(rows, *shape)}, the graph gives {array.shape}; "
                    "convert the model again"
                )


class DirectSubgraph:
    """Runs a subgraph by its index; inputs and outputs stay allocated while the number of rows stays the same."""

    def __init__(self, backend: Backend, interpreter: Any, signature: Signature, shapes: _Shapes) -> None:
        """Take the places of its tensors; nothing is allocated before the first run."""
        self._backend = backend
        self._interpreter = interpreter  # may own the file's bytes, which the native object only points to
        self._native = interpreter._interpreter
        self._subgraph = signature.subgraph
        self._shapes = shapes
        self._invoke = self._native.Invoke
        self._rows = 0
        self._first: Array = np.empty(0)
        self._second: Array = np.empty(0)
        self._outputs: list[Array] = []
        self._is_static: bool | None = None

    def run(self, first: Array, /, *more: Array) -> Sequence[Array]:
        """See ``SubgraphRunner.run``."""
        if len(first) != self._rows:
            self._resize(len(first))
        try:
            # Writing to a view takes two thirds of SetTensor's time.
            self._first[...] = first
            if more:
                self._second[...] = more[0]
            self._invoke(self._subgraph)
        except (RuntimeError, ValueError) as error:
            raise BackendError(self._backend.refusal(error)) from error
        return self._outputs if self._is_static else self._copies()

    def _resize(self, rows: int) -> None:
        """Allocate for another number of rows; until that has worked there is nothing to write to or to read."""
        native, subgraph, shapes = self._native, self._subgraph, self._shapes
        self._rows, self._outputs = 0, []
        self._first = self._second = np.empty(0)
        try:
            for index, shape in zip(shapes.input_indices, shapes.inputs, strict=True):
                native.ResizeInputTensor(index, np.array([rows, *shape], dtype=np.int32), False, subgraph)
            native.AllocateTensors(subgraph)
            inputs = [native.tensor(native, index, subgraph) for index in shapes.input_indices]
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ModelFileError(self._backend.refusal(error)) from error
        if self._is_static is not False:
            outputs = self._look()
            if self._is_static is None:
                self._is_static = outputs is not None
            elif outputs is None:
                raise ModelFileError(self._backend.refusal(RuntimeError("its answers have no place in memory")))
            if outputs is not None:
                shapes.check(outputs, rows)
                self._outputs = outputs
        self._first, self._second = inputs[0], inputs[-1]
        self._rows = rows

    def _look(self) -> list[Array] | None:
        """Views of the outputs, or None if they have no memory before the first run.

        The runtime then allocates it while it runs, anew each time: a view would be a trap.
        """
        native = self._native
        try:
            return [native.tensor(native, index, self._subgraph) for index in self._shapes.output_indices]
        except (RuntimeError, ValueError):
            return None

    def _copies(self) -> list[Array]:
        arrays = [self._native.GetTensor(index, self._subgraph) for index in self._shapes.output_indices]
        self._shapes.check(arrays, self._rows)
        return arrays


class PublicSubgraph:
    """The same through ``SignatureRunner``, for runtimes without the native methods."""

    def __init__(self, backend: Backend, interpreter: Any, signature: Signature, shapes: _Shapes) -> None:
        """Make the runner."""
        self._backend = backend
        self._shapes = shapes
        self._runner = interpreter.get_signature_runner(signature.name)

    def run(self, first: Array, /, *more: Array) -> Sequence[Array]:
        """See ``SubgraphRunner.run``."""
        try:
            answers = self._runner(**dict(zip(self._shapes.input_names, (first, *more), strict=True)))
        except (RuntimeError, ValueError) as error:
            raise BackendError(self._backend.refusal(error)) from error
        arrays = [answers[name] for name in self._shapes.output_names]
        self._shapes.check(arrays, len(first))
        return arrays
