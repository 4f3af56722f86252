"""Ensembles of trees as a Keras layer: forests and boosting, answering exactly as what they were fitted by.

B is the batch, F the number of features, T the number of trees, N the number of nodes, W the values of a leaf.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from moe_edge.training.tree_arrays import Forest

LINKS = ("linear", "sigmoid", "softmax")


@keras.saving.register_keras_serializable(package="moe_edge")
class TreeEnsemble(keras.layers.Layer):
    """Features (B, F) to the answers of T trees, summed: (B, V).

    All trees are walked at once, one step a level: ``node = child[node] + (x[feature[node]] > threshold[node])``. The
    leaves' values (B, T, W) are summed as (B, T * W / S, S), S the number of sums, so that trees of one value each may
    belong to S sums in turn, as in boosting. Then come ``base`` (a weight, (S,)), the link, ``constants`` after the
    values, and a choice of columns. NaN goes left.

    Weights, none trainable: ``feature`` and ``child`` int32 (N,), ``threshold`` float32 (N,), ``values`` float32
    (N, W), ``base`` float32 (S,). Their numbering is that of ``tree_arrays.Forest``.

    Attributes:
        num_trees: T.
        num_nodes: N.
        depth: Steps of the walk.
        leaf_size: W.
        num_sums: S; T * W is a multiple of it.
        link: ``linear``; ``softmax`` over the sums; ``sigmoid`` for S = 1, which gives (1 - p, p).
        constants: Numbers that every row's answer ends with: logarithms of sigma, or 0 for classes never seen.
        columns: Which values of the answer, constants included, are given in which order; None for all as they are.
        probabilities: Whether the answer is a distribution over classes.
    """

    def __init__(
        self,
        *,
        num_trees: int,
        num_nodes: int,
        depth: int,
        leaf_size: int,
        num_sums: int,
        link: str = "linear",
        constants: Sequence[float] = (),
        columns: Sequence[int] | None = None,
        probabilities: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        kwargs["trainable"] = False
        super().__init__(**kwargs)
        self.num_trees, self.num_nodes, self.depth = int(num_trees), int(num_nodes), int(depth)
        self.leaf_size, self.num_sums = int(leaf_size), int(num_sums)
        self.link = link
        self.constants = [float(value) for value in constants]
        self.columns = None if columns is None else [int(column) for column in columns]
        self.probabilities = bool(probabilities)
        if min(self.num_trees, self.depth, self.leaf_size, self.num_sums) < 1 or self.num_nodes < self.num_trees:
            raise ValueError(f"{self.name}: expected at least one tree, node, step and value")
        if self.num_trees * self.leaf_size % self.num_sums:
            raise ValueError(
                f"{self.name}: expected trees times leaf_size to be a multiple of num_sums={num_sums}, "
                f"got {num_trees} times {leaf_size}"
            )
        if link not in LINKS or (link == "sigmoid" and self.num_sums != 1):
            raise ValueError(
                f"{self.name}: expected link among {', '.join(LINKS)} (sigmoid: 1 sum), got {link} of {num_sums}"
            )
        if self.columns is not None and not all(0 <= column < self._width for column in self.columns):
            raise ValueError(f"{self.name}: expected columns in [0, {self._width}), got {self.columns}")

    @property
    def _width(self) -> int:
        """Values before a choice of columns."""
        return (2 if self.link == "sigmoid" else self.num_sums) + len(self.constants)

    @property
    def num_values(self) -> int:
        """V."""
        return self._width if self.columns is None else len(self.columns)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for features (B, F); a new layer's trees are roots alone that answer with 0."""
        if len(input_shape) != 2 or input_shape[1] is None:
            raise ValueError(f"{self.name}: expected features (B, F), got {tuple(input_shape)}")
        self.num_features = int(input_shape[1])
        nodes = (self.num_nodes,)
        self.feature = self.add_weight(name="feature", shape=nodes, dtype="int32", initializer="zeros")
        self.threshold = self.add_weight(name="threshold", shape=nodes, dtype="float32", initializer="zeros")
        self.child = self.add_weight(name="child", shape=nodes, dtype="int32", initializer="zeros")
        self.values = self.add_weight(
            name="values", shape=(self.num_nodes, self.leaf_size), dtype="float32", initializer="zeros"
        )
        self.base = self.add_weight(name="base", shape=(self.num_sums,), dtype="float32", initializer="zeros")

    def call(self, x: Any) -> Any:
        """(B, F) to (B, V)."""
        # Everybody's first node is known, so nothing here asks for the number of rows.
        value = ops.take(x, self.feature[: self.num_trees], axis=1)
        right = ops.greater(value, self.threshold[: self.num_trees])
        node = self.child[: self.num_trees] + ops.cast(right, "int32")
        for _ in range(self.depth - 1):
            value = ops.take_along_axis(x, ops.take(self.feature, node, axis=0), axis=1)
            right = ops.greater(value, ops.take(self.threshold, node, axis=0))
            node = ops.take(self.child, node, axis=0) + ops.cast(right, "int32")
        leaves = ops.take(self.values, node, axis=0)
        rounds = self.num_trees * self.leaf_size // self.num_sums
        out = ops.sum(ops.reshape(leaves, (-1, rounds, self.num_sums)), axis=1) + self.base
        if self.link == "sigmoid":
            out = ops.sigmoid(ops.concatenate([-out, out], axis=1))
        elif self.link == "softmax":
            out = ops.softmax(out, axis=-1)
        if self.constants:
            out = ops.pad(out, ((0, 0), (0, len(self.constants))))
            zeros = [0.0] * (self._width - len(self.constants))
            out = out + ops.convert_to_tensor([[*zeros, *self.constants]], dtype="float32")
        return out if self.columns is None else ops.take(out, self.columns, axis=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """(B, F) to (B, V)."""
        return (input_shape[0], self.num_values)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("trainable")
        return {
            **config,
            "num_trees": self.num_trees,
            "num_nodes": self.num_nodes,
            "depth": self.depth,
            "leaf_size": self.leaf_size,
            "num_sums": self.num_sums,
            "link": self.link,
            "constants": list(self.constants),
            "columns": None if self.columns is None else list(self.columns),
            "probabilities": self.probabilities,
        }


def tree_model(
    forest: Forest,
    num_features: int,
    *,
    base: Sequence[float],
    link: str = "linear",
    constants: Sequence[float] = (),
    columns: Sequence[int] | None = None,
    probabilities: bool = False,
) -> keras.Model:
    """A frozen model of one ``TreeEnsemble``; see there.

    Args:
        forest: The trees; their leaves' values already hold learning rates and shares.
        num_features: F.
        base: What is added to the sums, one number each.
        link: From sums to answers.
        constants: What every answer ends with.
        columns: Which values are given in which order.
        probabilities: Whether the answer is a distribution over classes.

    Returns:
        A model from (B, F) to (B, V).
    """
    layer = TreeEnsemble(
        num_trees=forest.num_trees,
        num_nodes=len(forest.feature),
        depth=forest.depth,
        leaf_size=forest.values.shape[1],
        num_sums=len(base),
        link=link,
        constants=constants,
        columns=columns,
        probabilities=probabilities,
        name="trees",
    )
    model = keras.Sequential([keras.Input(shape=(num_features,)), layer])
    layer.set_weights(
        [forest.feature, forest.threshold, forest.child, forest.values, np.asarray(base, dtype=np.float32)]
    )
    return model
