"""Write down what a converted file is: the manifest's parts, tools, digests and golden rows.

Layer: desktop (converters).
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge._version import __version__
from moe_edge.errors import ConversionError
from moe_edge.manifest import Golden, Manifest, Part, Role
from moe_edge.schema import FeatureSchema, numbered_schema
from moe_edge_converters.assembly import choose_layout, expert_schemes, writes_routed
from moe_edge_converters.graphs.routed_signatures import COMBINE, GATE, branch_signature, expert_signature
from moe_edge_converters.options import ConversionOptions, Layout
from moe_edge_converters.schemes.calibration import Coverage
from moe_edge_converters.spec import HierarchicalNetwork, MixtureSpec

Rows = npt.NDArray[np.float32]

MAX_GOLDEN_ROWS, MAX_GOLDEN_VALUES = 4, 128
"""Golden rows go into every file, so there are few: at most four, and at most so many numbers, but always one row."""


def describe_file(
    spec: MixtureSpec,
    options: ConversionOptions,
    *,
    schema: FeatureSchema | None,
    coverage: Coverage | None,
    float_content: bytes,
) -> Manifest:
    """The manifest of a mixture converted with ``options``, without golden rows.

    Args:
        spec: The mixture.
        options: How it was converted.
        schema: Columns and labels; numbered ones when None.
        coverage: Calibration rows for each expert.
        float_content: The float32 graph, whose digest tells whether two files come from one model.

    Raises:
        ConversionError: If the labels are not as many as the outputs.
    """
    if schema is None:
        schema = numbered_schema(int(np.prod(spec.input_shape)), spec.num_outputs, spec.task)
    if len(schema.labels) != spec.num_outputs:
        raise ConversionError(f"expected {spec.num_outputs} labels, got {len(schema.labels)}: {schema.labels[:5]}")
    record: dict[str, Any] = {}
    if coverage is not None:
        record = {"rows": coverage.num_rows, "rows_per_expert": list(coverage.own)}
    return Manifest(
        task=spec.task,
        combine=spec.combine,
        num_experts=spec.num_experts,
        scheme=options.scheme.value,
        per_tensor=options.per_tensor,
        schema=schema,
        parts=tuple(_parts(spec, options)),
        input_shape=spec.input_shape,
        top_k=spec.top_k,
        layout=choose_layout(spec, options).value,
        io="int8" if options.int8_io else "float32",
        calibration=record,
        tools=_tool_versions(),
        extras={"gate_tree": spec.gate.tree.to_nested()} if isinstance(spec.gate, HierarchicalNetwork) else {},
        provenance={**options.provenance, "weights_sha256": hashlib.sha256(float_content).hexdigest()[:16]},
    )


def with_golden(manifest: Manifest, rows: Rows, predictions: Rows, routing_weights: Rows) -> Manifest:
    """Put a few rows with the file's own answers and routing into the manifest.

    Inputs have nine digits, which give back every float32 exactly; answers eight, finer than what ``verify`` compares.
    """
    count = max(1, min(MAX_GOLDEN_ROWS, MAX_GOLDEN_VALUES // max(1, rows[0].size)))
    inputs = tuple(
        tuple(None if np.isnan(value) else float(f"{value:.9g}") for value in row.reshape(-1)) for row in rows[:count]
    )
    answers, weights = (
        tuple(tuple(float(f"{value:.8g}") for value in row) for row in table[:count])
        for table in (predictions, routing_weights)
    )
    return replace(manifest, golden=Golden(inputs=inputs, predictions=answers, routing_weights=weights))


def _parts(spec: MixtureSpec, options: ConversionOptions) -> list[Part]:
    routed = writes_routed(spec, options)

    def signature(name: str) -> str | None:
        return name if routed else None

    parts = [] if spec.preprocess is None else [Part(id="preprocess", role=Role.PREPROCESS)]
    if spec.trunk is not None:
        parts.append(Part(id="trunk", role=Role.TRUNK))
    stored = options.gate_scheme.value
    parts.append(Part(id=GATE, role=Role.GATE, scheme=stored, signature=signature(GATE)))
    if isinstance(spec.gate, HierarchicalNetwork):
        for node, parent in enumerate(spec.gate.tree.parents):
            above = GATE if parent is None else branch_signature(parent)
            name = branch_signature(node)
            # The gather layout has the whole gate only.
            runs_alone = signature(name) if choose_layout(spec, options) is not Layout.GATHER else None
            parts.append(Part(id=name, role=Role.GATE, parent=above, scheme=stored, signature=runs_alone))
    for index, chosen in enumerate(expert_schemes(spec, options)):
        name = expert_signature(index)
        parts.append(Part(id=name, role=Role.EXPERT, scheme=chosen.value, signature=signature(name)))
    parts.append(Part(id=COMBINE, role=Role.COMBINE, signature=signature(COMBINE)))
    return parts


def _tool_versions() -> dict[str, str]:
    versions = {"moe-edge": __version__, "python": platform.python_version()}
    for name in ("tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
