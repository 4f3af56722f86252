"""Experts and gate of any kind, fitted to weighted rows: the M step of EM, and the two stages of ``staged``.

Layer: desktop (training).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.training.gates.softmax_regression import fit_softmax_regression
from moe_edge.training.kinds.kind import FittedExpert, FittedGate, GateKind
from moe_edge.training.kinds.registry import expert_kind, gate_kind
from moe_edge.training.parts import build_expert, build_gate, expert_job, gate_job, is_fitted
from moe_edge.training.strategies.problem import Problem
from moe_edge.training.strategies.weighted_fit import NeuralFit, fit_single_layer, pack_weights, single_layer

LEAST_ROWS = 1e-3
"""An expert that is responsible for less than this many rows stays as it is."""
Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A part as it was: the model, and a copy of its weights."""

    model: keras.Model
    weights: list[Any]

    @classmethod
    def of(cls, model: keras.Model) -> Snapshot:
        """Note a part's present state."""
        return cls(model, model.get_weights())

    def restore(self) -> keras.Model:
        """The model, as it was."""
        self.model.set_weights(self.weights)
        return self.model


class ExpertFits:
    """The experts of one mixture, each fitted in its kind's own way; ``models`` holds them."""

    def __init__(self, problem: Problem, input_shape: tuple[int, ...]) -> None:
        config, seed = problem.config, problem.training.seed
        self._problem = problem
        count = config.gate.num_experts
        self.jobs = [expert_job(config, e, input_shape, problem.num_outputs, seed=seed) for e in range(count)]
        self.fitted = [is_fitted(config, e) for e in range(count)]
        self.models: list[Any] = [
            None if fitted else build_expert(config, e, input_shape, problem.num_outputs, seed=seed)
            for e, fitted in enumerate(self.fitted)
        ]
        self._single = [
            None if model is None else single_layer(model, job)
            for model, job in zip(self.models, self.jobs, strict=True)
        ]
        self._gradient = [e for e in range(count) if self.models[e] is not None and self._single[e] is None]
        self._neural = None
        if self._gradient:
            networks = [self.models[e] for e in self._gradient]
            self._neural = NeuralFit(networks, config.combine, problem.training, input_shape)

    def fit(
        self,
        x: Rows,
        targets: npt.NDArray[Any],
        weights: Array,
        *,
        epochs: int,
        validation: tuple[Rows, npt.NDArray[Any], Array] | None = None,
    ) -> dict[str, list[float]]:
        """Fit every expert to the rows, as much as each is its own.

        Args:
            x: Features (n, F).
            targets: int64 (n,), or standardised float64 (n, K).
            weights: float64 (n, E).
            epochs: Most epochs of the experts that learn by gradients.
            validation: Rows, targets and weights that choose the epoch.

        Returns:
            The gradient experts' history; empty without any.
        """
        for e, job in enumerate(self.jobs):
            if weights[:, e].sum() < LEAST_ROWS:
                continue
            if self.fitted[e]:
                kind = expert_kind(self._problem.config.all_experts[e].kind)
                assert isinstance(kind, FittedExpert)
                self.models[e] = kind.fit(job, x, targets, weights[:, e])
            elif self._single[e] is not None:
                fit_single_layer(self._single[e], job, x, targets, weights[:, e])
        if self._neural is None:
            return {}
        held_out = None
        if validation is not None:
            held_out = (validation[0], pack_weights(validation[1], validation[2][:, self._gradient]))
        return self._neural.fit(
            x,
            pack_weights(targets, weights[:, self._gradient]),
            epochs=epochs,
            validation=held_out,
            patience=self._problem.training.patience,
        )


class GateFit:
    """The gate of one mixture, fitted to soft labels in its kind's own way; ``model`` holds it."""

    def __init__(self, problem: Problem, input_shape: tuple[int, ...]) -> None:
        config, seed = problem.config, problem.training.seed
        self._columns = problem.columns
        shape = input_shape if self._columns is None else (len(self._columns),)
        self._training = problem.training
        self._job = gate_job(config, shape, seed=seed)
        self._kind: GateKind = gate_kind(config.gate.kind)
        self.model: Any = None
        self._compiled = False
        if not isinstance(self._kind, FittedGate):
            self.model = build_gate(config, shape, seed=seed)

    def columns(self, x: Rows) -> Rows:
        """What the gate sees of the features (n, F)."""
        return x if self._columns is None else x[:, self._columns]

    def fit(self, x: Rows, wanted: Array, *, epochs: int, validation: tuple[Rows, Array] | None = None) -> None:
        """Fit to rows (n, F) and how much of each is whose, float64 (n, E)."""
        x = self.columns(x)
        if isinstance(self._kind, FittedGate):
            self.model = self._kind.fit(self._job, x, wanted)
            return
        if not self._job.hidden and self._kind.name == "dense":
            # Without hidden layers it is a softmax regression, which has one best fit.
            found = fit_softmax_regression(x.reshape(len(x), -1), wanted)
            layer = next(layer for layer in self.model.layers if isinstance(layer, keras.layers.Dense))
            temperature = self._job.temperature
            layer.set_weights([found.kernel * temperature, found.bias * temperature])
            return
        if not self._compiled:
            optimizer = keras.optimizers.Adam(self._training.learning_rate)
            self.model.compile(optimizer, "categorical_crossentropy", jit_compile=False)
            self._compiled = True
        callbacks, held_out = [], None
        if validation is not None:
            held_out = (self.columns(validation[0]), validation[1].astype(np.float32))
            patience = self._training.patience
            callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True))
        self.model.fit(
            x,
            wanted.astype(np.float32),
            batch_size=self._training.batch_size,
            epochs=epochs,
            validation_data=held_out,
            validation_batch_size=1024,
            callbacks=callbacks,
            verbose=0,
        )
