"""Accuracy and RMSE of a mixture while it trains, read off the packed tensor that its loss takes.

Layer: desktop (training).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def _blend(packed: Any, num_outputs: int) -> Any:
    """The mixture's answer (B, K) from (B, E, V + 1), the routing weight last."""
    return ops.einsum("be,bek->bk", packed[:, :, -1], packed[:, :, :num_outputs])


@keras.saving.register_keras_serializable(package="moe_edge")
class PackedAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy of the weighted sum of packed probabilities."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: int codes (B,), packed (B, E, K + 1)."""
        super().update_state(ops.reshape(y_true, (-1,)), _blend(y_pred, y_pred.shape[-1] - 1), sample_weight)


@keras.saving.register_keras_serializable(package="moe_edge")
class PackedRmse(keras.metrics.RootMeanSquaredError):
    """RMSE of the mixture's mean from packed means and sigmas."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch: quantities (B, K), packed (B, E, 2K + 1)."""
        answer = _blend(y_pred, (y_pred.shape[-1] - 1) // 2)
        super().update_state(ops.reshape(y_true, ops.shape(answer)), answer, sample_weight)
