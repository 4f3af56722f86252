"""What a mixture density costs: two more outputs in the file, and quantiles of them in NumPy.

Files with and without ``expert_means`` and ``expert_sigmas`` take turns; times are the best of many calls, one thread,
so that what else the machine does counts little. Writes the section "Mixture densities" of RESULTS.md.

Run: ``python benchmarks/mixture_density.py``.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
from results import table, write_section

from moe_edge import Predictor
from moe_edge.config import Combine, Task
from moe_edge.runtime.latency import measure_latency
from moe_edge_converters import assembly
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import DenseNetwork, HeadSpec, MixtureSpec, dense_stack

FEATURES, ROUNDS, ROWS = 8, 12, 1000
LEVELS = (0.05, 0.5, 0.95)
SIZES = ((3, 1, (16,)), (8, 3, (64, 32)), (32, 4, (64, 32)))
"""Experts, outputs, units of each expert's hidden layers."""


def make_mixture(experts: int, outputs: int, hidden: tuple[int, ...]) -> MixtureSpec:
    """A mixture of Gaussian experts with seeded weights; the time doesn't depend on them."""
    rng = np.random.default_rng(0)

    def stack(sizes: tuple[int, ...], last: str) -> DenseNetwork:
        pairs = list(pairwise(sizes))
        ends = ["relu"] * (len(pairs) - 1) + [last]
        return dense_stack(
            [
                (rng.normal(size=pair) / np.sqrt(pair[0]), rng.normal(size=pair[1]), end)
                for pair, end in zip(pairs, ends, strict=True)
            ]
        )

    return MixtureSpec(
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        input_shape=(FEATURES,),
        gate=stack((FEATURES, 32, experts), "softmax"),
        experts=tuple(stack((FEATURES, *hidden, 2 * outputs), "linear") for _ in range(experts)),
        num_outputs=outputs,
        head=HeadSpec(scale=np.full(outputs, 3, np.float32), shift=np.full(outputs, 20, np.float32)),
    )


def write(spec: MixtureSpec, path: Path, *, densities: bool) -> Path:
    """Convert to float32, with the two outputs or as files were before them."""
    build = assembly.build_fused_graph

    def as_asked(*args: object, **options: object) -> object:
        return build(*args, **{**options, "densities": densities})  # type: ignore[arg-type]

    with mock.patch.object(assembly, "build_fused_graph", as_asked):
        convert_spec(spec, path, reference=None, rows=None, options=ConversionOptions(scheme=Scheme.FLOAT32))
    return path


def measure(experts: int, outputs: int, hidden: tuple[int, ...], folder: Path) -> list[str]:
    """One line of the table."""
    spec = make_mixture(experts, outputs, hidden)
    files = {on: write(spec, folder / f"{experts}-{on}.tflite", densities=on) for on in (True, False)}
    rows = np.random.default_rng(1).normal(size=(ROWS, FEATURES)).astype(np.float32)
    ratios, dense_us = [], 0.0
    for options in ({"mode": "dense"}, {"top_k": 2}):
        opened = {on: Predictor(file, **options) for on, file in files.items()}  # type: ignore[arg-type]
        times = {on: float("inf") for on in opened}
        for _ in range(ROUNDS):
            for on, predictor in opened.items():
                times[on] = min(times[on], measure_latency(predictor.predict, rows[:1], num_runs=2000).min_us)
        ratios.append(times[True] / times[False])
        dense_us = dense_us or times[True]
    with Predictor(files[True], mode="dense") as predictor:
        one = measure_latency(lambda x: predictor.predict_quantiles(x, LEVELS), rows[:1], num_runs=200).min_us
        many = measure_latency(lambda x: predictor.predict_quantiles(x, LEVELS), rows, num_runs=3, num_warmup=1).min_us
    sizes = {on: file.stat().st_size for on, file in files.items()}
    return [
        f"{experts} × {outputs}",
        f"{sizes[True] - sizes[False]:+,} of {sizes[False]:,}",
        f"{ratios[0]:.2f}",
        f"{ratios[1]:.2f}",
        f"{one / dense_us:.0f}",
        f"{many / ROWS / dense_us:.1f}",
    ]


def main() -> None:
    """Measure and write."""
    header = [
        "experts × outputs",
        "bytes",
        "predict, dense: with / without",
        "predict, top 2: with / without",
        "3 quantiles of one row / predict",
        f"a row of {ROWS}: 3 quantiles / predict",
    ]
    with tempfile.TemporaryDirectory() as folder:
        lines = [measure(*size, Path(folder)) for size in SIZES]
    note = "`predict` is one row, dense; times are the best of many calls. Quantiles at 0.05, 0.5 and 0.95."
    write_section("Mixture densities", f"{table(header, lines)}\n\n{note}")


if __name__ == "__main__":
    main()
