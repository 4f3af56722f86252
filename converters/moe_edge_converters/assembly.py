"""Put one file together in memory: fuse, calibrate, quantize, audit, derive the routed signatures.

Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.errors import ConversionError
from moe_edge.manifest import Manifest
from moe_edge_converters import audit, calibration, quantization
from moe_edge_converters.calibration import Coverage
from moe_edge_converters.file_writer import Alias, pack, read_model, serialize
from moe_edge_converters.fused_graph import Bank, build_fused_graph
from moe_edge_converters.int8_edges import make_edges_int8
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.routed_signatures import add_routed_signatures
from moe_edge_converters.schemes import Scheme
from moe_edge_converters.spec import MixtureSpec

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
    """

    model: Any
    float_content: bytes
    coverage: Coverage | None
    aliases: Mapping[int, Alias]
    unaliased: tuple[str, ...]
    self_contained: bool

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
    if rows is None and options.needs_calibration:
        scheme = next(scheme for scheme in options.used if scheme.needs_calibration)
        raise ConversionError(
            f"scheme {scheme.value} measures the ranges of activations on training rows, got none; "
            "give calibration=x_train, or choose float16 or dynamic_w8, which need none"
        )
    schemes = options.schemes_of(spec.num_experts)
    float_model, layout = build_fused_graph(spec, [scheme.value for scheme in schemes])
    content = pack(float_model)
    notify(1, "calibrating")
    ranges, coverage = None, None
    if rows is not None and options.needs_calibration:
        ranges, coverage = calibration.measure_ranges(content, calibration.thin_rows(rows))
    notify(1, "quantizing")
    part_schemes = _part_schemes(schemes, layout.banks, options.gate_scheme)
    rules = [quantization.PartRule(prefix=f"{part}/", scheme=scheme) for part, scheme in part_schemes.items()]
    model = read_model(quantization.quantize(content, rules, ranges, per_tensor=options.per_tensor))
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
