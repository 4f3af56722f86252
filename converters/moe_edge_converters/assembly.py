"""Put one file together in memory: fuse, calibrate, quantize, audit, derive the routed signatures.

Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.errors import ConversionError
from moe_edge.manifest import Manifest
from moe_edge_converters.file_writer import Alias, pack, read_model, serialize
from moe_edge_converters.graphs.fused_graph import Bank, build_fused_graph
from moe_edge_converters.graphs.gathered_graph import build_gathered_graph, why_not_gather
from moe_edge_converters.graphs.int8_edges import make_edges_int8
from moe_edge_converters.graphs.routed_signatures import add_routed_signatures
from moe_edge_converters.options import ConversionOptions, Layout
from moe_edge_converters.schemes import audit, calibration, quantization
from moe_edge_converters.schemes.calibration import Coverage
from moe_edge_converters.schemes.constant_channels import rescale_constant_channels
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.schemes.unused_outputs import give_unused_outputs_types
from moe_edge_converters.spec import MixtureSpec, is_float_only
from moe_edge_converters.targets.target import Target

GATHER_FROM = 6
"""Experts for each chosen one from which GATHER is faster than computing all.

Measured on LiteRT 2.3, x86-64, one thread, one row, us for GATHER against all experts of 64-32 units: top-1 of 5 4.3
against 3.5, of 8 4.4 against 5.0; top-2 of 8 6.4 against 5.0, of 16 6.4 against 9.1; top-4 of 16 10.5 against 9.1, of
32 10.4 against 19.8. Experts of 256-128 units turn at the same places.
"""

Rows = npt.NDArray[np.float32]
Progress = Callable[[int, str], None]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A model with its schemes and signatures, ready to be written.

    Attributes:
        model: The schema's object form.
        float_content: The float32 graph it was quantized from.
        coverage: Calibration rows for each expert; None where no scheme needs any.
        aliases: Buffers stored as slices of others.
        unaliased: Weights that had to be stored again for the routed signatures.
        self_contained: Whether to share no bytes.
        layout: The layout that was taken.
    """

    model: Any
    float_content: bytes
    coverage: Coverage | None
    aliases: Mapping[int, Alias]
    unaliased: tuple[str, ...]
    self_contained: bool
    layout: Layout = Layout.FULLY_CONNECTED

    def to_bytes(self, manifest: Manifest) -> bytes:
        """The file's bytes; the same input gives the same bytes."""
        return serialize(
            self.model, manifest=manifest.to_json(), aliases=self.aliases, self_contained=self.self_contained
        )


def assemble(
    spec: MixtureSpec, options: ConversionOptions, rows: Rows | None, *, progress: Progress | None = None
) -> Assembly:
    """Fuse a mixture, give its parts their schemes, and derive the routed signatures.

    Args:
        spec: The mixture.
        options: How to convert.
        rows: float32 (n, ...) raw training rows, needed when a scheme calibrates.
        progress: Called with (1, name of the next stage).

    Raises:
        ConversionError: If rows are missing, the quantizer refuses, or it didn't do what was asked.
    """
    notify = progress or (lambda steps, note: None)
    options = without_rounding(spec, options)
    if rows is None and options.needs_calibration:
        scheme = next(scheme for scheme in options.used if scheme.needs_calibration)
        raise ConversionError(
            f"scheme {scheme.value} measures the ranges of activations on training rows, got none; "
            "give calibration=x_train, or choose float16 or dynamic_w8, which need none"
        )
    if choose_layout(spec, options) is Layout.GATHER:
        return _assemble_gathered(spec, options)
    schemes = expert_schemes(spec, options)
    names = [scheme.value for scheme in schemes]
    # One int8 scale can't hold sigmas of very different size: such files give the moments only.
    float_model, layout = build_fused_graph(spec, names, densities=not options.int8_io)
    content = pack(float_model)
    notify(1, "calibrating")
    ranges, coverage = None, None
    if rows is not None and options.needs_calibration:
        # With all experts at work: the rows that come near an expert count, not only those that top-k leaves it.
        dense = content if spec.top_k is None else pack(build_fused_graph(replace(spec, top_k=None), names)[0])
        ranges, coverage = calibration.measure_ranges(dense, calibration.thin_rows(rows))
    notify(1, "quantizing")
    part_schemes = _part_schemes(schemes, layout.banks, options.gate_scheme)
    rules = [quantization.PartRule(prefix=f"{part}/", scheme=scheme) for part, scheme in part_schemes.items()]
    model = read_model(quantization.quantize(content, rules, ranges, per_tensor=options.per_tensor))
    give_unused_outputs_types(model)
    rescale_constant_channels(model, float_model)
    audit.check_schemes(model, part_schemes)
    aliases: Mapping[int, Alias] = {}
    unaliased: tuple[str, ...] = ()
    if options.int8_io:
        make_edges_int8(model, spec.task, ranges or {})
    elif writes_routed(spec, options):
        routed = add_routed_signatures(model, layout)
        aliases, unaliased = routed.aliases, routed.unaliased
    return Assembly(
        model=model,
        float_content=content,
        coverage=coverage,
        aliases=aliases,
        unaliased=unaliased,
        self_contained=options.self_contained,
    )


