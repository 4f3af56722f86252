"""Mix the answers of the experts that ran, without the cost of those that didn't.

``combine`` takes every expert's answer, so its time grows with E. Two of its forms NumPy computes as well from the few
that ran: the weighted sum of answers, and of their softmax. Which of them a file's ``combine`` is, if any, is found by
running it, not by believing a name: a quantized or a Gaussian one is neither, and then ``combine`` itself mixes.
Layer: device. Imports NumPy and ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from moe_edge.runtime.expert_choice import Pairs
    from moe_edge.runtime.subgraphs import SubgraphRunner

    Floats = npt.NDArray[np.float32]

_AGREES = 2e-6
"""How far float32 sums of probabilities in another order may differ; an int8 softmax differs by 1/256."""


class MixingForm(enum.Enum):
    """What ``combine`` computes."""

    SUM = "sum"
    SOFTMAX = "softmax"
    OTHER = "other"


def find_form(combine: SubgraphRunner, *, num_experts: int, num_values: int, num_outputs: int) -> MixingForm:
    """Run ``combine`` on made-up answers and compare."""
    if num_outputs != 1:
        return MixingForm.OTHER
    # Not numpy.random: importing it takes more time and memory than all the rest of opening.
    wave = np.sin(np.arange(num_experts * (num_values + 1), dtype=np.float32) * 1.7)
    weights = np.abs(wave[None, :num_experts]) + np.float32(0.01)
    weights /= weights.sum()
    answers = 2 * wave[num_experts:].reshape(1, num_experts, num_values)
    found = combine.run(weights, answers)[0].copy()
    if found.shape != (1, num_values):
        return MixingForm.OTHER
    shares = weights[0]
    for form in (MixingForm.SOFTMAX, MixingForm.SUM):
        expected = FewExperts(form, num_values).mix_row(list(answers[0][:, None]), shares.tolist())
        if np.abs(found - expected).max() < _AGREES:
            return form
    return MixingForm.OTHER


_CEILING = np.array(60.0, dtype=np.float32)
"""exp of more than 88 overflows float32; of this neither it nor a sum of many does."""


class _Buffers:
    """Room for the answers of a number of experts, and views into it."""

    def __init__(self, count: int, num_values: int) -> None:
        self.values: Floats = np.empty((count, num_values), dtype=np.float32)
        self.rows = list(self.values)
        self.factors: Floats = np.empty((1, count), dtype=np.float32)
        self.factor = self.factors[0]


class FewExperts:
    """Mixes the answers of a few experts in NumPy. Not safe for concurrent use."""

    def __init__(self, form: MixingForm, num_values: int) -> None:
        """Prepare for ``SUM`` or ``SOFTMAX``."""
        self._softmax = form is MixingForm.SOFTMAX
        self._ones = np.ones(num_values, dtype=np.float32)
        self._buffers: dict[int, _Buffers] = {}

    def mix_row(self, answers: Sequence[npt.NDArray[Any]], shares: list[float]) -> Floats:
        """Mix one row.

        Args:
            answers: float32 (1, V) from each expert that ran.
            shares: What each counts.

        Returns:
            float32 (1, V).
        """
        buffers = self._buffers.get(len(answers))
        if buffers is None:
            buffers = self._buffers[len(answers)] = _Buffers(len(answers), len(self._ones))
        values, factor = buffers.values, buffers.factor
        for index, row in enumerate(buffers.rows):
            row[:] = answers[index][0]
        if self._softmax:
            # No maximum is subtracted, which would cost a third of it all: sums tell whether that was needed.
            np.minimum(values, _CEILING, out=values)
            np.exp(values, out=values)
            sums = values.dot(self._ones).tolist()
            if not (min(sums) > 1e-20 and max(sums) < 1e26):
                return self._mix_far_apart(answers, shares)
            for index, total in enumerate(sums):
                factor[index] = shares[index] / total
        else:
            factor[:] = shares
        mixed: Floats = buffers.factors.dot(values)
        return mixed

    def mix_rows(self, answers: Floats, pairs: Pairs) -> Floats:
        """Mix rows.

        Args:
            answers: float32 (p, V), one of each pair; overwritten.
            pairs: Who answered whom.

        Returns:
            float32 (n, V).
        """
        if self._softmax:
            with np.errstate(invalid="ignore"):
                answers -= answers.max(axis=1, keepdims=True)
            np.exp(answers, out=answers)
            answers *= (pairs.shares / answers.sum(axis=1))[:, None]
        else:
            answers *= pairs.shares[:, None]
        if len(answers) == len(pairs.starts) * pairs.counts[0] and (pairs.counts == pairs.counts[0]).all():
            answers = answers.reshape(len(pairs.starts), pairs.counts[0], -1)
            total: Floats = answers.sum(axis=1)
            return total
        mixed: Floats = np.add.reduceat(answers, pairs.starts, axis=0)
        return mixed

    def _mix_far_apart(self, answers: Sequence[npt.NDArray[Any]], shares: list[float]) -> Floats:
        values = np.concatenate(answers)
        with np.errstate(invalid="ignore"):  # infinite answers give no number, as in the graph
            values = np.exp(values - values.max(axis=1, keepdims=True))
        factors = np.asarray(shares, dtype=np.float32) / values.sum(axis=1)
        mixed: Floats = (factors[None] @ values).astype(np.float32)
        return mixed
