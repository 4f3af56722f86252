"""The hierarchical gate (Jordan & Jacobs 1994) as a layer, and how a tree grows.

B is the batch, E the number of experts, F the number of features, N the number of gates, W branches of the widest.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from moe_edge.hierarchy import GateTree, Nested

NO_BRANCH = -1e4
"""The logit in place of a branch that a gate narrower than the widest doesn't have: exp of it is exactly 0."""


@keras.saving.register_keras_serializable(package="moe_edge")
class HierarchicalGate(keras.layers.Layer):
    """Features (B, F) to the logarithms of the experts' weights (B, E), whose softmax are the weights themselves.

    Each gate of the tree is a softmax over its branches, of the features or of hidden layers of its own; an expert's
    weight is the product along its path.

    Attributes:
        tree: The tree as nested lists of experts' indices.
        hidden: Units of each gate's hidden layers; empty for linear gates.
        activation: Activation of hidden layers.
        temperature: Divides every gate's logits.
    """

    def __init__(
        self,
        tree: Nested,
        hidden: Sequence[int] = (),
        activation: str = "relu",
        temperature: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gate_tree = GateTree.from_nested(tree)
        self.hidden = tuple(int(units) for units in hidden)
        self.activation = keras.activations.get(activation)
        self.temperature = float(temperature)
        self.seed = int(seed)
        if not 0 < self.temperature < float("inf") or any(units < 1 for units in self.hidden):
            raise ValueError(
                f"expected temperature > 0 and hidden units of at least 1, got {temperature} and {list(self.hidden)}"
            )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create every gate's weights."""
        if len(input_shape) != 2 or input_shape[1] is None:
            raise ValueError(f"{self.name}: expected features (B, F), got {tuple(input_shape)}")
        gates, width = len(self.gate_tree.nodes), self.gate_tree.max_branches
        sizes = [input_shape[1], *self.hidden, width]
        self.kernels, self.biases = [], []
        for layer, (inputs, units) in enumerate(pairwise(sizes)):
            limit = (6 / (inputs + units)) ** 0.5
            start = keras.initializers.RandomUniform(-limit, limit, seed=self.seed * 1000 + layer)
            self.kernels.append(
                self.add_weight(name=f"kernel_{layer}", shape=(gates, inputs, units), initializer=start)
            )
            self.biases.append(self.add_weight(name=f"bias_{layer}", shape=(gates, units), initializer="zeros"))
        present = [[number < len(branches) for number in range(width)] for branches in self.gate_tree.nodes]
        self._present = np.array(present, dtype=np.float32)
        self._paths = self.gate_tree.path_matrix

    def call(self, x: Any) -> Any:
        """(B, F) to (B, E)."""
        logarithms = ops.log_softmax(self.branch_logits(x), axis=-1)
        flat = ops.reshape(logarithms, (-1, self._paths.shape[0]))
        return ops.matmul(flat, ops.convert_to_tensor(self._paths, dtype=flat.dtype))

    def branch_logits(self, x: Any) -> Any:
        """What each gate's softmax is taken of: (B, F) to (B, N, W), ``NO_BRANCH`` where a gate has no such branch."""
        out = x
        for layer, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            out = ops.einsum("bf,nfu->bnu" if layer == 0 else "bnf,nfu->bnu", out, kernel) + bias
            if layer < len(self.hidden):
                out = self.activation(out)
        present = ops.convert_to_tensor(self._present, dtype=out.dtype)
        return out / self.temperature * present + (1.0 - present) * NO_BRANCH

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """(B, F) to (B, E)."""
        return (input_shape[0], self.gate_tree.num_experts)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "tree": self.gate_tree.to_nested(),
            "hidden": list(self.hidden),
            "activation": keras.activations.serialize(self.activation),
            "temperature": self.temperature,
            "seed": self.seed,
        }


Fit = Callable[[GateTree, int | None], npt.NDArray[np.floating[Any]]]


def grow_hierarchy(fit: Fit, num_experts: int) -> GateTree:
    """Grow a tree by splitting: two experts first, then always that of the largest loss.

    A start for hierarchical mixtures (Hinton, CSC2515): each split is fitted before the next is chosen.

    Args:
        fit: Trains the mixture with this tree and returns the loss that each expert carries, (E,): over the training
            rows the sum of its responsibility times its loss, so that an expert is split for being bad or for being
            busy. Its second argument is the expert that was split last, None at first; the new expert is the last
            one, best started as a slightly different copy.
        num_experts: Leaves of the finished tree, at least 2.

    Returns:
        The tree, which ``fit`` has seen last.

    Raises:
        ValueError: If ``num_experts`` < 2, or ``fit`` doesn't return a number for each expert.
    """
    tree, split = GateTree.balanced(2), None
    if num_experts < 2:
        raise ValueError(f"expected at least 2 experts, got {num_experts}")
    while True:
        losses = np.asarray(fit(tree, split), dtype=np.float64)
        if losses.shape != (tree.num_experts,) or not np.isfinite(losses).all():
            raise ValueError(f"expected a finite loss for each of {tree.num_experts} experts, got {losses}")
        if tree.num_experts == num_experts:
            return tree
        split = int(losses.argmax())
        tree = tree.split(split)
