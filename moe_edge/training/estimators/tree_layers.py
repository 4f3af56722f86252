"""A Keras layer that holds an ensemble of decision trees: a forest, a boosted sum, or a single tree.

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from moe_edge.training.estimators.tree_arrays import Floats, Ints, TreeArrays

LINKS = ("linear", "sigmoid", "softmax", "exp")


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeAnswer:
    """How the sums of the trees' answers become the layer's: ``link(sums[:, columns] * scale + offset)``.

    Attributes:
        columns: Which sum each of the V values comes from, int32 (V,).
        scale, offset: float32 (V,); a scale of 0 makes a value a constant.
        link: One of ``LINKS``.
        probabilities: Whether the answer is a probability for each class.
    """

    columns: Ints
    scale: Floats
    offset: Floats
    link: str = "linear"
    probabilities: bool = False


@keras.saving.register_keras_serializable(package="moe_edge")
class TreeEnsemble(keras.layers.Layer):
    """Walk T trees at once: float32 (B, F) to (B, V), exactly as the estimator that they were taken from.

    Tree t's leaves add to group ``t % num_groups``: the sums are (B, num_groups * leaf_size). All weights are frozen;
    their names and shapes are those of ``TreeArrays`` and ``TreeAnswer``. A missing value (NaN) goes where the
    estimator sends it.

    Attributes:
        num_nodes: N, nodes that a step can leave.
        num_leaves: L, places of answers.
        leaf_size: W, values of a leaf.
        num_trees: T.
        num_outputs: V.
        depth: Steps from a root to the deepest leaf.
        first_leaf: Place of the first node that has an answer.
        num_groups: Sums that the trees take turns in.
        negated: Whether some nodes look at ``-x``.
        link: ``linear``, ``sigmoid``, ``softmax`` or ``exp``.
        gives_probabilities: Whether the answer is a probability for each class.
    """

    def __init__(
        self,
        *,
        num_nodes: int,
        num_leaves: int,
        leaf_size: int,
        num_trees: int,
        num_outputs: int,
        depth: int,
        first_leaf: int,
        num_groups: int = 1,
        negated: bool = False,
        link: str = "linear",
        gives_probabilities: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs["trainable"] = False
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if link not in LINKS:
            raise ValueError(f"expected a link among {', '.join(LINKS)}, got {link!r}")
        if num_trees % num_groups:
            raise ValueError(f"expected as many trees in each of {num_groups} groups, got {num_trees} trees")
        self.num_nodes, self.num_leaves, self.leaf_size = num_nodes, num_leaves, leaf_size
        self.num_trees, self.num_outputs, self.num_groups = num_trees, num_outputs, num_groups
        self.depth, self.first_leaf, self.negated = depth, first_leaf, negated
        self.link, self.gives_probabilities = link, gives_probabilities

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights for inputs (B, F)."""
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(f"{self.name}: expected inputs (B, F), got {tuple(input_shape)}")

        def weight(name: str, *shape: int, dtype: str = "float32") -> Any:
            return self.add_weight(name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False)

        self.feature = weight("feature", self.num_nodes, dtype="int32")
        self.threshold = weight("threshold", self.num_nodes)
        self.first_child = weight("first_child", self.num_nodes, dtype="int32")
        self.roots = weight("roots", self.num_trees, dtype="int32")
        self.values = weight("values", self.num_leaves, self.leaf_size)
        self.columns = weight("columns", self.num_outputs, dtype="int32")
        self.scale = weight("scale", self.num_outputs)
        self.offset = weight("offset", self.num_outputs)

    def call(self, x: Any) -> Any:
        """(B, F) to (B, V)."""
        if self.negated:
            x = ops.concatenate([x, -x], axis=1)
        # The first nodes are known, so nothing asks for the number of rows: the layer converts for any batch.
        value = ops.take(x, ops.take(self.feature, self.roots), axis=1)
        above = ops.cast(value > ops.take(self.threshold, self.roots), "int32")
        node = ops.take(self.first_child, self.roots) + above
        for _ in range(self.depth - 1):
            value = ops.take_along_axis(x, ops.take(self.feature, node, axis=0), axis=1)
            above = ops.cast(value > ops.take(self.threshold, node, axis=0), "int32")
            node = ops.take(self.first_child, node, axis=0) + above
        leaves = ops.take(self.values, node - self.first_leaf, axis=0)
        sums = ops.sum(
            ops.reshape(leaves, (-1, self.num_trees // self.num_groups, self.num_groups * self.leaf_size)), axis=1
        )
        answer = ops.take(sums, self.columns, axis=1) * self.scale + self.offset
        if self.link == "linear":
            return answer
        return {"sigmoid": ops.sigmoid, "softmax": ops.softmax, "exp": ops.exp}[self.link](answer)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """(B, F) to (B, V)."""
        return (input_shape[0], self.num_outputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("num_nodes", "num_leaves", "leaf_size", "num_trees", "num_outputs", "depth", "first_leaf")
        others = ("num_groups", "negated", "link", "gives_probabilities")
        return {**super().get_config(), **{name: getattr(self, name) for name in (*names, *others)}}


def tree_model(arrays: TreeArrays, answer: TreeAnswer, num_features: int, *, num_groups: int = 1) -> keras.Model:
    """Build a model of one ``TreeEnsemble`` layer that holds the arrays.

    Args:
        arrays: The trees.
        answer: What becomes of their sums.
        num_features: F.
        num_groups: Sums that the trees take turns in.

    Returns:
        A frozen model, float32 (B, F) to (B, V).
    """
    layer = TreeEnsemble(
        num_nodes=len(arrays.feature),
        num_leaves=len(arrays.values),
        leaf_size=arrays.values.shape[1],
        num_trees=len(arrays.roots),
        num_outputs=len(answer.columns),
        depth=arrays.depth,
        first_leaf=arrays.first_leaf,
        num_groups=num_groups,
        negated=arrays.negated,
        link=answer.link,
        gives_probabilities=answer.probabilities,
    )
    model = keras.Sequential([keras.Input(shape=(num_features,)), layer])
    held = (arrays.feature, arrays.threshold, arrays.first_child, arrays.roots, arrays.values)
    layer.set_weights([np.asarray(value) for value in (*held, answer.columns, answer.scale, answer.offset)])
    return model
