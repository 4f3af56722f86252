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
        "forest": make_forest(folder / "forest.tflite"),
        "gaussian-gate": make_gaussian_gate(folder / "gaussian-gate.tflite"),
    }
    for layout in ("gather", "fully_connected"):
        files[f"top1-{layout}"] = make_top_1(folder / f"top1-{layout}.tflite", layout)
    return files


def make_forest(path: Path) -> Path:
    """Two random forests as the experts of a mixture."""
    from sklearn.ensemble import RandomForestClassifier

    from moe_edge.training import create_moe_model, estimator_model
    from moe_edge_converters import convert

    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    y = np.digitize(x[:, 0] * x[:, 1], [-0.3, 0.3])
    forests = [RandomForestClassifier(9, max_depth=5, random_state=seed).fit(x, y) for seed in range(2)]
    ready = [estimator_model(forest, 6, num_outputs=3) for forest in forests]
    model = create_moe_model(6, 3, 2, expert=lambda input_dim, output_dim: ready.pop())
    convert(model, path, calibration=x, scheme="float32")
    return path


def make_gaussian_gate(path: Path) -> Path:
    """Four dense experts behind a Gaussian gate with full covariances."""
    from moe_edge.config import Combine, Task
    from moe_edge_converters.conversion import ConversionOptions, convert_spec
    from moe_edge_converters.given_rows import probe_rows
    from moe_edge_converters.graphs.gaussian_gate_graph import gaussian_gate_graph
    from moe_edge_converters.schemes.scheme import Scheme
    from moe_edge_converters.spec import MixtureSpec, dense_stack

    rng = np.random.default_rng(5)
    spec = MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(4,),
        gate=gaussian_gate_graph(
            (4,),
            peak=rng.normal(size=4),
            mean=rng.normal(size=(4, 4)),
            whitening=np.tril(rng.normal(size=(4, 4, 4)), -1) * 0.3 + np.eye(4),
            temperature=0.5,
            columns=(0, 1, 2, 3),
        ),
        experts=tuple(dense_stack([(rng.normal(size=(4, 3)), rng.normal(size=3), "softmax")]) for _ in range(4)),
        num_outputs=3,
    )
    options = ConversionOptions(scheme=Scheme.FLOAT32)
    convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=options, schema=None)
    return path


def make_top_1(path: Path, layout: str, *, experts: int = 32, hidden: int = 128) -> Path:
    """Experts 64-hidden-10 of which one counts for a row: the mixture whose instructions are counted."""
    from moe_edge.config import Combine, Task
    from moe_edge_converters.conversion import ConversionOptions, convert_spec
    from moe_edge_converters.given_rows import probe_rows
    from moe_edge_converters.options import Layout
    from moe_edge_converters.schemes.scheme import Scheme
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
        gate=network(64, experts),
        experts=tuple(network(64, hidden, 10) for _ in range(experts)),
        num_outputs=10,
    )
    options = ConversionOptions(scheme=Scheme.FLOAT32, top_k=1, layout=Layout(layout))
    convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=options, schema=None)
    return path
