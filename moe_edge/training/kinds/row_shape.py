"""Give a row its shape back: windows and images arrive as flat columns, because tables and devices hold rows.

Layer: desktop (training).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from moe_edge.training.kinds.kind import ExpertJob


def shaped_input(job: ExpertJob, shape: Sequence[int], *, axes: Sequence[str]) -> tuple[Any, Any]:
    """An input for the job's rows, and the same tensor in the shape that the expert's layers take.

    A shape that lacks its last axis alone (a window of one channel, a grey image) gets one of size 1.

    Args:
        job: What the expert is for.
        shape: The option ``shape``; empty to take rows as they come.
        axes: Names of the axes that the layers take, such as ``("timesteps", "channels")``.

    Returns:
        The input (B, *job.input_shape), and a tensor (B, *shape) of as many axes as ``axes``.

    Raises:
        ValueError: If the shape has other axes, or doesn't hold as many values as a row has.
    """
    named = f"[{', '.join(axes)}]"
    sizes = tuple(shape) or job.input_shape
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes):
        raise ValueError(f"expected shape {named} of whole numbers of at least 1, got {list(sizes)}")
    if len(sizes) not in (len(axes), len(axes) - 1) or (not shape and len(sizes) == 1):
        hint = f"; rows are flat: say how their {math.prod(sizes)} features lie, as option shape" if not shape else ""
        raise ValueError(f"expected shape {named}, got {list(sizes)}{hint}")
    if len(sizes) == len(axes) - 1:
        sizes = (*sizes, 1)
    if math.prod(sizes) != math.prod(job.input_shape):
        raise ValueError(
            f"expected shape {named} of {math.prod(job.input_shape)} features, as a row has, "
            f"got {'x'.join(map(str, sizes))} = {math.prod(sizes)}"
        )
    row = keras.Input(shape=job.input_shape)
    return row, row if sizes == job.input_shape else keras.layers.Reshape(sizes)(row)


def dense_head(job: ExpertJob, x: Any, *, first_seed: int) -> Any:
    """Hidden layers of ``job.hidden`` units and the output layer on flat features, (B, n) to (B, V)."""
    sizes = [*job.hidden, job.num_values]
    activations = [job.activation] * len(job.hidden) + [job.output_activation]
    for index, (units, activation) in enumerate(zip(sizes, activations, strict=True), start=first_seed):
        x = keras.layers.Dense(units, activation=activation, kernel_initializer=seeded(job, index))(x)
    return x


def seeded(job: ExpertJob, index: int) -> keras.initializers.Initializer:
    """Initial weights of an expert's layer ``index``."""
    return keras.initializers.GlorotUniform(seed=job.seed * 1000 + index)
