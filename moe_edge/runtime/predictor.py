"""The predictor: a .tflite written by moe-edge, answering rows on a device without TensorFlow.

Layer: device. Imports NumPy and ``moe_edge`` modules of the device side; the runtime when a model is opened.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from moe_edge.errors import DataError
from moe_edge.runtime.backends import AUTO, load_backend
from moe_edge.runtime.fused_graph import FusedGraph
from moe_edge.runtime.input_rows import InputRows
from moe_edge.runtime.interpreter_pool import InterpreterPool
from moe_edge.runtime.model_check import SIGNATURE, check_signature, refuse_miscomputed, require_manifest
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.modes import AUTO as AUTO_MODE
from moe_edge.runtime.modes import DENSE, ROUTED, Request, plan_run, wants_xnnpack
from moe_edge.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from moe_edge.runtime.explanation import Explanation
    from moe_edge.runtime.mixture_density import MixtureDensity


class _Engine(Protocol):
    """What answers rows: ``FusedGraph`` or ``RoutedGraph``."""

    def answer(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The prediction alone, to be read or copied before the next call."""
        ...

    def run(self, rows: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """All that the model gives."""
        ...


@runtime_checkable
class _PartsEngine(Protocol):
    """An engine that can run experts alone."""

    def each_expert(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(n, E, K)."""
        ...


class Predictor:
    """Answers rows with a mixture of experts.

    Safe to share between threads: each call that runs at the same time has its own interpreter, up to the number of
    cores; they share the mapped file. Not to be used in a forked child, which says so. Arrays that come back are the
    caller's own. A file that is replaced while it is open keeps answering as it was.

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
        has_gate_density: Whether ``predict_raw`` gives ``gate_log_density``.
        has_density: Whether ``predict_quantiles`` and ``predict_distribution`` can answer.
        backend: Name of the runtime: ``litert``, ``tflite-runtime`` or ``tensorflow``.
        mode: What runs: ``dense`` or ``routed``.
        xnnpack: Whether XNNPACK computes.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        backend: str = AUTO,
        mode: str = AUTO_MODE,
        mass: float | None = None,
        top_k: int | None = None,
        max_experts: int | None = None,
        branches: bool = False,
        num_threads: int = 1,
        xnnpack: bool | None = None,
    ) -> None:
        """Open a file and check it.

        Args:
            model: Path of a .tflite written by ``moe-edge convert``, or its bytes.
            backend: The runtime, see ``moe_edge.runtime.backends``.
            mode: ``dense`` runs the whole graph, ``routed`` the gate and then only the experts that a row needs.
                ``auto`` takes the faster of the two that gives the trained model's answers: ``routed`` for a mixture
                trained with a ``top_k`` where that saves enough (``moe_edge.runtime.modes``), else ``dense``. Giving
                ``mass``, ``top_k`` or ``max_experts`` means ``routed``.
            mass: Run experts, heaviest first, until their gate weights add up to this, in (0, 1]; what they count is
                scaled to sum to 1. 1 runs all and gives the whole graph's answers. Default: as measured by convert.
            top_k: Run so many experts for each row; by default as trained.
            max_experts: With ``mass``: at most so many.
            branches: Run a hierarchical gate branch by branch, the likeliest first, only as far as the experts that
                run need; see ``moe_edge.runtime.branch_gate`` for when that pays. Means ``routed``.
            num_threads: Threads that one call may use, at least 1.
            xnnpack: Whether XNNPACK computes: faster, above all in batches, but it keeps a second copy of every
                weight in memory. Without it weights stay mapped from the file and only those of experts that run
                are read: for models larger than memory. By default it does for files up to 64 MiB.

        Raises:
            ModelFileError: If the file is missing, damaged, wasn't written by moe-edge, or can't be routed.
            BackendError: If no runtime imports, or this one is known to answer this file wrongly.
            ValueError: If ``num_threads`` < 1, or the mode's options are out of range or contradict each other.
        """
        if num_threads < 1:
            raise ValueError(f"expected num_threads >= 1, got {num_threads}")
        request = Request(mode=mode, mass=mass, top_k=top_k, max_experts=max_experts, branches=branches)
        self._file = ModelFile.open(model)
        try:
            self.manifest = require_manifest(self._file)
            signature = check_signature(self._file, self.manifest)
            chosen = load_backend(backend)
            refuse_miscomputed(self.manifest, chosen)
            plan = plan_run(request, self._file, self.manifest)
            self.mode = ROUTED if plan.routed else DENSE
            self.xnnpack = wants_xnnpack(self._file, xnnpack)

            def make() -> _Engine:
                options: dict[str, Any] = {"num_threads": num_threads, "xnnpack": self.xnnpack}
                if not plan.routed:
                    return FusedGraph(self._file, chosen, signature, **options)
                from moe_edge.runtime.routed_graph import RoutedGraph

                return RoutedGraph(self._file, chosen, plan, num_experts=self.num_experts, **options)

            self._pool = InterpreterPool[_Engine](make)
        except BaseException:
            self._file.close()
            raise
        self.backend = chosen.name
        self._input = InputRows(self.manifest)
        self._classifies = self.manifest.task is Task.CLASSIFICATION
        self._labels = np.asarray(self.manifest.schema.labels, dtype=np.str_)

    @property
    def file(self) -> ModelFile:
        """The open, verified file."""
        return self._file

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

    @property
    def has_density(self) -> bool:
        """Whether the model gives a whole distribution: each expert's means and sigmas."""
        return {"expert_means", "expert_sigmas"} <= self._file.signatures[SIGNATURE].outputs.keys()

    @property
    def has_gate_density(self) -> bool:
        """Whether the gate says how usual a row is (Gaussian gates)."""
        return "gate_log_density" in self._file.signatures[SIGNATURE].outputs

    def predict(self, x: Any) -> npt.NDArray[Any]:
        """Answer rows: one of the labels each, or numbers.

        Args:
            x: One row or several; see ``predict_raw``.

        Returns:
            Classification: str (n,). Regression: float32 (n, K). One row given alone is n = 1.

        Raises:
            DataError: If ``x`` isn't what the model takes.
        """
        if not self._classifies:
            return self._answer(x)
        rows = self._input.read(x)
        engine = self._pool.take()
        try:
            labels: npt.NDArray[np.str_] = self._labels[engine.answer(rows).argmax(axis=1)]
        finally:
            self._pool.give(engine)
        return labels

    def predict_proba(self, x: Any) -> npt.NDArray[np.float32]:
        """The probability of each class.

        Returns:
            float32 (n, K), in the order of ``labels``.

        Raises:
            DataError: If ``x`` isn't what the model takes, or the model is a regression.
        """
        if not self._classifies:
            raise DataError(
                "expected a classification model, got a regression, which has no probabilities; "
                "use predict, or predict_raw for its sigma"
            )
        return self._answer(x)

    def predict_raw(self, x: Any) -> dict[str, npt.NDArray[Any]]:
        """The graph's own outputs.

        Args:
            x: One row or several: numbers of shape (n, *input_shape) or input_shape (categories as codes, NaN for
                missing where the model has columns), a mapping {column: value} or a list of them, rows of raw texts,
                or a pandas data frame.

        Returns:
            float32 ``prediction`` (n, K), ``routing_weights`` (n, E); for Gaussian experts ``sigma`` (n, K),
            ``expert_means`` and ``expert_sigmas`` (n, E, K); for Gaussian gates ``gate_log_density`` (n, 1), how usual
            the row is. Routed also ``experts_run``, int (n,), and the routing weights are those that counted: means
            and sigmas of experts with weight 0 mean nothing.

        Raises:
            DataError: If ``x`` isn't what the model takes.
        """
        rows = self._input.read(x)
        engine = self._pool.take()
        try:
            return engine.run(rows)
        finally:
            self._pool.give(engine)

    def predict_experts(self, x: Any) -> npt.NDArray[np.float32]:
        """What each expert would answer by itself, whatever the gate says; for looking into a model. Needs mode routed.

        Returns:
            float32 (n, E, K): probabilities, or numbers in the user's units.

        Raises:
            DataError: If ``x`` isn't what the model takes, or the mode is dense.
        """
        rows = self._input.read(x)
        engine = self._pool.take()
        try:
            if not isinstance(engine, _PartsEngine):
                raise DataError("expected mode routed, whose experts can run alone, got dense; open it with mass=1")
            return engine.each_expert(rows)
        finally:
            self._pool.give(engine)

    def predict_distribution(self, x: Any) -> MixtureDensity:
        """The whole distribution of each row's numbers: a mixture of the Gaussians of the experts that ran.

        Returns:
            Weights, means and sigmas, with ``quantiles``, ``log_density``, ``cdf``, ``mean`` and ``std``.

        Raises:
            DataError: If ``x`` isn't what the model takes, or the file has no distribution.
        """
        from moe_edge.runtime.mixture_density import MixtureDensity

        self.require_density()
        raw = self.predict_raw(x)
        return MixtureDensity(weights=raw["routing_weights"], means=raw["expert_means"], sigmas=raw["expert_sigmas"])

    def predict_quantiles(self, x: Any, quantiles: Sequence[float] = (0.05, 0.5, 0.95)) -> npt.NDArray[np.float32]:
        """The values below which given shares of the probability lie, for each output by itself.

        Args:
            x: One row or several; see ``predict_raw``.
            quantiles: Levels in (0, 1).

        Returns:
            float32 (n, Q, K), in the user's units.

        Raises:
            DataError: If ``x`` isn't what the model takes, or the file has no distribution.
            ValueError: If a level isn't in (0, 1).
        """
        return self.predict_distribution(x).quantiles(quantiles)

    def require_density(self) -> None:
        """Refuse a file that gives no distribution.

        Raises:
            DataError: With the reason, and what to do.
        """
        if self.has_density:
            return
        if self._classifies:
            reason = "is a classification; use predict_proba"
        elif self.manifest.io != "float32":
            reason = "has int8 edges, which give the mean and sigma only; convert it without --io int8"
        elif self.has_sigma:
            reason = "was written before mixtures gave their experts' means and sigmas; convert the model again"
        else:
            reason = (
                f"combines by {self.manifest.combine.value}; train Gaussian experts: moe-edge train --combine gaussian"
            )
        raise DataError(f"expected a file that gives a distribution (Gaussian experts), got one that {reason}")

    def explain(self, x: Any) -> Explanation:
        """Answer rows and say which experts gave the answers.

        Raises:
            DataError: If ``x`` isn't what the model takes.
        """
        from moe_edge.runtime.explanation import Explanation, usual_log_density

        raw = self.predict_raw(x)
        prediction = raw["prediction"]
        classifies = self._classifies
        return Explanation(
            task=self.task,
            class_labels=self.labels,
            labels=self._labels[prediction.argmax(axis=1)] if classifies else None,
            values=None if classifies else prediction,
            confidence=prediction.max(axis=1) if classifies else None,
            probabilities=prediction if classifies else None,
            sigma=raw.get("sigma"),
            routing_weights=raw["routing_weights"],
            experts_run=raw.get("experts_run"),
            gate_log_density=raw["gate_log_density"][:, 0] if "gate_log_density" in raw else None,
            usual_log_density=usual_log_density(self.manifest),
            expert_means=raw.get("expert_means"),
            expert_sigmas=raw.get("expert_sigmas"),
        )

    def stream(self, samples: Iterable[Any], *, hop: int | None = None) -> Iterator[Explanation]:
        """Answer a stream of sensor samples, window by window.

        Args:
            samples: Numbers, or one number for each channel, oldest first; may be endless.
            hop: Samples from one answer to the next; by default a whole window.

        Yields:
            The answer to each full window, an explanation of one row; see ``moe_edge.runtime.stream``.

        Raises:
            DataError: If samples aren't what the model takes.
            ValueError: If ``hop`` < 1.
        """
        from moe_edge.runtime.stream import slide_windows

        windows = slide_windows(samples, input_shape=tuple(self.manifest.input_shape), hop=hop)
        return (self.explain(window) for window in windows)

    def warmup(self, batch_size: int = 1) -> None:
        """Run rows of zeros, so that the first real call doesn't wait for memory to be allocated.

        Args:
            batch_size: Rows of the calls to come, at least 1.

        Raises:
            ValueError: If ``batch_size`` < 1.
        """
        if batch_size < 1:
            raise ValueError(f"expected batch_size >= 1, got {batch_size}")
        self.predict_raw(np.zeros((batch_size, *self.manifest.input_shape), dtype=np.float32))

    def close(self) -> None:
        """Release the interpreters and the file; a second call does nothing."""
        self._pool.close()
        self._file.close()

    def _answer(self, x: Any) -> npt.NDArray[np.float32]:
        """The prediction alone, which spares copying the rest; the caller's own."""
        rows = self._input.read(x)
        engine = self._pool.take()
        try:
            prediction: npt.NDArray[np.float32] = engine.answer(rows).copy()
        finally:
            self._pool.give(engine)
        return prediction

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
