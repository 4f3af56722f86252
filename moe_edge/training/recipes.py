"""Training settings that suit the number of rows.

Layer: desktop (training). Imports the standard library and ``moe_edge.config``.
"""

from __future__ import annotations

from moe_edge.config import TrainingConfig

SMALL_TABLE_ROWS = 1000


def competitive_training(num_rows: int, *, seed: int = 0) -> TrainingConfig:
    """The competitive recipe for ``num_rows`` training rows.

    Below ``SMALL_TABLE_ROWS`` an epoch has too few steps for 100 epochs to suffice: batches are halved and up to 300
    epochs allowed. On iris, wine, diabetes and the S-curve this lowered the validation loss each time.

    Args:
        num_rows: Training rows.
        seed: See ``TrainingConfig``.
    """
    if num_rows < SMALL_TABLE_ROWS:
        return TrainingConfig(batch_size=32, epochs=300, seed=seed)
    return TrainingConfig(seed=seed)
