"""How likely each expert makes each row's answer, and how strongly the gate backs it: what EM works with.

All in float64 and in logarithms.
Layer: desktop (training).
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from moe_edge.config import Combine
from moe_edge.training.gates.gaussian_gate import GaussianGate
from moe_edge.training.score import predict
from moe_edge.training.strategies.weighted_fit import MAX_SIGMA, MIN_SIGMA

SMOOTHING = 1e-3
"""Share of an expert's probability that EM spreads over all classes: a tree's 0 would damn it for a single row."""
_SMALLEST_GATE = 1e-9
Array = npt.NDArray[np.float64]


def log_likelihoods(answers: npt.NDArray[Any], targets: npt.NDArray[Any], combine: Combine) -> Array:
    """``log P(y | x, e)`` of one expert's raw answers.

    Args:
        answers: (n, V): probabilities, or standardised means and logarithms of sigmas.
        targets: int64 (n,), or standardised float64 (n, K).
        combine: ``probabilities`` or ``gaussian``.

    Returns:
        float64 (n,); classes smoothed by ``SMOOTHING``, sigmas within the experts' limits.
    """
    values = np.asarray(answers, np.float64)
    if combine is Combine.PROBABILITIES:
        chosen = values[np.arange(len(values)), targets]
        return np.asarray(np.log((1 - SMOOTHING) * chosen + SMOOTHING / values.shape[1]))
    outputs = targets.shape[1]
    log_sigma = np.clip(values[:, outputs:], math.log(MIN_SIGMA), math.log(MAX_SIGMA))
    z = (targets - values[:, :outputs]) * np.exp(-log_sigma)
    return np.asarray(-(0.5 * z**2 + log_sigma + 0.5 * math.log(2 * math.pi)).sum(axis=1))


def log_gate(gate: keras.Model, x: npt.NDArray[np.float32]) -> Array:
    """``log P(e | x)``, (n, E); of a Gaussian gate ``log P(e, x)``, which its fit maximises (Xu et al. 1995)."""
    density = next((layer for layer in gate.layers if isinstance(layer, GaussianGate)), None)
    # A temperature makes the gate something else than the densities' posterior.
    if density is not None and not any(type(layer).__name__ == "Temperature" for layer in gate.layers):
        parts = density.components()
        rows = x.reshape(len(x), -1).astype(np.float64)
        logs = []
        for log_prior, mean, whitening in zip(parts.log_prior, parts.mean, parts.whitening, strict=True):
            full = whitening.ndim == 2
            white = (rows - mean) @ whitening.T if full else (rows - mean) * whitening
            log_scale = np.log(np.diagonal(whitening) if full else whitening).sum()
            logs.append(log_prior + log_scale - 0.5 * (white**2 + math.log(2 * math.pi)).sum(axis=1))
        return np.stack(logs, axis=1)
    weights = np.maximum(np.asarray(predict(gate, x), np.float64), _SMALLEST_GATE)
    return np.asarray(np.log(weights / weights.sum(axis=1, keepdims=True)))


def responsibilities(log_joint: Array) -> tuple[Array, Array]:
    """The E step: ``h = g P / sum(g P)``, (n, E), and each row's log-likelihood (n,), from logarithms of ``g P``."""
    total = logsumexp(log_joint, axis=1)
    return np.exp(log_joint - total[:, None]), np.asarray(total)
