"""A mixture as data: what extraction writes and the graph builder reads. Free of Keras and of TFLite.

``preprocess -> trunk? -> gate -> experts -> combine -> head``; weights are NumPy arrays.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine, Task
from moe_edge.hierarchy import GateTree

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreprocessSpec:
    """Raw row (d,) to features (F,): imputation, normalisation, clip, one-hot codes; always float32.

    Attributes:
        num_columns: d, columns of the raw row.
        numeric: Indices of the numeric columns.
        fill, mean, inverse_scale, low, high: float32, one value a numeric column;
            z = clip((x or fill - mean) * inverse_scale, low, high).
        categorical: (column index, number of categories) of each categorical column.
    """

    num_columns: int
    numeric: tuple[int, ...]
    fill: FloatArray
    mean: FloatArray
    inverse_scale: FloatArray
    low: FloatArray
    high: FloatArray
    categorical: tuple[tuple[int, int], ...] = ()

    @property
    def num_features(self) -> int:
        """F, values of the preprocessed row."""
        return len(self.numeric) + sum(count for _, count in self.categorical)

    def apply(self, rows: FloatArray) -> FloatArray:
        """The same in NumPy: float32 (n, d) to float32 (n, F)."""
        numbers = rows[:, list(self.numeric)]
        numbers = np.where(np.isnan(numbers), self.fill, numbers)
        parts = [np.clip((numbers - self.mean) * self.inverse_scale, self.low, self.high)]
        for column, count in self.categorical:
            parts.append((rows[:, [column]] == np.arange(count, dtype=np.float32)).astype(np.float32))
        return np.concatenate(parts, axis=1).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseLayer:
    """``activation(x @ kernel + bias)``; kernel float32 (inputs, units), bias float32 (units,)."""

    kernel: FloatArray
    bias: FloatArray
    activation: str = "linear"


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseNetwork:
    """A stack of dense layers."""

    layers: tuple[DenseLayer, ...]

    @property
    def shapes(self) -> tuple[tuple[int, int, str], ...]:
        """(inputs, units, activation) of each layer; networks of equal shapes may share a bank."""
        return tuple((*layer.kernel.shape, layer.activation) for layer in self.layers)

    @property
    def num_outputs(self) -> int:
        """Values that the network answers with."""
        return int(self.layers[-1].kernel.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphNetwork:
    """Any other architecture: a float32 TFLite graph, spliced into the mixture's as it is.

    Attributes:
        model: The bytes of a .tflite with one subgraph and one input; its first output is the network's answer.
        num_outputs: Values that the network answers with.
        ends_in_softmax: Whether the operator that writes its answer is a softmax, and the last of the graph.
        side_outputs: Names of the graph's further outputs, (1, 1) each, which the mixture gives as well.
        float_only: Whether it stays float32 in every scheme: decision trees, whose thresholds may not move, and gates
            that compute distances or logarithms.
    """

    model: bytes
    num_outputs: int
    ends_in_softmax: bool = False
    side_outputs: tuple[str, ...] = ()
    float_only: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class HierarchicalNetwork(GraphNetwork):
    """A hierarchical gate: its graph, and the tree whose gates can run one by one.

    Attributes:
        tree: Where each gate's branches lead.
    """

    tree: GateTree


Network = DenseNetwork | GraphNetwork


def is_float_only(network: Network) -> bool:
    """Whether a network stays float32 in every scheme."""
    return isinstance(network, GraphNetwork) and network.float_only


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadSpec:
    """What follows the weighted sum: the target's scale, and the limits of a Gaussian expert's sigma.

    Attributes:
        scale, shift: float32 (K,): answer = value * scale + shift. None for classification.
        min_sigma, max_sigma: Limits of an expert's sigma before scaling.
    """

    scale: FloatArray | None = None
    shift: FloatArray | None = None
    min_sigma: float = 1e-3
    max_sigma: float = 1e3


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureSpec:
    """The whole mixture.

    Attributes:
        task: Classification or regression.
        combine: How the experts' answers are mixed.
        input_shape: Shape of one raw row, without the batch.
        preprocess: None when the model takes features as they are.
        trunk: What gate and experts share, after ``preprocess``, always float32; None when there is nothing.
        gate: Network from features to E values; its last layer is a softmax.
        experts: Networks from features to K values (2 K for Gaussian experts: means, then log sigmas).
        num_outputs: K, values of the mixture's answer.
        head: Scaling of the answer.
        top_k: Experts that count for each row, their weights renormalised; None for all of them.
        labels: Names of the classes, where the source knows them.
    """

    task: Task
    combine: Combine
    input_shape: tuple[int, ...]
    gate: Network
    experts: tuple[Network, ...]
    num_outputs: int
    preprocess: PreprocessSpec | None = None
    trunk: GraphNetwork | None = None
    head: HeadSpec = HeadSpec()
    top_k: int | None = None
    labels: tuple[str, ...] | None = None

    @property
    def num_experts(self) -> int:
        """E."""
        return len(self.experts)


def dense_stack(weights: Sequence[tuple[Any, Any, str]]) -> DenseNetwork:
    """Build a ``DenseNetwork`` from (kernel, bias, activation) triples."""
    return DenseNetwork(
        layers=tuple(
            DenseLayer(
                kernel=np.asarray(kernel, dtype=np.float32),
                bias=np.asarray(bias, dtype=np.float32),
                activation=activation,
            )
            for kernel, bias, activation in weights
        )
    )
