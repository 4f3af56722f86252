"""A fitted scikit-learn forest as a subject: ``predict_proba`` in one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.runtime.benchmark.subjects import Answers

Rows = npt.NDArray[np.float32]


class ForestSubject:
    """A forest that ``joblib.dump`` wrote in the same run."""

    backend = "scikit-learn"

    def __init__(self, *, model: str, num_threads: int = 1) -> None:
        """Load it; a forest of its kind asks for threads itself, and is told not to."""
        import joblib

        self._model: Any = joblib.load(model)
        self._model.set_params(n_jobs=num_threads)

    @staticmethod
    def load(options: dict[str, Any]) -> None:
        """Import scikit-learn, told not to look at every value again, which its guide advises for latency."""
        import sklearn
        import sklearn.ensemble

        sklearn.set_config(assume_finite=True)

    def runner(self, batch: int) -> Callable[[Rows], Any]:
        """``predict_proba``."""
        call: Callable[[Rows], Any] = self._model.predict_proba
        return call

    def answers(self, rows: Rows) -> Answers:
        """Probabilities."""
        return Answers(np.asarray(self._model.predict_proba(rows), dtype=np.float32))

    def parts(self, rows: Rows) -> dict[str, float]:
        """None."""
        return {}
