"""Smartwatch recordings of shoulder exercises: load them, hold whole people out, cut them into windows.

The recordings ship with the PyPI package seglearn (Burns et al. 2018, arXiv 1802.01489): ten people, seven exercises,
both arms, one recording of each, 140 in all, 81 minutes. Accelerations are in g, rates of turn in rad/s.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moe_edge.atomic import atomic_path
from moe_edge.errors import require

RATE = 50
"""Samples a second."""
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
STEPS = 100
"""Samples of a window: two seconds, about one repetition."""
HOP = 50
"""Samples from a training window to the next."""
EXERCISES = {
    "PEN": "pendulum",
    "ABD": "abduction",
    "FEL": "forward elevation",
    "IR": "internal rotation",
    "ER": "external rotation",
    "TRAP": "trapezius extension",
    "ROW": "upright row",
}
PEOPLE = tuple(range(1, 11))

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """One person doing one exercise with one arm.

    Attributes:
        samples: float32 (n, 6), the ``CHANNELS`` at ``RATE``.
        label: Code of the exercise, its place in ``EXERCISES``.
        person: Number in ``PEOPLE``.
        right: Whether it was the right arm.
    """

    samples: Samples
    label: int
    person: int
    right: bool


def load_recordings() -> list[Recording]:
    """All recordings, in the order of the package.

    Raises:
        MissingDependencyError: If seglearn isn't installed.
    """
    require("seglearn", extra="demos", purpose="loading the smartwatch recordings")
    from seglearn.datasets import load_watch  # type: ignore[import-untyped]

    data = load_watch()
    names = list(EXERCISES)
    return [
        Recording(
            samples=np.asarray(samples, dtype=np.float32),
            label=names.index(data["y_labels"][label]),
            person=int(person),
            right=bool(side),
        )
        for samples, label, person, side in zip(data["X"], data["y"], data["subject"], data["side"], strict=True)
    ]


def of_people(recordings: Sequence[Recording], people: Collection[int]) -> list[Recording]:
    """The recordings of ``people``."""
    return [recording for recording in recordings if recording.person in people]


def cut_windows(recordings: Sequence[Recording]) -> tuple[Samples, npt.NDArray[np.int64]]:
    """Cut recordings into windows; none spans two recordings.

    Returns:
        float32 (n, STEPS, 6), and the exercise's code int64 (n,).
    """
    windows = [
        (recording.samples[start : start + STEPS], recording.label)
        for recording in recordings
        for start in range(0, len(recording.samples) - STEPS + 1, HOP)
    ]
    return np.stack([window for window, _ in windows]), np.array([label for _, label in windows], dtype=np.int64)


def write_recordings(recordings: Sequence[Recording], path: Path) -> None:
    """Write raw recordings for replay, as a ``.npz`` without pickled objects.

    ``samples`` (all samples, 6) one recording after another, ``lengths`` of each, ``labels`` (codes of the
    exercises), ``names`` (as the model's labels), ``people``, ``right``, ``rate``.
    """
    names = list(EXERCISES)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            samples=np.concatenate([recording.samples for recording in recordings]),
            lengths=np.array([len(recording.samples) for recording in recordings]),
            labels=np.array([names[recording.label] for recording in recordings]),
            names=np.array([EXERCISES[names[recording.label]] for recording in recordings]),
            people=np.array([recording.person for recording in recordings]),
            right=np.array([recording.right for recording in recordings]),
            rate=np.array(RATE),
        )
