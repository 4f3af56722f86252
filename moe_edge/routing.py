"""Routing and mixing in NumPy: the reference that graphs and runtimes are tested against.

A gate gives each row weights over the experts (Jacobs et al. 1991); the mixture is their weighted sum, or, sparse,
that of a row's ``top_k`` experts with renormalised weights (Shazeer et al. 2017), or of as many experts as hold a given
mass of the gate (top-p routing, Huang et al. 2024).
Layer: shared. Imports NumPy and ``moe_edge.task``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moe_edge.task import Combine

FloatArray = npt.NDArray[np.floating]
IndexArray = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


class Moments(NamedTuple):
    """Mean and standard deviation of a mixture of Gaussians, each (n, K)."""

    mean: npt.NDArray[np.float64]
    sigma: npt.NDArray[np.float64]


def top_k_experts(routing_weights: FloatArray, k: int) -> IndexArray:
    """The ``k`` heaviest experts of each row, heaviest first; of equal weights the lower index comes first.

    Args:
        routing_weights: (n, E).
        k: In [1, E].

    Returns:
        Indices (n, k).

    Raises:
        ValueError: If the shape or ``k`` is wrong.
    """
    _check_weights(routing_weights)
    if not 1 <= k <= routing_weights.shape[1]:
        raise ValueError(f"expected 1 <= k <= {routing_weights.shape[1]} experts, got k={k}")
    return np.argsort(-routing_weights, axis=1, kind="stable")[:, :k]


def experts_for_mass(routing_weights: FloatArray, mass: float) -> Mask:
    """The fewest experts of each row, heaviest first, whose weights add up to at least ``mass``.

    Args:
        routing_weights: (n, E), rows that sum to 1.
        mass: In (0, 1]. A row whose rounded weights never reach it gets every expert with a weight above 0.

    Returns:
        bool (n, E), at least one True a row.

    Raises:
        ValueError: If the shape or ``mass`` is wrong.
    """
    _check_weights(routing_weights)
    if not 0 < mass <= 1:
        raise ValueError(f"expected 0 < mass <= 1, got {mass}")
    order = np.argsort(-routing_weights, axis=1, kind="stable")
    ordered = np.take_along_axis(routing_weights, order, axis=1).astype(np.float64)
    before = np.cumsum(ordered, axis=1) - ordered
    # An expert is needed while those before it don't hold the mass; 1e-9 absorbs the sum's own rounding.
    needed = (before < mass - 1e-9) & (ordered > 0)
    needed[:, 0] = True
    mask = np.zeros(routing_weights.shape, dtype=bool)
    np.put_along_axis(mask, order, needed, axis=1)
    return mask


def renormalise(routing_weights: FloatArray, chosen: Mask) -> npt.NDArray[np.float64]:
    """Weights of the chosen experts, scaled to sum to 1 in each row; 0 for the others.

    Args:
        routing_weights: (n, E), not negative.
        chosen: bool (n, E), at least one True a row.

    Returns:
        float64 (n, E). Where all chosen weights are 0, the chosen experts share the row evenly.

    Raises:
        ValueError: If shapes differ, or a row has no chosen expert.
    """
    _check_weights(routing_weights)
    if chosen.shape != routing_weights.shape:
        raise ValueError(f"expected a mask of shape {routing_weights.shape}, got {chosen.shape}")
    if not chosen.any(axis=1).all():
        raise ValueError(
            f"expected at least one chosen expert a row, row {int(np.argmin(chosen.any(axis=1)))} has none"
        )
    kept = np.where(chosen, routing_weights.astype(np.float64), 0.0)
    # Scaling by the largest first keeps tiny weights from underflowing in the sum.
    largest = kept.max(axis=1, keepdims=True)
    kept = np.where(largest > 0, kept / np.where(largest > 0, largest, 1.0), chosen)
    return np.asarray(kept / kept.sum(axis=1, keepdims=True), dtype=np.float64)


def combine(routing_weights: FloatArray, expert_outputs: FloatArray, how: Combine) -> npt.NDArray[np.float64]:
    """Mix the experts' answers.

    Args:
        routing_weights: (n, E).
        expert_outputs: (n, E, K): probabilities, logits, or values; for ``gaussian`` (n, E, 2 K), means, then sigmas.
        how: ``probabilities`` and ``mean``: weighted sum. ``logits``: softmax of the weighted sum. ``gaussian``: the
            mixture's mean.

    Returns:
        float64 (n, K).

    Raises:
        ValueError: If the shapes don't fit.
    """
    _check_weights(routing_weights)
    if expert_outputs.ndim != 3 or expert_outputs.shape[:2] != routing_weights.shape:
        raise ValueError(f"expected expert outputs (n, E, K) for {routing_weights.shape}, got {expert_outputs.shape}")
    if how is Combine.GAUSSIAN:
        if expert_outputs.shape[2] % 2:
            raise ValueError(f"expected means and sigmas, an even last axis, got {expert_outputs.shape}")
        means, sigmas = np.split(expert_outputs, 2, axis=2)
        return mixture_moments(routing_weights, means, sigmas).mean
    mixed = np.einsum("ne,nek->nk", routing_weights.astype(np.float64), expert_outputs.astype(np.float64))
    if how is Combine.LOGITS:
        shifted = np.exp(mixed - mixed.max(axis=1, keepdims=True))
        mixed = shifted / shifted.sum(axis=1, keepdims=True)
    return np.asarray(mixed, dtype=np.float64)


def mixture_moments(routing_weights: FloatArray, means: FloatArray, sigmas: FloatArray) -> Moments:
    """Mean and standard deviation of a mixture of Gaussians, by the law of total variance.

    ``mean = sum g mu``, ``variance = sum g (sigma^2 + (mu - mean)^2)`` (Bishop 1994, mixture density networks).

    Args:
        routing_weights: (n, E), rows that sum to 1.
        means: (n, E, K).
        sigmas: (n, E, K), standard deviations, not negative.

    Raises:
        ValueError: If the shapes don't fit.
    """
    _check_weights(routing_weights)
    if means.shape != sigmas.shape or means.ndim != 3 or means.shape[:2] != routing_weights.shape:
        raise ValueError(
            f"expected means and sigmas (n, E, K) for {routing_weights.shape}, got {means.shape} and {sigmas.shape}"
        )
    weights = routing_weights.astype(np.float64)
    mean = np.einsum("ne,nek->nk", weights, means.astype(np.float64))
    spread = (means.astype(np.float64) - mean[:, None, :]) ** 2 + sigmas.astype(np.float64) ** 2
    return Moments(mean, np.sqrt(np.einsum("ne,nek->nk", weights, spread)))


def _check_weights(routing_weights: FloatArray) -> None:
    if routing_weights.ndim != 2 or routing_weights.shape[1] < 1:
        raise ValueError(f"expected routing weights of shape (n, E), got {routing_weights.shape}")
