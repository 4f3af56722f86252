"""An answer with its reasons: which experts gave it, and how sure the mixture is.

Layer: device. Imports NumPy, ``moe_edge.manifest`` and ``moe_edge.routing``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moe_edge.manifest import Manifest
from moe_edge.routing import top_k_experts
from moe_edge.task import Task

if TYPE_CHECKING:
    from moe_edge.runtime.mixture_density import MixtureDensity

_SHOWN_EXPERTS = 3
_SHOWN_ROWS = 10


def usual_log_density(manifest: Manifest) -> float | None:
    """The 1 % quantile of the training rows' log density as the file records it; None where it doesn't."""
    record = manifest.extras.get("gate_log_density")
    value = record.get("quantiles", {}).get("0.01") if isinstance(record, dict) else None
    return float(value) if isinstance(value, (int, float)) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """The answers to some rows.

    Attributes:
        task: Classification or regression.
        class_labels: Names of the classes, or of a regression's outputs, in output order.
        labels: str (n,), the likeliest class of each row; None for regression.
        values: float32 (n, K), the predicted numbers; None for classification.
        confidence: float32 (n,), the probability of ``labels``; None for regression.
        probabilities: float32 (n, K); None for regression.
        sigma: float32 (n, K), standard deviation of ``values``; None where the model has none.
        routing_weights: float32 (n, E), how much each expert counted.
        experts_run: int (n,), how many experts ran; None where all did, in one graph.
        gate_log_density: float32 (n,), log density of each row under a Gaussian gate; None for other gates.
        usual_log_density: What 99 of 100 training rows reach; None where it wasn't measured.
        expert_means: float32 (n, E, K), each Gaussian expert's mean; None where the model has none.
        expert_sigmas: float32 (n, E, K), each Gaussian expert's sigma.
    """

    task: Task
    class_labels: tuple[str, ...]
    labels: npt.NDArray[np.str_] | None
    values: npt.NDArray[np.float32] | None
    confidence: npt.NDArray[np.float32] | None
    probabilities: npt.NDArray[np.float32] | None
    sigma: npt.NDArray[np.float32] | None
    routing_weights: npt.NDArray[np.float32]
    experts_run: npt.NDArray[np.intp] | None = None
    gate_log_density: npt.NDArray[np.float32] | None = None
    usual_log_density: float | None = None
    expert_means: npt.NDArray[np.float32] | None = None
    expert_sigmas: npt.NDArray[np.float32] | None = None

    @property
    def is_unusual(self) -> npt.NDArray[np.bool_] | None:
        """Whether each row is less like the training rows than 99 of 100 of those, bool (n,); None where unknown.

        One in a hundred rows of the training kind is called unusual too. A row may be unusual and its answer right.
        """
        if self.gate_log_density is None or self.usual_log_density is None:
            return None
        # A density that is no number is none that a training row had.
        return ~(self.gate_log_density >= self.usual_log_density)

    @property
    def density(self) -> MixtureDensity | None:
        """The distribution of ``values``; None where the model gives none."""
        if self.expert_means is None or self.expert_sigmas is None:
            return None
        from moe_edge.runtime.mixture_density import MixtureDensity

        return MixtureDensity(weights=self.routing_weights, means=self.expert_means, sigmas=self.expert_sigmas)

    def quantiles(self, levels: Sequence[float]) -> npt.NDArray[np.float32] | None:
        """The values below which given shares of the probability lie, (n, Q, K); None where the model can't say."""
        density = self.density
        return None if density is None else density.quantiles(levels)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.routing_weights)

    def top_experts(self, k: int = 1) -> npt.NDArray[np.intp]:
        """The ``k`` experts that counted most for each row, heaviest first.

        Returns:
            Indices (n, k).

        Raises:
            ValueError: If ``k`` is not in [1, E].
        """
        return top_k_experts(self.routing_weights, k)

    def __str__(self) -> str:
        """One line a row, for reading; the first rows only."""
        lines = [self._line(row) for row in range(min(len(self), _SHOWN_ROWS))]
        if len(self) > _SHOWN_ROWS:
            lines.append(f"... and {len(self) - _SHOWN_ROWS} rows more")
        return "\n".join(lines)

    def _line(self, row: int) -> str:
        weights = self.routing_weights[row]
        experts = self.top_experts(min(_SHOWN_EXPERTS, weights.size))[row]
        spoke = ", ".join(f"expert_{index} {weights[index]:.0%}" for index in experts)
        unusual = self.is_unusual
        warning = "" if unusual is None or not unusual[row] else "; unlike the training rows"
        return f"{self._answer(row)}; {spoke}{warning}"

    def _answer(self, row: int) -> str:
        if self.labels is not None and self.confidence is not None:
            return f"{self.labels[row]} ({self.confidence[row]:.1%})"
        answers = []
        intervals = self._interval(row)
        for index, name in enumerate(self.class_labels):
            value = 0.0 if self.values is None else float(self.values[row, index])
            spread = "" if self.sigma is None else f" ± {self.sigma[row, index]:.3g}"
            within = "" if intervals is None else f" (90 %: {intervals[0, index]:.4g} to {intervals[1, index]:.4g})"
            answers.append(f"{name} = {value:.6g}{spread}{within}")
        return ", ".join(answers)

    def _interval(self, row: int) -> npt.NDArray[np.float32] | None:
        """Where 90 % of the row's probability lies, (2, K)."""
        if self.expert_means is None or self.expert_sigmas is None:
            return None
        from moe_edge.runtime.mixture_density import INTERVAL, MixtureDensity

        here = slice(row, row + 1)
        density = MixtureDensity(
            weights=self.routing_weights[here], means=self.expert_means[here], sigmas=self.expert_sigmas[here]
        )
        interval: npt.NDArray[np.float32] = density.quantiles(INTERVAL)[0]
        return interval
