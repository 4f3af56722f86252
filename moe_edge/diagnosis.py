"""How well a mixture divides its work: use, sharpness, who is best where, each expert's score, and advice.

n is the number of rows, E of experts, K of outputs or classes.
Layer: shared. Imports NumPy and ``moe_edge.task``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from moe_edge.task import Task

COLLAPSED = 0.1
"""An expert whose mean weight is below this share of an even one, 1 / E, does next to nothing."""
BINS = 20
BEYOND_NOISE = 2
"""Standard errors from which a difference counts as more than chance."""
_MOST_GROUPS = 60


@dataclass(frozen=True, kw_only=True)
class ExpertScores:
    """Scores against the target; accuracy in [0, 1], or RMSE in the target's unit over all outputs.

    Attributes:
        metric: ``accuracy`` or ``rmse``.
        mixture: The mixture's.
        alone: Each expert's on all rows.
        own_rows: Each expert's on the rows where the gate gives it most; None where there are none.
        mixture_there: The mixture's on those same rows.
        oracle: If for each row the best expert answered.
        gate_picks_best: Share of rows where no expert is better than the one that the gate gives most.
        best_rows: [chosen][best]: rows by the gate's expert and the best one (equally good counts as chosen).
        better_alone: The best expert, if alone it errs less than the mixture by more than two standard errors of the
            difference, row by row; None where the difference may be chance.
    """

    metric: str
    mixture: float
    alone: tuple[float, ...]
    own_rows: tuple[float | None, ...]
    mixture_there: tuple[float | None, ...]
    oracle: float
    gate_picks_best: float
    best_rows: tuple[tuple[int, ...], ...]
    better_alone: int | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What rows reveal of a mixture.

    Attributes:
        num_rows: n.
        usage: Each expert's mean weight; sums to 1.
        strongest_rows: Rows that give each expert the largest weight.
        groups: Classes, or quarters of the first output; empty without a target.
        usage_by_group: Each group's mean weights; as ``groups``.
        mean_entropy: Mean entropy of a row's weights, in nats; at most log E.
        entropy_histogram: Rows by entropy / log E, in ``BINS`` equal bins of [0, 1].
        margin_histogram: Rows by difference of the two largest weights, in ``BINS`` equal bins of [0, 1].
        effective_experts: exp of the entropy of the mean weights: experts in use over all, in [1, E].
        effective_per_row: Mean of exp of each row's entropy: experts that a row needs, in [1, E].
        collapsed: Experts with next to no weight.
        advice: What to change, in sentences; empty if nothing.
        scores: Against the target; None without one, or where experts can't run alone.
        scores_missing: Why there are no scores, empty if there are.
    """

    num_rows: int
    usage: tuple[float, ...]
    strongest_rows: tuple[int, ...]
    groups: tuple[str, ...]
    usage_by_group: tuple[tuple[float, ...], ...]
    mean_entropy: float
    entropy_histogram: tuple[int, ...]
    margin_histogram: tuple[int, ...]
    effective_experts: float
    effective_per_row: float
    collapsed: tuple[int, ...]
    advice: tuple[str, ...]
    scores: ExpertScores | None
    scores_missing: str = ""


