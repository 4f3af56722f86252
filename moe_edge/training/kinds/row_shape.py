"""Give a row its shape back: windows and images arrive as flat columns, because tables and devices hold rows.

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from moe_edge.training.kinds.kind import ExpertJob
from moe_edge.training.kinds.row_sizes import row_sizes


def shaped_input(kind: str, job: ExpertJob, shape: Sequence[int]) -> tuple[Any, Any]:
    """An input for the job's rows, and the same tensor in the shape that the kind's layers take.

    Args:
        kind: The kind's name, one of ``row_sizes.AXES``.
        job: What the expert is for.
        shape: The option ``shape``; empty to take rows as they come.

    Returns:
        The input (B, *job.input_shape), and a tensor (B, *shape) of the kind's axes.

    Raises:
        ValueError: As of ``row_sizes``.
    """
    sizes = row_sizes(kind, shape, job.input_shape)
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
