"""How a mixture is trained, as strict, frozen configuration objects; ``moe_edge.config`` offers them too.

Layer: shared. Imports the standard library.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Recipe(str, enum.Enum):
    """How the mixture is trained.

    ``competitive``: half mixture cross-entropy, half expected cross-entropy, load balancing, label smoothing, best
    epoch on validation rows. ``classical``: sparse categorical cross-entropy of the sum, 10 epochs, batch 32.
    """

    COMPETITIVE = "competitive"
    CLASSICAL = "classical"


class Strategy(str, enum.Enum):
    """In which order experts and gate learn.

    ``joint``: backpropagation through everything. ``staged``: each expert on its piece of the rows, then the gate.
    ``em``: expectation-maximisation (Jordan & Jacobs 1994): who is responsible for which row, then weighted fits of
    experts and gate, again and again.
    """

    JOINT = "joint"
    STAGED = "staged"
    EM = "em"


PIECES = ("clusters", "column", "ranges", "confusion")
CLUSTERINGS = ("kmeans", "gaussian_mixture")


@dataclass(frozen=True, kw_only=True)
class PiecesConfig:
    """How the rows are split into one piece for each expert.

    Attributes:
        by: ``clusters`` of the features; a ``column`` known beforehand; ``ranges`` of a numeric column; ``confusion``:
            groups of classes that a dense model confuses.
        method: Clustering: ``kmeans`` or ``gaussian_mixture``.
        column: The column, for ``column`` and ``ranges``.
        edges: Borders between the ranges, rising, in the column's unit; one less than there are experts.
        overlap: Share of each piece's rows that it also takes from its neighbours' border, in [0, 1].
    """

    by: str = "clusters"
    method: str = "kmeans"
    column: str | None = None
    edges: tuple[float, ...] = ()
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if self.by not in PIECES:
            raise ValueError(f"expected pieces by {', '.join(PIECES)}, got {self.by!r}")
        if self.method not in CLUSTERINGS:
            raise ValueError(f"expected clustering by {' or '.join(CLUSTERINGS)}, got {self.method!r}")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"expected 0 <= overlap <= 1, got {self.overlap}")
        if self.by in ("column", "ranges") and self.column is None:
            raise ValueError(f"expected a column for pieces by {self.by}, got none; name one (--subtask-column)")
        if not all(math.isfinite(edge) for edge in self.edges):
            raise ValueError(f"expected edges that are finite numbers, got {list(self.edges)}")
        if (self.by == "ranges") != bool(self.edges) or list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"expected rising edges for pieces by ranges, and only then, got {list(self.edges)}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the mixture is trained.

    Attributes:
        recipe: The loss and the schedule.
        strategy: In which order experts and gate learn.
        pieces: How the rows are split among the experts at the start; None for the strategy's own: none for
            ``joint``, clusters for ``staged`` and ``em``.
        epochs: Most epochs to train, at least 1.
        batch_size: Rows a step, at least 1.
        learning_rate: Adam's step size at the start.
        label_smoothing: Share of the label spread over all classes, in [0, 1).
        competitive_weight: Weight of the expected cross-entropy ``sum(g * CE)`` against the mixture's, in [0, 1].
        patience: Epochs without a better validation loss before training stops.
        seed: Seed of the split, the initialisation and the order of rows.
        em_iterations: Most iterations of ``em``.
        fine_tune_epochs: Most epochs of joint training after ``staged`` or ``em``; for a gate with ``top_k``, of
            sparse training after the dense one, where 0 means 5.
    """

    recipe: Recipe = Recipe.COMPETITIVE
    strategy: Strategy = Strategy.JOINT
    pieces: PiecesConfig | None = None
    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 2e-3
    label_smoothing: float = 0.1
    competitive_weight: float = 0.5
    patience: int = 20
    seed: int = 0
    em_iterations: int = 30
    fine_tune_epochs: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "em_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.fine_tune_epochs < 0:
            raise ValueError(f"expected fine_tune_epochs >= 0, got {self.fine_tune_epochs}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"expected learning_rate > 0, got {self.learning_rate}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"expected 0 <= label_smoothing < 1, got {self.label_smoothing}")
        if not 0 <= self.competitive_weight <= 1:
            raise ValueError(f"expected 0 <= competitive_weight <= 1, got {self.competitive_weight}")

    @classmethod
    def classical(cls, *, seed: int = 0) -> TrainingConfig:
        """The classical guide's own recipe: plain cross-entropy, adam, 10 epochs, batch 32."""
        return cls(
            recipe=Recipe.CLASSICAL,
            epochs=10,
            batch_size=32,
            learning_rate=1e-3,
            label_smoothing=0.0,
            competitive_weight=0.0,
            seed=seed,
        )
