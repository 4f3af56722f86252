"""Recurrent experts over a sensor's window, unrolled: TFLite then needs no control flow.

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from moe_edge.training.kinds.kind import ExpertJob, NeuralExpert
from moe_edge.training.kinds.options import EXPERT_OPTIONS
from moe_edge.training.kinds.registry import with_defaults
from moe_edge.training.kinds.row_shape import dense_head, seeded, shaped_input

MAX_STEPS = 256
"""Timesteps that are unrolled at most; each is about ten operators, which convert and run one by one."""


class GruExpert(NeuralExpert):
    """Gated recurrent units (Cho et al. 2014, arXiv 1406.1078), then ``hidden`` dense layers on the last state."""

    name = "gru"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["gru"]

    def build(self, job: ExpertJob) -> keras.Model:
        """Build (B, *input_shape) to (B, V)."""
        return _build(self, job, keras.layers.GRU)


class LstmExpert(NeuralExpert):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), then ``hidden`` dense layers on the last state."""

    name = "lstm"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["lstm"]

    def build(self, job: ExpertJob) -> keras.Model:
        """Build (B, *input_shape) to (B, V)."""
        return _build(self, job, keras.layers.LSTM)


def _build(kind: NeuralExpert, job: ExpertJob, cell: Any) -> keras.Model:
    options = with_defaults(kind, job.options)
    units = options["units"]
    if not units or not all(isinstance(count, int) and count >= 1 for count in units):
        raise ValueError(f"{kind.name}: expected units of at least one layer, each at least 1, got {units}")
    row, x = shaped_input(kind.name, job, options["shape"])
    if x.shape[1] > MAX_STEPS:
        raise ValueError(
            f"{kind.name}: expected at most {MAX_STEPS} timesteps, which are unrolled, got {x.shape[1]}; "
            "take shorter windows, or conv1d with strides or pool"
        )
    for index, count in enumerate(units):
        x = cell(
            count,
            return_sequences=index < len(units) - 1,
            unroll=True,
            kernel_initializer=seeded(job, 2 * index),
            recurrent_initializer=keras.initializers.Orthogonal(seed=job.seed * 1000 + 2 * index + 1),
        )(x)
    return keras.Model(row, dense_head(job, x, first_seed=2 * len(units)))
