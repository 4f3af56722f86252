"""Small mixtures with seeded random weights, as real .tflite files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np


def write_mixture(folder: Path, kind: str = "plain", *, scheme: str = "float32", per_tensor: bool = False) -> Path:
    """Write one of the mixtures, or find it written.

    Args:
        folder: Where to.
        kind: ``plain`` (64 features, 3 classes, 4 experts), ``table`` (columns height, colour, price; labels bad,
            good; 3 experts), ``regression`` (6 features, 1 number, 3 Gaussian experts), ``gathered_1`` and
            ``gathered_2`` (plain, of which one or two experts count for a row), ``fused_1`` (the same without routed
            signatures).
        scheme: See ``moe-edge convert --scheme``.
        per_tensor: Weights with one scale for all channels.
    """
    path = folder / f"{kind}-{scheme}-{per_tensor}.tflite"
    if not path.exists():
        from moe_edge_converters.conversion import ConversionOptions, convert_spec
        from moe_edge_converters.given_rows import probe_rows
        from moe_edge_converters.options import Layout
        from moe_edge_converters.schemes.scheme import Scheme

        spec, schema = _SPECS.get(kind, _plain_spec)(np.random.default_rng(7))
        routing = {
            "gathered_1": {"top_k": 1, "layout": Layout.GATHER},
            "gathered_2": {"top_k": 2, "layout": Layout.GATHER},
            "fused_1": {"top_k": 1, "routed": False},
        }.get(kind, {})
        options = ConversionOptions(scheme=Scheme(scheme), per_tensor=per_tensor, **routing)
        convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=options, schema=schema)
    return path


def _stack(rng: np.random.Generator, sizes: list[int], last: str) -> Any:
    from moe_edge_converters.spec import dense_stack

    return dense_stack(
        [
            (
                rng.normal(size=(inputs, units)) / np.sqrt(inputs) * 1.5,
                rng.normal(size=units) * 0.1,
                last if index == len(sizes) - 2 else "relu",
            )
            for index, (inputs, units) in enumerate(pairwise(sizes))
        ]
    )


def _plain_spec(rng: np.random.Generator) -> Any:
    """64 features, 3 classes, 4 experts."""
    from moe_edge.config import Combine, Task
    from moe_edge_converters.spec import MixtureSpec

    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(64,),
        gate=_stack(rng, [64, 16, 4], "softmax"),
        experts=tuple(_stack(rng, [64, 32, 3], "softmax") for _ in range(4)),
        num_outputs=3,
    ), None


def _table_spec(rng: np.random.Generator) -> Any:
    """Two numeric columns of very different range, one categorical; string labels; missing values."""
    from moe_edge.config import Combine, Task
    from moe_edge.schema import Column, ColumnKind, FeatureSchema
    from moe_edge_converters.spec import MixtureSpec, PreprocessSpec

    schema = FeatureSchema(
        columns=(
            Column(name="height"),
            Column(name="colour", kind=ColumnKind.CATEGORICAL, categories=("blue", "green", "red")),
            Column(name="price"),
        ),
        target="kind",
        task=Task.CLASSIFICATION,
        labels=("bad", "good"),
    )
    as_floats = lambda *values: np.asarray(values, dtype=np.float32)  # noqa: E731
    preprocess = PreprocessSpec(
        num_columns=3,
        numeric=(0, 2),
        fill=as_floats(1.7, 5000.0),
        mean=as_floats(1.7, 5000.0),
        inverse_scale=as_floats(5.0, 1e-3),
        low=as_floats(-4, -4),
        high=as_floats(4, 4),
        categorical=((1, 3),),
    )
    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(3,),
        preprocess=preprocess,
        gate=_stack(rng, [5, 8, 3], "softmax"),
        experts=tuple(_stack(rng, [5, 16, 2], "softmax") for _ in range(3)),
        num_outputs=2,
    ), schema


def _regression_spec(rng: np.random.Generator) -> Any:
    """6 features, one number, 3 Gaussian experts."""
    from moe_edge.config import Combine, Task
    from moe_edge_converters.spec import MixtureSpec

    return MixtureSpec(
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        input_shape=(6,),
        gate=_stack(rng, [6, 8, 3], "softmax"),
        experts=tuple(_stack(rng, [6, 16, 2], "linear") for _ in range(3)),
        num_outputs=1,
    ), None


_SPECS = {"plain": _plain_spec, "table": _table_spec, "regression": _regression_spec}
