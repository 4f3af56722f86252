"""Train a Mixture of Experts on smartwatch recordings, by person: who is tested was never trained on.

    python demos/motion/train.py -o demo-output/motion            # a minute or two on two cores
    python demos/motion/train.py -o demo-output/motion --smoke    # seconds: fewer rows and epochs, the same path
    python demos/motion/train.py --folds                          # every person held out once, in five pairs; no files

Writes motion.keras, motion.tflite (raw samples in, routed signatures, labels and gate usage in its manifest),
drift.json: what the sensor demo's alarm compares with, and held_out.npz: the raw recordings of the people held out.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from moe_edge.training import (  # first: sets TensorFlow's environment
    Dataset,
    Split,
    TrainingResult,
    dataset_from_arrays,
    save_model,
    train_mixture,
)

import numpy as np  # isort: skip
from augmentation import vary
from drift_profile import make_profile
from recordings import EXERCISES, PEOPLE, STEPS, Recording, cut_windows, load_recordings, of_people, write_recordings

from moe_edge import Predictor
from moe_edge.atomic import check_writable, write_atomically
from moe_edge.config import ExpertConfig, GateConfig, MixtureConfig, TrainingConfig, TrunkConfig
from moe_edge.errors import MoeEdgeError
from moe_edge_converters import ConversionResult, convert

HELD_OUT = (9, 10)
PAIRS = tuple(zip(PEOPLE[::2], PEOPLE[1::2], strict=True))
SEED = 0
COPIES = 6
"""Varied copies of every training window, beside itself."""

MIXTURE = MixtureConfig(
    # What gate and experts share: convolutions over time, averaged: a window may start anywhere in a repetition.
    trunk=TrunkConfig(
        kind="conv1d",
        units=64,
        options={"shape": [STEPS, 6], "filters": [24, 48, 64], "kernel_size": 5, "summary": "average"},
    ),
    expert=ExpertConfig(kind="dense", hidden=(32,)),
    gate=GateConfig(num_experts=4, hidden=(16,)),
)
TRAINING = TrainingConfig(epochs=16, patience=16, batch_size=128, learning_rate=4e-3, seed=SEED)
SMOKE_TRAINING = replace(TRAINING, epochs=4, batch_size=32)


def main() -> int:
    """Train, convert, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-output/motion"), help="folder for the files")
    parser.add_argument("--smoke", action="store_true", help="fewer rows and epochs, to see that everything runs")
    parser.add_argument("--folds", action="store_true", help="hold every pair of people out once; writes no files")
    arguments = parser.parse_args()
    try:
        recordings = load_recordings()
        if arguments.folds:
            run_folds(recordings, smoke=arguments.smoke)
        else:
            arguments.output.mkdir(parents=True, exist_ok=True)
            make_files(recordings, arguments.output, smoke=arguments.smoke)
    except (MoeEdgeError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; files that were there stay as they were", file=sys.stderr)
        return 130
    return 0


def make_files(recordings: Sequence[Recording], folder: Path, *, smoke: bool) -> None:
    """Train with ``HELD_OUT`` held out, and write the three files."""
    keras_file, file = folder / "motion.keras", folder / "motion.tflite"
    for path in (keras_file, file):
        check_writable(path)
    dataset, split, result = train(recordings, HELD_OUT, smoke=smoke)
    save_model(
        result.model,
        keras_file,
        schema=result.schema,
        mixture_config=MIXTURE,
        training_config=SMOKE_TRAINING if smoke else TRAINING,
        split=split,
    )
    # The windows as recorded, not their varied copies: the manifest's gate usage is that of ordinary wear.
    ordinary, _ = cut_windows(of_people(recordings, [person for person in PEOPLE if person not in HELD_OUT]))
    written = convert(keras_file, file, scheme="float32", calibration=ordinary.reshape(len(ordinary), -1))
    write_recordings(of_people(recordings, HELD_OUT), folder / "held_out.npz")
    rest = [each for each in recordings if each.person not in HELD_OUT]
    with Predictor(file) as predictor:
        model = hashlib.sha256(file.read_bytes()).hexdigest()
        profile = make_profile(rest, predictor, unseen=chooser_of(HELD_OUT), model=model, smoke=smoke)
    write_atomically(folder / "drift.json", profile.to_json())
    tell(dataset, split, result, written)


def train(
    recordings: Sequence[Recording], held_out: Collection[int], *, smoke: bool
) -> tuple[Dataset, Split, TrainingResult]:
    """Train on everyone but ``held_out``; ``chooser_of`` them chooses the epoch."""
    rest = [person for person in PEOPLE if person not in held_out]
    chooser = chooser_of(held_out)
    parts = [
        cut_windows(of_people(recordings, people))
        for people in ([person for person in rest if person != chooser], [chooser], held_out)
    ]
    if smoke:
        parts = [(windows[::3], labels[::3]) for windows, labels in parts]
    windows, labels = parts[0]
    random = np.random.default_rng(SEED)
    copies = 0 if smoke else COPIES
    parts[0] = (
        np.concatenate([windows, *(vary(windows, random) for _ in range(copies))]),
        np.concatenate([labels] * (1 + copies)),
    )
    dataset = dataset_from_arrays(
        np.concatenate([windows for windows, _ in parts]),
        np.concatenate([labels for _, labels in parts]),
        labels=list(EXERCISES.values()),
        source="smartwatch recordings",
    )
    rows = np.split(np.arange(dataset.num_rows, dtype=np.int64), np.cumsum([len(labels) for _, labels in parts])[:-1])
    split = Split(train=rows[0], validation=rows[1], test=rows[2], fingerprint=dataset.fingerprint)
    return dataset, split, train_mixture(dataset, split, MIXTURE, SMOKE_TRAINING if smoke else TRAINING)


def chooser_of(held_out: Collection[int]) -> int:
    """The person whose windows choose the epoch: the one before those held out, or the last."""
    rest = [person for person in PEOPLE if person not in held_out]
    return max((person for person in rest if person < min(held_out)), default=rest[-1])


def tell(dataset: Dataset, split: Split, result: TrainingResult, written: ConversionResult) -> None:
    """Print what came out, as the file answers, not as Keras does."""
    features, target = dataset.features[split.test], dataset.require_target()[split.test]
    with Predictor(written.path) as predictor:
        right = predictor.predict_proba(features).argmax(axis=1) == target
    print(f"Trained on {len(split.train):,} windows; best epoch {result.best_epoch} on another person's")
    print(
        f"People {HELD_OUT[0]} and {HELD_OUT[1]}, never seen: Keras {result.test.value:.1%}, "
        f"the file {right.mean():.1%} of {len(right)} windows"
    )
    print("Gate usage:", ", ".join(f"expert_{index} {share:.0%}" for index, share in enumerate(result.usage)))
    print(f"{written.path}: {written.num_bytes:,} bytes; beside it motion.keras, drift.json, held_out.npz")
    for warning in result.warnings:
        print(f"Warning: {warning}")


def run_folds(recordings: Sequence[Recording], *, smoke: bool) -> None:
    """Hold out each pair of people once, with a model of its own."""
    scores = []
    for pair in PAIRS[:2] if smoke else PAIRS:
        _, _, result = train(recordings, pair, smoke=smoke)
        scores.append(result.test.value)
        print(f"people {pair[0]} and {pair[1]}: {scores[-1]:.1%} of {result.test.rows} windows", flush=True)
    print(f"mean of {len(scores)} pairs: {np.mean(scores):.1%}; lowest {min(scores):.1%}")


if __name__ == "__main__":
    sys.exit(main())
