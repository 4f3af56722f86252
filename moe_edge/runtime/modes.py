"""Which experts run: what the user asked for, checked against what the file may do.

``dense`` runs the whole graph. ``routed`` runs the gate, then only the experts that a row needs: as many as it was
trained with (``top_k``), or those that hold ``mass`` of the gate's weight (top-p routing, Huang et al. 2024).
``auto`` never changes an answer by more than rounding: it takes ``routed`` only for a mixture that was trained with a
``top_k`` below E, and only where that is the faster.
Layer: device. Imports the standard library and ``moe_edge`` modules of the device side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_edge.errors import ModelFileError
from moe_edge.hierarchy import GateTree

if TYPE_CHECKING:
    from moe_edge.manifest import Manifest
    from moe_edge.runtime.model_file import ModelFile

AUTO, DENSE, ROUTED = "auto", "dense", "routed"
MODES: tuple[str, ...] = (AUTO, DENSE, ROUTED)
GATE, COMBINE = "gate", "combine"

ROUTED_SAVES_WEIGHTS = 100_000
"""``auto`` routes where this many weights a row needn't be read. Measured on x86-64, one thread, LiteRT 2.3, float32
experts, top-2: one row dense against routed took 8.6 and 10.9 us where routing saves 54,000 weights, 12.2 and 11.5 us
at 99,000, 17.4 and 12.3 us at 157,000; in batches routed was the faster at all three (1.6 to 2.1 times)."""
XNNPACK_MAX_BYTES = 64 * 2**20
"""Largest file that gets XNNPACK when nobody asks: it keeps a second, packed copy of every weight in memory."""


def expert_signature(index: int) -> str:
    """The name of an expert's signature."""
    return f"expert_{index}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """How the user wants the experts run.

    Attributes:
        mode: ``auto``, ``dense`` or ``routed``.
        mass: Run experts, heaviest first, until their gate weights reach this; in (0, 1].
        top_k: Run this many experts; instead of ``mass``.
        max_experts: With ``mass``: run at most so many.
        branches: Run a hierarchical gate branch by branch.
    """

    mode: str = AUTO
    mass: float | None = None
    top_k: int | None = None
    max_experts: int | None = None
    branches: bool = False

    def __post_init__(self) -> None:
        """Check what needs no file.

        Raises:
            ValueError: If a value is out of range, or two of them contradict each other.
        """
        if self.mode not in MODES:
            raise ValueError(f"expected mode among {', '.join(MODES)}, got {self.mode!r}")
        if self.mass is not None and not 0 < self.mass <= 1:
            raise ValueError(f"expected 0 < mass <= 1, got {self.mass}")
        for name, value in (("top_k", self.top_k), ("max_experts", self.max_experts)):
            if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
                raise ValueError(f"expected {name} to be a whole number of experts, at least 1, got {value}")
        if self.top_k is not None and self.mass is not None:
            raise ValueError("expected top_k or mass, got both; cap the mass with max_experts")
        if self.mode == DENSE and self.branches:
            raise ValueError("expected no branches in mode dense, which runs the whole gate")
        if self.mode == DENSE and self._limits:
            raise ValueError("expected no mass, top_k or max_experts in mode dense, which runs every expert")

    @property
    def _limits(self) -> bool:
        return self.mass is not None or self.top_k is not None or self.max_experts is not None or self.branches


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will run.

    Attributes:
        routed: Whether experts run one by one.
        mass: The gate weight to reach, or None for a fixed number.
        max_experts: Most experts that run for a row, in [1, E].
        exact_weights: Whether the gate's weights are used as they are; else those that run are scaled to sum to 1.
        branches: The tree of a hierarchical gate whose gates run one by one, or None to run them as one graph.
        trained_top_k: Experts that count as trained, their weights scaled by the gate's own graph; None for all.
    """

    routed: bool
    mass: float | None = None
    max_experts: int = 0
    exact_weights: bool = True
    branches: GateTree | None = None
    trained_top_k: int | None = None


