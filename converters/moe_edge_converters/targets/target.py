"""Where a file is meant to run, what that forces on its conversion, and what was found out about it there.

Layer: desktop (converters), light: imports no numerical library, so that ``--help`` is fast.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_edge.errors import ConversionError

if TYPE_CHECKING:
    pass


class Target(str, enum.Enum):
    """A runtime or a kind of device."""

    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime-2.14"
    WEB = "web"
    INT8_ACCELERATOR = "int8-accelerator"
    MICROCONTROLLER = "microcontroller"

    @property
    def summary(self) -> str:
        """One line for people."""
        return {
            Target.LITERT: "LiteRT on Linux, phones, desktops",
            Target.TFLITE_RUNTIME: "its predecessor, for 32-bit Raspberry Pi OS and older systems; dynamic_w8 is "
            "written per tensor",
            Target.WEB: "LiteRT.js in a browser: fixed batch, float32 or int32 in and out of every signature",
            Target.INT8_ACCELERATOR: "a TPU or NPU that computes in int8; w8a8 experts",
            Target.MICROCONTROLLER: "TFLite Micro: float32 or w8a8, one self-contained graph; writes C sources too",
        }[self]


class Evidence(str, enum.Enum):
    """How an acceptance was reached: the file answered rows on the target, or was only compared with a table."""

    RAN = "ran"
    CHECKED = "checked"


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """Why a file is accepted for a target.

    Attributes:
        target: The target.
        evidence: Whether the file ran there or was only checked.
        runtime: Name and version of what ran it, or of the table.
        num_rows: Rows that were answered there; 0 when it was only checked.
        max_abs_error: Largest difference of a predicted value from LiteRT's; None for LiteRT itself, or when it was
            only checked.
        top1_agreement: Share of rows with LiteRT's class; None for regression, and where there is no difference.
        signatures: Signatures that ran.
        operators: The operators of the whole graph, sorted.
        arena_bytes: Smallest tensor arena that worked, on this machine's 64-bit TFLite Micro.
        array_bytes: Bytes of the C array.
        notes: What else is worth knowing, one line each.
    """

    target: Target
    evidence: Evidence
    runtime: str
    num_rows: int = 0
    max_abs_error: float | None = None
    top1_agreement: float | None = None
    signatures: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    arena_bytes: int | None = None
    array_bytes: int | None = None
    notes: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """For the manifest: plain values, nothing that differs from run to run."""
        record: dict[str, Any] = {"name": self.target.value, "evidence": self.evidence.value, "runtime": self.runtime}
        if self.evidence is Evidence.RAN:
            record["rows"] = self.num_rows
        if self.max_abs_error is not None:
            record["max_abs_error"] = float(f"{self.max_abs_error:.3g}")
        if self.top1_agreement is not None:
            record["top1_agreement"] = round(self.top1_agreement, 4)
        if self.arena_bytes is not None:
            record["arena_bytes"] = self.arena_bytes
        if self.notes:
            record["notes"] = list(self.notes)
        return record

    def lines(self) -> tuple[str, ...]:
        """For people: what ran or was checked, then the notes."""
        if self.evidence is Evidence.RAN:
            error = "" if self.max_abs_error is None else f": largest difference from LiteRT {self.max_abs_error:.2g}"
            agreement = "" if self.top1_agreement is None else f", same class for {self.top1_agreement:.1%}"
            first = f"{self.target.value}: ran {self.num_rows} rows on {self.runtime}{error}{agreement}"
        else:
            first = f"{self.target.value}: not run here, checked against {self.runtime}"
        sizes = [] if self.array_bytes is None else [f"C array: {self.array_bytes:,} bytes"]
        if self.arena_bytes is not None:
            sizes.append(f"tensor arena: {self.arena_bytes:,} bytes (measured with 64-bit pointers)")
        return (first, *sizes, *self.notes)


def parse_target(target: str | Target) -> Target:
    """A target by its name.

    Raises:
        ConversionError: If there is no such target.
    """
    try:
        return Target(target)
    except ValueError:
        expected = ", ".join(member.value for member in Target)
        raise ConversionError(f"expected a target among {expected}, got {target!r}") from None
