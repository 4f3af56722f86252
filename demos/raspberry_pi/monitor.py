"""The sensor demo's state machine: samples in; labels, experts, drift and counters out. It survives a restart."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from drift import DriftMonitor, DriftProfile, DriftState
from samples import CHANNELS, RATE, Sample
from windows import WindowCutter

from moe_edge import Predictor
from moe_edge.errors import DataError
from moe_edge.manifest import Role

HISTORY = 60
"""Windows that the displays show."""
COUNTERS = ("windows", "samples", "gaps", "missing", "lost", "alarms", "restarts")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One window's answer.

    Attributes:
        number: Of the window, from 1, over restarts.
        time: Of its last sample, seconds.
        label: The likeliest class.
        confidence: Its probability.
        probabilities: Of each class.
        weights: Of each expert.
        truth: What is known of a replayed window, else empty.
        drift: What the last windows say.
        began: Alarms that began with this window.
        ended: Alarms that ended with it.
    """

    number: int
    time: float
    label: str
    confidence: float
    probabilities: tuple[float, ...]
    weights: tuple[float, ...]
    truth: str
    drift: DriftState
    began: tuple[str, ...]
    ended: tuple[str, ...]

    @property
    def expert(self) -> int:
        """The expert that counted most."""
        return int(np.argmax(self.weights))

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "window": self.number,
            "time": round(self.time, 3),
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "expert": self.expert,
            "weights": [round(weight, 6) for weight in self.weights],
            "truth": self.truth,
            "alarms": list(self.drift.alarms),
            "figures": {name: round(value, 4) for name, value in self.drift.figures.items()},
            "turn": self.drift.turn,
        }


class Monitor:
    """A model, its drift profile, and what has come so far.

    Attributes:
        labels: Classes.
        counters: Since the first start: windows, samples, gaps, missing and lost samples, alarms, restarts.
        history: The last answers.
    """

    def __init__(self, model: Path, profile: Path, *, hop: int | None = None) -> None:
        """Open the model.

        Args:
            model: A .tflite for windows of 6 channels.
            profile: Its drift.json.
            hop: Samples from window to window; by default as the alarm was calibrated.

        Raises:
            ModelFileError: If the model can't be used.
            DataError: If it isn't one for windows of 6 channels that says its experts' usage, or the profile isn't its.
            ValueError: If ``hop`` is out of range.
        """
        self.predictor = Predictor(model)
        self.fingerprint = hashlib.sha256(model.read_bytes()).hexdigest()
        self.profile = DriftProfile.read(profile, model=self.fingerprint)
        usage = [part.usage for part in self.predictor.manifest.parts if part.role is Role.EXPERT]
        steps, rest = divmod(self.predictor.num_features, CHANNELS)
        if rest or any(share is None for share in usage):
            raise DataError(f"{model}: expected a model of demos/motion/train.py, for windows of {CHANNELS} channels")
        self.labels = self.predictor.labels
        self.usage = tuple(float(share or 0) for share in usage)
        self.steps = steps
        self._cutter = WindowCutter(steps=steps, hop=hop or self.profile.hop, rate=RATE)
        self._drift = DriftMonitor(self.profile, self.usage)
        self._alarms: tuple[str, ...] = ()
        self._before = dict.fromkeys(COUNTERS, 0)
        self._windows = self._raised = 0
        self._moments: deque[float] = deque(maxlen=20)
        self.history: deque[Answer] = deque(maxlen=HISTORY)

    def push(self, sample: Sample) -> Answer | None:
        """Take a sample; gives an answer when it fills a window."""
        window = self._cutter.push(sample)
        if window is None:
            return None
        raw = self.predictor.predict_raw(window.reshape(1, -1))
        probabilities, weights = raw["prediction"][0], raw["routing_weights"][0]
        best = int(probabilities.argmax())
        drift = self._drift.update(window, weights, float(probabilities[best]))
        began = tuple(name for name in drift.alarms if name not in self._alarms)
        ended = tuple(name for name in self._alarms if name not in drift.alarms)
        self._raised += len(began)
        self._alarms = drift.alarms
        self._windows += 1
        self._moments.append(time.monotonic())
        answer = Answer(
            number=self._before["windows"] + self._windows,
            time=sample.time,
            label=self.labels[best],
            confidence=float(probabilities[best]),
            probabilities=tuple(probabilities.tolist()),
            weights=tuple(weights.tolist()),
            truth=sample.label,
            drift=drift,
            began=began,
            ended=ended,
        )
        self.history.append(answer)
        return answer

    @property
    def counters(self) -> dict[str, int]:
        """What was counted since the first start."""
        now = {
            "windows": self._windows,
            "samples": self._cutter.samples,
            "gaps": self._cutter.gaps,
            "missing": self._cutter.missing,
            "lost": self._cutter.lost,
            "alarms": self._raised,
            "restarts": 0,
        }
        return {name: self._before[name] + now[name] for name in COUNTERS}

    @property
    def windows_per_second(self) -> float:
        """Over the last twenty windows."""
        spent = self._moments[-1] - self._moments[0] if len(self._moments) > 1 else 0.0
        return (len(self._moments) - 1) / spent if spent > 0 else 0.0

    def to_state(self) -> dict[str, Any]:
        """What a restart should know: counters and the alarm's windows. A window that isn't full is a gap to come."""
        return {
            "model": self.fingerprint,
            "counters": self.counters,
            "alarms": list(self._alarms),
            "drift": self._drift.to_record(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``to_state``.

        Raises:
            ValueError: If it is another model's, or isn't such a state.
        """
        if state.get("model") != self.fingerprint:
            raise ValueError("it belongs to another model")
        try:
            counters = {name: int(state["counters"][name]) for name in COUNTERS}
            alarms = tuple(str(name) for name in state["alarms"])
            self._drift.restore(state["drift"], alarms)
        except (KeyError, TypeError) as error:
            raise ValueError(f"it lacks {error}") from error
        self._before = {**counters, "restarts": counters["restarts"] + 1}
        self._alarms = alarms

    def close(self) -> None:
        """Release the model."""
        self.predictor.close()
