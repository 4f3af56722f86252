"""Learn what is usual, for the drift alarm of the sensor demo: a density of motion, and thresholds on other people.

    python demos/motion/drift_profile.py --people    # each person as the new one, without a model; minutes

A threshold is the largest figure that any person reached whose windows had no part in what they were compared with: for
the density each person in turn is left out of the fit. Were the next person one of the same kind, and watched for as
long, about one in n + 1 would exceed it (as in conformal prediction; watched for longer, more).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from augmentation import vary
from recordings import HOP, PEOPLE, STEPS, Recording, load_recordings, of_people
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

sys.path.append(str(Path(__file__).parents[1] / "raspberry_pi"))  # what the device computes is what is calibrated
from drift import DriftProfile, divergence
from orientation import TURNS, UsualMotion, window_features

from moe_edge import Predictor
from moe_edge.manifest import Role

Floats = npt.NDArray[np.float64]
WINDOWS = 150
"""Windows that figures are taken over: 2.5 minutes, several exercises."""
COMPONENTS, SMOKE_COMPONENTS = 24, 8
ORDERS = 4
"""Random orders of a person's recordings: figures over the last windows depend on what followed what."""
_BELOW = 20.0
"""Nats below the least usual hundredth of windows where the floor lies."""


def make_profile(
    recordings: Sequence[Recording], predictor: Predictor, *, unseen: int, model: str, smoke: bool
) -> DriftProfile:
    """Fit and calibrate.

    Args:
        recordings: Of everyone but the people held out.
        predictor: The model.
        unseen: The one of them that no weight was fitted to: the gate and the confidence are calibrated there.
        model: SHA-256 of its file.
        smoke: A coarser density.
    """
    components = SMOKE_COMPONENTS if smoke else COMPONENTS
    others = of_people(recordings, [unseen])
    usage = [part.usage or 0.0 for part in predictor.manifest.parts if part.role is Role.EXPERT]
    gate = unsure = 0.0
    for windows in _streams(others):
        raw = predictor.predict_raw(windows)
        weights = _last(raw["routing_weights"].astype(np.float64))
        gate = max(gate, *(divergence(row, usage) for row in weights))
        unsure = max(unsure, float(1 - _last(raw["prediction"].max(axis=1).astype(np.float64)[:, None]).min()))
    thresholds = {
        "turned": calibrate_turned(recordings, components, people=2 if smoke else None),
        # One person says little of how people differ: room for as much again, and for half as much doubt again.
        "gate": 2 * gate,
        "unsure": 1.5 * unsure,
    }
    motion = fit_motion(recordings, components)
    return DriftProfile(motion=motion, windows=WINDOWS, hop=HOP, thresholds=thresholds, model=model)


def fit_motion(recordings: Sequence[Recording], components: int) -> UsualMotion:
    """The density of ordinary wear: the windows, and once more with the watch turned a little."""
    windows = _cut(recordings)
    ordinary = window_features(windows)[:, 0]
    varied = window_features(vary(windows, np.random.default_rng(0)))[:, 0]
    mixture = GaussianMixture(components, reg_covar=3e-3, max_iter=60, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close enough after so many steps
        mixture.fit(np.concatenate([ordinary, varied]))
    floor = float(np.quantile(mixture.score_samples(ordinary), 0.01)) - _BELOW
    return UsualMotion(
        log_weights=np.log(mixture.weights_),
        means=mixture.means_,
        whitening=mixture.precisions_cholesky_,
        floor=floor,
    )


def calibrate_turned(recordings: Sequence[Recording], components: int, people: int | None = None) -> float:
    """The largest score that a person reached when left out of the fit; of the first ``people`` only, for trying."""
    everyone = sorted({recording.person for recording in recordings})
    largest = -np.inf
    for person in everyone[:people]:
        motion = fit_motion([each for each in recordings if each.person != person], components)
        for windows in _streams(of_people(recordings, [person])):
            largest = max(largest, float(_scores(motion.turn_densities(windows)).max()))
    return float(largest)


def _cut(recordings: Sequence[Recording]) -> npt.NDArray[np.float32]:
    """Windows of one recording after another; none spans two."""
    return np.stack(
        [
            each.samples[start : start + STEPS]
            for each in recordings
            for start in range(0, len(each.samples) - STEPS + 1, HOP)
        ]
    )


def _streams(recordings: Sequence[Recording]) -> list[npt.NDArray[np.float32]]:
    """A person's windows in some random orders of the recordings, each twice over."""
    random = np.random.default_rng(0)
    return [
        _cut([recordings[index] for index in random.permutation(len(recordings)).tolist() * 2]) for _ in range(ORDERS)
    ]


def _last(rows: Floats) -> Floats:
    """Means over each ``WINDOWS`` rows."""
    sums = np.cumsum(np.concatenate([np.zeros((1, rows.shape[1])), rows]), axis=0)
    means: Floats = (sums[WINDOWS:] - sums[:-WINDOWS]) / WINDOWS
    return means


def _scores(densities: Floats) -> Floats:
    """The best turn's score over each ``WINDOWS`` windows."""
    means = _last(densities)
    found: Floats = (means[:, 1:] - means[:, :1]).max(axis=1)
    return found


def show_people(recordings: Sequence[Recording]) -> None:
    """Each person as the new one: ordinary wear, and the sensor turned, against the others' threshold."""
    within = 200
    print("person  threshold  ordinary, most  alarms  turns of 23 found within 200 windows, whenever they begin")
    for person in PEOPLE:
        others = [each for each in recordings if each.person != person]
        threshold, motion = calibrate_turned(others, COMPONENTS), fit_motion(others, COMPONENTS)
        highest, found = -np.inf, np.ones(len(TURNS), dtype=bool)
        for windows in _streams(of_people(recordings, [person])):
            densities = motion.turn_densities(windows)
            highest = max(highest, float(_scores(densities).max()))
            for index, turn in enumerate(TURNS[1:], start=1):
                # The turned stream's densities are those of the other turns, in another order.
                order = [int(np.abs(TURNS - each @ turn).sum(axis=(1, 2)).argmin()) for each in TURNS]
                scores = _scores(densities[:, order])
                room = within - WINDOWS + 1
                reached = [scores[begin : begin + room].max() for begin in range(0, len(scores) - room + 1, 5)]
                found[index] &= bool(min(reached) > threshold)
        alarms = "yes" if highest > threshold else "no"
        print(f"{person:6} {threshold:10.2f} {highest:15.2f} {alarms:>7} {found[1:].sum():5}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", action="store_true", required=True, help="each person as the new one")
    parser.parse_args()
    show_people(load_recordings())
