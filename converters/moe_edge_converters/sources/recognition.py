"""Recognise a classical mixture of experts in a traced graph: structure proposes, numbers decide.

For a softmax with E values, setting it to "all on expert e" leaves the model's answer a linear form of some tensors:
those are expert e's answers, however the weighted sum was spelled. Jacobs et al. 1991, "Adaptive mixtures of local
experts": y = sum over e of g_e(x) * answer_e(x), with weights of its own in every expert.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.fused_graph import build_fused_graph
from moe_edge_converters.sources.float_graph import Array, FloatGraph, GraphRunner
from moe_edge_converters.sources.gate_search import find_gates
from moe_edge_converters.sources.mixture_parts import MissingStepError, read_parts
from moe_edge_converters.spec import MixtureSpec

Rows = npt.NDArray[np.float32]

TOLERANCE = 1e-5
"""Largest difference of the fused graph from the traced one, relative to the largest answer (at least 1)."""

PROBE_ROWS = 48


def recognise_mixture(content: bytes, rows: Rows | None = None) -> MixtureSpec:
    """Read a mixture out of a traced model.

    Args:
        content: A float32 .tflite with one input (1, ...) and one output (1, K), such as ``tracing`` makes.
        rows: float32 (n, ...) raw rows to check the numbers on; seeded ones when None.

    Raises:
        ConversionError: In one message, which step of the pattern is missing.
    """
    graph = FloatGraph(content)
    if len(graph.shapes[graph.output]) != 2:
        raise ConversionError(
            f"expected a model that answers with (batch, outputs), got {graph.shapes[graph.output]} for one row"
        )
    probe = probe_inputs(graph) if rows is None or len(rows) == 0 else rows[:PROBE_ROWS]
    runner = GraphRunner(graph)
    values = [runner.run(row) for row in probe]
    expected = np.concatenate([value[graph.output] for value in values])
    if not np.isfinite(expected).all():
        raise ConversionError("the source model answers with NaN or infinity; train it again before converting")
    missing: list[MissingStepError] = []
    for gate in find_gates(graph, values):
        try:
            spec = _read_spec(graph, gate, values)
            _check_numbers(spec, content, probe)
            return spec
        except MissingStepError as step:
            missing.append(step)
    raise ConversionError(_message(missing))


def probe_inputs(graph: FloatGraph) -> Rows:
    """Seeded float32 rows (n, ...) of several magnitudes, because a model's own scaling isn't known; or small codes.

    Raises:
        ConversionError: If the model runs on none of them.
    """
    shape = graph.shapes[graph.x][1:]
    rng = np.random.default_rng(0)
    scales = np.resize(np.array([1.0, 0.3, 3.0, 30.0]), PROBE_ROWS).reshape(-1, *(1,) * len(shape))
    rows = rng.normal(size=(PROBE_ROWS, *shape)) * scales
    rows[1::4] = rng.uniform(size=rows[1::4].shape)
    rows[3::4] = rng.uniform(0, 255, size=rows[3::4].shape)
    runner = GraphRunner(graph)
    for probe in (rows, rng.integers(0, 2, size=rows.shape)):
        try:
            for row in probe:
                runner.run(row)
        except RuntimeError:
            # Such as a code that an embedding has no entry for.
            continue
        return probe.astype(np.float32)
    raise ConversionError("the model runs neither on numbers nor on codes 0 and 1; give calibration rows that it takes")


def _read_spec(graph: FloatGraph, gate: int, values: Sequence[dict[int, Array]]) -> MixtureSpec:
    parts = read_parts(graph, gate, values)
    combine, task = Combine.MEAN, Task.REGRESSION
    if parts.closing_softmax:
        combine, task = Combine.LOGITS, Task.CLASSIFICATION
    elif parts.probabilities:
        # A lone probability is a number to the predictor, which has no two classes to choose between.
        combine = Combine.PROBABILITIES
        task = Task.CLASSIFICATION if parts.num_outputs > 1 else Task.REGRESSION
    return MixtureSpec(
        task=task,
        combine=combine,
        input_shape=graph.shapes[graph.x][1:],
        trunk=parts.trunk,
        gate=parts.gate,
        experts=parts.experts,
        num_outputs=parts.num_outputs,
    )


def _check_numbers(spec: MixtureSpec, graph_content: bytes, rows: Rows) -> None:
    """Run the fused graph on the rows.

    Raises:
        MissingStepError: If it answers otherwise than the traced graph.
    """
    model, _ = build_fused_graph(spec, ["float32"] * spec.num_experts)
    excess = compare_graphs(pack(model), rows, lambda batch: run_graph(graph_content, batch))
    if not excess <= 0:
        raise MissingStepError(
            4,
            f"a softmax over {spec.num_experts} values weighs {spec.num_experts} networks, but their weighted sum "
            "isn't the model's answer",
        )


def compare_graphs(content: bytes, rows: Rows, predict: Callable[[Rows], Rows]) -> float:
    """How far a graph's first output is from what it should be, beyond what rounding explains.

    ``TOLERANCE`` is relative to a row's largest answer (at least 1). A model that amplifies its input (large raw
    columns into steep layers) amplifies its own rounding likewise: what its answer moves when the input's last bits do
    is allowed on top, row by row.

    Args:
        content: The graph.
        rows: float32 (n, ...).
        predict: The answers that it should give, (n, K).

    Returns:
        The largest difference minus what is allowed; at most 0 where the two agree.
    """
    expected = predict(rows)
    shaken = np.abs(predict(rows * np.float32(1 + 1e-6)) - expected).max(axis=1, keepdims=True)
    scale = np.maximum(1.0, np.abs(expected).max(axis=1, keepdims=True))
    got = run_graph(content, rows)
    if got.shape != expected.shape:
        raise ConversionError(f"expected answers of shape {expected.shape}, the graph gives {got.shape}")
    return float((np.abs(got - expected) - TOLERANCE * scale - shaken).max())


def run_graph(content: bytes, rows: Rows) -> Rows:
    """A graph's first output for rows, one by one: float32 (n, K)."""
    graph = FloatGraph(content)
    runner = GraphRunner(graph)
    return np.concatenate([runner.run(row, wanted=[graph.output])[graph.output] for row in rows])


def _message(missing: Sequence[MissingStepError]) -> str:
    """One message: the candidate that came furthest says what it lacks."""
    step = max(missing, key=lambda error: error.stage, default=None)
    reason = str(step) if step else "there is no gate: no softmax computed from the input weighs answers"
    return (
        f"expected a mixture of experts (a softmax gate, experts with weights of their own, their weighted sum as the "
        f"answer), but {reason}"
    )
