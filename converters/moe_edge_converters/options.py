"""How to convert: schemes of the parts, granularity, sharing of bytes.

Layer: desktop (converters), light: imports no numerical library.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from moe_edge.errors import ConversionError
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.targets.target import Target


class Layout(str, enum.Enum):
    """How the experts lie in the whole graph.

    ``fully_connected``: every expert is computed, first layers in one wide operator. ``gather``: only the chosen
    experts of a float32 top-k mixture are. ``auto``: whichever is faster, as far as measured.
    """

    AUTO = "auto"
    FULLY_CONNECTED = "fully_connected"
    GATHER = "gather"


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """How to convert.

    Attributes:
        scheme: The scheme of the experts.
        expert_schemes: Experts with a scheme of their own, by index.
        gate_scheme: The scheme of the gate; float32 because a flipped route costs more than the bytes it saves.
        per_tensor: One scale a weight tensor, for hosts that know no per-channel weights.
        routed: Whether to write the signatures for routed execution; None writes them where routing is safe, and asking
            for them where it isn't is an error.
        top_k: Experts that run for each row, their weights renormalised; None for all.
        layout: How the experts lie in the whole graph.
        int8_io: Whether the fused graph takes int8 features and gives int8 answers; then it is all that is written.
        self_contained: Store every tensor's bytes apart, inside the flatbuffer, for hosts that know no shared buffers.
        target: Where the file is meant to run; see ``target_options.fit_options`` for what that forces.
        provenance: Free text fields for the manifest (source, licence, ...).
    """

    scheme: Scheme = Scheme.W8A8
    expert_schemes: Mapping[int, Scheme] = field(default_factory=dict)
    gate_scheme: Scheme = Scheme.FLOAT32
    per_tensor: bool = False
    routed: bool | None = None
    top_k: int | None = None
    layout: Layout = Layout.AUTO
    int8_io: bool = False
    self_contained: bool = False
    target: Target = Target.LITERT
    provenance: Mapping[str, str] = field(default_factory=dict)

    def schemes_of(self, num_experts: int) -> list[Scheme]:
        """Each expert's scheme.

        Raises:
            ConversionError: If an expert was named that the mixture doesn't have.
        """
        unknown = sorted(set(self.expert_schemes) - set(range(num_experts)))
        if unknown:
            raise ConversionError(f"expected experts 0 to {num_experts - 1}, got a scheme for expert {unknown[0]}")
        return [self.expert_schemes.get(index, self.scheme) for index in range(num_experts)]

    @property
    def used(self) -> frozenset[Scheme]:
        """Every scheme that a part has."""
        return frozenset({self.scheme, self.gate_scheme, *self.expert_schemes.values()})

    @property
    def needs_calibration(self) -> bool:
        """Whether a part's scheme needs activation ranges."""
        return any(scheme.needs_calibration for scheme in self.used)

    @property
    def lossless(self) -> bool:
        """Whether every part stays float32."""
        return self.used == {Scheme.FLOAT32}


def parse_scheme(scheme: str | Scheme) -> Scheme:
    """A scheme by its name.

    Raises:
        ConversionError: If there is no such scheme.
    """
    try:
        return Scheme(scheme)
    except ValueError:
        expected = ", ".join(member.value for member in Scheme)
        raise ConversionError(f"expected a scheme among {expected}, got {scheme!r}") from None


def parse_layout(layout: str | Layout) -> Layout:
    """A layout by its name.

    Raises:
        ConversionError: If there is no such layout.
    """
    try:
        return Layout(layout)
    except ValueError:
        expected = ", ".join(member.value for member in Layout)
        raise ConversionError(f"expected a layout among {expected}, got {layout!r}") from None


def parse_io(io: str) -> str:
    """The kind of input and output.

    Raises:
        ConversionError: If it is neither ``float32`` nor ``int8``.
    """
    if io not in ("float32", "int8"):
        raise ConversionError(f"expected io float32 or int8, got {io!r}")
    return io
