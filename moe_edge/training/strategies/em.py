"""Expectation-maximisation of a mixture of experts (Jordan & Jacobs 1994, Neural Computation 6).

E step: how much each expert is responsible for each row, ``h = g P(y|x, e) / sum(g P)``. M step: each expert is fitted
to the rows, weighted by its h, and the gate to h. The expected log-likelihood of rows with known experts, Q, falls
apart into one term for each expert, ``sum_i h_ie log P_e(y_i|x_i)``, and one for the gate, ``sum_i sum_e h_ie log
g_e(x_i)``; while no term falls, the likelihood doesn't. Experts and gates that learn by gradients make a few epochs at
a time (generalised EM), so a term may fall: then that part stays as it was.
Layer: desktop (training).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe_edge.config import Combine
from moe_edge.training.score import predict
from moe_edge.training.strategies.growth import asks_growth, grow
from moe_edge.training.strategies.likelihood import log_gate, log_likelihoods, responsibilities
from moe_edge.training.strategies.part_fits import LEAST_ROWS, ExpertFits, GateFit, Snapshot
from moe_edge.training.strategies.problem import Outcome, Problem
from moe_edge.training.strategies.staged import finish, learn_trunk

TOLERANCE = 1e-6
"""How far a part's term of Q may fall, in nats a row, and its fit still count: float32 answers have such noise.

Variance floors need no more: a sigma or variance at its floor is still the maximum within the limit, before and after.
"""
LEAST_GAIN = 1e-4
"""EM ends when an iteration gains less log-likelihood than this, in nats a row, several times in a row."""
_CALM_ITERATIONS = 3
START_EPOCHS = 30
"""Most epochs of gradient experts and gate on the pieces, before the first E step."""
M_EPOCHS = 5
"""Epochs of gradient experts and gate in an M step."""
Array = npt.NDArray[np.float64]


@dataclass(eq=False)
class _State:
    """Logarithms of what the parts say of the rows: experts (n, E) and gate (n, E), training rows first."""

    experts: Array
    gate: Array


def train_by_em(problem: Problem) -> Outcome:
    """Fit the mixture by EM, from pieces; the iteration of the best validation log-likelihood is kept.

    History: ``log_likelihood`` and ``val_log_likelihood``, mean of a row in nats, of standardised targets; with a
    Gaussian gate that of features and answer together. ``rejected``: parts whose M step was not accepted.

    Raises:
        ValueError: If experts are mixed in a way that has no likelihood.
    """
    if problem.config.combine not in (Combine.PROBABILITIES, Combine.GAUSSIAN):
        raise ValueError(
            f"expected combine=probabilities or gaussian for em, which needs a likelihood, "
            f"got {problem.config.combine.value}"
        )
    trunk, features = learn_trunk(problem)
    if asks_growth(problem):
        problem, pieces = grow(
            problem, features[problem.split.train], lambda smaller, start: _Run(smaller, features, start)
        )
    else:
        pieces = problem.pieces
    run = _Run(problem, features, pieces)
    history: dict[str, list[float]] = {"log_likelihood": [], "val_log_likelihood": [], "rejected": []}
    best, best_value, best_epoch, calm = run.snapshot(), -np.inf, 1, 0
    for iteration in range(1, problem.training.em_iterations + 1):
        # The start, fitted to the pieces, is the first iteration.
        rejected = run.step() if iteration > 1 else 0
        value, held_out = run.log_likelihood()
        history["log_likelihood"].append(value)
        history["val_log_likelihood"].append(held_out)
        history["rejected"].append(float(rejected))
        if problem.on_epoch is not None:
            problem.on_epoch(iteration, {name: values[-1] for name, values in history.items()})
        if held_out > best_value:
            best, best_value, best_epoch = run.snapshot(), held_out, iteration
        gain = value - history["log_likelihood"][-2] if iteration > 1 else np.inf
        calm = calm + 1 if gain < LEAST_GAIN else 0
        if calm >= _CALM_ITERATIONS:
            break
    run.restore(best)
    return Outcome(model=finish(problem, trunk, run.experts, run.gate), history=history, best_epoch=best_epoch)


class _Run:
    """Parts and rows of one EM."""

    def __init__(self, problem: Problem, features: npt.NDArray[np.float32], pieces: Array) -> None:
        self._combine = problem.config.combine
        train, validation = problem.split.train, problem.split.validation
        self._count = len(train)
        rows = np.concatenate([train, validation])
        self._x, self._targets = features[rows], problem.targets[rows]
        shape = tuple(features.shape[1:])
        self.experts, self.gate = ExpertFits(problem, shape), GateFit(problem, shape)
        epochs = min(problem.training.epochs, START_EPOCHS)
        x, targets = self._x[: self._count], self._targets[: self._count]
        self.experts.fit(x, targets, pieces, epochs=epochs)
        self.gate.fit(x, pieces, epochs=epochs)
        self._state = _State(self._expert_logs(), self._gate_logs())

    def log_likelihood(self) -> tuple[float, float]:
        """Mean of the training rows, and of the validation rows."""
        _, rows = responsibilities(self._state.experts + self._state.gate)
        return float(rows[: self._count].mean()), float(rows[self._count :].mean())

    def shares_and_likelihoods(self) -> tuple[Array, Array]:
        """Responsibilities and experts' log-likelihoods of the training rows, each (n, E)."""
        n = self._count
        h, _ = responsibilities(self._state.experts[:n] + self._state.gate[:n])
        return h, self._state.experts[:n]

    def step(self) -> int:
        """One E step and one M step; returns how many parts' fits were not accepted."""
        n = self._count
        h, _ = responsibilities(self._state.experts[:n] + self._state.gate[:n])
        before = self.snapshot()
        self.experts.fit(self._x[:n], self._targets[:n], h, epochs=M_EPOCHS)
        self.gate.fit(self._x[:n], h, epochs=M_EPOCHS)
        rejected = 0
        fitted = self._expert_logs()
        for e in range(h.shape[1]):
            # Next to no rows say nothing, yet Adam would step as far as with many: such an expert stays as it was.
            idle = h[:, e].sum() < LEAST_ROWS
            if idle or not _rises(h[:, e] * fitted[:n, e], h[:, e] * self._state.experts[:n, e]):
                self.experts.models[e] = before[e].restore()
                fitted[:, e] = self._state.experts[:, e]
                rejected += not idle
        gate = self._gate_logs()
        if not _rises(h * gate[:n], h * self._state.gate[:n]):
            self.gate.model = before[-1].restore()
            gate = self._state.gate
            rejected += 1
        self._state = _State(fitted, gate)
        return rejected

    def snapshot(self) -> list[Snapshot]:
        """Experts, then the gate."""
        return [Snapshot.of(model) for model in (*self.experts.models, self.gate.model)]

    def restore(self, parts: list[Snapshot]) -> None:
        """Take parts back."""
        *experts, gate = parts
        self.experts.models[:] = [part.restore() for part in experts]
        self.gate.model = gate.restore()

    def _expert_logs(self) -> Array:
        answers = [predict(model, self._x) for model in self.experts.models]
        return np.stack([log_likelihoods(answer, self._targets, self._combine) for answer in answers], axis=1)

    def _gate_logs(self) -> Array:
        return log_gate(self.gate.model, self.gate.columns(self._x))


def _rises(new: Array, old: Array) -> bool:
    """Whether a term of Q didn't fall beyond numerical noise."""
    return bool(np.isfinite(new).all()) and float(new.sum() - old.sum()) >= -TOLERANCE * len(new)
