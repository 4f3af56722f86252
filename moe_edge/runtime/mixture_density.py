"""The whole distribution that a mixture of Gaussian experts predicts: density, cumulative distribution, quantiles.

A mixture density (Bishop 1994, "Mixture density networks"): each expert gives a mean and a standard deviation for every
output, the gate their weights. n is the number of rows, E of experts, K of outputs, Q of quantiles.
Layer: device. Imports NumPy and the standard library; NumPy has no erf, ``math.erfc`` is exact to the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from moe_edge.errors import DataError
from moe_edge.routing import mixture_moments

Array = npt.NDArray[np.float64]

INTERVAL = (0.05, 0.95)
"""The quantiles between which explanations say that 90 % of answers lie."""

_erfc = np.frompyfunc(math.erfc, 1, 1)
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_CLOSE = 1e-9
"""A quantile is found when it moves by less than this share of the narrowest component's sigma."""
_MOST_STEPS = 200
"""Steps halve at least every other time, and 52 halvings of an interval reach float64's resolution."""
_MOST_VALUES = 1 << 20
"""Components of all rows, levels and outputs that are looked at in one go: 8 MiB an array."""


def normal_cdf(z: npt.NDArray[np.floating]) -> Array:
    """The standard normal's cumulative distribution, exact in the lower tail too; about 0.1 us a value."""
    return np.asarray(_erfc(np.asarray(z, np.float64) * -math.sqrt(0.5)), dtype=np.float64) * 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureDensity:
    """The distributions of some rows; the outputs of one row are independent given the expert.

    Attributes:
        weights: float64 (n, E), rows that sum to 1; 0 for experts that didn't run.
        means: float64 (n, E, K), in the user's units.
        sigmas: float64 (n, E, K), standard deviations in the user's units, above 0 wherever the weight is.
    """

    weights: npt.NDArray[np.floating]
    means: npt.NDArray[np.floating]
    sigmas: npt.NDArray[np.floating]

    def __post_init__(self) -> None:
        for name in ("weights", "means", "sigmas"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.means.shape != self.sigmas.shape or self.means.ndim != 3 or self.means.shape[:2] != self.weights.shape:
            raise ValueError(
                f"expected weights (n, E), means and sigmas (n, E, K), got {self.weights.shape}, {self.means.shape} "
                f"and {self.sigmas.shape}"
            )
        # What didn't run counts nothing, whatever it holds: 0 times infinity is no number.
        silent = (self.weights == 0)[:, :, None]
        object.__setattr__(self, "means", np.where(silent, 0.0, self.means))
        object.__setattr__(self, "sigmas", np.where(silent, 1.0, self.sigmas))
        if (self.sigmas <= 0).any():
            raise ValueError(f"expected sigmas above 0 where the weight is, got {self.sigmas.min()}")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.weights)

    @property
    def mean(self) -> Array:
        """(n, K)."""
        return mixture_moments(self.weights, self.means, self.sigmas).mean

    @property
    def std(self) -> Array:
        """Standard deviations, (n, K)."""
        return mixture_moments(self.weights, self.means, self.sigmas).sigma

    def cdf(self, y: npt.ArrayLike) -> Array:
        """The probability of at most ``y``, output by output.

        Args:
            y: (n, K), in the user's units.

        Returns:
            (n, K) in [0, 1].
        """
        z = (self._targets(y)[:, None, :] - self.means) / self.sigmas
        return np.asarray(np.einsum("ne,nek->nk", self.weights, normal_cdf(z)), dtype=np.float64)

    def log_density(self, y: npt.ArrayLike) -> Array:
        """Logarithm of each output's own (marginal) density at ``y``.

        Args:
            y: (n, K), in the user's units.

        Returns:
            (n, K); in 1 / unit, before the logarithm.
        """
        return self._log_sum(self._log_components(y))

    def joint_log_density(self, y: npt.ArrayLike) -> Array:
        """Logarithm of the density of all outputs together at ``y`` (n, K); (n,). What training maximises."""
        return self._log_sum(self._log_components(y).sum(axis=2, keepdims=True))[:, 0]

    def quantiles(self, levels: Sequence[float]) -> npt.NDArray[np.float32]:
        """The values below which given shares of the probability lie, output by output.

        Newton's steps on the cumulative distribution inside a shrinking interval, halved where a step would leave it.
        The quantile lies between the components' own smallest and largest, so that one component is exact at once.

        Args:
            levels: Each in (0, 1), in any order.

        Returns:
            float32 (n, Q, K), not falling in a rising level; NaN where the row's parameters are.

        Raises:
            ValueError: If a level isn't in (0, 1).
        """
        check_levels(levels)
        rows, experts, outputs = self.means.shape
        found = np.empty((rows, len(levels), outputs), dtype=np.float64)
        step = max(1, _MOST_VALUES // (len(levels) * outputs * experts))
        for start in range(0, rows, step):
            found[start : start + step] = self._solve_rows(slice(start, start + step), levels)
        # Where no probability lies between components a quantile is any point there: rounding must not cross them.
        order = np.argsort(np.asarray(levels), kind="stable")
        found[:, order] = np.maximum.accumulate(found[:, order], axis=1)
        return found.astype(np.float32)

    def _solve_rows(self, rows: slice, levels: Sequence[float]) -> Array:
        """Some rows' quantiles, (rows, Q, K): one problem a row, level and output."""
        weights = self.weights[rows, None, None, :]
        means, sigmas = (part[rows].transpose(0, 2, 1)[:, None] for part in (self.means, self.sigmas))
        shape = (len(weights), len(levels), means.shape[2], means.shape[3])
        weights, means, sigmas = (
            np.broadcast_to(part, shape).reshape(-1, shape[3]).astype(np.float64) for part in (weights, means, sigmas)
        )
        wanted = np.broadcast_to(np.asarray(levels, dtype=np.float64)[None, :, None], shape[:3]).reshape(-1)
        return _solve(weights, means, sigmas, wanted).reshape(shape[:3])

    def _targets(self, y: npt.ArrayLike) -> Array:
        targets = np.asarray(y, dtype=np.float64)
        expected = (len(self), self.means.shape[2])
        if targets.shape != expected:
            raise DataError(f"expected one value a row and output, {expected}, got {targets.shape}")
        return targets

    def _log_components(self, y: npt.ArrayLike) -> Array:
        z = (self._targets(y)[:, None, :] - self.means) / self.sigmas
        return np.asarray(-0.5 * z * z - np.log(self.sigmas) - _HALF_LOG_TAU, dtype=np.float64)

    def _log_sum(self, terms: Array) -> Array:
        with np.errstate(divide="ignore"):
            weighted = terms + np.log(self.weights)[:, :, None]
        largest = weighted.max(axis=1, keepdims=True)
        return np.asarray(largest[:, 0] + np.log(np.exp(weighted - largest).sum(axis=1)), dtype=np.float64)


def check_levels(levels: Sequence[float]) -> None:
    """Refuse quantile levels outside (0, 1).

    Raises:
        ValueError: With the level.
    """
    if not len(levels):
        raise ValueError("expected at least one quantile level in (0, 1), got none")
    for level in levels:
        if not 0 < level < 1:
            raise ValueError(f"expected quantile levels in (0, 1), got {level}; the median is 0.5")


def _solve(weights: Array, means: Array, sigmas: Array, levels: Array) -> Array:
    """One quantile of each of m mixtures, given (m, E) parameters and (m,) levels; (m,).

    Newton's method, safeguarded by bisection where a step would leave the interval or doesn't halve the one before
    the last (Press et al., Numerical Recipes, ``rtsafe``).
    """
    # Weights rounded to float32 sum to almost 1: without this the extreme levels might lie outside.
    with np.errstate(invalid="ignore"):
        weights = weights / weights.sum(axis=1, keepdims=True)
    own = means + sigmas * np.array([NormalDist().inv_cdf(level) for level in levels.tolist()])[:, None]
    counts = weights > 0
    low = np.where(counts, own, np.inf).min(axis=1)
    high = np.where(counts, own, -np.inf).max(axis=1)
    narrowest = np.where(counts, sigmas, np.inf).min(axis=1)
    with np.errstate(invalid="ignore"):
        x = 0.5 * (low + high)
    finite = np.isfinite(x) & np.isfinite(weights).all(axis=1)
    x[~finite] = np.nan
    tolerance = np.maximum(_CLOSE * narrowest, 4 * np.finfo(np.float64).eps * np.maximum(np.abs(low), np.abs(high)))
    last, before_last = high - low, high - low
    active = np.flatnonzero(finite & (high - low > tolerance))
    for _ in range(_MOST_STEPS):
        if not len(active):
            break
        s, here, close = sigmas[active], x[active], tolerance[active]
        z = (here[:, None] - means[active]) / s
        excess = (weights[active] * normal_cdf(z)).sum(axis=1) - levels[active]
        density = (weights[active] * np.exp(-0.5 * z * z) / s).sum(axis=1) / math.sqrt(2 * math.pi)
        lows = low[active] = np.where(excess <= 0, here, low[active])
        highs = high[active] = np.where(excess >= 0, here, high[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = here - excess / density
            trusted = (newton >= lows) & (newton <= highs) & (2 * np.abs(excess) <= before_last[active] * density)
        following = np.where(trusted, newton, 0.5 * (lows + highs))
        moved = np.abs(following - here)
        before_last[active], last[active] = last[active], moved
        x[active] = following
        active = active[(moved > close) & (highs - lows > close)]
    return np.asarray(x, dtype=np.float64)
