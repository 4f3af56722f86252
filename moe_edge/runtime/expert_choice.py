"""Which experts a row gets, and what each counts: the rules of ``moe_edge.routing``, fast for one row and for many.

Layer: device. Imports NumPy and ``moe_edge.runtime.modes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from moe_edge.runtime.modes import Plan

    Weights = npt.NDArray[np.float32]
    Indices = npt.NDArray[np.intp]

_FEW = 8
"""Up to so many experts, taking the largest again and again is faster than sorting all weights."""
_SUM_ERROR = 1e-9
"""Absorbs the rounding of a sum of weights, as in ``moe_edge.routing.experts_for_mass``."""


class Pairs(NamedTuple):
    """Who runs for whom: one entry for each expert of each row, a row's entries next to each other.

    Attributes:
        starts: (n,), where each row's entries begin.
        counts: (n,), how many it has, at least 1.
        rows: (p,), the row.
        experts: (p,), the expert, a row's heaviest first.
        shares: float32 (p,), what the expert counts; a row's sum to 1.
    """

    starts: Indices
    counts: Indices
    rows: Indices
    experts: Indices
    shares: Weights


class ExpertChoice:
    """Chooses experts by their gate weights; of equal weights the lower index comes first."""

    def __init__(self, plan: Plan) -> None:
        """Take the rule: a mass, a number, or both."""
        self._mass = plan.mass
        self._enough = float("inf") if plan.mass is None else plan.mass - _SUM_ERROR
        self._limit = plan.max_experts
        self._exact = plan.exact_weights

    def for_row(self, weights: Weights) -> tuple[list[int], list[float]]:
        """The experts of one row, heaviest first, and their shares.

        Args:
            weights: float32 (E,), not negative; overwritten.
        """
        if self._limit > _FEW and self._mass is None:
            pairs = self.for_rows(weights[None])
            return pairs.experts.tolist(), pairs.shares.tolist()
        experts: list[int] = []
        shares: list[float] = []
        total, limit, enough = 0.0, self._limit, self._enough
        strongest, weight_of = weights.argmax, weights.item
        while True:
            expert = int(strongest())
            share = weight_of(expert)
            if share <= 0 and experts:
                break
            experts.append(expert)
            shares.append(share)
            total += share
            if total >= enough or len(experts) == limit:
                break
            weights[expert] = -1.0
        if self._exact or total <= 0:
            return experts, shares if self._exact else [1.0 / len(shares)] * len(shares)
        return experts, [share / total for share in shares]

    def for_rows(self, weights: Weights) -> Pairs:
        """The same for rows.

        Args:
            weights: float32 (n, E); left as it is.
        """
        order = self._heaviest(weights)
        ordered = np.take_along_axis(weights, order, axis=1).astype(np.float64)
        # Like for one row: an expert that counts nothing doesn't run.
        needed = ordered > 0
        if self._mass is not None:
            needed &= np.cumsum(ordered, axis=1) - ordered < self._mass - _SUM_ERROR
        needed[:, 0] = True
        kept = np.where(needed, ordered, 0.0)
        if not self._exact:
            sums = kept.sum(axis=1, keepdims=True)
            kept = np.where(sums > 0, kept / np.where(sums > 0, sums, 1.0), needed)
        counts = needed.sum(axis=1)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp)
        rows = np.repeat(np.arange(len(weights)), counts)
        return Pairs(starts, counts, rows, order[needed], kept[needed].astype(np.float32))

    def _heaviest(self, weights: Weights) -> Indices:
        """Indices (n, limit), heaviest first."""
        if self._limit > _FEW:
            return np.argsort(-weights, axis=1, kind="stable")[:, : self._limit]
        left = weights.copy()
        order = np.empty((len(weights), self._limit), dtype=np.intp)
        every = np.arange(len(weights))
        for place in range(self._limit):
            order[:, place] = best = left.argmax(axis=1)
            left[every, best] = -1.0
        return order
