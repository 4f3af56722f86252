"""The reference mixture trained on handwritten digits, its test rows, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import MixtureConfig, TrainingConfig


@dataclass(frozen=True, eq=False)
class Digits:
    """What training on digits gave.

    Attributes:
        keras: The model's ``.keras`` file.
        tflite: The float32 file of it.
        train: .npz with ``x`` and ``y``: rows that training saw, the validation rows among them.
        x: float32 (n, 64), rows that it didn't see.
        y: int64 (n,).
        spec: The mixture as data.
    """

    keras: Path
    tflite: Path
    train: Path
    x: npt.NDArray[np.float32]
    y: npt.NDArray[Any]
    spec: Any


def train_digits(folder: Path, *, seed: int = 0) -> Digits:
    """Train the reference mixture (five experts) as ``moe-edge train`` does, 30 % of the rows held out."""
    from moe_edge.training.keras_setup import load_keras

    load_keras()
    from moe_edge.training import save_model, split_dataset, train_mixture
    from moe_edge.training.examples import digits_dataset
    from moe_edge_converters import Scheme, convert
    from moe_edge_converters.sources.extraction import extract_mixture

    dataset = digits_dataset()
    split = split_dataset(dataset, test_share=0.3, seed=seed)
    config, training = MixtureConfig(), TrainingConfig(seed=seed)
    result = train_mixture(dataset, split, config, training)
    x, y = dataset.features, dataset.require_target()
    keras, tflite, train = folder / "digits.keras", folder / "digits.tflite", folder / "digits-train.npz"
    save_model(result.model, keras, schema=result.schema, mixture_config=config, training_config=training, split=split)
    convert(result.model, tflite, scheme=Scheme.FLOAT32, schema=result.schema, calibration=x[split.train])

    seen = np.concatenate([split.train, split.validation])
    np.savez(train, x=x[seen], y=y[seen])
    return Digits(keras, tflite, train, x[split.test], y[split.test], extract_mixture(result.model))
