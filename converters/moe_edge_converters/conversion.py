"""The whole way from a Keras mixture to one checked ``.tflite`` file.

extract -> fuse -> calibrate -> quantize -> audit -> write -> run.
Layer: desktop (converters).
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge._version import __version__
from moe_edge.atomic import check_writable, write_atomically
from moe_edge.errors import ConversionError
from moe_edge.manifest import Golden, Manifest, Part, Role
from moe_edge.schema import FeatureSchema, numbered_schema
from moe_edge_converters import audit, calibration, quantization
from moe_edge_converters.answer_check import AnswerCheck, check_answers
from moe_edge_converters.calibration import Coverage
from moe_edge_converters.file_writer import pack, read_model, serialize
from moe_edge_converters.fused_graph import Bank, build_fused_graph
from moe_edge_converters.routed_signatures import COMBINE, GATE, add_routed_signatures, expert_signature
from moe_edge_converters.schemes import Scheme
from moe_edge_converters.spec import MixtureSpec

Rows = npt.NDArray[np.float32]
Progress = Callable[[int, str], None]

CHECK_ROWS = 200
"""Rows that every written file answers before the conversion is called done."""

MAX_GOLDEN_ROWS, MAX_GOLDEN_VALUES = 4, 128
"""Golden rows go into every file, so there are few: at most four, and at most so many numbers, but always one row."""

STAGES = 6
"""Calls of ``progress`` in one conversion."""


@dataclass(frozen=True, kw_only=True)
class ConversionResult:
    """What was written, and what it was checked against.

    Attributes:
        path: The file.
        num_bytes: Its size in bytes.
        manifest: What the file says of itself.
        coverage: Calibration rows for each expert; None where the scheme needs none.
        check: How the file's answers compare with the source model's.
    """

    path: Path
    num_bytes: int
    manifest: Manifest
    coverage: Coverage | None
    check: AnswerCheck


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """How to convert.

    Attributes:
        scheme: The scheme of the experts.
        gate_scheme: The scheme of the gate; float32 because a flipped route costs more than the bytes it saves.
        per_tensor: One scale a weight tensor, for hosts that know no per-channel weights.
        self_contained: Store every tensor's bytes apart, inside the flatbuffer, for hosts that know no shared buffers.
        provenance: Free text fields for the manifest (source, licence, ...).
    """

    scheme: Scheme = Scheme.W8A8
    gate_scheme: Scheme = Scheme.FLOAT32
    per_tensor: bool = False
    self_contained: bool = False
    provenance: Mapping[str, str] = field(default_factory=dict)


def convert(
    model: Any,
    output: str | Path,
    *,
    calibration: Any = None,
    scheme: str | Scheme = Scheme.W8A8,
    gate_scheme: str | Scheme = Scheme.FLOAT32,
    per_tensor: bool = False,
    self_contained: bool = False,
    schema: FeatureSchema | None = None,
    provenance: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> ConversionResult:
    """Convert a Keras mixture of experts to one fused ``.tflite`` file, and run the file.

    Args:
        model: A ``keras.Model`` in memory, or the path of a ``.keras`` file (its schema travels along).
        output: Where to write; replaced only when everything succeeded.
        calibration: Raw training rows, array-like (n, ...): needed by ``w8a8``, and what the file is checked on.
        scheme: ``float32``, ``float16``, ``dynamic_w8`` or ``w8a8``.
        gate_scheme: Scheme of the gating network.
        per_tensor: One scale a weight tensor instead of one a channel.
        self_contained: Share no bytes between tensors, for microcontrollers and unknown hosts.
        schema: Columns and labels; by default the model's own, else numbered ones.
        provenance: Free text fields for the manifest: source, licence, ...
        progress: Called with (1, name of the next stage), ``STAGES`` times.

    Raises:
        ConversionError: If the model is no mixture, can't be written, or the file answers otherwise than the model.
    """
    output = Path(output)
    check_writable(output, suffix=".tflite")
    notify = progress or (lambda steps, note: None)
    notify(0, "reading the model")
    if isinstance(model, (str, Path)):
        from moe_edge.training.archive import load_model

        loaded = load_model(Path(model))
        schema, provenance = schema or loaded.schema, {"source": Path(model).name, **(provenance or {})}
        model = loaded.model
    from moe_edge_converters.extraction import extract_mixture

    spec = extract_mixture(model)
    rows = None if calibration is None else check_rows(calibration, spec)
    notify(1, "building the graph")

    def reference(batch: Rows) -> Rows:
        return np.asarray(model.predict(batch, verbose=0, batch_size=256), dtype=np.float32)

    options = ConversionOptions(
        scheme=_scheme(scheme),
        gate_scheme=_scheme(gate_scheme),
        per_tensor=per_tensor,
        self_contained=self_contained,
        provenance=provenance or {},
    )
    return convert_spec(spec, output, reference=reference, rows=rows, options=options, schema=schema, progress=progress)


def convert_spec(
    spec: MixtureSpec,
    output: Path,
    *,
    reference: Callable[[Rows], Rows] | None,
    rows: Rows | None,
    options: ConversionOptions,
    schema: FeatureSchema | None = None,
    progress: Progress | None = None,
) -> ConversionResult:
    """Convert a mixture given as data.

    Args:
        spec: The mixture.
        output: Where to write.
        reference: The source model's predictions for rows; None checks the file against its own float32 graph.
        rows: float32 (n, ...) raw training rows.
        options: How to convert.
        schema: Columns and labels.
        progress: Called with (1, name of the next stage).
    """
    notify = progress or (lambda steps, note: None)
    if rows is None and _needs_calibration(options):
        raise ConversionError(
            f"scheme {options.scheme.value} measures the ranges of activations on training rows, got none; "
            "give calibration=x_train, or choose float16 or dynamic_w8, which need none"
        )
    schemes = [options.scheme.value] * spec.num_experts
    float_model, layout = build_fused_graph(spec, schemes)
    content = pack(float_model)
    notify(1, "calibrating")
    ranges, coverage = None, None
    if rows is not None and _needs_calibration(options):
        ranges, coverage = calibration.measure_ranges(content, calibration.thin_rows(rows))
    notify(1, "quantizing")
    part_schemes = _part_schemes(spec, layout.banks, options)
    rules = [quantization.PartRule(prefix=f"{part}/", scheme=scheme) for part, scheme in part_schemes.items()]
    quantized = read_model(quantization.quantize(content, rules, ranges, per_tensor=options.per_tensor))
    audit.check_schemes(quantized, part_schemes)
    # A mixture that may not run routed (logits or means are summed) is written dense: no signature invites to it.
    aliases = add_routed_signatures(quantized, layout).aliases if spec.combine.routable else {}

    def written(manifest: Manifest) -> bytes:
        return serialize(quantized, manifest=manifest.to_json(), aliases=aliases, self_contained=options.self_contained)

    notify(1, "checking the answers")
    check_batch = calibration.thin_rows(rows if rows is not None else probe_rows(spec), CHECK_ROWS)
    manifest = _manifest(spec, options, schema, coverage)
    expected = (reference or _float_reference(content))(check_batch)
    check = check_answers(written(manifest), check_batch, expected, task=spec.task, lossless=not rules_lossy(options))
    manifest = _with_golden(manifest, check_batch, check.predictions)
    final = written(manifest)
    notify(1, "writing the file")
    write_atomically(output, final)
    # What is on disk, not what was in memory, is what ships.
    check = check_answers(output, check_batch, expected, task=spec.task, lossless=not rules_lossy(options))
    notify(1, "done")
    return ConversionResult(path=output, num_bytes=len(final), manifest=manifest, coverage=coverage, check=check)


def rules_lossy(options: ConversionOptions) -> bool:
    """Whether a part is stored in less than float32."""
    return options.scheme is not Scheme.FLOAT32 or options.gate_scheme is not Scheme.FLOAT32


def check_rows(rows: Any, spec: MixtureSpec) -> Rows:
    """Turn the user's rows into what the graph takes.

    Raises:
        ConversionError: If the shape is wrong, there are no rows, or a value is no finite number (NaN is a missing
            value, allowed where the mixture has preprocessing).
    """
    array = np.asarray(rows)
    if array.dtype.kind not in "fiub":
        raise ConversionError(f"expected numeric calibration rows, got dtype {array.dtype}; encode texts first")
    if array.ndim < 1 or array.shape[1:] != spec.input_shape or len(array) == 0:
        raise ConversionError(
            f"expected calibration rows of shape (n, {', '.join(map(str, spec.input_shape))}) with n >= 1, "
            f"got {array.shape}"
        )
    array = np.ascontiguousarray(array, dtype=np.float32)
    if np.isinf(array).any() or (spec.preprocess is None and np.isnan(array).any()):
        raise ConversionError("expected finite calibration rows, got NaN or infinity; drop or mend those rows")
    return array


def probe_rows(spec: MixtureSpec) -> Rows:
    """Seeded rows in the range of the training data, for checking a file when no data was given."""
    rows = np.random.default_rng(0).normal(size=(CHECK_ROWS, *spec.input_shape)).astype(np.float32)
    if spec.preprocess is not None:
        columns = list(spec.preprocess.numeric)
        rows[:, columns] = rows[:, columns] / spec.preprocess.inverse_scale + spec.preprocess.mean
        for column, count in spec.preprocess.categorical:
            rows[:, column] = np.arange(len(rows)) % count
    return rows


def _scheme(scheme: str | Scheme) -> Scheme:
    try:
        return Scheme(scheme)
    except ValueError:
        expected = ", ".join(member.value for member in Scheme)
        raise ConversionError(f"expected a scheme among {expected}, got {scheme!r}") from None


def _needs_calibration(options: ConversionOptions) -> bool:
    return options.scheme.needs_calibration or options.gate_scheme.needs_calibration


def _part_schemes(spec: MixtureSpec, banks: tuple[Bank, ...], options: ConversionOptions) -> dict[str, Scheme]:
    """Each part's scheme, banks included, by the start of its tensors' names."""
    schemes = {"gate": options.gate_scheme}
    schemes.update({bank.name: Scheme(bank.scheme) for bank in banks})
    schemes.update({f"expert_{index}": options.scheme for index in range(spec.num_experts)})
    return schemes


def _manifest(
    spec: MixtureSpec, options: ConversionOptions, schema: FeatureSchema | None, coverage: Coverage | None
) -> Manifest:
    if schema is None:
        schema = numbered_schema(int(np.prod(spec.input_shape)), spec.num_outputs, spec.task)
    if len(schema.labels) != spec.num_outputs:
        raise ConversionError(f"expected {spec.num_outputs} labels, got {len(schema.labels)}: {schema.labels[:5]}")
    routable = spec.combine.routable
    parts = [Part(id=GATE, role=Role.GATE, scheme=options.gate_scheme.value, signature=GATE if routable else None)]
    if spec.preprocess is not None:
        parts.insert(0, Part(id="preprocess", role=Role.PREPROCESS))
    parts += [
        Part(
            id=expert_signature(index),
            role=Role.EXPERT,
            scheme=options.scheme.value,
            signature=expert_signature(index) if routable else None,
        )
        for index in range(spec.num_experts)
    ]
    parts.append(Part(id=COMBINE, role=Role.COMBINE, signature=COMBINE if routable else None))
    record = {} if coverage is None else {"rows": coverage.num_rows, "rows_per_expert": list(coverage.own)}
    return Manifest(
        task=spec.task,
        combine=spec.combine,
        num_experts=spec.num_experts,
        scheme=options.scheme.value,
        per_tensor=options.per_tensor,
        schema=schema,
        parts=tuple(parts),
        input_shape=spec.input_shape,
        calibration=record,
        tools=_tool_versions(),
        provenance={**options.provenance, "weights_sha256": _weights_digest(spec)},
    )


def _tool_versions() -> dict[str, str]:
    versions = {"moe-edge": __version__, "python": platform.python_version()}
    for name in ("tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _weights_digest(spec: MixtureSpec) -> str:
    """A short digest of the source's weights: tells whether two files come from one model."""
    content, _ = build_fused_graph(spec, [Scheme.FLOAT32.value] * spec.num_experts)
    return hashlib.sha256(pack(content)).hexdigest()[:16]


def _float_reference(content: bytes) -> Callable[[Rows], Rows]:
    def predict(rows: Rows) -> Rows:
        from moe_edge_converters.answer_check import run_plain

        return run_plain(content, rows)

    return predict


def _with_golden(manifest: Manifest, rows: Rows, predictions: Rows) -> Manifest:
    """Put a few rows with the file's own answers into the manifest."""
    count = max(1, min(MAX_GOLDEN_ROWS, MAX_GOLDEN_VALUES // max(1, rows[0].size)))
    inputs = tuple(
        tuple(None if np.isnan(value) else float(f"{value:.7g}") for value in row.reshape(-1)) for row in rows[:count]
    )
    answers = tuple(tuple(float(f"{value:.6g}") for value in row) for row in predictions[:count])
    return replace(manifest, golden=Golden(inputs=inputs, predictions=answers))
