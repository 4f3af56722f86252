"""Run the gate, then only the experts that each row needs, then mix their answers.

Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_edge.errors import ModelFileError
from moe_edge.runtime.backends import Backend, allocate
from moe_edge.runtime.branch_gate import BranchGate
from moe_edge.runtime.expert_choice import ExpertChoice, Pairs
from moe_edge.runtime.expert_mixing import FewExperts, MixingForm, find_form
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.model_structure import Tensor
from moe_edge.runtime.modes import COMBINE, GATE, Plan, expert_signature
from moe_edge.runtime.subgraphs import SubgraphRunner, open_subgraph

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Answers = dict[str, npt.NDArray[Any]]

_GATE_OUTPUTS = ("routing_weights", "features")
_CHUNK = 4096
"""Rows that are grouped by expert at a time: enough for each expert to get many of them at once."""
_BATCH = 256
"""Rows of one run of a part."""
_FEW_ROWS = {True: 4, False: 8}
"""Up to so many rows of a chunk, with and without XNNPACK, an expert answers one by one: to allocate it for another
number of rows takes as long as to run these (experts 64-256-128-10 on x86-64, 4 rows: 18 us against 15 with XNNPACK;
8 rows without: 49 against 50), and memory that was once allocated for more rows stays."""
_FEW_VALUES = 640
"""For one row of so many experts' values, ``combine`` (4 ns a value) is faster than NumPy's fixed cost (about 4 us)."""


class RoutedGraph:
    """One interpreter with the parts of a file. Experts are opened when they first run.

    Not safe for concurrent use: a pool lends it to one call at a time.
    """

    def __init__(
        self, file: ModelFile, backend: Backend, plan: Plan, *, num_experts: int, num_threads: int, xnnpack: bool
    ) -> None:
        """Open the gate and the mixing; the experts wait for their first row.

        Raises:
            BackendError: If the runtime refuses the file.
            ModelFileError: If the runtime refuses a part.
        """
        self._file = file
        self._backend = backend
        self._interpreter = backend.interpreter(file.loadable, num_threads=num_threads, xnnpack=xnnpack)
        if xnnpack:
            # tflite-runtime 2.14 hands subgraphs to the delegate here only.
            allocate(backend, self._interpreter)
        self._names = tuple(name for name in file.signatures[COMBINE].outputs)
        self._prediction = self._names.index("prediction")
        # What the gate says besides, such as how usual a row is, stands behind what every run needs.
        self._sides = tuple(name for name in file.signatures[GATE].outputs if name not in _GATE_OUTPUTS)
        self._gate: SubgraphRunner | BranchGate = self._open(GATE, ("x",), (*_GATE_OUTPUTS, *self._sides))
        if plan.branches is not None:
            self._sides = ()
            self._gate = BranchGate(plan, self._open)
        self._combine = self._open(COMBINE, ("routing_weights", "outputs"), self._names)
        self._experts: list[SubgraphRunner | None] = [None] * num_experts
        signature = file.signatures[COMBINE]
        shape = file.subgraphs[signature.subgraph].tensors[signature.inputs["outputs"]].shape
        self._num_values = shape[-1]
        self._choice = ExpertChoice(plan)
        # Where every expert may run, the file's own mixing gives the whole graph's answers bit for bit.
        runs_all = plan.mass is None and plan.max_experts == num_experts
        form = (
            MixingForm.OTHER
            if runs_all
            else find_form(
                self._combine, num_experts=num_experts, num_values=self._num_values, num_outputs=len(self._names)
            )
        )
        self._few = None if form is MixingForm.OTHER else FewExperts(form, self._num_values)
        self._few_rows = _FEW_ROWS[xnnpack]
        self._is_small = num_experts * self._num_values <= _FEW_VALUES
        self._stacked = np.zeros((1, num_experts, self._num_values), dtype=np.float32)
        self._slots = [self._stacked[:, index] for index in range(num_experts)]
        self._weights = np.zeros((1, num_experts), dtype=np.float32)
        self._counted = self._weights[0]

    def answer(self, rows: Floats) -> Floats:
        """The prediction alone, float32 (n, K): the runtime's own memory, to be read or copied before the next call."""
        if len(rows) != 1:
            return self._many(rows)["prediction"]
        weights, features = self._gate.run(rows)[:2]
        experts, shares = self._choice.for_row(weights[0])
        runners = self._experts
        if self._few is not None and not self._is_small:
            outputs = [(runners[expert] or self._expert(expert)).run(features)[0] for expert in experts]
            return self._few.mix_row(outputs, shares)
        slots, counted = self._slots, self._counted
        try:
            for expert, share in zip(experts, shares, strict=True):
                slots[expert][:] = (runners[expert] or self._expert(expert)).run(features)[0]
                counted[expert] = share
            prediction: Floats = self._combine.run(self._weights, self._stacked)[self._prediction]
        finally:
            # What is left behind would count 0, but 0 times infinity is no number.
            for expert in experts:
                slots[expert].fill(0)
                counted[expert] = 0
        return prediction

    def run(self, rows: Floats) -> Answers:
        """Answer rows.

        Args:
            rows: float32 (n, ...), contiguous; n may be 0.

        Returns:
            The outputs of ``serving_default``, and ``experts_run``, int (n,). The routing weights are those that
            counted: of the experts that ran, scaled to sum to 1.
        """
        return self._many(rows)

    def each_expert(self, rows: Floats) -> Floats:
        """What each expert would answer by itself: its output through ``combine`` with all weight on it.

        Returns:
            float32 (n, E, K).
        """
        count = len(self._experts)
        tensor = self._tensor(COMBINE, "prediction")
        answers = np.empty((len(rows), count, tensor.shape[-1]), dtype=np.float32)
        features = self._run_gate(rows)[1] if len(rows) else rows
        for index in range(count):
            runner = self._experts[index] or self._expert(index)
            for start in range(0, len(rows), _BATCH):
                here = slice(start, min(start + _BATCH, len(rows)))
                size = here.stop - here.start
                stacked = np.zeros((size, count, self._num_values), dtype=np.float32)
                stacked[:, index] = runner.run(features[here])[0]
                weights = np.zeros((size, count), dtype=np.float32)
                weights[:, index] = 1
                answers[here, index] = self._combine.run(weights, stacked)[self._prediction]
        return answers

    def _many(self, rows: Floats) -> Answers:
        signature = self._file.signatures[COMBINE]
        tensors = self._file.subgraphs[signature.subgraph].tensors
        total = len(rows)
        answers: Answers = {
            name: np.empty((total, *tensors[index].shape[1:]), dtype=np.float32)
            for name, index in signature.outputs.items()
        }
        answers.update({name: np.empty((total, 1), dtype=np.float32) for name in self._sides})
        answers["routing_weights"] = np.zeros((total, len(self._experts)), dtype=np.float32)
        answers["experts_run"] = np.zeros(total, dtype=np.intp)
        for start in range(0, total, _CHUNK):
            stop = min(start + _CHUNK, total)
            self._answer_chunk(rows[start:stop], {name: array[start:stop] for name, array in answers.items()})
        return answers

    def _answer_chunk(self, rows: Floats, answers: Answers) -> None:
        """Answer up to ``_CHUNK`` rows into ``answers``."""
        weights, features, *sides = self._run_gate(rows)
        for name, values in zip(self._sides, sides, strict=True):
            answers[name][:] = values
        pairs = self._choice.for_rows(weights)
        outputs = np.empty((len(pairs.rows), self._num_values), dtype=np.float32)
        order = np.argsort(pairs.experts, kind="stable")
        experts, starts = np.unique(pairs.experts[order], return_index=True)
        for expert, start, stop in zip(experts.tolist(), starts, [*starts[1:], len(order)], strict=True):
            runner = self._experts[expert] or self._expert(expert)
            step = 1 if stop - start <= self._few_rows else _BATCH
            for first in range(start, stop, step):
                places = order[first : min(first + step, stop)]
                outputs[places] = runner.run(features[pairs.rows[places]])[0]
        answers["routing_weights"][pairs.rows, pairs.experts] = pairs.shares
        answers["experts_run"][:] = pairs.counts
        if self._few is not None:
            answers["prediction"][:] = self._few.mix_rows(outputs, pairs)
        else:
            self._combine_rows(outputs, pairs, answers)

    def _run_gate(self, rows: Floats) -> list[npt.NDArray[Any]]:
        """Gate weights (n, E), what the experts are given, (n, ...), and what the gate says besides, (n, 1) each."""
        found = [
            [array.copy() for array in self._gate.run(rows[start : start + _BATCH])]
            for start in range(0, len(rows), _BATCH)
        ]
        return [np.concatenate(arrays) for arrays in zip(*found, strict=True)]

    def _combine_rows(self, outputs: Floats, pairs: Pairs, answers: Answers) -> None:
        """Mix by the file's own ``combine``, which takes every expert: 0 for those that didn't run."""
        total, weights = len(pairs.starts), answers["routing_weights"]
        for start in range(0, total, _BATCH):
            stop = min(start + _BATCH, total)
            here = slice(pairs.starts[start], pairs.starts[stop] if stop < total else len(pairs.rows))
            stacked = np.zeros((stop - start, *self._stacked.shape[1:]), dtype=np.float32)
            stacked[pairs.rows[here] - start, pairs.experts[here]] = outputs[here]
            for name, array in zip(self._names, self._combine.run(weights[start:stop], stacked), strict=True):
                answers[name][start:stop] = array

    def _expert(self, index: int) -> SubgraphRunner:
        """Open an expert."""
        name = expert_signature(index)
        given, taken = self._tensor(GATE, "features"), self._tensor(name, "features")
        if (given.shape, given.dtype) != (taken.shape, taken.dtype):
            raise ModelFileError(
                f"{self._file.source}: expected {name} to take {given.dtype} {given.shape}, what the gate hands on, "
                f"got {taken.dtype} {taken.shape}; convert the model again"
            )
        runner = self._experts[index] = self._open(name, ("features",), ("output",))
        return runner

    def _tensor(self, name: str, place: str) -> Tensor:
        signature = self._file.signatures[name]
        index = {**signature.inputs, **signature.outputs}[place]
        return self._file.subgraphs[signature.subgraph].tensors[index]

    def _open(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> SubgraphRunner:
        return open_subgraph(self._backend, self._interpreter, self._file, name, inputs=inputs, outputs=outputs)
