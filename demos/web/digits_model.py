"""The digits model of the page: scikit-learn's 8x8 digits, trained so that hand-drawn ones are recognised too.

The training rows are seen shifted, turned, slanted and with thinner or thicker strokes as well: people draw on a screen
less evenly than the 43 people whose forms were scanned for the table, and some shapes those never wrote
(``drawn_digits``). Held-out rows stay as they are.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from moe_edge.training import Dataset, Split, split_dataset, train_mixture  # first: sets TensorFlow's environment

import numpy as np  # isort: skip
import numpy.typing as npt
from drawn_digits import DRAWINGS, SMOKE_DRAWINGS, drawn_digits
from scipy.ndimage import affine_transform

from moe_edge import Predictor
from moe_edge.atomic import atomic_path
from moe_edge.config import MixtureConfig, TrainingConfig
from moe_edge.training.examples import digits_dataset
from moe_edge_converters import convert

SIDE, FULL = 8, 16.0
"""Pixels a side, and the value of a pixel full of ink."""
TEST_SHARE = 0.3
COPIES, SMOKE_COPIES = 8, 3
"""Altered copies of each training row."""
EPOCHS, SMOKE_EPOCHS = 60, 16
SAMPLE_ROWS = 40
"""Held-out rows that travel with the page: four of each digit."""

Rows = npt.NDArray[np.float32]
Labelled = tuple[Rows, npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class TrainedDigits:
    """What was written.

    Attributes:
        model: The .tflite.
        samples: A .csv of held-out rows with their digit.
        accuracy: Of the .tflite on all held-out rows, dense.
    """

    model: Path
    samples: Path
    accuracy: float


def train_digits(folder: Path, *, smoke: bool = False, say: Callable[[str], None] = print) -> TrainedDigits:
    """Train, convert for the web, and write ``digits.tflite`` and ``digits-rows.csv`` into ``folder``."""
    dataset = digits_dataset()
    dataset = replace(dataset, schema=replace(dataset.schema, target="digit"))
    split = split_dataset(dataset, test_share=TEST_SHARE, seed=0)
    random = np.random.default_rng(0)
    altered = altered_rows(dataset, split, SMOKE_COPIES if smoke else COPIES, random)
    more, wider = with_more_training(
        dataset, split, altered, drawn_digits(SMOKE_DRAWINGS if smoke else DRAWINGS, random)
    )
    epochs = SMOKE_EPOCHS if smoke else EPOCHS
    say(f"Training on {len(wider.train):,} digits, {len(wider.train) - len(split.train):,} of them altered or drawn")
    trained = train_mixture(more, wider, MixtureConfig(), TrainingConfig(seed=0, epochs=epochs))
    target = dataset.require_target()
    result = convert(
        trained.model,
        folder / "digits.tflite",
        target="web",
        calibration=more.features[wider.train],
        validation=(dataset.features[split.validation], target[split.validation]),
        schema=trained.schema,
        provenance={"source": "scikit-learn digits (UCI optdigits), demos/web"},
    )
    with Predictor(result.path, mode="dense") as predictor:
        answers = predictor.predict_proba(dataset.features[split.test]).argmax(axis=1)
    accuracy = float((answers == target[split.test]).mean())
    say(f"digits.tflite: {result.num_bytes:,} bytes, {accuracy:.1%} of {len(split.test)} held-out rows")
    samples = write_samples(folder / "digits-rows.csv", dataset, split)
    return TrainedDigits(model=result.path, samples=samples, accuracy=accuracy)


def altered_rows(dataset: Dataset, split: Split, copies: int, random: np.random.Generator) -> Labelled:
    """Copies of the training rows, each altered by itself, with their digits."""
    images = dataset.features[split.train].reshape(-1, SIDE, SIDE)
    altered = np.stack([alter(image, random) for _ in range(copies) for image in images])
    return altered.reshape(-1, SIDE * SIDE), np.tile(dataset.require_target()[split.train], copies)


def with_more_training(dataset: Dataset, split: Split, *parts: Labelled) -> tuple[Dataset, Split]:
    """Append rows to the dataset, and to the training rows of its split alone."""
    features = np.concatenate([dataset.features, *(rows for rows, _ in parts)]).astype(np.float32)
    targets = np.concatenate([dataset.require_target(), *(digits for _, digits in parts)])
    fingerprint = hashlib.sha256(features.tobytes() + targets.tobytes()).hexdigest()
    longer = replace(dataset, features=features, target=targets, fingerprint=fingerprint)
    train = np.concatenate([split.train, np.arange(dataset.num_rows, longer.num_rows)])
    return longer, replace(split, train=train, fingerprint=fingerprint)


def alter(image: Rows, random: np.random.Generator) -> Rows:
    """Turn, slant, scale, shift an image (8, 8) a little, and make its strokes thinner or thicker."""
    turn, slant = random.normal(0, 0.12), random.normal(0, 0.12)
    scale = np.diag(random.normal(1, 0.07, 2))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.array([[1, 0], [slant, 1]]) @ scale
    centre = np.full(2, (SIDE - 1) / 2)
    offset = centre - matrix @ centre + random.normal(0, 0.35, 2)
    moved = affine_transform(image, matrix, offset=offset, order=1)
    # Ink is a share of covered area: a power below 1 thickens strokes, above 1 it thins them.
    return np.asarray(FULL * (np.clip(moved, 0, FULL) / FULL) ** random.uniform(0.6, 1.5), dtype=np.float32)


def write_samples(path: Path, dataset: Dataset, split: Split) -> Path:
    """Write held-out rows, equally many of each digit, as a table with its target."""
    target = dataset.require_target()
    labels = dataset.schema.labels
    rows = [
        row
        for place in range(SAMPLE_ROWS // len(labels))
        for code in range(len(labels))
        for row in split.test[target[split.test] == code][place : place + 1]
    ]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*dataset.schema.names, dataset.schema.target])
        for row in rows:
            writer.writerow([*(f"{pixel:g}" for pixel in dataset.features[row]), labels[target[row]]])
    return path
