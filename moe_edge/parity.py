"""Parity: does the shipped file answer like the trained model, on the same rows?

Pure functions on the answers of both. Intervals say how well the sample knows each score; whether the file passes is
decided row by row (``moe_edge.thresholds``), because both models see the *same* rows.
Layer: shared, device-safe. Imports NumPy, ``moe_edge.config`` and ``moe_edge.errors``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import DataError

Array = npt.NDArray[np.float64]

Z_95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""
COVERAGES = (50, 90)
"""Percent of a predicted distribution inside the central intervals whose coverage is counted."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric on a sample of rows, with the 95 % interval that the sample's size leaves open."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class MetricPair:
    """One metric of both models on the same rows.

    Attributes:
        name: ``accuracy`` (share, in [0, 1]), ``rmse`` (the target's unit), ``r2``; of Gaussian mixtures ``nll``, the
            mean negative log-likelihood of all outputs together (nats, in the targets' units), ``coverage_50`` and
            ``coverage_90``, the share of targets inside the predicted central interval.
        output: The output that it is for (regression), empty for accuracy and nll.
        keras: The trained model's.
        tflite: The shipped file's.
    """

    name: str
    output: str
    keras: Score
    tflite: Score


@dataclass(frozen=True, kw_only=True)
class WorstRow:
    """A row on which the two answers differ most.

    Attributes:
        row: Its number in the table, counted from 1.
        abs_error: Largest absolute difference over the outputs; NaN when an answer isn't finite.
        keras: The trained model's answer: a label, or the outputs.
        tflite: The shipped file's.
        target: The true label or outputs; ``-`` where they aren't known.
        same_expert: Whether both gates prefer the same expert; if not, the error is a route flip.
    """

    row: int
    abs_error: float
    keras: str
    tflite: str
    target: str
    same_expert: bool


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """Both models on the same rows.

    Attributes:
        task: Classification or regression.
        num_rows: Rows compared.
        metrics: Accuracy, or RMSE and R² for each output, then likelihood and coverage of Gaussian mixtures; none where
            the targets aren't known.
        correct_rows_lost: Rows answered rightly by Keras less those by the file; None for a regression, and without
            targets.
        agreeing_rows: Rows on which both give the same label; None for a regression.
        agreement: ``agreeing_rows / num_rows``; None for a regression.
        max_abs_error: Largest difference of a probability (of an output, in its unit); NaN if an answer isn't finite.
        mean_abs_error: Mean of the differences; NaN if an answer isn't finite.
        keras_usage: Mean gate weight of each expert in Keras.
        tflite_usage: The same in the file.
        routing_agreement: Share of rows for which both gates prefer the same expert.
        route_flip_error: Mean absolute error of the rows whose preferred expert flipped; None when none did.
        numeric_error: Mean absolute error of the rows whose preferred expert stayed; None when none did.
        keras_non_finite_rows: Rows for which Keras gave NaN or infinity.
        tflite_non_finite_rows: Rows for which the file did.
        worst_rows: The rows that differ most, worst first.
    """

    task: Task
    num_rows: int
    metrics: tuple[MetricPair, ...]
    correct_rows_lost: int | None
    agreeing_rows: int | None
    agreement: float | None
    max_abs_error: float
    mean_abs_error: float
    keras_usage: tuple[float, ...]
    tflite_usage: tuple[float, ...]
    routing_agreement: float
    route_flip_error: float | None
    numeric_error: float | None
    keras_non_finite_rows: int
    tflite_non_finite_rows: int
    worst_rows: tuple[WorstRow, ...]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one model answered.

    Attributes:
        prediction: Shape (rows, K): one probability a class, or one number an output.
        routing_weights: Shape (rows, num_experts), each row sums to 1.
        log_density: Of a Gaussian mixture, shape (rows,): logarithm of the density at the true outputs.
        probability_below: Of a Gaussian mixture, shape (rows, K): its cumulative distribution at the true outputs.
    """

    prediction: npt.ArrayLike
    routing_weights: npt.ArrayLike
    log_density: npt.ArrayLike | None = None
    probability_below: npt.ArrayLike | None = None


def compare_answers(
    keras: Answers,
    tflite: Answers,
    targets: npt.ArrayLike | None,
    *,
    task: Task,
    labels: tuple[str, ...],
    row_numbers: npt.ArrayLike | None = None,
    num_worst: int = 5,
) -> ParityReport:
    """Compare the answers of the trained model and of the shipped file to the same rows.

    A row with NaN or infinity in an answer counts as wrong and as disagreeing; it is never left out.

    Args:
        keras: The trained model's answers.
        tflite: The shipped file's.
        targets: Class codes, shape (rows,), or the true outputs, shape (rows, K); None where they aren't known: then
            there are no metrics.
        task: Classification or regression.
        labels: Names of the K classes or outputs.
        row_numbers: Each row's number in the table, counted from 1; 1, 2, ... by default.
        num_worst: How many of the worst rows to keep.

    Raises:
        DataError: If there are no rows, or shapes don't fit each other.
    """
    predictions = _pair(keras.prediction, tflite.prediction, "prediction", columns=len(labels))
    routings = _pair(keras.routing_weights, tflite.routing_weights, "routing_weights")
    num_rows = len(predictions[0])
    wanted = (num_rows, 1 if task is Task.CLASSIFICATION else len(labels))
    truth = np.full(wanted, np.nan) if targets is None else np.asarray(targets, dtype=np.float64)
    truth = truth[:, None] if truth.ndim == 1 else truth
    if not num_rows or truth.shape != wanted or len(routings[0]) != num_rows:
        raise DataError(
            f"expected at least one row and targets of shape {wanted}, got {num_rows} rows, targets of shape "
            f"{truth.shape}, routing weights of shape {routings[0].shape}"
        )
    numbers = np.arange(1, num_rows + 1) if row_numbers is None else np.asarray(row_numbers)

    finite = [
        np.isfinite(p).all(axis=1) & np.isfinite(r).all(axis=1) for p, r in zip(predictions, routings, strict=True)
    ]
    with np.errstate(invalid="ignore"):
        difference = np.abs(predictions[0] - predictions[1])
    difference[~(finite[0] & finite[1])] = np.nan
    preferred = [
        np.where(ok, r.argmax(axis=1), -1 - side) for side, (ok, r) in enumerate(zip(finite, routings, strict=True))
    ]
    same_expert = preferred[0] == preferred[1]

    metrics: tuple[MetricPair, ...] = ()
    lost: int | None = None
    agreeing: int | None = None
    if task is Task.CLASSIFICATION:
        # -1 and -2: an answer that isn't finite is wrong, and agrees with nothing.
        chosen = [
            np.where(ok, p.argmax(axis=1), -1 - side)
            for side, (ok, p) in enumerate(zip(finite, predictions, strict=True))
        ]
        agreeing = int((chosen[0] == chosen[1]).sum())
        if targets is not None:
            right = [int((codes == truth[:, 0]).sum()) for codes in chosen]
            accuracies = [wilson(count, num_rows) for count in right]
            metrics = (MetricPair(name="accuracy", output="", keras=accuracies[0], tflite=accuracies[1]),)
            lost = right[0] - right[1]
        answers = [[labels[code] if code >= 0 else "not finite" for code in codes] for codes in chosen]
    else:
        if targets is not None:
            regression = (_regression_metrics(predictions, truth, k, output) for k, output in enumerate(labels))
            metrics = tuple(chain.from_iterable(regression)) + _density_metrics(keras, tflite, labels)
        answers = [[_outputs_text(row) for row in prediction] for prediction in predictions]
    true_texts = ["-"] * num_rows if targets is None else [_true_text(row, task, labels) for row in truth]

    row_errors = difference.max(axis=1)
    # Rows that aren't finite are the worst of all.
    order = np.argsort(-np.where(np.isnan(row_errors), np.inf, row_errors), kind="stable")[:num_worst]
    return ParityReport(
        task=task,
        num_rows=num_rows,
        metrics=metrics,
        correct_rows_lost=lost,
        agreeing_rows=agreeing,
        agreement=None if agreeing is None else agreeing / num_rows,
        max_abs_error=float(difference.max()),
        mean_abs_error=float(difference.mean()),
        keras_usage=tuple(routings[0].mean(axis=0).tolist()),
        tflite_usage=tuple(routings[1].mean(axis=0).tolist()),
        routing_agreement=float(same_expert.mean()),
        route_flip_error=float(difference[~same_expert].mean()) if not same_expert.all() else None,
        numeric_error=float(difference[same_expert].mean()) if same_expert.any() else None,
        keras_non_finite_rows=int((~finite[0]).sum()),
        tflite_non_finite_rows=int((~finite[1]).sum()),
        worst_rows=tuple(
            WorstRow(
                row=int(numbers[index]),
                abs_error=float(row_errors[index]),
                keras=answers[0][index],
                tflite=answers[1][index],
                target=true_texts[index],
                same_expert=bool(same_expert[index]),
            )
            for index in order
        ),
    )


def _true_text(row: Array, task: Task, labels: tuple[str, ...]) -> str:
    return labels[int(row[0])] if task is Task.CLASSIFICATION else _outputs_text(row)


def wilson(successes: int, trials: int) -> Score:
    """A share with its 95 % interval by Wilson (1927), which stays inside [0, 1] and is right near 1.

    Args:
        successes: Rows that count, in [0, trials].
        trials: Rows, at least 1.
    """
    share = successes / trials
    scale = 1 + Z_95**2 / trials
    centre = (share + Z_95**2 / (2 * trials)) / scale
    half = Z_95 * math.sqrt(share * (1 - share) / trials + Z_95**2 / (4 * trials**2)) / scale
    return Score(value=share, low=max(0.0, min(share, centre - half)), high=min(1.0, max(share, centre + half)))


def _regression_metrics(predictions: list[Array], truth: Array, k: int, output: str) -> tuple[MetricPair, MetricPair]:
    pairs = [_rmse_and_r2(prediction[:, k], truth[:, k]) for prediction in predictions]
    return (
        MetricPair(name="rmse", output=output, keras=pairs[0][0], tflite=pairs[1][0]),
        MetricPair(name="r2", output=output, keras=pairs[0][1], tflite=pairs[1][1]),
    )


def _density_metrics(keras: Answers, tflite: Answers, labels: tuple[str, ...]) -> tuple[MetricPair, ...]:
    """Likelihood and coverage; none where a side gives no distribution (int8 edges)."""
    if keras.log_density is None or tflite.log_density is None:
        return ()
    likelihoods = [_mean(-np.asarray(side.log_density, dtype=np.float64)) for side in (keras, tflite)]
    metrics = [MetricPair(name="nll", output="", keras=likelihoods[0], tflite=likelihoods[1])]
    below = _pair(keras.probability_below, tflite.probability_below, "probability_below", columns=len(labels))
    for k, output in enumerate(labels):
        for percent in COVERAGES:
            # A target lies in the central interval where its own probability does; NaN lies nowhere.
            inside = [int((np.abs(side[:, k] - 0.5) <= percent / 200).sum()) for side in below]
            shares = [wilson(count, len(below[0])) for count in inside]
            metrics.append(MetricPair(name=f"coverage_{percent}", output=output, keras=shares[0], tflite=shares[1]))
    return tuple(metrics)


def _mean(values: Array) -> Score:
    """A mean with its normal 95 % interval."""
    mean, half = float(values.mean()), Z_95 * float(values.std()) / math.sqrt(len(values))
    return Score(value=mean, low=mean - half, high=mean + half)


def _rmse_and_r2(prediction: Array, truth: Array) -> tuple[Score, Score]:
    """RMSE and R² with normal 95 % intervals.

    The mean squared error is a mean of independent terms, R² a ratio of two means, whose variance follows by
    linearisation (the delta method). Constant targets leave R² undefined: NaN.
    """
    num_rows = len(truth)
    with np.errstate(invalid="ignore", over="ignore"):
        squared = np.square(prediction - truth)
    mse = float(squared.mean())
    half = Z_95 * float(squared.std()) / math.sqrt(num_rows)
    rmse = Score(value=_sqrt(mse), low=_sqrt(max(0.0, mse - half)), high=_sqrt(mse + half))
    spread = np.square(truth - truth.mean())
    variance = float(spread.mean())
    if variance == 0:
        return rmse, Score(value=math.nan, low=math.nan, high=math.nan)
    ratio = mse / variance
    half = Z_95 * float(np.std(squared - ratio * spread)) / (variance * math.sqrt(num_rows))
    return rmse, Score(value=1 - ratio, low=1 - ratio - half, high=min(1.0, 1 - ratio + half))


def _sqrt(value: float) -> float:
    return math.sqrt(value) if math.isfinite(value) else math.nan


def _pair(
    keras: npt.ArrayLike | None, tflite: npt.ArrayLike | None, name: str, *, columns: int | None = None
) -> list[Array]:
    pair = [np.array(side, dtype=np.float64) for side in (keras, tflite)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 2 or (columns is not None and pair[0].shape[1] != columns):
        raise DataError(
            f"expected the same {name} shape (rows, {columns or 'num_experts'}) from both models, "
            f"got {pair[0].shape} from Keras and {pair[1].shape} from the .tflite; was it converted from this model?"
        )
    return pair


def _outputs_text(row: Array) -> str:
    return ", ".join(f"{value:.6g}" for value in row)
