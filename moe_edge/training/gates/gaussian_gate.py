"""The Gaussian gate (Xu, Jordan & Hinton 1995): each expert owns a region of the features, given as a density.

``g_i = alpha_i N(x; m_i, S_i) / sum_j alpha_j N(x; m_j, S_j)``. The M step of expectation-maximisation is in closed
form, and the density itself, ``log sum_i alpha_i N(x; m_i, S_i)``, says how usual a row is.
B is the batch, E the number of experts, F the number of features, n the rows of a fit.
Layer: desktop (training).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

Array = npt.NDArray[np.float64]

COVARIANCES = ("diagonal", "full")
MIN_SCALE = 1e-2
"""Smallest standard deviation, in the features' unit (standardised rows): the floor under columns that never vary."""
VARIANCE_FLOOR = 1e-3
"""Smallest variance in a direction, as a share of the column's variance over all rows: keeps the likelihood bounded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianComponents:
    """The densities as numbers.

    Attributes:
        log_prior: log alpha_i, float64 (E,); the priors sum to 1.
        mean: m_i, float64 (E, F).
        whitening: One over the standard deviations (E, F), or lower triangular P_i with S_i = inv(P_i' P_i) (E, F, F).
    """

    log_prior: Array
    mean: Array
    whitening: Array

    @property
    def log_scale_factor(self) -> Array:
        """Log alpha_i - F/2 log 2 pi - 1/2 log |S_i|, float64 (E,): the log density at the mean."""
        diagonal = self.whitening if self.whitening.ndim == 2 else np.diagonal(self.whitening, axis1=1, axis2=2)
        constant = -0.5 * self.mean.shape[1] * math.log(2 * math.pi)
        return np.asarray(self.log_prior + np.log(diagonal).sum(axis=1) + constant, dtype=np.float64)

    def log_joint(self, x: npt.NDArray[Any]) -> Array:
        """Log alpha_i N(x; m_i, S_i): float64 (n, E)."""
        distance = x.astype(np.float64)[:, None, :] - self.mean
        if self.whitening.ndim == 2:
            white = distance * self.whitening
        else:
            white = np.einsum("nef,egf->neg", distance, self.whitening)
        return np.asarray(self.log_scale_factor - 0.5 * np.square(white).sum(axis=2), dtype=np.float64)


def fit_components(x: npt.NDArray[Any], responsibilities: Array, covariance: str = "diagonal") -> GaussianComponents:
    """The closed-form M step: weighted shares, means and covariances.

    The floor of a column's variance is the larger of ``VARIANCE_FLOOR`` times its variance over all rows and
    ``MIN_SCALE`` squared. It is a lower limit, of full covariances in every direction (``S - diag(floor)`` has no
    negative eigenvalue), and the fit is the maximum of the likelihood within it, so that EM's likelihood doesn't fall.
    An expert of no rows gets the mean and variance of all.

    Args:
        x: Features (n, F).
        responsibilities: float64 (n, E), at least 0.
        covariance: ``diagonal`` or ``full``.

    Raises:
        ValueError: If shapes don't fit, or nobody is responsible for anything.
    """
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or responsibilities.ndim != 2 or len(rows) != len(responsibilities) or not len(rows):
        raise ValueError(f"expected x (n, F) and responsibilities (n, E), got {x.shape} and {responsibilities.shape}")
    total = responsibilities.sum(axis=0)
    if not (np.isfinite(total).all() and (responsibilities >= 0).all() and total.sum() > 0):
        raise ValueError("expected responsibilities of at least 0 that are not all 0")
    floor = np.maximum(VARIANCE_FLOOR * rows.var(axis=0), MIN_SCALE**2)
    # Less than a thousandth of a row says nothing about a region.
    shares = np.where(total[None, :] > 1e-3, responsibilities / np.maximum(total, 1e-300), 1 / len(rows))
    mean = shares.T @ rows
    prior = np.maximum(total / total.sum(), 1e-6)
    log_prior = np.log(prior / prior.sum())
    if covariance == "diagonal":
        variance = np.stack([share @ np.square(rows - centre) for share, centre in zip(shares.T, mean, strict=True)])
        whitening = 1 / np.sqrt(np.maximum(variance, floor))
    else:
        factors = []
        for share, centre in zip(shares.T, mean, strict=True):
            distance = rows - centre
            # In units of the floor, where the limit is the identity: eigenvalues below 1 rise to 1.
            scaled = distance / np.sqrt(floor)
            values, directions = np.linalg.eigh((scaled * share[:, None]).T @ scaled)
            limited = (directions * np.maximum(values, 1.0)) @ directions.T
            lower = np.linalg.cholesky(limited) * np.sqrt(floor)[:, None]
            factors.append(np.tril(np.linalg.solve(lower, np.eye(len(floor)))))
        whitening = np.stack(factors)
    return GaussianComponents(log_prior=log_prior, mean=mean, whitening=whitening)


@keras.saving.register_keras_serializable(package="moe_edge")
class GaussianGate(keras.layers.Layer):
    """Features (B, F) to logits (B, E) whose softmax is the gate: ``log alpha_i N(x; m_i, S_i)`` less ``offset``.

    Distances are taken from each mean before they are scaled, so that no digits are lost where means are far from 0.
    Trained by gradient, or set by ``assign`` in closed form.

    Attributes:
        num_experts: E.
        covariance: ``diagonal`` or ``full``.
    """

    def __init__(self, num_experts: int, covariance: str = "diagonal", seed: int = 0, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if num_experts < 2 or covariance not in COVARIANCES:
            raise ValueError(
                f"expected at least 2 experts and covariance among {', '.join(COVARIANCES)}, "
                f"got {num_experts} and {covariance!r}"
            )
        self.num_experts = int(num_experts)
        self.covariance = covariance
        self.seed = int(seed)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the densities: means drawn from a standard normal distribution, variances of 1."""
        if len(input_shape) != 2 or input_shape[1] is None:
            raise ValueError(f"{self.name}: expected features (B, F), got {tuple(input_shape)}")
        shape = (self.num_experts, input_shape[1])
        normal = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.prior = self.add_weight(name="prior_logits", shape=(self.num_experts,), initializer="zeros")
        self.mean = self.add_weight(name="mean", shape=shape, initializer=normal)
        # Logarithms of one over the standard deviations; of full covariances those of P_i's diagonal.
        self.log_precision = self.add_weight(name="log_precision", shape=shape, initializer="zeros")
        if self.covariance == "full":
            self.factor = self.add_weight(name="factor", shape=(*shape, shape[1]), initializer="zeros")

    def call(self, x: Any) -> Any:
        """(B, F) to (B, E)."""
        distance = ops.expand_dims(x, 1) - self.mean
        log_precision = self._log_precision()
        white = distance * ops.exp(log_precision)
        if self.covariance == "full":
            below = np.tril(np.ones((x.shape[-1], x.shape[-1]), np.float32), -1)
            white = white + ops.einsum("bef,egf->beg", distance, self.factor * below)
        peak, offset = self._peaks(log_precision)
        return peak - offset - 0.5 * ops.sum(ops.square(white), axis=-1)

    def log_density(self, x: Any) -> Any:
        """Log sum_i alpha_i N(x; m_i, S_i): (B, F) to (B, 1); a density, so above 0 where rows are dense."""
        _, offset = self._peaks(self._log_precision())
        return ops.logsumexp(self(x), axis=-1, keepdims=True) + offset

    def assign(self, components: GaussianComponents) -> None:
        """Take densities over."""
        whitening = components.whitening
        self.prior.assign(components.log_prior)
        self.mean.assign(components.mean)
        if self.covariance == "full":
            self.log_precision.assign(np.log(np.diagonal(whitening, axis1=1, axis2=2)))
            self.factor.assign(np.tril(whitening, -1))
        else:
            self.log_precision.assign(np.log(whitening))

    def components(self) -> GaussianComponents:
        """The densities as they are now."""
        prior = np.asarray(self.prior, dtype=np.float64)
        largest = prior.max()
        precision = np.exp(np.minimum(np.asarray(self.log_precision, dtype=np.float64), -math.log(MIN_SCALE)))
        whitening = precision
        if self.covariance == "full":
            diagonal = precision[:, :, None] * np.eye(precision.shape[1])
            whitening = np.tril(np.asarray(self.factor, dtype=np.float64), -1) + diagonal
        return GaussianComponents(
            log_prior=prior - largest - np.log(np.exp(prior - largest).sum()),
            mean=np.asarray(self.mean, dtype=np.float64),
            whitening=whitening,
        )

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """(B, F) to (B, E)."""
        return (input_shape[0], self.num_experts)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "covariance": self.covariance,
            "seed": self.seed,
        }

    def _log_precision(self) -> Any:
        return ops.minimum(self.log_precision, -math.log(MIN_SCALE))

    def _peaks(self, log_precision: Any) -> tuple[Any, Any]:
        """The log densities at the means (E,), and their mean, which the logits are taken from.

        Columns that never vary add hundreds to every logit, which would cost the softmax digits.
        """
        constant = -0.5 * self.mean.shape[1] * math.log(2 * math.pi)
        peak = ops.log_softmax(self.prior) + ops.sum(log_precision, axis=-1) + constant
        return peak, ops.mean(peak)


@keras.saving.register_keras_serializable(package="moe_edge")
class GateLogDensity(keras.layers.Layer):
    """The log density (B, 1) of features (B, F) under a Gaussian gate, whose weights it shares.

    Attributes:
        gate: The gate.
    """

    def __init__(self, gate: GaussianGate, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gate = gate

    def call(self, x: Any) -> Any:
        """(B, F) to (B, 1)."""
        return self.gate.log_density(x)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """(B, F) to (B, 1)."""
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "gate": keras.saving.serialize_keras_object(self.gate)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GateLogDensity:
        """Build the layer back."""
        return cls(gate=keras.saving.deserialize_keras_object(config.pop("gate")), **config)
