"""What each scheme costs each expert: bytes, and the error that reaches the mixture's answer.

Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from moe_edge_converters.assembly import Assembly, assemble
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.routed_signatures import GATE, expert_signature
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import MixtureSpec

Rows = npt.NDArray[np.float32]

_BYTES_PER_SCALE = 12
"""A quantized channel brings a float32 scale and an int64 zero point, or the scale of its bias."""


@dataclass(frozen=True, kw_only=True)
class SchemeCosts:
    """Error and bytes of every expert in every scheme.

    Attributes:
        schemes: The schemes, columns of the tables.
        errors: float64 (E, schemes): sum over calibration rows of g_e^2 |output - float output|^2, an expert's share
            in the squared error of the mixture when the gate is exact.
        num_bytes: int64 (E, schemes): bytes of the expert's constants.
    """

    schemes: tuple[Scheme, ...]
    errors: npt.NDArray[np.float64]
    num_bytes: npt.NDArray[np.int64]


def measure_costs(
    spec: MixtureSpec, rows: Rows, schemes: Sequence[Scheme], options: ConversionOptions
) -> tuple[SchemeCosts, dict[Scheme, Assembly]]:
    """Convert the mixture once in each scheme and compare every expert with its float32 self.

    Args:
        spec: A mixture that may run routed.
        rows: float32 (n, ...) calibration rows.
        schemes: What to measure; float32 must be first.
        options: Everything but the schemes.

    Returns:
        The costs, and the uniform mixtures by scheme.
    """
    uniform = {
        scheme: assemble(
            spec,
            ConversionOptions(scheme=scheme, per_tensor=options.per_tensor, self_contained=options.self_contained),
            rows,
        )
        for scheme in schemes
    }
    weights, exact, _ = run_experts(uniform[schemes[0]], rows, spec.num_experts)
    errors = np.empty((spec.num_experts, len(schemes)))
    sizes = np.empty((spec.num_experts, len(schemes)), dtype=np.int64)
    for column, scheme in enumerate(schemes):
        _, outputs, _ = run_experts(uniform[scheme], rows, spec.num_experts)
        squared = np.square(outputs - exact).sum(axis=2)
        errors[:, column] = (np.square(weights) * squared).sum(axis=0)
        sizes[:, column] = [_expert_bytes(uniform[scheme].model, index) for index in range(spec.num_experts)]
    return SchemeCosts(schemes=tuple(schemes), errors=errors, num_bytes=sizes), uniform


def run_experts(assembly: Assembly, rows: Rows, num_experts: int) -> tuple[Rows, Rows, Rows]:
    """Routing weights (n, E), every expert's output (n, E, values), and the features (n, ...)."""
    interpreter = Interpreter(model_content=pack(assembly.model))
    gate = _resized(interpreter, GATE, rows)
    features = gate["features"]
    outputs = [
        _resized(interpreter, expert_signature(index), features)["output"].reshape(len(rows), -1)
        for index in range(num_experts)
    ]
    return gate["routing_weights"], np.stack(outputs, axis=1), features


def _resized(interpreter: Any, signature: str, batch: Rows) -> dict[str, Rows]:
    """Run a signature on a whole batch."""
    runner = interpreter.get_signature_runner(signature)
    (name,) = runner.get_input_details()
    answers: dict[str, Rows] = runner(**{name: batch})
    return answers


def _expert_bytes(model: Any, index: int) -> int:
    """Bytes of the constants that an expert's signature uses, with its share of quantization parameters."""
    graph = next(graph for graph in model.subgraphs if _text(graph.name) == expert_signature(index))
    total = 0
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None:
            total += len(data)
            scales = getattr(tensor.quantization, "scale", None)
            total += 0 if scales is None else _BYTES_PER_SCALE * len(scales)
    return total


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
