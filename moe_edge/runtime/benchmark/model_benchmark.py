"""Measure one file in every mode, with its score where the targets are known.

Layer: device. Imports NumPy and ``moe_edge`` modules of the device side.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.errors import DataError, ModelFileError
from moe_edge.manifest import Manifest
from moe_edge.runtime.backends import AUTO
from moe_edge.runtime.benchmark.campaign import Entrant, Progress, Result, run_campaign
from moe_edge.runtime.benchmark.part_times import WHOLE
from moe_edge.runtime.benchmark.points import BY_BRANCHES, XNNPACK_OFF, list_points
from moe_edge.runtime.csv_rows import read_chunks
from moe_edge.runtime.model_file import ModelFile
from moe_edge.schema import ColumnKind
from moe_edge.strict import to_dict
from moe_edge.tables.dataset import encode_dataset
from moe_edge.task import Task

Rows = npt.NDArray[np.float32]

PREDICTOR = "moe_edge.runtime.benchmark.subjects:PredictorSubject"
BARE = "moe_edge.runtime.benchmark.subjects:BareInterpreterSubject"
BARE_NAME = "bare interpreter"
MOST_PARTS = 16
"""Experts that are listed one by one; more are summed up."""


@dataclass(frozen=True, kw_only=True)
class ModelBenchmark:
    """What a file gave.

    Attributes:
        path: The file.
        num_bytes: Its size.
        manifest: What it says of itself.
        num_rows: Rows that were run.
        num_threads: Threads of one call.
        rounds: Alternating rounds.
        results: One a mode, then the bare interpreter, then peers.
        refused: What couldn't be measured -> why.
        scores: Accuracy in [0, 1], or RMSE, by name of the result; empty without targets.
        parts_us: Median microseconds of each part run alone.
    """

    path: Path
    num_bytes: int
    manifest: Manifest
    num_rows: int
    num_threads: int
    rounds: int
    results: Sequence[Result]
    refused: dict[str, str]
    scores: dict[str, float] = field(default_factory=dict)
    parts_us: dict[str, float] = field(default_factory=dict)

    @property
    def score_name(self) -> str:
        """What ``scores`` are."""
        return "accuracy" if self.manifest.task is Task.CLASSIFICATION else "RMSE"

    @property
    def headline(self) -> str:
        """What was measured, on what."""
        backend = next((result.backend for result in self.results if result.backend), "no runtime")
        return (
            f"{self.path}: {self.num_bytes:,} bytes, {self.manifest.num_experts} experts, {self.manifest.scheme}; "
            f"{backend} on {platform.machine()}, {self.num_threads} thread{'s' * (self.num_threads > 1)}, "
            f"{self.num_rows} rows, {self.rounds} alternating rounds"
        )

    @property
    def overheads_us(self) -> dict[str, float]:
        """What one row costs beyond its native invokes, by mode."""
        found = {}
        for result in self.results:
            native = self._native_us(result)
            if native is not None:
                found[result.name] = result.times[0].p50_us - native
        return found

    def _native_us(self, result: Result) -> float | None:
        """The invokes that a row of this mode is made of."""
        # Gates run one by one are no invoke of ``parts_us``.
        if result.times[0].batch_size != 1 or result.name.endswith((XNNPACK_OFF, BY_BRANCHES)):
            return None
        if result.name in ("dense", BARE_NAME):
            return self.parts_us.get(WHOLE)
        experts = [time for name, time in self.parts_us.items() if name.startswith("expert_")]
        if not result.name.startswith("routed") or result.experts_per_row is None or not experts:
            return None
        return self.parts_us["gate"] + result.experts_per_row * float(np.mean(experts))

    def memory_cells(self, result: Result) -> list[str]:
        """Megabytes resident and anonymous that opening and one row added."""
        if result.memory_open is None or result.memory_before is None:
            return ["not available"] * 2
        return [
            f"{(result.memory_open[key] - result.memory_before[key]) / 1e6:.2f}"
            for key in ("rss_bytes", "anonymous_bytes")
        ]

    def part_rows(self) -> list[tuple[str, str]]:
        """The parts for a table; many experts as their range."""
        experts = [time for name, time in self.parts_us.items() if name.startswith("expert_")]
        listed = [(n, t) for n, t in self.parts_us.items() if len(experts) <= MOST_PARTS or not n.startswith("expert_")]
        rows = [(name, f"{time:.2f}") for name, time in listed]
        if len(experts) > MOST_PARTS:
            middle = float(np.median(experts))
            rows.append((f"experts, {len(experts)}", f"{middle:.2f} ({min(experts):.2f} to {max(experts):.2f})"))
        return rows

    def plotted(self) -> list[tuple[str, float, int | None, float | None]]:
        """(name, µs of the smallest batch, anonymous bytes grown, score) of each result."""
        points = []
        for result in self.results:
            grown = None
            if result.memory_open is not None and result.memory_before is not None:
                grown = max(0, result.memory_open["anonymous_bytes"] - result.memory_before["anonymous_bytes"])
            points.append((result.name, result.times[0].p50_us, grown, self.scores.get(result.name)))
        return points

    def document(self) -> dict[str, Any]:
        """All of it, as JSON can carry it."""
        return {
            "model": str(self.path),
            "num_bytes": self.num_bytes,
            "num_experts": self.manifest.num_experts,
            "scheme": self.manifest.scheme,
            "machine": platform.machine(),
            "num_threads": self.num_threads,
            "num_rows": self.num_rows,
            "rounds": self.rounds,
            "score_name": self.score_name if self.scores else None,
            "results": [
                {
                    "name": result.name,
                    "backend": result.backend,
                    "init_ms": result.init_ms,
                    "first_row_ms": result.first_row_ms,
                    "import_ms": result.import_ms,
                    "memory_before": result.memory_before,
                    "memory_after_first_row": result.memory_open,
                    "memory_at_end": result.memory,
                    "experts_per_row": result.experts_per_row,
                    "score": self.scores.get(result.name),
                    "python_overhead_us": self.overheads_us.get(result.name),
                    "times": [{**to_dict(times), "rows_per_second": times.rows_per_second} for times in result.times],
                }
                for result in self.results
            ],
            "parts_us": self.parts_us,
            "refused": self.refused,
        }


def measure_model(
    model: Path,
    data: Path | None,
    *,
    batches: Sequence[int],
    rounds: int,
    budget_ms: float,
    top_ks: Sequence[int] = (),
    masses: Sequence[float] = (),
    num_threads: int = 1,
    backend: str = AUTO,
    peers: Sequence[Entrant] = (),
    progress: Progress | None = None,
) -> ModelBenchmark:
    """Measure a file in every mode that it can run in.

    Args:
        model: Path of a .tflite written by moe-edge.
        data: A table with its rows, or None for the rows stored in the file.
        batches: Rows a call.
        rounds: Alternating rounds.
        budget_ms: What one measurement of one round may take.
        top_ks: Numbers of experts to run, see ``points``.
        masses: Gate masses to reach.
        num_threads: Threads of one call.
        backend: The runtime.
        peers: What else to measure on the same rows.
        progress: Called with (1, name of the next step).

    Raises:
        ModelFileError: If the file is damaged or foreign.
        DataError: If the table isn't what the model takes.
    """
    with ModelFile.open(model) as file:
        if file.manifest is None:
            raise ModelFileError(
                f"{model}: expected a .tflite written by moe-edge, got one without its manifest; "
                "convert the Keras model with moe-edge convert"
            )
        manifest, signatures, num_bytes = file.manifest, tuple(file.signatures), len(file.content)
    rows, target = (stored_rows(manifest), None) if data is None else read_rows(data, manifest)
    common: dict[str, Any] = {"model": str(model.resolve()), "backend": backend, "num_threads": num_threads}
    points = list_points(manifest, signatures, top_ks=top_ks, masses=masses)
    entrants = [Entrant(name=p.name, factory=PREDICTOR, options={**common, **p.options}) for p in points]
    if manifest.io == "float32":
        entrants.append(Entrant(name=BARE_NAME, factory=BARE, options={**common, "xnnpack": True}))
    results, refused = run_campaign(
        [*entrants, *peers],
        rows,
        batches=batches,
        rounds=rounds,
        budget_ms=budget_ms,
        num_threads=num_threads,
        answers=True,
        parts_of=("dense",),
        progress=progress,
    )
    scores = {}
    if target is not None:
        scores = {r.name: score(r.prediction, target, manifest.task) for r in results if r.prediction is not None}
    return ModelBenchmark(
        path=model,
        num_bytes=num_bytes,
        manifest=manifest,
        num_rows=len(rows),
        num_threads=num_threads,
        rounds=rounds,
        results=results,
        refused=refused,
        scores=scores,
        parts_us=next((result.parts_us for result in results if result.parts_us), {}),
    )


def read_rows(data: Path, manifest: Manifest) -> tuple[Rows, npt.NDArray[Any] | None]:
    """Read a table: its features, and its target where it has one.

    Raises:
        DataError: If it can't be read or isn't what the model takes.
    """
    if data.suffix.lower() in (".csv", ".npz", ".parquet") and len(manifest.input_shape) == 1:
        dataset = encode_dataset(data, manifest.schema, require_target=False)
        rows, target = dataset.features, dataset.target
    else:
        chunks = list(read_chunks(data, manifest.schema))
        rows = np.concatenate(chunks).astype(np.float32) if chunks else np.empty((0, *manifest.input_shape), np.float32)
        target = None
    if len(rows) == 0:
        raise DataError(f"{data}: expected at least one row, got none")
    if rows.shape[1:] != manifest.input_shape:
        raise DataError(f"{data}: expected rows of shape {manifest.input_shape}, got {rows.shape[1:]}")
    return rows, target


def stored_rows(manifest: Manifest, count: int = 256) -> Rows:
    """The rows stored in a file; where there are none, seeded ones in the columns' range."""
    if manifest.golden.inputs:
        values = [[np.nan if cell is None else cell for cell in row] for row in manifest.golden.inputs]
        return np.asarray(values, dtype=np.float32).reshape(-1, *manifest.input_shape)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, *manifest.input_shape)).astype(np.float32)
    for index, column in enumerate(manifest.schema.columns if len(manifest.input_shape) == 1 else ()):
        if column.kind is ColumnKind.CATEGORICAL:
            rows[:, index] = rng.integers(len(column.categories), size=count)
    return rows


def score(prediction: npt.NDArray[np.floating], target: npt.NDArray[Any], task: Task) -> float:
    """Accuracy in [0, 1], or the RMSE over all outputs."""
    if task is Task.CLASSIFICATION:
        return float((prediction.argmax(axis=1) == target.reshape(-1)).mean())
    return float(np.sqrt(np.square(prediction - target.reshape(prediction.shape)).mean()))
