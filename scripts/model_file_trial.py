"""Do with a file what a user's program might: open it, ask its predictor, run all its subgraphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moe_edge.errors import MoeEdgeError
from moe_edge.runtime.backends import allocate, load_backend
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.predictor import Predictor


def try_file(content: bytes, path: Path | None) -> str:
    """Try one file, from bytes, or through ``path`` when one is given.

    Returns:
        ``refused``, ``refused by the runtime``, ``foreign``, ``answered``, or ``error ...`` for what no file may cause.
    """
    try:
        return _try(content, path)
    except MoeEdgeError as error:
        return f"error in the wording: {error!r}" if "\n" in str(error) else "refused"
    except Exception as error:  # the find that this script looks for
        return f"error {type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _try(content: bytes, path: Path | None) -> str:
    model: bytes | Path = content
    if path is not None:
        path.write_bytes(content)
        model = path
    with ModelFile.open(model) as file:
        verdict = "foreign" if file.manifest is None else _ask(model)
        answered = _run_subgraphs(file)
    return verdict if answered or verdict == "answered" else "refused by the runtime"


def _ask(model: bytes | Path) -> str:
    try:
        with Predictor(model) as predictor:
            rows = np.random.default_rng(0).normal(size=(5, *predictor.manifest.input_shape)).astype(np.float32)
            predictor.predict_raw(rows[:1])
            predictor.explain(rows)
            predictor.predict(rows)
    except MoeEdgeError:
        return "refused by the predictor"
    return "answered"


def _run_subgraphs(file: ModelFile) -> bool:
    """Run every subgraph as a host would that asks for nothing; errors of the runtime are its right."""
    backend = load_backend("auto")
    answered = False
    for xnnpack in (None, False):
        try:
            interpreter: Any = backend.interpreter(file.loadable, xnnpack=xnnpack)
            allocate(backend, interpreter)
        except MoeEdgeError:
            return answered
        # The public methods reach subgraph 0 only; routed execution calls the others like this.
        native = interpreter._interpreter
        for number, subgraph in enumerate(file.subgraphs):
            try:
                native.AllocateTensors(number)
                for index in subgraph.inputs:
                    tensor = native.GetTensor(index, number)
                    values = np.random.default_rng(index).normal(size=tensor.shape)
                    native.SetTensor(index, values.astype(tensor.dtype), number)
                native.Invoke(number)
                for index in subgraph.outputs:
                    native.GetTensor(index, number)
                answered = True
            except (RuntimeError, ValueError, MemoryError):
                continue
    return answered
