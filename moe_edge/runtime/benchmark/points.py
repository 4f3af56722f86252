"""The ways in which one file can be run: modes, masses, numbers of experts, XNNPACK on and off.

Layer: device. Imports ``moe_edge.runtime`` modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from moe_edge.manifest import Manifest

MASSES = (0.9, 0.99, 0.999)
"""Gate mass at which routed execution may stop: where nobody says otherwise."""

XNNPACK_OFF, BY_BRANCHES = ", XNNPACK off", ", by branches"


@dataclass(frozen=True)
class OperatingPoint:
    """One way to run a file.

    Attributes:
        name: What tables call it.
        options: What the Predictor is opened with.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)


def list_points(
    manifest: Manifest,
    signatures: Sequence[str],
    *,
    top_ks: Sequence[int] = (),
    masses: Sequence[float] = (),
    xnnpack_off: bool = True,
) -> list[OperatingPoint]:
    """The points worth measuring.

    Args:
        manifest: The file's.
        signatures: Names of the file's signatures.
        top_ks: Numbers of experts to run; by default powers of two below all of them.
        masses: Gate masses to reach; by default ``MASSES`` and the file's own.
        xnnpack_off: Whether dense and routed are also measured without the XNNPACK delegate.

    Returns:
        Dense first; no routed ones where the file can't run its experts alone. The first routed one again with the gate
        run branch by branch, where that is a hierarchy.
    """
    points = [OperatingPoint("dense", {"mode": "dense", "xnnpack": True})]
    if xnnpack_off:
        points.append(OperatingPoint(f"dense{XNNPACK_OFF}", {"mode": "dense", "xnnpack": False}))
    if not (manifest.combine.routable and {"gate", "combine", "expert_0"} <= set(signatures)):
        return points
    # More experts than the mixture was trained with don't count for a row.
    trained = manifest.top_k or manifest.num_experts
    powers = [2**power for power in range(manifest.num_experts.bit_length()) if 2**power < trained]
    counts = list(top_ks) or ([trained] if manifest.top_k else []) + [count for count in powers if count <= 8]
    if not masses and trained > 1:
        masses = sorted({*MASSES, *([] if manifest.mass is None else [manifest.mass])})
    routed = [
        OperatingPoint(f"routed top-{count}", {"mode": "routed", "top_k": count}) for count in dict.fromkeys(counts)
    ]
    routed += [OperatingPoint(f"routed mass {mass:g}", {"mode": "routed", "mass": mass}) for mass in masses]
    if manifest.extras.get("gate_tree") is not None and routed:
        routed.insert(1, OperatingPoint(f"{routed[0].name}{BY_BRANCHES}", {**routed[0].options, "branches": True}))
    points += [OperatingPoint(point.name, {**point.options, "xnnpack": True}) for point in routed]
    if xnnpack_off and routed:
        points.append(OperatingPoint(f"{routed[0].name}{XNNPACK_OFF}", {**routed[0].options, "xnnpack": False}))
    return points
