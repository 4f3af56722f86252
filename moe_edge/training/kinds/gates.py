"""Gates that are networks or densities: dense, linear, Gaussian, hierarchical.

Each ends as one Keras model from features to routing weights: logits, z-loss, temperature, softmax, row entropy.
Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from moe_edge.hierarchy import GateTree
from moe_edge.training.gates.gate_layers import RowEntropy, Temperature, ZLoss
from moe_edge.training.gates.gaussian_gate import COVARIANCES, GaussianGate, fit_components
from moe_edge.training.gates.hierarchical_gate import HierarchicalGate
from moe_edge.training.gates.softmax_regression import fit_softmax_regression
from moe_edge.training.kinds.kind import FittedGate, Floats, GateJob, NeuralGate, Weights
from moe_edge.training.kinds.options import GATE_OPTIONS
from moe_edge.training.kinds.registry import with_defaults

_EPOCHS, _BATCH, _LEARNING_RATE = 60, 64, 5e-3
"""How gates with hidden layers are fitted to responsibilities."""


class DenseGate(NeuralGate):
    """Hidden layers, then a softmax over the experts."""

    name = "dense"

    def build(self, job: GateJob) -> keras.Model:
        """Build (B, *input_shape) to (B, E)."""
        return _softmax_of(job, _dense_layers(job, job.hidden))


class LinearGate(NeuralGate, FittedGate):
    """A softmax regression: trained by backpropagation, or fitted to responsibilities by L-BFGS."""

    name = "linear"

    def build(self, job: GateJob) -> keras.Model:
        """Build (B, *input_shape) to (B, E)."""
        return _softmax_of(job, _dense_layers(job, ()))

    def fit(self, job: GateJob, x: Floats, responsibilities: Weights) -> keras.Model:
        """Fit to rows (n, F); the temperature is fitted away: the answers are those of the best regression."""
        model = self.build(job)
        found = fit_softmax_regression(x.reshape(len(x), -1), responsibilities)
        dense = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
        dense.set_weights([found.kernel * job.temperature, found.bias * job.temperature])
        return model


class GaussianGateKind(NeuralGate, FittedGate):
    """A density for each expert (Xu, Jordan & Hinton 1995): fitted in closed form, or trained by backpropagation."""

    name = "gaussian"
    options: ClassVar[Mapping[str, Any]] = GATE_OPTIONS["gaussian"]

    def build(self, job: GateJob) -> keras.Model:
        """Build (B, *input_shape) to (B, E)."""
        _refuse_z_loss(job, self.name, "its logits are densities, not bounded to be near 0")
        covariance = with_defaults(self, job.options)["covariance"]
        if covariance not in COVARIANCES:
            raise ValueError(f"gaussian: expected covariance {' or '.join(COVARIANCES)}, got {covariance!r}")
        return _softmax_of(job, [GaussianGate(job.num_experts, covariance, seed=job.seed, name="gaussian_gate")])

    def fit(self, job: GateJob, x: Floats, responsibilities: Weights) -> keras.Model:
        """Fit to rows (n, F) by weighted shares, means and covariances."""
        model = self.build(job)
        gate = next(layer for layer in model.layers if isinstance(layer, GaussianGate))
        gate.assign(fit_components(x.reshape(len(x), -1), responsibilities, gate.covariance))
        return model


class HierarchicalGateKind(NeuralGate, FittedGate):
    """A tree of gates (Jordan & Jacobs 1994), linear ones as theirs unless ``hidden`` is set.

    Options: ``branching``, branches of a gate in a balanced tree; ``tree``, an explicit one as nested lists of experts'
    indices, such as ``[[0, 1], [2, [3, 4]]]``; ``hidden``, whether every gate has the configured hidden layers;
    ``grow``, whether strategy em grows the tree from two experts (``strategies.growth``) instead.
    """

    name = "hierarchical"
    options: ClassVar[Mapping[str, Any]] = GATE_OPTIONS["hierarchical"]

    def build(self, job: GateJob) -> keras.Model:
        """Build (B, *input_shape) to (B, E)."""
        _refuse_z_loss(job, self.name, "its logits are logarithms of weights, normalised by themselves")
        options = with_defaults(self, job.options)
        if options["grow"]:
            raise ValueError("hierarchical: grow=true grows a tree split by split; expected strategy em")
        tree = (
            GateTree.from_nested(options["tree"])
            if options["tree"]
            else GateTree.balanced(job.num_experts, options["branching"])
        )
        if tree.num_experts != job.num_experts:
            raise ValueError(f"hierarchical: expected a tree of {job.num_experts} experts, got {tree.num_experts}")
        layer = HierarchicalGate(
            tree.to_nested(),
            job.hidden if options["hidden"] else (),
            job.activation,
            job.temperature,
            seed=job.seed,
            name="hierarchical_gate",
        )
        # Every gate of the tree has its own softmax, so the temperature is inside.
        return _softmax_of(job, [layer], temperature=1.0)

    def fit(self, job: GateJob, x: Floats, responsibilities: Weights) -> keras.Model:
        """Fit to rows (n, F): each linear gate to how its branches share what reaches it; others by backpropagation."""
        model = self.build(job)
        rows = x.reshape(len(x), -1)
        layer = next(layer for layer in model.layers if isinstance(layer, HierarchicalGate))
        if layer.hidden:
            _train_on(model, rows, responsibilities)
            return model
        kernel, bias = (np.array(keras.ops.convert_to_numpy(each[0])) for each in (layer.kernels, layer.biases))
        for number, branches in enumerate(layer.gate_tree.nodes):
            below = [list(layer.gate_tree.experts_below(number, branch)) for branch in range(len(branches))]
            shares = np.stack([responsibilities[:, experts].sum(axis=1) for experts in below], axis=1)
            if shares.sum() <= 0:
                continue
            found = fit_softmax_regression(rows, shares)
            kernel[number, :, : len(branches)] = found.kernel * job.temperature
            bias[number, : len(branches)] = found.bias * job.temperature
        layer.kernels[0].assign(kernel)
        layer.biases[0].assign(bias)
        return model


def _dense_layers(job: GateJob, hidden: tuple[int, ...]) -> list[keras.layers.Layer]:
    layers = []
    sizes = [(units, job.activation) for units in hidden] + [(job.num_experts, "linear")]
    for index, (units, activation) in enumerate(sizes):
        start = keras.initializers.GlorotUniform(seed=job.seed * 1000 + index)
        name = "gate_output" if index == len(hidden) else f"gate_hidden_{index}"
        layers.append(keras.layers.Dense(units, activation=activation, kernel_initializer=start, name=name))
    return layers


def _softmax_of(job: GateJob, layers: Sequence[keras.layers.Layer], *, temperature: float | None = None) -> keras.Model:
    """Logits to routing weights, with the terms of the loss that the job asks for."""
    temperature = job.temperature if temperature is None else temperature
    parts: list[keras.layers.Layer] = [keras.Input(shape=job.input_shape)]
    if len(job.input_shape) > 1:
        parts.append(keras.layers.Flatten())
    parts.extend(layers)
    if job.z_loss_coef > 0:
        parts.append(ZLoss(job.z_loss_coef, name="gate_z_loss"))
    if temperature != 1:
        parts.append(Temperature(temperature, name="gate_temperature"))
    parts.append(keras.layers.Softmax(name="gate_softmax"))
    if job.entropy_coef > 0:
        parts.append(RowEntropy(job.entropy_coef, name="gate_entropy"))
    return keras.Sequential(parts, name="gate")


def _refuse_z_loss(job: GateJob, kind: str, reason: str) -> None:
    if job.z_loss_coef > 0:
        raise ValueError(f"{kind}: expected z_loss_coef=0, got {job.z_loss_coef}: {reason}")


def _train_on(model: keras.Model, x: Floats, responsibilities: Weights) -> None:
    """Minimise the cross-entropy against responsibilities by Adam."""
    model.compile(keras.optimizers.Adam(_LEARNING_RATE), "categorical_crossentropy", jit_compile=False)
    model.fit(x, responsibilities.astype("float32"), batch_size=_BATCH, epochs=_EPOCHS, verbose=0)
