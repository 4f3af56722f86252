"""Re-fit the gate alone to quantized experts: recovers rows at no byte.

Minimises the mixture's negative log-likelihood on training rows with the experts' answers held fixed, plus the
divergence from the gate that was trained (as GEMQ re-tunes routers on quantized experts), by L-BFGS.
Layer: desktop (converters).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge_converters.assembly import Assembly
from moe_edge_converters.schemes.expert_errors import run_experts
from moe_edge_converters.spec import DenseLayer, DenseNetwork, MixtureSpec

Rows = npt.NDArray[np.float32]

STAY_CLOSE = 0.5
"""Weight of the divergence from the trained gate: it was trained on more than these rows say."""

MAX_STEPS = 60
"""Gradient steps of L-BFGS; the start is the trained gate, a few dozen settle it."""


def refit_gate(spec: MixtureSpec, assembly: Assembly, rows: Rows, target: npt.NDArray[Any]) -> DenseNetwork:
    """Fit a dense gate to the experts as they are in a quantized file.

    Args:
        spec: The mixture, whose gate is a dense network.
        assembly: The quantized file in memory.
        rows: float32 (n, ...) raw training rows.
        target: int64 (n,) class codes, or float32 (n, K) in the user's units.

    Returns:
        A gate of the same shape.
    """
    import tensorflow as tf
    from scipy.optimize import minimize

    if not isinstance(spec.gate, DenseNetwork):
        raise TypeError(f"expected a dense gate, got {type(spec.gate).__name__}")
    weights, outputs, features = run_experts(assembly, rows, spec.num_experts)
    likelihood = tf.constant(_log_likelihood(spec, outputs, target), dtype=tf.float32)
    trained = tf.constant(np.maximum(weights, 1e-9), dtype=tf.float32)
    inputs = tf.constant(features.reshape(len(rows), -1), dtype=tf.float32)
    shapes = [array.shape for layer in spec.gate.layers for array in (layer.kernel, layer.bias)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    activations = [layer.activation for layer in spec.gate.layers]

    @tf.function
    def loss_and_gradient(flat: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(flat)
            arrays = [tf.reshape(part, shape) for part, shape in zip(tf.split(flat, sizes), shapes, strict=True)]
            hidden = inputs
            for index, activation in enumerate(activations[:-1]):
                hidden = _apply(tf, hidden @ arrays[2 * index] + arrays[2 * index + 1], activation)
            log_gate = tf.nn.log_softmax(hidden @ arrays[-2] + arrays[-1])
            fit = -tf.reduce_mean(tf.reduce_logsumexp(log_gate + likelihood, axis=1))
            stay = tf.reduce_mean(tf.reduce_sum(trained * (tf.math.log(trained) - log_gate), axis=1))
            loss = fit + STAY_CLOSE * stay
        return loss, tape.gradient(loss, flat)

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        loss, gradient = loss_and_gradient(tf.constant(flat, dtype=tf.float32))
        return float(loss), gradient.numpy().astype(np.float64)

    start = np.concatenate([array.ravel() for layer in spec.gate.layers for array in (layer.kernel, layer.bias)])
    found = minimize(
        objective, start.astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": MAX_STEPS}
    ).x.astype(np.float32)
    pieces = [part.reshape(shape) for part, shape in zip(np.split(found, np.cumsum(sizes)[:-1]), shapes, strict=True)]
    return DenseNetwork(
        layers=tuple(
            DenseLayer(kernel=pieces[2 * index], bias=pieces[2 * index + 1], activation=activation)
            for index, activation in enumerate(activations)
        )
    )


def _apply(tf: Any, x: Any, activation: str) -> Any:
    functions = {"relu": tf.nn.relu, "relu6": tf.nn.relu6, "tanh": tf.tanh, "sigmoid": tf.sigmoid}
    return functions[activation](x) if activation in functions else x


def _log_likelihood(spec: MixtureSpec, outputs: Rows, target: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Log p_e(target | row) of each expert, (n, E)."""
    values = outputs.astype(np.float64)
    if spec.task is Task.CLASSIFICATION:
        # Experts' signatures answer with logits; a softmax of probabilities that came instead would be wrong.
        shifted = values - values.max(axis=2, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))
        chosen: npt.NDArray[np.float64] = log_p[np.arange(len(target)), :, target]
        return chosen
    head, count = spec.head, spec.num_outputs
    means, log_sigmas = values[:, :, :count], values[:, :, count:]
    log_sigmas = np.clip(log_sigmas, np.log(head.min_sigma), np.log(head.max_sigma))
    scaled = target.reshape(len(target), 1, count).astype(np.float64)
    if head.scale is not None and head.shift is not None:
        scaled = (scaled - head.shift) / head.scale
    density = -0.5 * np.square((scaled - means) / np.exp(log_sigmas)) - log_sigmas
    total: npt.NDArray[np.float64] = density.sum(axis=2)
    return total