def plan_run(request: Request, file: ModelFile, manifest: Manifest) -> Plan:
    """Decide what runs.

    Raises:
        ModelFileError: If the file may not, or can't, be routed as asked.
        ValueError: If more experts are asked for than there are.
    """
    obstacle = _obstacle(file, manifest)
    trained, total = manifest.top_k or manifest.num_experts, manifest.num_experts
    asked = request.mode == ROUTED or request._limits
    if not asked:
        can_choose = request.mode != DENSE and obstacle is None and trained < total
        if not can_choose or _saved_weights(file, manifest) < ROUTED_SAVES_WEIGHTS:
            return Plan(routed=False)
    elif obstacle:
        raise ModelFileError(f"{file.source}: {obstacle}")
    for name, value in (("top_k", request.top_k), ("max_experts", request.max_experts)):
        if value is not None and value > trained:
            raise ValueError(f"expected {name} in [1, {trained}], the experts that count for a row, got {value}")
    branches = _tree(file, manifest) if request.branches else None
    mass = request.mass
    if mass is None and request.top_k is None and trained == total:
        mass = manifest.mass
        if mass is None and request.max_experts is None:
            raise ModelFileError(
                f"{file.source}: this mixture was trained with all its {total} experts and has no measured mass; "
                "say how many to run: mass=0.99 or top_k=2"
            )
    limit = min(request.top_k or trained, request.max_experts or trained)
    if mass == 1.0:
        mass = None
    return Plan(
        routed=True,
        mass=mass,
        max_experts=limit,
        exact_weights=mass is None and limit == trained,
        branches=branches,
        trained_top_k=manifest.top_k,
    )


def branch_signature(node: int) -> str:
    """The name of one gate of a hierarchical gate."""
    return f"gate_{node}"


def _tree(file: ModelFile, manifest: Manifest) -> GateTree:
    """The tree of a hierarchical gate.

    Raises:
        ModelFileError: If the file has none, or not all its gates.
    """
    nested = manifest.extras.get("gate_tree")
    if nested is None:
        raise ModelFileError(f"{file.source}: expected a hierarchical gate to run by branches, got another kind")
    try:
        tree = GateTree.from_nested(nested)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{file.source}: its tree of gates is damaged: {error}; convert the model again"
        ) from error
    missing = [name for name in map(branch_signature, range(len(tree.nodes))) if name not in file.signatures]
    if missing or tree.num_experts != manifest.num_experts:
        raise ModelFileError(
            f"{file.source}: expected a gate for each node of a tree of {manifest.num_experts} experts, "
            f"got {tree.num_experts} experts and no {missing[:1]}; convert the model again"
        )
    return tree


def wants_xnnpack(file: ModelFile, asked: bool | None) -> bool:
    """Whether the XNNPACK delegate runs: as asked, else for files whose second copy of the weights is small."""
    return len(file.content) <= XNNPACK_MAX_BYTES if asked is None else asked


def _obstacle(file: ModelFile, manifest: Manifest) -> str | None:
    """Why this file can't run routed, and what to do; None if it can."""
    if not manifest.combine.routable:
        return (
            f"it combines by {manifest.combine.value}, whose experts answer only together, and may not run routed; "
            "use mode dense"
        )
    if manifest.io != "float32":
        return f"its edges are {manifest.io}, which only the whole graph has; use mode dense"
    needed = [GATE, COMBINE, *(expert_signature(index) for index in range(manifest.num_experts))]
    missing = [name for name in needed if name not in file.signatures]
    if missing:
        return (
            f"it has no signature {missing[0]!r}, so its experts can't run alone; use mode dense, "
            "or convert it again without --fused-only"
        )
    return None


def _saved_weights(file: ModelFile, manifest: Manifest) -> int:
    """Weights that a row needn't read when only the experts run that it was trained with."""
    signature = file.signatures[expert_signature(0)]
    tensors = file.subgraphs[signature.subgraph].tensors
    weights = sum(math.prod(tensor.shape) for tensor in tensors if tensor.constant)
    return weights * (manifest.num_experts - (manifest.top_k or manifest.num_experts))
