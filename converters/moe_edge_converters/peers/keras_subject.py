"""Keras itself: ``predict``, and the model called directly, compiled, which its guide advises for few rows.

Layer: desktop (converters). Imports Keras and TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.runtime.benchmark.subjects import Answers, Call

Rows = npt.NDArray[np.float32]


class KerasSubject:
    """A Keras model from a ``.keras`` file, or the per-expert model of a mixture."""

    def __init__(
        self, *, model: str, how: str = "predict", predict_batch: int | None = None, num_threads: int = 1
    ) -> None:
        """Load the model.

        Args:
            model: Path of a ``.keras`` file.
            how: ``predict`` or ``call``.
            predict_batch: ``batch_size`` of ``predict``; None for Keras's default of 32.
            num_threads: Threads of TensorFlow.
        """
        import tensorflow as tf

        from moe_edge.training.archive import load_model
        from moe_edge.training.keras_setup import load_keras

        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        load_keras()
        self._model: Any = load_model(Path(model)).model
        self._how = how
        self._predict_batch = predict_batch
        self.backend = "tensorflow"

    @staticmethod
    def load(options: dict[str, Any]) -> None:
        """Import TensorFlow."""
        import tensorflow  # noqa: F401

    def runner(self, batch: int) -> Call:
        """The call that is timed."""
        model = self._model
        if self._how == "predict":
            size = self._predict_batch
            return lambda rows: model.predict(rows, batch_size=size, verbose=0)
        import tensorflow as tf

        shape = (batch, *model.input_shape[1:])
        compiled = tf.function(
            lambda x: model(x, training=False), input_signature=[tf.TensorSpec(shape, tf.float32)]
        ).get_concrete_function()
        return lambda rows: compiled(tf.constant(rows)).numpy()

    def answers(self, rows: Rows) -> Answers:
        """Answers by ``predict``."""
        return Answers(np.asarray(self._model.predict(rows, verbose=0), dtype=np.float32))

    def parts(self, rows: Rows) -> dict[str, float]:
        """None."""
        return {}
