"""The predictor: a .tflite written by moe-edge, answering rows on a device without TensorFlow.

Layer: device. Imports NumPy and ``moe_edge`` modules of the device side; the runtime when a model is opened.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_edge.errors import BackendError, DataError, ModelFileError
from moe_edge.manifest import Manifest
from moe_edge.runtime.backends import AUTO, Backend, load_backend
from moe_edge.runtime.fused_graph import FusedGraph
from moe_edge.runtime.input_rows import InputRows
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.model_structure import Signature
from moe_edge.task import Task

if TYPE_CHECKING:
    import numpy.typing as npt

    from moe_edge.runtime.explanation import Explanation

SIGNATURE = "serving_default"
_MISCOMPUTED, _MISCOMPUTED_PER_CHANNEL = "w4", "dynamic_w8"
"""Schemes whose activations are rounded on the fly: tflite-runtime 2.14 loads them and answers wrongly, without an
error; 8-bit weights with one scale a channel, 4-bit weights always (0.28 and 0.80 of the classes are LiteRT's)."""


class Predictor:
    """Answers rows with a mixture of experts.

    Safe to share between threads: calls wait for each other. Arrays that come back are the caller's own.

    Example:
        >>> with Predictor("digits.tflite") as predictor:  # doctest: +SKIP
        ...     print(predictor.explain(rows[:1]))
        7 (98.2%); expert_3 61%, expert_0 30%, expert_1 9%

    Attributes:
        manifest: What the file says of itself.
        labels: Names of the classes, or of a regression's outputs.
        task: Classification or regression.
        num_experts: E.
        num_features: Values of one row.
        has_sigma: Whether ``predict_raw`` gives ``sigma``.
        backend: Name of the runtime: ``litert``, ``tflite-runtime`` or ``tensorflow``.
    """

    def __init__(self, model: str | os.PathLike[str] | bytes, *, backend: str = AUTO, num_threads: int = 1) -> None:
        """Open a file and check it.

        Args:
            model: Path of a .tflite written by ``moe-edge convert``, or its bytes.
            backend: The runtime, see ``moe_edge.runtime.backends``.
            num_threads: Threads that one call may use, at least 1.

        Raises:
            ModelFileError: If the file is missing, damaged, or wasn't written by moe-edge.
            BackendError: If no runtime imports, or this one is known to answer this file wrongly.
            ValueError: If ``num_threads`` < 1.
        """
        if num_threads < 1:
            raise ValueError(f"expected num_threads >= 1, got {num_threads}")
        self._lock = Lock()
        self._file = ModelFile.open(model)
        self._graph: FusedGraph | None = None
        try:
            self.manifest = _require_manifest(self._file)
            signature = _check_signature(self._file, self.manifest)
            chosen = load_backend(backend)
            _refuse_miscomputed(self.manifest, chosen)
            self._graph = FusedGraph(self._file, chosen, signature, num_threads=num_threads)
        except BaseException:
            self._file.close()
            raise
        self.backend = chosen.name
        self._input = InputRows(self.manifest)
        self._labels = np.asarray(self.manifest.schema.labels, dtype=np.str_)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, or of a regression's outputs, in output order."""
        return self.manifest.schema.labels

    @property
    def task(self) -> Task:
        """Classification or regression."""
        return self.manifest.task

    @property
    def num_experts(self) -> int:
        """Experts in the mixture."""
        return self.manifest.num_experts

    @property
    def num_features(self) -> int:
        """Values of one row."""
        return int(np.prod(self.manifest.input_shape))

    @property
    def has_sigma(self) -> bool:
        """Whether the model says how far off its numbers may be (Gaussian experts)."""
        return "sigma" in self._file.signatures[SIGNATURE].outputs

    def predict(self, x: Any) -> npt.NDArray[Any]:
        """Answer rows: one of the labels each, or numbers.

        Args:
            x: One row or several; see ``predict_raw``.

        Returns:
            Classification: str (n,). Regression: float32 (n, K). One row given alone is n = 1.

        Raises:
            DataError: If ``x`` isn't what the model takes.
        """
        prediction = self.predict_raw(x)["prediction"]
        if self.task is Task.REGRESSION:
            return prediction
        labels: npt.NDArray[np.str_] = self._labels[prediction.argmax(axis=1)]
        return labels

    def predict_proba(self, x: Any) -> npt.NDArray[np.float32]:
        """The probability of each class.

        Returns:
            float32 (n, K), in the order of ``labels``.

        Raises:
            DataError: If ``x`` isn't what the model takes, or the model is a regression.
        """
        if self.task is Task.REGRESSION:
            raise DataError(
                "expected a classification model, got a regression, which has no probabilities; "
                "use predict, or predict_raw for its sigma"
            )
        return self.predict_raw(x)["prediction"]

    def predict_raw(self, x: Any) -> dict[str, npt.NDArray[np.float32]]:
        """The graph's own outputs.

        Args:
            x: One row or several: numbers of shape (n, *input_shape) or input_shape (categories as codes, NaN for
                missing where the model has columns), a mapping {column: value} or a list of them, rows of raw texts,
                or a pandas data frame.

        Returns:
            ``prediction`` (n, K), ``routing_weights`` (n, E) and, for Gaussian experts, ``sigma`` (n, K); float32.

        Raises:
            DataError: If ``x`` isn't what the model takes.
        """
        rows = self._input.read(x)
        with self._lock:
            if self._graph is None:
                raise BackendError("expected an open predictor, got one that was closed; make a new Predictor")
            return self._graph.run(rows)

    def explain(self, x: Any) -> Explanation:
        """Answer rows and say which experts gave the answers.

        Raises:
            DataError: If ``x`` isn't what the model takes.
        """
        from moe_edge.runtime.explanation import Explanation

        raw = self.predict_raw(x)
        prediction = raw["prediction"]
        classifies = self.task is Task.CLASSIFICATION
        return Explanation(
            task=self.task,
            class_labels=self.labels,
            labels=self._labels[prediction.argmax(axis=1)] if classifies else None,
            values=None if classifies else prediction,
            confidence=prediction.max(axis=1) if classifies else None,
            probabilities=prediction if classifies else None,
            sigma=raw.get("sigma"),
            routing_weights=raw["routing_weights"],
        )

    def close(self) -> None:
        """Release the interpreters and the file; a second call does nothing."""
        with self._lock:
            if self._graph is not None:
                self._graph.close()
                self._graph = None
            self._file.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _require_manifest(file: ModelFile) -> Manifest:
    """Foreign files are refused: without labels and columns an answer has no meaning, and no digest guards it."""
    if file.manifest is None:
        raise ModelFileError(
            f"{file.source}: expected a .tflite written by moe-edge, got one without its manifest; "
            "convert the Keras model with moe-edge convert, or run this file with ai_edge_litert's Interpreter"
        )
    return file.manifest


def _check_signature(file: ModelFile, manifest: Manifest) -> Signature:
    """The graph takes and gives what the manifest says."""
    signature = file.signatures.get(SIGNATURE)
    if signature is None:
        raise ModelFileError(f"{file.source}: expected the signature {SIGNATURE}, got {list(file.signatures)}")
    tensors = file.subgraphs[signature.subgraph].tensors
    expected = {
        "x": (1, *manifest.input_shape),
        "prediction": (1, len(manifest.schema.labels)),
        "routing_weights": (1, manifest.num_experts),
    }
    places = {**signature.inputs, **signature.outputs}
    for name, shape in expected.items():
        if name not in places:
            raise ModelFileError(f"{file.source}: expected {name!r} in {SIGNATURE}, got {sorted(places)}")
        tensor = tensors[places[name]]
        if tensor.shape != shape or tensor.dtype != manifest.io:
            raise ModelFileError(
                f"{file.source}: expected {name!r} to be {manifest.io} {shape}, got {tensor.dtype} {tensor.shape}; "
                "convert the model again"
            )
    # serving_default is subgraph 0, which interpreters run without asking for a signature.
    if signature.subgraph != 0 or set(signature.inputs) != {"x"}:
        raise ModelFileError(f"{file.source}: expected {SIGNATURE} to be the first subgraph, with the one input x")
    return signature


def _refuse_miscomputed(manifest: Manifest, backend: Backend) -> None:
    """Refuse what a runtime would answer wrongly."""
    if backend.name != "tflite-runtime":
        return
    schemes = {part.scheme for part in manifest.parts}
    if _MISCOMPUTED in schemes or (_MISCOMPUTED_PER_CHANNEL in schemes and not manifest.per_tensor):
        wrong = _MISCOMPUTED if _MISCOMPUTED in schemes else f"per-channel {_MISCOMPUTED_PER_CHANNEL}"
        raise BackendError(
            f"tflite-runtime answers {wrong} files wrongly; convert with moe-edge convert --scheme w8a8, "
            "or dynamic_w8 with --per-tensor, or install ai-edge-litert"
        )
