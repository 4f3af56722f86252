"""Refuse routed signatures where a few experts can't stand for all, and show what they would lose.

Experts whose logits or means are summed were trained to correct each other (Jacobs et al. 1991): one alone answers
something else.
Layer: desktop (converters).
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge_converters.assembly import assemble
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.expert_errors import run_experts
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import MixtureSpec


def refuse_routing(spec: MixtureSpec, rows: npt.NDArray[np.float32]) -> NoReturn:
    """Measure what the strongest expert alone would lose, and raise.

    Args:
        spec: A mixture that may not run routed.
        rows: float32 (n, ...) rows to measure on.

    Raises:
        ConversionError: Always, with the measured loss.
    """
    assembly = assemble(spec, ConversionOptions(scheme=Scheme.FLOAT32, routed=True), None)
    weights, outputs, _ = run_experts(assembly, rows, spec.num_experts)
    dense = (weights[:, :, None] * outputs).sum(axis=1)
    alone = outputs[np.arange(len(rows)), weights.argmax(axis=1)]
    if spec.task is Task.CLASSIFICATION:
        share = float((dense.argmax(axis=1) != alone.argmax(axis=1)).mean())
        loss = f"the strongest expert alone gives another class for {share:.1%} of {len(rows)} rows"
    else:
        spread = float(dense.std()) or 1.0
        share = float(np.sqrt(np.square(dense - alone).mean())) / spread
        loss = f"the strongest expert alone is off by {share:.0%} of the answers' own spread on {len(rows)} rows"
    raise ConversionError(
        f"this mixture combines by {spec.combine.value} and can't be routed: {loss}; "
        "convert it dense (without --routed), or train it to mix probabilities or Gaussians"
    )
