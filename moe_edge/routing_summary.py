"""How a mixture routes a set of rows: use of each expert, how sharp the gate is, how close to flipping.

Layer: shared. Imports NumPy and ``moe_edge.routing``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe_edge.routing import FloatArray, experts_for_mass

MASS = 0.99
"""Gate mass at which the experts that a row needs are counted."""

CLOSE_MARGIN = 0.1
"""Rows whose two strongest experts differ by less may be routed otherwise after quantization."""


@dataclass(frozen=True, kw_only=True)
class ExpertUse:
    """One expert over the rows.

    Attributes:
        mean_weight: Its mean routing weight, in [0, 1].
        strongest_rows: Rows that give it the largest weight.
        needed_rows: Rows that need it to reach the mass.
    """

    mean_weight: float
    strongest_rows: int
    needed_rows: int


@dataclass(frozen=True, kw_only=True)
class RoutingSummary:
    """How a mixture routes a set of rows.

    Attributes:
        num_rows: The rows.
        experts: Each expert's use.
        experts_per_row: Mean number of experts that reach the mass.
        mass: That mass.
        median_margin: Median difference of the two largest weights of a row.
        close_rows: Rows with a margin below ``CLOSE_MARGIN``.
    """

    num_rows: int
    experts: tuple[ExpertUse, ...]
    experts_per_row: float
    mass: float
    median_margin: float
    close_rows: int


def summarise_routing(routing_weights: FloatArray, *, mass: float = MASS) -> RoutingSummary:
    """Summarise the gate's answers.

    Args:
        routing_weights: (n, E) with n >= 1, E >= 2; rows that sum to 1.
        mass: In (0, 1].

    Raises:
        ValueError: If the shape or ``mass`` is wrong.
    """
    if routing_weights.ndim != 2 or not len(routing_weights) or routing_weights.shape[1] < 2:
        raise ValueError(f"expected routing weights (n, E) with n >= 1 and E >= 2, got {routing_weights.shape}")
    needed: npt.NDArray[np.bool_] = experts_for_mass(routing_weights, mass)
    strongest = routing_weights.argmax(axis=1)
    ordered = np.sort(routing_weights, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    return RoutingSummary(
        num_rows=len(routing_weights),
        experts=tuple(
            ExpertUse(
                mean_weight=float(routing_weights[:, expert].mean()),
                strongest_rows=int((strongest == expert).sum()),
                needed_rows=int(needed[:, expert].sum()),
            )
            for expert in range(routing_weights.shape[1])
        ),
        experts_per_row=float(needed.sum(axis=1).mean()),
        mass=mass,
        median_margin=float(np.median(margins)),
        close_rows=int((margins < CLOSE_MARGIN).sum()),
    )