def choose_layout(spec: MixtureSpec, options: ConversionOptions) -> Layout:
    """The layout of the whole graph.

    Raises:
        ConversionError: If the gather layout was asked for and can't hold this mixture.
    """
    obstacle = why_not_gather(spec, spec.top_k)
    if not obstacle and not options.lossless:
        obstacle = "it holds float32 only; use --scheme float32"
    if not obstacle and options.routed is False:
        obstacle = "it is written with its routed signatures; drop --fused-only"
    if options.layout is Layout.GATHER and obstacle:
        raise ConversionError(f"the gather layout can't hold this mixture: {obstacle}")
    if options.layout is not Layout.AUTO:
        return options.layout
    faster = spec.top_k is not None and spec.num_experts >= GATHER_FROM * spec.top_k
    return Layout.GATHER if faster and not obstacle else Layout.FULLY_CONNECTED


def _assemble_gathered(spec: MixtureSpec, options: ConversionOptions) -> Assembly:
    model, aliases = build_gathered_graph(spec, spec.top_k or 1)
    return Assembly(
        model=model,
        float_content=pack(model),
        coverage=None,
        aliases=aliases,
        unaliased=(),
        self_contained=options.self_contained,
        layout=Layout.GATHER,
    )


def _refuse_rounding(spec: MixtureSpec, options: ConversionOptions) -> None:
    """Refuse a scheme that was asked for by name for a part that stays float32 in all of them.

    Raises:
        ConversionError: For a gate or an expert.
    """
    if is_float_only(spec.gate) and options.gate_scheme is not Scheme.FLOAT32:
        raise ConversionError(
            f"expected --gate-scheme float32 for this kind of gate, got {options.gate_scheme.value}: it computes "
            "thresholds, logarithms or distances that 8 bits don't resolve; the experts keep their scheme"
        )
    for index, scheme in (options.expert_schemes or {}).items():
        if index < spec.num_experts and is_float_only(spec.experts[index]) and scheme is not Scheme.FLOAT32:
            raise ConversionError(
                f"expected --expert-scheme {index}=float32, got {scheme.value}: expert_{index} is made of decision "
                "trees, whose thresholds 8 bits would move; drop the option, it stays float32 in every scheme"
            )


def without_rounding(spec: MixtureSpec, options: ConversionOptions) -> ConversionOptions:
    """The options of a mixture whose experts all stay float32: that is its scheme, and needs no calibration.

    Raises:
        ConversionError: If a part that stays float32 was asked by name for another scheme, or the target's experts
            compute in int8.
    """
    _refuse_rounding(spec, options)
    kept = [index for index, expert in enumerate(spec.experts) if is_float_only(expert)]
    if kept and options.target is Target.INT8_ACCELERATOR:
        raise ConversionError(
            f"an int8 accelerator computes int8 weights with int8 activations, but expert_{kept[0]} is made of "
            "decision trees, which stay float32; choose another target, or a neural kind of expert"
        )
    if len(kept) < spec.num_experts:
        return options
    return replace(options, scheme=Scheme.FLOAT32, expert_schemes={})


def expert_schemes(spec: MixtureSpec, options: ConversionOptions) -> list[Scheme]:
    """Each expert's scheme: the one asked for, but float32 where an expert may have no other."""
    asked = options.schemes_of(spec.num_experts)
    return [
        Scheme.FLOAT32 if is_float_only(expert) else scheme for expert, scheme in zip(spec.experts, asked, strict=True)
    ]


def writes_routed(spec: MixtureSpec, options: ConversionOptions) -> bool:
    """Whether the file gets routed signatures; a mixture that may not run routed is written dense by default."""
    if options.int8_io:
        return False
    return spec.combine.routable if options.routed is None else options.routed


def _part_schemes(schemes: list[Scheme], banks: tuple[Bank, ...], gate_scheme: Scheme) -> dict[str, Scheme]:
    """Each part's scheme, banks included, by the start of its tensors' names."""
    parts = {"gate": gate_scheme}
    parts.update({bank.name: Scheme(bank.scheme) for bank in banks})
    parts.update({f"expert_{index}": scheme for index, scheme in enumerate(schemes)})
    return parts
