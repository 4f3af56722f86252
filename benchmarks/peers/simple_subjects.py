"""NumPy and scikit-learn as subjects: made in the process that measures them, from arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.runtime.benchmark.subjects import Answers

Rows = npt.NDArray[np.float32]


class NumpySubject:
    """A mixture of dense networks written out in NumPy: first layers joined, later ones stacked, as one would."""

    backend = "numpy"

    def __init__(self, *, weights: str, num_threads: int = 1) -> None:
        """Read the weights that ``save_weights`` wrote."""
        with np.load(weights, allow_pickle=False) as found:
            self._arrays = {name: found[name] for name in found.files}
        self._gate = self._layers("gate")
        self._experts = self._layers("expert")
        self._count = self._gate[-1][1].size

    @staticmethod
    def load(options: dict[str, Any]) -> None:
        """Nothing more to import."""

    def runner(self, batch: int) -> Callable[[Rows], Any]:
        """The forward pass."""
        return self._forward

    def answers(self, rows: Rows) -> Answers:
        """All rows at once."""
        return Answers(self._forward(rows))

    def parts(self, rows: Rows) -> dict[str, float]:
        """None."""
        return {}

    def _layers(self, prefix: str) -> list[tuple[Rows, Rows]]:
        depth = sum(name.startswith(f"{prefix}_kernel") for name in self._arrays)
        return [(self._arrays[f"{prefix}_kernel_{i}"], self._arrays[f"{prefix}_bias_{i}"]) for i in range(depth)]

    def _forward(self, rows: Rows) -> Rows:
        if "fill" in self._arrays:
            values = self._arrays
            rows = np.clip((rows - values["mean"]) * values["inverse_scale"], values["low"], values["high"])
        gate = rows
        for index, (kernel, bias) in enumerate(self._gate):
            gate = gate @ kernel + bias
            gate = _softmax(gate) if index == len(self._gate) - 1 else np.maximum(gate, 0)
        kernel, bias = self._experts[0]
        along = np.maximum(rows @ kernel + bias, 0).reshape(len(rows), self._count, -1).transpose(1, 0, 2)
        for kernel, bias in self._experts[1:-1]:
            along = np.maximum(along @ kernel + bias, 0)
        kernel, bias = self._experts[-1]
        answers: Rows = _softmax(along @ kernel + bias)
        mixed: Rows = np.einsum("be,ebk->bk", gate, answers)
        return mixed


def _softmax(values: Rows) -> Rows:
    exponents = np.exp(values - values.max(axis=-1, keepdims=True))
    scaled: Rows = exponents / exponents.sum(axis=-1, keepdims=True)
    return scaled


def save_weights(spec: Any, path: Any) -> Any:
    """Write a mixture's weights as ``NumpySubject`` takes them."""
    arrays = {}
    for index, layer in enumerate(spec.gate.layers):
        arrays[f"gate_kernel_{index}"], arrays[f"gate_bias_{index}"] = layer.kernel, layer.bias
    for index in range(len(spec.experts[0].layers)):
        layers = [expert.layers[index] for expert in spec.experts]
        if index == 0:
            kernel, bias = np.concatenate([e.kernel for e in layers], axis=1), np.concatenate([e.bias for e in layers])
        else:
            kernel, bias = np.stack([e.kernel for e in layers]), np.stack([e.bias for e in layers])[:, None]
        arrays[f"expert_kernel_{index}"], arrays[f"expert_bias_{index}"] = kernel, bias
    if spec.preprocess is not None:
        for name in ("fill", "mean", "inverse_scale", "low", "high"):
            arrays[name] = getattr(spec.preprocess, name)
    np.savez(path, **arrays)
    return path


class SklearnSubject:
    """A scikit-learn classifier, fitted here on the rows that the mixture was trained on."""

    backend = "scikit-learn"

    def __init__(self, *, kind: str, train: str, num_threads: int = 1) -> None:
        """Fit ``mlp`` or ``boosting``."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        with np.load(train, allow_pickle=False) as found:
            x, y = found["x"], found["y"]
        self._model: Any = (
            make_pipeline(StandardScaler(), MLPClassifier((64, 32), max_iter=400, random_state=0))
            if kind == "mlp"
            else HistGradientBoostingClassifier(random_state=0)
        )
        self._model.fit(x, y)

    @staticmethod
    def load(options: dict[str, Any]) -> None:
        """Import scikit-learn, told not to look at every value again, which its guide advises for latency."""
        import sklearn
        import sklearn.ensemble
        import sklearn.neural_network

        sklearn.set_config(assume_finite=True)

    def runner(self, batch: int) -> Callable[[Rows], Any]:
        """``predict``."""
        call: Callable[[Rows], Any] = self._model.predict
        return call

    def answers(self, rows: Rows) -> Answers:
        """Probabilities."""
        return Answers(np.asarray(self._model.predict_proba(rows), dtype=np.float32))

    def parts(self, rows: Rows) -> dict[str, float]:
        """None."""
        return {}
