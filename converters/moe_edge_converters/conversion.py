"""The whole way from a Keras mixture to one checked ``.tflite`` file.

extract -> assemble (fuse, calibrate, quantize, audit, derive) -> describe -> write -> run.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.atomic import check_writable, write_atomically
from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge.manifest import Manifest
from moe_edge.schema import FeatureSchema
from moe_edge_converters.answer_check import AnswerCheck, check_answers, run_plain
from moe_edge_converters.assembly import assemble, without_rounding, writes_routed
from moe_edge_converters.gate_density import record_density
from moe_edge_converters.gate_usage import record_usage
from moe_edge_converters.given_rows import CHECK_ROWS, check_rows, ladder_data, probe_rows
from moe_edge_converters.graphs.int8_edges import check_int8_io, feature_rows, features_only
from moe_edge_converters.manifest_record import describe_file, with_golden
from moe_edge_converters.options import ConversionOptions, Layout, parse_io, parse_layout, parse_scheme
from moe_edge_converters.routed_mass import measure_masses, record_mass
from moe_edge_converters.safe_routing import refuse_routing
from moe_edge_converters.schemes import calibration as calibrate
from moe_edge_converters.schemes.calibration import Coverage
from moe_edge_converters.schemes.scheme import AUTO, Scheme
from moe_edge_converters.schemes.scheme_ladder import Budget, Ladder, search_schemes
from moe_edge_converters.spec import MixtureSpec
from moe_edge_converters.targets.microcontroller import write_sources
from moe_edge_converters.targets.target import Target, TargetReport, parse_target
from moe_edge_converters.targets.target_check import check_target
from moe_edge_converters.targets.target_options import fit_options

Rows = npt.NDArray[np.float32]
Progress = Callable[[int, str], None]

STAGES = 6
"""Steps that ``progress`` is told of in one conversion."""


@dataclass(frozen=True, kw_only=True)
class ConversionResult:
    """What was written, and what it was checked against.

    Attributes:
        path: The file.
        num_bytes: Its size in bytes.
        manifest: What the file says of itself.
        coverage: Calibration rows for each expert; None where the scheme needs none.
        check: How the file's answers compare with the source model's.
        unaliased: Weights that had to be stored twice (4-bit slices that start within a byte).
        ladder: What ``auto`` tried; None where a scheme was asked for.
        target: How the file was accepted for the target it is meant for.
        sources: The C sources beside it, for a microcontroller.
    """

    path: Path
    num_bytes: int
    manifest: Manifest
    coverage: Coverage | None
    check: AnswerCheck
    unaliased: tuple[str, ...] = ()
    ladder: Ladder | None = None
    target: TargetReport | None = None
    sources: tuple[Path, ...] = ()


def convert(
    model: Any,
    output: str | Path,
    *,
    calibration: Any = None,
    fuse: bool = True,
    scheme: str | Scheme = Scheme.W8A8,
    gate_scheme: str | Scheme = Scheme.FLOAT32,
    expert_schemes: Mapping[int, str | Scheme] | None = None,
    per_tensor: bool = False,
    routed: bool | None = None,
    top_k: int | None = None,
    layout: str | Layout = Layout.AUTO,
    io: str = "float32",
    self_contained: bool = False,
    target: str | Target = Target.LITERT,
    schema: FeatureSchema | None = None,
    provenance: Mapping[str, str] | None = None,
    record: Mapping[str, Any] | None = None,
    training_target: Any = None,
    validation: tuple[Any, Any] | None = None,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> ConversionResult:
    """Convert a Keras mixture of experts to one fused ``.tflite`` file, and run the file.

    Args:
        model: A ``keras.Model`` in memory: one of ours, or any of the classical shape, however it is spelled; or the
            path of a ``.keras`` file (its schema travels along) or of a SavedModel folder.
        output: Where to write; replaced only when everything succeeded.
        calibration: Raw training rows, array-like (n, ...): needed by ``w8a8`` and ``w8a16``; the file is checked on
            them.
        fuse: Whether to look for a mixture; False converts any model as it is, to run whole (``num_experts`` is 1).
        scheme: Scheme of the experts: ``float32``, ``float16``, ``dynamic_w8``, ``w8a8``, ``w8a16``, ``w4``, or
            ``auto``: the smallest file within ``budget`` on the ``validation`` rows.
        gate_scheme: Scheme of the gating network.
        expert_schemes: Experts with a scheme of their own, by index.
        per_tensor: One scale a weight tensor instead of one a channel.
        routed: Whether to write the signatures that run experts one by one; by default where that is safe.
        top_k: Experts that run for each row, their weights renormalised; by default all. The file then answers like
            the mixture's strongest experts, which is not what the Keras model does: compare with ``validate``.
        layout: ``fully_connected``, ``gather`` (float32 and ``top_k`` only), or ``auto``, the faster.
        io: ``float32``, or ``int8``: the fused graph alone, which takes int8 features (what the preprocessing gives)
            and answers in int8, for hosts without float input.
        self_contained: Share no bytes between tensors, for microcontrollers and unknown hosts.
        target: Where the file is meant to run: it is run there or checked, and accepted or refused; ``microcontroller``
            writes ``<name>.h`` and ``<name>.cc`` too.
        schema: Columns and labels; by default the model's own, else numbered ones.
        provenance: Free text fields for the manifest: source, licence, ...
        record: What the model was trained with, for the manifest's ``extras["job"]``; by default what the ``.keras``
            file says.
        training_target: Targets of the ``calibration`` rows, needed by ``auto``.
        validation: Rows and targets that ``auto`` decides on, and on which the smallest gate mass is measured that
            routed execution needs.
        budget: What ``auto`` may lose; half a point of accuracy or 2 % of RMSE by default.
        progress: Called with (1, name of the next stage), ``STAGES`` times.

    Raises:
        ConversionError: If the model is no mixture, can't be written, or the file answers otherwise than the model.
    """
    output = Path(output)
    check_writable(output, suffix=".tflite")
    notify = progress or (lambda steps, note: None)
    notify(0, "reading the model")
    from moe_edge_converters.sources.source import read_source

    source = read_source(model, rows=calibration, fuse=fuse, schema=schema)
    spec, schema = source.spec, source.schema
    rows = None if calibration is None else check_rows(calibration, spec)
    notify(1, "building the graph")

    automatic = scheme == AUTO
    options = ConversionOptions(
        scheme=Scheme.FLOAT32 if automatic else parse_scheme(scheme),
        gate_scheme=parse_scheme(gate_scheme),
        expert_schemes={index: parse_scheme(name) for index, name in (expert_schemes or {}).items()},
        per_tensor=per_tensor,
        routed=routed,
        top_k=top_k,
        layout=parse_layout(layout),
        int8_io=parse_io(io) == "int8",
        self_contained=self_contained,
        target=parse_target(target),
        provenance={**source.provenance, **(provenance or {})},
    )
    if not automatic:
        fit_options(options)
    if top_k is not None:
        spec = with_top_k(spec, top_k)
    ladder = None
    if automatic:
        data = ladder_data(spec, rows, training_target, validation)
        ladder = search_schemes(spec, data, budget or Budget(), options=options, progress=progress)
        spec, options = ladder.spec, ladder.options
    return convert_spec(
        spec,
        output,
        reference=source.predict,
        rows=rows,
        probe=source.probe,
        record=source.record if record is None else record,
        options=options,
        schema=schema,
        ladder=ladder,
        validation=validation,
        progress=progress,
    )


def with_top_k(spec: MixtureSpec, top_k: int) -> MixtureSpec:
    """The mixture with only the strongest experts of each row.

    Raises:
        ConversionError: If ``top_k`` isn't in [1, E], or a few experts can't stand for all in this mixture.
    """
    if not 1 <= top_k <= spec.num_experts:
        raise ConversionError(f"expected 1 <= top_k <= {spec.num_experts} experts, got {top_k}")
    if not spec.combine.routable:
        raise ConversionError(
            f"this mixture combines by {spec.combine.value}: a few experts can't stand for all; drop --top-k"
        )
    return replace(spec, top_k=top_k)


def convert_spec(
    spec: MixtureSpec,
    output: Path,
    *,
    reference: Callable[[Rows], Rows] | None,
    rows: Rows | None,
    options: ConversionOptions,
    probe: Rows | None = None,
    schema: FeatureSchema | None = None,
    record: Mapping[str, Any] | None = None,
    ladder: Ladder | None = None,
    validation: tuple[Any, Any] | None = None,
    progress: Progress | None = None,
) -> ConversionResult:
    """Convert a mixture given as data.

    Args:
        spec: The mixture.
        output: Where to write.
        reference: The source model's predictions for rows; None checks the file against its own float32 graph.
        rows: float32 (n, ...) raw training rows.
        options: How to convert.
        probe: Rows to check the file on when there are no ``rows``; by default seeded ones in the columns' range.
        schema: Columns and labels.
        record: What the model was trained with.
        ladder: What chose ``options``, for the manifest.
        validation: Rows and targets to measure the gate mass on that routed execution needs.
        progress: Called with (1, name of the next stage).
    """
    notify = progress or (lambda steps, note: None)
    options = without_rounding(spec, fit_options(options))
    given = rows if rows is not None else probe
    given = probe_rows(spec) if given is None else given
    if options.routed and not spec.combine.routable:
        refuse_routing(spec, calibrate.thin_rows(given))
    if options.top_k is not None:
        spec = with_top_k(spec, options.top_k)
    check_batch = calibrate.thin_rows(given, CHECK_ROWS)
    expected = None if reference is None else reference(check_batch)
    if options.int8_io:
        check_int8_io(spec, options)
        check_batch = feature_rows(spec, check_batch)
        rows = None if rows is None else feature_rows(spec, rows)
        spec, schema = features_only(spec, schema)
    assembly = assemble(spec, options, rows, progress=progress)
    notify(1, "checking the answers")
    if expected is None:
        expected = run_plain(assembly.float_content, check_batch)
    manifest = describe_file(
        spec, options, schema=schema, coverage=assembly.coverage, float_content=assembly.float_content
    )
    if record:
        manifest = replace(manifest, extras={**manifest.extras, "job": dict(record)})
    if rows is not None:
        manifest = record_density(manifest, assembly.float_content, rows)
        manifest = record_usage(manifest, assembly.float_content, rows)
    if ladder is not None:
        manifest = replace(manifest, extras={**manifest.extras, "ladder": ladder.record()})

    if validation is not None and spec.top_k is None and spec.num_experts > 1 and writes_routed(spec, options):
        points = measure_masses(assembly.to_bytes(manifest), check_rows(validation[0], spec), validation[1])
        manifest = record_mass(manifest, points)

    def check(file: Path | bytes) -> AnswerCheck:
        return check_answers(
            file, check_batch, expected, task=spec.task, lossless=options.lossless and spec.top_k is None
        )

    answers = check(assembly.to_bytes(manifest))
    manifest = with_golden(manifest, check_batch, answers.predictions, answers.routing_weights)
    report = check_target(
        assembly.to_bytes(manifest), options.target, check_batch, classifies=spec.task is Task.CLASSIFICATION
    )
    manifest = replace(manifest, extras={**manifest.extras, "target": report.to_record()})
    content = assembly.to_bytes(manifest)
    notify(1, "writing the file")
    write_atomically(output, content)
    sources: tuple[Path, ...] = ()
    if options.target is Target.MICROCONTROLLER:
        sources = write_sources(output, content, arena_bytes=report.arena_bytes)
    # What is on disk, not what was in memory, is what ships.
    checked = check(output)
    notify(1, "done")
    return ConversionResult(
        path=output,
        num_bytes=len(content),
        manifest=manifest,
        coverage=assembly.coverage,
        check=checked,
        unaliased=assembly.unaliased,
        ladder=ladder,
        target=report,
        sources=sources,
    )