def diagnose(
    weights: npt.NDArray[np.floating],
    *,
    task: Task,
    labels: Sequence[str],
    target: npt.NDArray[np.generic] | None = None,
    prediction: npt.NDArray[np.floating] | None = None,
    expert_answers: npt.NDArray[np.floating] | None = None,
    scores_missing: str = "",
) -> Diagnosis:
    """Look at the gate's weights and, with a target, at who was right.

    Args:
        weights: (n, E), n >= 1, E >= 2; rows that sum to 1.
        task: Classification or regression.
        labels: Names of the classes, or of the outputs.
        target: Class codes (n,), or numbers (n, K).
        prediction: The mixture's answers (n, K).
        expert_answers: Each expert's own answers (n, E, K).
        scores_missing: Why there are no ``expert_answers``.

    Raises:
        ValueError: If the weights' shape is wrong.
    """
    if weights.ndim != 2 or not len(weights) or weights.shape[1] < 2:
        raise ValueError(f"expected routing weights (n, E) with n >= 1 and E >= 2, got {weights.shape}")
    gate = weights.astype(np.float64)
    total, experts = gate.shape
    usage = gate.mean(axis=0)
    entropies = _entropy(gate)
    ordered = np.sort(gate, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    groups, by_group = _by_group(gate, task, labels, target)
    scores = None
    missing = scores_missing or ("the table has no target column" if target is None else "")
    if target is not None and prediction is not None and expert_answers is not None:
        scores, missing = _score(gate, task, target, prediction, expert_answers), ""
    collapsed = tuple(np.flatnonzero(usage < COLLAPSED / experts).tolist())
    return Diagnosis(
        num_rows=total,
        usage=tuple(usage.tolist()),
        strongest_rows=tuple(np.bincount(gate.argmax(axis=1), minlength=experts).tolist()),
        groups=groups,
        usage_by_group=by_group,
        mean_entropy=float(entropies.mean()),
        entropy_histogram=_histogram(entropies / np.log(experts)),
        margin_histogram=_histogram(margins),
        effective_experts=float(np.exp(_entropy(usage[None])[0])),
        effective_per_row=float(np.exp(entropies).mean()),
        collapsed=collapsed,
        advice=_advise(collapsed, experts, float(np.exp(entropies).mean()), scores),
        scores=scores,
        scores_missing=missing,
    )


def _entropy(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Entropy of each row in nats; 0 log 0 is 0."""
    logs = np.log(np.where(weights > 0, weights, 1.0))
    return np.asarray(-(weights * logs).sum(axis=1), dtype=np.float64)


def _histogram(values: npt.NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(np.histogram(np.clip(values, 0, 1), bins=BINS, range=(0, 1))[0].tolist())


def _by_group(
    gate: npt.NDArray[np.float64], task: Task, labels: Sequence[str], target: npt.NDArray[np.generic] | None
) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    if target is None:
        return (), ()
    if task is Task.CLASSIFICATION:
        names, codes = list(labels), np.asarray(target, dtype=np.int64)
    else:
        first = np.asarray(target, dtype=np.float64).reshape(len(gate), -1)[:, 0]
        cuts = np.quantile(first, [0, 0.25, 0.5, 0.75, 1])
        codes = np.searchsorted(cuts[1:-1], first, side="right")
        names = [f"{labels[0]}: {low:.4g} to {high:.4g}" for low, high in pairwise(cuts)]
    present = [code for code in range(len(names)) if (codes == code).any()][:_MOST_GROUPS]
    return (
        tuple(names[code] for code in present),
        tuple(tuple(gate[codes == code].mean(axis=0).tolist()) for code in present),
    )


def _score(
    gate: npt.NDArray[np.float64],
    task: Task,
    target: npt.NDArray[np.generic],
    prediction: npt.NDArray[np.floating],
    answers: npt.NDArray[np.floating],
) -> ExpertScores:
    total, experts = gate.shape
    if task is Task.CLASSIFICATION:
        codes = np.asarray(target, dtype=np.int64)
        right = (answers.argmax(axis=2) == codes[:, None]).astype(np.float64)
        # Among experts that are equally right the one surer of the true class is no better: labels count.
        errors, mixture_errors = 1 - right, (prediction.argmax(axis=1) != codes).astype(np.float64)
    else:
        truth = np.asarray(target, dtype=np.float64).reshape(total, -1)
        errors = ((answers.astype(np.float64) - truth[:, None]) ** 2).mean(axis=2)
        mixture_errors = ((prediction.astype(np.float64) - truth) ** 2).mean(axis=1)

    def summary(e: npt.NDArray[np.float64]) -> float:
        return 1 - float(e.mean()) if task is Task.CLASSIFICATION else float(np.sqrt(e.mean()))

    chosen = gate.argmax(axis=1)
    at_chosen = errors[np.arange(total), chosen]
    best = np.where(at_chosen <= errors.min(axis=1), chosen, errors.argmin(axis=1))
    counts = np.zeros((experts, experts), dtype=np.int64)
    np.add.at(counts, (chosen, best), 1)
    own = [chosen == index for index in range(experts)]
    return ExpertScores(
        metric="accuracy" if task is Task.CLASSIFICATION else "rmse",
        mixture=summary(mixture_errors),
        alone=tuple(summary(errors[:, index]) for index in range(experts)),
        own_rows=tuple(summary(errors[rows, index]) if rows.any() else None for index, rows in enumerate(own)),
        mixture_there=tuple(summary(mixture_errors[rows]) if rows.any() else None for rows in own),
        oracle=summary(errors.min(axis=1)),
        gate_picks_best=float((best == chosen).mean()),
        best_rows=tuple(tuple(row) for row in counts.tolist()),
        better_alone=_better_alone(errors, mixture_errors),
    )


def _better_alone(errors: npt.NDArray[np.float64], mixture: npt.NDArray[np.float64]) -> int | None:
    best = int(errors.mean(axis=0).argmin())
    gain = mixture - errors[:, best]
    noise = gain.std() / np.sqrt(len(gain))
    return best if gain.mean() > BEYOND_NOISE * noise else None


def _advise(collapsed: tuple[int, ...], experts: int, per_row: float, scores: ExpertScores | None) -> tuple[str, ...]:
    advice = []
    if collapsed:
        names = ", ".join(f"expert_{index}" for index in collapsed)
        advice.append(
            f"{names} collapsed: the gate gives less than {COLLAPSED / experts:.1%} of the weight. Train again with "
            f"a stronger load-balancing loss, or with {experts - len(collapsed)} experts, which costs fewer bytes."
            if experts - len(collapsed) > 1
            else f"{names} collapsed: one expert does all the work. Train again with a stronger load-balancing loss, "
            "start from clusters, or use one dense network, which costs fewer bytes."
        )
    if per_row > 0.8 * experts:
        advice.append(
            f"The gate hardly chooses: a row spreads over {per_row:.1f} of {experts} experts, so routing saves little. "
            "Row entropy in training sharpens it."
        )
    if scores is not None:
        best = scores.better_alone
        if best is not None:
            advice.append(
                f"expert_{best} alone is better than the mixture on these rows ({scores.metric} "
                f"{scores.alone[best]:.4g} against {scores.mixture:.4g}, beyond chance): one dense network of its size "
                "may do."
            )
    return tuple(advice)
