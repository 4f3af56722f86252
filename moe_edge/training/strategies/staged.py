"""Staged training: each expert on its piece, then the gate, then, if asked for, all together.

Layer: desktop (training).
"""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.training.kinds.trunk import build_trunk
from moe_edge.training.mixture import join_mixture
from moe_edge.training.score import predict
from moe_edge.training.strategies.joint import fine_tune, make_sparse
from moe_edge.training.strategies.likelihood import log_likelihoods, responsibilities
from moe_edge.training.strategies.part_fits import ExpertFits, GateFit
from moe_edge.training.strategies.problem import Outcome, Problem
from moe_edge.training.strategies.weighted_fit import NeuralFit, pack_weights

PRIOR = 0.9
"""How firmly a row belongs to its piece when the gate is taught; the rest is spread over all experts."""
Array = npt.NDArray[np.float64]


def train_in_stages(problem: Problem) -> Outcome:
    """Fit each expert to its piece, then the gate to who answers best.

    The gate isn't taught the pieces themselves but the responsibilities ``h = m P(y|x, e) / sum(m P)``, with m the
    pieces at ``PRIOR`` and the rest spread evenly: a row at a border goes to the expert that learnt it best. Experts
    whose answers have no likelihood (``logits``, ``mean``) leave the pieces as they are.
    """
    train, validation = problem.split.train, problem.split.validation
    trunk, features = learn_trunk(problem)
    fits = ExpertFits(problem, tuple(features.shape[1:]))
    history = fits.fit(
        features[train],
        problem.targets[train],
        problem.pieces,
        epochs=problem.training.epochs,
        validation=(features[validation], problem.targets[validation], problem.validation_pieces),
    )
    _report(problem, history)
    wanted = _who_answers(problem, fits, features, train, problem.pieces)
    wanted_held_out = _who_answers(problem, fits, features, validation, problem.validation_pieces)
    gate = GateFit(problem, tuple(features.shape[1:]))
    gate.fit(
        features[train], wanted, epochs=problem.training.epochs, validation=(features[validation], wanted_held_out)
    )
    best = int(np.argmin(history["val_loss"])) + 1 if history else 1
    return Outcome(model=finish(problem, trunk, fits, gate), history=history, best_epoch=best)


def finish(problem: Problem, trunk: keras.Model | None, fits: ExpertFits, gate: GateFit) -> keras.Model:
    """Join the parts, and train them together where the recipe says so or few experts are to count."""
    dense = replace(problem.config, gate=replace(problem.config.gate, top_k=None))
    if trunk is not None:
        trunk.trainable = True
    model = join_mixture(dense, **problem.build_arguments, gate=gate.model, experts=fits.models, trunk=trunk)
    if problem.training.fine_tune_epochs:
        fine_tune(model, problem, epochs=problem.training.fine_tune_epochs)
    return model if problem.config.gate.top_k is None else make_sparse(model, problem)[0]


def learn_trunk(problem: Problem) -> tuple[keras.Model | None, npt.NDArray[np.float32]]:
    """What gate and experts take of all rows; a trunk learns it first, under throw-away linear experts on the pieces.

    The trunk then stays as it is while experts and gate are fitted: they see the same features throughout.
    """
    if problem.config.trunk is None:
        return None, problem.features
    train, validation = problem.split.train, problem.split.validation
    shape = tuple(problem.features.shape[1:])
    trunk = build_trunk(problem.config.trunk, shape, seed=problem.training.seed * 1000 + 999)
    heads = []
    values = 2 * problem.num_outputs if problem.config.combine.value == "gaussian" else problem.num_outputs
    activation = "softmax" if problem.config.combine.value == "probabilities" else "linear"
    for _ in range(problem.config.gate.num_experts):
        row = keras.Input(shape=shape)
        heads.append(keras.Model(row, keras.layers.Dense(values, activation=activation)(trunk(row))))
    NeuralFit(heads, problem.config.combine, problem.training, shape).fit(
        problem.features[train],
        pack_weights(problem.targets[train], problem.pieces),
        epochs=problem.training.epochs,
        validation=(
            problem.features[validation],
            pack_weights(problem.targets[validation], problem.validation_pieces),
        ),
        patience=problem.training.patience,
    )
    return trunk, predict(trunk, problem.features)


def _who_answers(
    problem: Problem, fits: ExpertFits, features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], pieces: Array
) -> Array:
    if not problem.config.combine.routable:
        return pieces
    prior = PRIOR * pieces + (1 - PRIOR) / pieces.shape[1]
    log_joint = np.log(prior)
    for index, model in enumerate(fits.models):
        answers = predict(model, features[rows])
        log_joint[:, index] += log_likelihoods(answers, problem.targets[rows], problem.config.combine)
    return responsibilities(log_joint)[0]


def _report(problem: Problem, history: dict[str, list[float]]) -> None:
    if problem.on_epoch is None:
        return
    for epoch in range(len(history.get("loss", ()))):
        problem.on_epoch(epoch + 1, {name: values[epoch] for name, values in history.items()})
