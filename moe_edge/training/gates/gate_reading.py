"""Read a trained gate: the tree of a hierarchical one, the questions of a decision tree in the table's own units.

B is the batch, E the number of experts, F the number of features.
Layer: desktop (training).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.diagnosis_subject import Floats, SplitNode
from moe_edge.hierarchy import GateTree
from moe_edge.schema import ColumnKind, FeatureSchema
from moe_edge.training.estimators.tree_layers import TreeEnsemble
from moe_edge.training.gates.gate_layers import SelectColumns
from moe_edge.training.gates.hierarchical_gate import HierarchicalGate
from moe_edge.training.layers import Preprocess
from moe_edge.training.outputs import mixture_tensors
from moe_edge.training.score import predict


def read_gate_tree(model: keras.Model) -> GateTree | None:
    """The tree of a mixture's hierarchical gate; None for any other gate."""
    found = _find_gate_layer(model, HierarchicalGate)
    return None if found is None else found[0].gate_tree


def read_gate_splits(model: keras.Model, schema: FeatureSchema, rows: Floats) -> SplitNode | None:
    """The questions that a gate of one decision tree asks.

    Args:
        model: The mixture.
        schema: Its columns.
        rows: Raw rows, float32 (n, d), counted at every node.

    Returns:
        The root; None for any other gate, forests among them.
    """
    found = _find_gate_layer(model, TreeEnsemble)
    if found is None:
        return None
    layer, given = found
    if layer.num_trees != 1 or not layer.gives_probabilities or layer.link != "linear":
        return None
    x = predict(keras.Model(model.input, given), rows)
    return _Tree.of(layer, _questions(model, schema, given), x).node(int(np.array(layer.roots)[0]), np.arange(len(x)))


def _find_gate_layer(model: keras.Model, kind: type) -> tuple[Any, Any] | None:
    """The gate's layer of a kind and the tensor of features that the gate is given."""
    tensor = mixture_tensors(model).routing_weights
    while True:
        operation, node_index, _ = tensor._keras_history
        sources = operation._inbound_nodes[node_index].input_tensors
        if isinstance(operation, kind):
            return operation, sources[0]
        if isinstance(operation, keras.Model):
            layer = next((layer for layer in operation.layers if isinstance(layer, kind)), None)
            if layer is not None:
                return layer, sources[0]
        if len(sources) != 1:
            return None
        tensor = sources[0]


@dataclass(frozen=True)
class _Feature:
    """How to ask about one feature.

    Attributes:
        name: A column, or a column and its category.
        scale, shift: What brings the feature back to the column's unit.
        category: Whether it is 1 for a category and 0 for others.
    """

    name: str
    scale: float = 1.0
    shift: float = 0.0
    category: bool = False

    def ask(self, threshold: float, *, above: bool) -> str:
        """What is true of the rows that go on: at most the threshold, or at least it (``above``)."""
        if self.category:
            return self.name if above else f"not {self.name}"
        return f"{self.name} {'≥' if above else '≤'} {threshold * self.scale + self.shift:.4g}"


def _questions(model: keras.Model, schema: FeatureSchema, given: Any) -> list[_Feature]:
    """One for each feature that the gate is given; features of a trunk have numbers only."""
    operation = given._keras_history.operation
    if isinstance(operation, SelectColumns):
        before = operation._inbound_nodes[given._keras_history.node_index].input_tensors[0]
        known = _questions(model, schema, before)
        return [known[index] for index in operation.indices]
    if isinstance(operation, keras.layers.InputLayer):
        return [_Feature(name) for name in schema.names]
    if not isinstance(operation, Preprocess):
        return [_Feature(f"feature {index}") for index in range(given.shape[-1])]
    numeric = zip(operation.numeric_indices, operation.inverse_scale, operation.mean, strict=True)
    features = [_Feature(schema.names[index], 1 / inverse, mean) for index, inverse, mean in numeric]
    for index, count in operation.categorical:
        column = schema.columns[index]
        names = column.categories if column.kind is ColumnKind.CATEGORICAL else [str(code) for code in range(count)]
        features += [_Feature(f"{column.name} is {name}", category=True) for name in names]
    return features


@dataclass(frozen=True, eq=False)
class _Tree:
    """One tree's arrays beside the rows that walk it; see ``TreeEnsemble``."""

    feature: npt.NDArray[np.int32]
    threshold: Floats
    child: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]
    first_leaf: int
    questions: list[_Feature]
    x: Floats

    @classmethod
    def of(cls, layer: TreeEnsemble, questions: list[_Feature], x: Floats) -> _Tree:
        values, columns, scale, offset = (
            np.array(weight) for weight in (layer.values, layer.columns, layer.scale, layer.offset)
        )
        return cls(
            feature=np.array(layer.feature),
            threshold=np.array(layer.threshold),
            child=np.array(layer.first_child),
            weights=values[:, columns].astype(np.float64) * scale + offset,
            first_leaf=layer.first_leaf,
            questions=questions,
            x=x,
        )

    def node(self, place: int, rows: npt.NDArray[np.int64]) -> SplitNode:
        """The node at a place, and what is below it."""
        if place >= len(self.child) or self.child[place] == place:
            return SplitNode(rows=len(rows), weights=tuple(self.weights[place - self.first_leaf].tolist()))
        count = len(self.questions)
        turned, column = divmod(int(self.feature[place]), count)
        sign, threshold = -1.0 if turned else 1.0, float(self.threshold[place])
        above = sign * self.x[rows, column] > threshold
        first, second = (
            self.node(int(self.child[place]) + step, rows[side]) for step, side in enumerate((~above, above))
        )
        question = self.questions[column]
        if question.category and not turned:
            # "colour is red" reads better than its opposite: the second child is where it is true.
            return SplitNode(rows=len(rows), question=question.ask(threshold, above=True), yes=second, no=first)
        return SplitNode(
            rows=len(rows), question=question.ask(sign * threshold, above=bool(turned)), yes=first, no=second
        )
