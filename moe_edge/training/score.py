"""Score a mixture and each of its experts on rows whose answer is known.

Layer: desktop (training).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from moe_edge.config import MixtureConfig, Task
from moe_edge.training.outputs import expert_outputs
from moe_edge.training.split import Rows, Split

DEAD_SHARE = 0.2
"""An expert is called dead when its mean gate weight is below this share of an even one."""
_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well answers fit.

    Attributes:
        metric: ``accuracy``, in [0, 1], or ``rmse``, in the target's unit, over all outputs.
        value: The metric's value; NaN without rows.
        rows: Rows scored.
        correct: Rows answered rightly (classification).
        r2: Share of the target's variance explained, mean over the outputs (regression).
    """

    metric: str
    value: float
    rows: int
    correct: int | None = None
    r2: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExpertReport:
    """One expert by itself.

    Attributes:
        index: Its number, from 0.
        usage: Mean gate weight on the training rows, in [0, 1].
        alone: Score of its own answers on all held-out rows.
        chosen: Score of its own answers on the held-out rows that the gate gives it first.
    """

    index: int
    usage: float
    alone: Score
    chosen: Score


def score_answers(task: Task, answers: npt.NDArray[np.float32], target: npt.NDArray[Any]) -> Score:
    """Score answers (n, K) against class codes (n,) or quantities (n, K)."""
    rows = len(target)
    if task is Task.CLASSIFICATION:
        correct = int((answers.argmax(axis=1) == target).sum()) if rows else 0
        return Score(metric="accuracy", value=correct / rows if rows else float("nan"), rows=rows, correct=correct)
    if not rows:
        return Score(metric="rmse", value=float("nan"), rows=0)
    truth = target.astype(np.float64).reshape(rows, -1)
    errors = answers.astype(np.float64) - truth
    spread = truth.var(axis=0)
    r2 = float(np.mean(1 - (errors**2).mean(axis=0) / spread)) if np.all(spread > 0) else None
    return Score(metric="rmse", value=float(np.sqrt((errors**2).mean())), rows=rows, r2=r2)


def score_rows(model: keras.Model, task: Task, x: npt.NDArray[np.float32], y: npt.NDArray[Any], rows: Rows) -> Score:
    """Score the whole mixture on ``rows``."""
    return score_answers(task, predict(model, x[rows]), y[rows])


def predict(model: keras.Model, x: npt.NDArray[np.float32]) -> Any:
    """Answer rows in batches: an array (n, K), or a dict of arrays where the model gives several outputs.

    Plain calls: ``Model.predict`` would trace a graph anew for every model.
    """
    batches = [
        keras.tree.map_structure(keras.ops.convert_to_numpy, model(x[start : start + _BATCH], training=False))
        for start in range(0, max(1, len(x)), _BATCH)
    ]
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def report_experts(
    model: keras.Model, config: MixtureConfig, x: npt.NDArray[np.float32], y: npt.NDArray[Any], split: Split
) -> tuple[ExpertReport, ...]:
    """Usage on the training rows, own scores on the held-out rows."""
    inside = expert_outputs(model)
    usage = predict(inside, x[split.train])["routing_weights"].mean(axis=0)
    held_out = predict(inside, x[split.test])
    first = held_out["routing_weights"].argmax(axis=1)
    answers, target = held_out["expert_answers"], y[split.test]
    return tuple(
        ExpertReport(
            index=index,
            usage=float(share),
            alone=score_answers(config.task, answers[:, index], target),
            chosen=score_answers(config.task, answers[first == index, index], target[first == index]),
        )
        for index, share in enumerate(usage)
    )


def dead_expert_warnings(experts: tuple[ExpertReport, ...], config: MixtureConfig) -> tuple[str, ...]:
    """One line of advice when experts are hardly used."""
    least = DEAD_SHARE / len(experts)
    dead = [expert for expert in experts if expert.usage < least]
    if not dead:
        return ()
    names = ", ".join(f"{expert.index} ({expert.usage:.1%})" for expert in dead)
    stronger = max(0.1, 2 * config.gate.balance)
    return (
        f"hardly used: expert {names} of {len(experts)}; they cost bytes and answer nothing: "
        f"try --num-experts {max(2, len(experts) - len(dead))} or --load-balancing-coef {stronger:g}",
    )
