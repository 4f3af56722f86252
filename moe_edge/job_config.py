"""Everything that training is asked for, as one object: the data, the mixture, how it is trained.

Layer: shared. Imports the standard library and ``moe_edge.config``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from moe_edge.config import MixtureConfig, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which columns of the table are what, and how its rows are shared out.

    Attributes:
        target: Target column; several joined by commas for a regression with several outputs; by default ``y`` of a
            ``.npz`` and the last column of a ``.npy``.
        group: Column that names each row's group (a person, a device); groups are split whole. No feature.
        drop: Columns to leave out.
        categorical: Columns of numbers to take as categories.
        test_share: Share of the rows held out, in (0, 1).
        validation_share: Share of the rest that chooses the epoch, in (0, 1).
    """

    target: str | None = None
    group: str | None = None
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    test_share: float = 0.2
    validation_share: float = 0.15

    def __post_init__(self) -> None:
        for name in ("test_share", "validation_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"expected 0 < {name} < 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """What ``moe-edge train --config`` reads, and what a trained model carries.

    Attributes:
        data: Which columns of the table are what, and how its rows are shared out.
        mixture: What is trained.
        training: How it is trained.
    """

    data: DataConfig = field(default_factory=DataConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
