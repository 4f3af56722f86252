"""The files that the boards run, made on the desktop: every scheme, top-k gates, trees, Gaussian gates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def make_files(folder: Path, mixture_file: Callable[..., Path]) -> dict[str, Path]:
    """Name of each file -> its path."""
    files = {
        "float32": mixture_file("plain"),
        "w8a8": mixture_file("plain", scheme="w8a8"),
        "dynamic_w8": mixture_file("table", scheme="dynamic_w8", per_tensor=True),
        "gaussian": mixture_file("regression", scheme="w8a8"),
        "table": mixture_file("table"),
    }
    for layout in ("gather", "fully_connected"):
        files[f"top1-{layout}"] = make_top_1(folder / f"top1-{layout}.tflite", layout)
    return files


def make_top_1(path: Path, layout: str) -> Path:
    """32 experts 64-128-10 of which one counts for a row: the mixture whose instructions are counted."""
    from moe_edge.config import Combine, Task
    from moe_edge_converters.conversion import ConversionOptions, convert_spec
    from moe_edge_converters.given_rows import probe_rows
    from moe_edge_converters.options import Layout
    from moe_edge_converters.spec import MixtureSpec, dense_stack

    rng = np.random.default_rng(3)

    def network(*sizes: int) -> Any:
        last = len(sizes) - 2
        return dense_stack(
            [
                (
                    rng.normal(size=(sizes[place], sizes[place + 1])) * 1.5 / np.sqrt(sizes[place]),
                    rng.normal(size=sizes[place + 1]) * 0.1,
                    "softmax" if place == last else "relu",
                )
                for place in range(last + 1)
            ]
        )

    spec = MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(64,),
        gate=network(64, 32),
        experts=tuple(network(64, 128, 10) for _ in range(32)),
        num_outputs=10,
    )
    options = ConversionOptions(top_k=1, layout=Layout(layout))
    convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=options, schema=None)
    return path
