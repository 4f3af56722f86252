"""What a strategy is given, and what it hands back.

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import MixtureConfig, PiecesConfig, Task, TrainingConfig
from moe_edge.tables.dataset import Dataset
from moe_edge.training.layers import Preprocess
from moe_edge.training.parts import gate_columns
from moe_edge.training.pieces import Membership, split_into_pieces
from moe_edge.training.score import predict
from moe_edge.training.split import Split
from moe_edge.training.standardise import centre_and_spread, fit_preprocess

EpochCallback = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Rows, the mixture wanted, and what was fitted to the training rows beforehand.

    Attributes:
        dataset: The rows.
        split: Which of them train and validate.
        config: The mixture.
        training: The recipe.
        on_epoch: Called after each epoch, or iteration of EM, with its number, from 1, and its figures.
    """

    dataset: Dataset
    split: Split
    config: MixtureConfig
    training: TrainingConfig
    on_epoch: EpochCallback | None = None

    @property
    def x(self) -> npt.NDArray[np.float32]:
        """Raw rows, float32 (n, d)."""
        return self.dataset.features

    @cached_property
    def y(self) -> npt.NDArray[Any]:
        """Class codes (n,), or quantities (n, K) in the target's unit."""
        return self.dataset.require_target()

    @property
    def num_outputs(self) -> int:
        """K."""
        return len(self.dataset.schema.labels)

    @cached_property
    def preprocess(self) -> Preprocess:
        """Fitted to the training rows."""
        return fit_preprocess(self.dataset.schema, self.x[self.split.train])

    @cached_property
    def centres(self) -> list[tuple[float, float]]:
        """Mean and spread of each output on the training rows."""
        columns = self.y[self.split.train].astype(np.float64).reshape(len(self.split.train), -1).T
        return [centre_and_spread(column) for column in columns]

    @property
    def scale(self) -> list[float]:
        """Spread of each output."""
        return [spread for _, spread in self.centres]

    @cached_property
    def features(self) -> npt.NDArray[np.float32]:
        """All rows after the preprocessing, float32 (n, F)."""
        features: npt.NDArray[np.float32] = predict(self.preprocess, self.x)
        return features

    @cached_property
    def targets(self) -> npt.NDArray[Any]:
        """int64 class codes (n,), or float64 standardised targets (n, K)."""
        if self.config.task is Task.CLASSIFICATION:
            return self.y.astype(np.int64)
        mean = np.asarray([centre for centre, _ in self.centres])
        return np.asarray((self.y.astype(np.float64).reshape(len(self.y), -1) - mean) / np.asarray(self.scale))

    @cached_property
    def columns(self) -> list[int] | None:
        """Features that the gate sees; None for all."""
        return gate_columns(self.config, self.dataset.schema.names, self.preprocess)

    @property
    def build_arguments(self) -> dict[str, Any]:
        """What ``build_mixture`` and ``join_mixture`` need beside the config."""
        regresses = self.config.task is Task.REGRESSION
        return {
            "input_dim": self.x.shape[1],
            "output_dim": self.num_outputs,
            "preprocess": self.preprocess,
            "target_mean": [centre for centre, _ in self.centres] if regresses else None,
            "target_scale": self.scale if regresses else None,
            "names": self.dataset.schema.names,
        }

    @cached_property
    def pieces(self) -> Membership:
        """The pieces of the training rows, (n_train, E); clusters where the recipe names none."""
        return split_into_pieces(
            self.training.pieces or PiecesConfig(),
            self.dataset,
            self.split.train,
            self.features[self.split.train],
            num_pieces=self.config.gate.num_experts,
            seed=self.training.seed,
        )

    @cached_property
    def validation_pieces(self) -> Membership:
        """Pieces of the validation rows: those of the nearest training row, so that any split has them."""
        from sklearn.neighbors import NearestNeighbors

        known, new = self.features[self.split.train], self.features[self.split.validation]
        nearest = NearestNeighbors(n_neighbors=1).fit(known.reshape(len(known), -1))
        places = nearest.kneighbors(new.reshape(len(new), -1), return_distance=False)[:, 0]
        return np.asarray(self.pieces[places], np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """A trained mixture.

    Attributes:
        model: The mixture, uncompiled or compiled with the loss it was trained with.
        history: One value an epoch, or an iteration of EM.
        best_epoch: The epoch or iteration whose weights the model has, from 1.
        warnings: What the user should know.
    """

    model: keras.Model
    history: dict[str, list[float]]
    best_epoch: int
    warnings: tuple[str, ...] = ()
