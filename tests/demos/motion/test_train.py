"""Training on smartwatch recordings: people held out stay out, and the file answers raw windows."""

import sys
from pathlib import Path

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.manifest import Role

FOLDER = Path(__file__).parents[3] / "demos" / "motion"


@pytest.mark.slow
def test_the_file_recognises_exercises_of_people_never_seen(motion_folder):
    with np.load(motion_folder / "held_out.npz") as held:
        assert set(held["people"]) == {9, 10} and int(held["rate"]) == 50
        assert held["samples"].shape == (held["lengths"].sum(), 6)
        starts = np.cumsum(held["lengths"]) - held["lengths"]
        windows = np.stack([held["samples"][start + 200 : start + 300] for start in starts])
        labels = held["labels"]
    with Predictor(motion_folder / "motion.tflite") as predictor:
        found = predictor.predict_proba(windows).argmax(axis=1)
        usage = [part.usage for part in predictor.manifest.parts if part.role is Role.EXPERT]
        assert predictor.manifest.golden.inputs and "expert_3" in predictor.file.signatures
    names = ["PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"]
    # Chance is one in seven.
    assert np.mean([names[code] for code in found] == labels) > 0.4
    assert sum(usage) == pytest.approx(1, abs=1e-3)


def test_people_held_out_are_in_no_training_row(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "train", raising=False)
    import recordings
    import train

    everything = recordings.load_recordings()
    seen = {}

    def keep(dataset, split, *_):
        seen.update(dataset=dataset, split=split)

    monkeypatch.setattr(train, "train_mixture", keep)
    train.train(everything, (3, 4), smoke=False)
    test, _ = recordings.cut_windows(recordings.of_people(everything, (3, 4)))
    features, split = seen["dataset"].features, seen["split"]
    np.testing.assert_array_equal(features[split.test].reshape(test.shape), test)
    held_out = {row.tobytes() for row in test.reshape(len(test), -1)}
    assert not any(features[row].tobytes() in held_out for row in (*split.train, *split.validation))
    chooser, _ = recordings.cut_windows(recordings.of_people(everything, (2,)))
    np.testing.assert_array_equal(features[split.validation].reshape(chooser.shape), chooser)


def test_a_mirrored_and_turned_window_keeps_its_lengths(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import augmentation

    random = np.random.default_rng(0)
    windows = random.normal(size=(20, 30, 6)).astype(np.float32)
    varied = augmentation.vary(windows, random)
    for part in (slice(3), slice(3, 6)):
        np.testing.assert_allclose(
            np.linalg.norm(varied[:, :, part], axis=2), np.linalg.norm(windows[:, :, part], axis=2), rtol=1e-4
        )
    assert np.abs(varied - windows).max() > 0.1
