"""A mixture as a diagnosis sees it, a ``.tflite`` or a Keras model: what it answers to rows, and how its gate is built.

n is the number of rows, E of experts, K of outputs or classes.
Layer: shared. Imports NumPy and shared modules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe_edge.hierarchy import GateTree
from moe_edge.schema import FeatureSchema

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """What a mixture makes of rows.

    Attributes:
        prediction: float32 (n, K), in the user's units.
        routing_weights: float32 (n, E).
        expert_answers: float32 (n, E, K), what each expert answers alone; None where experts can't.
    """

    prediction: Floats
    routing_weights: Floats
    expert_answers: Floats | None


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitNode:
    """A node of a decision-tree gate: a question and where its answers lead, or a leaf.

    Attributes:
        rows: How many of the diagnosed rows come here.
        question: Such as ``height <= 1.7``, in the table's units; empty at a leaf.
        yes, no: What follows; None at a leaf.
        weights: The routing weights (E,) of a leaf; empty above.
    """

    rows: int
    question: str = ""
    yes: SplitNode | None = None
    no: SplitNode | None = None
    weights: tuple[float, ...] = ()

    @property
    def depth(self) -> int:
        """Questions on the longest way to a leaf."""
        return 1 + max(self.yes.depth, self.no.depth) if self.yes is not None and self.no is not None else 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is diagnosed.

    Attributes:
        name: What to call it.
        schema: Columns, target and labels.
        answer: Raw rows (n, ...) to what the mixture makes of them.
        answers_missing: Why experts can't answer alone, empty if they can.
        gate_tree: The tree of a hierarchical gate; None for other gates.
        gate_splits: Rows (n, ...) to the splits of a gate that is one decision tree, or to None for other gates; None
            where they can't be read.
        gate_note: A sentence on the gate for the report, empty for none.
    """

    name: str
    schema: FeatureSchema
    answer: Callable[[Floats], Answered]
    answers_missing: str = ""
    gate_tree: GateTree | None = None
    gate_splits: Callable[[Floats], SplitNode | None] | None = None
    gate_note: str = ""
