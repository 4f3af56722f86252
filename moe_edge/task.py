"""What a mixture answers, and how it mixes its experts: all that the device needs to know of a configuration.

Apart from ``moe_edge.config`` so that a prediction doesn't wait for the training configurations to be built.
Layer: shared. Imports nothing but the standard library.
"""

from __future__ import annotations

import enum


class Task(str, enum.Enum):
    """What the model answers: a label, or one or several numbers."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Combine(str, enum.Enum):
    """How the experts' answers are mixed.

    ``probabilities`` and ``gaussian`` are mixtures whose best experts may run alone; ``mean`` (trained on the squared
    error of the sum) and ``logits`` are cooperative and must run dense (Jacobs et al. 1991).
    """

    PROBABILITIES = "probabilities"
    GAUSSIAN = "gaussian"
    MEAN = "mean"
    LOGITS = "logits"

    @property
    def routable(self) -> bool:
        """Whether a few experts may stand for all of them."""
        return self in (Combine.PROBABILITIES, Combine.GAUSSIAN)
