"""Which rows train, which choose, which are held out: stratified, seeded, or whole groups at a time.

Layer: desktop (training). Imports NumPy, never Keras.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import DataError
from moe_edge.tables.dataset import Dataset

MIN_ROWS = 6
"""Two rows for each part, or three of each of two classes: with fewer nothing can be trained."""
FEW_HELD_OUT = 20
"""With fewer rows held out than this, one row is more than 5 points of accuracy."""
FEW_FOR_AN_EXPERT = 10
"""With fewer training rows an expert than this, an expert learns rows by heart."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Row numbers of the three parts, each sorted, none shared.

    Attributes:
        train: int64, rows that the weights are fitted to.
        validation: int64, rows that choose the epoch.
        test: int64, rows held out until the end.
        fingerprint: Of the dataset that was split.
    """

    train: Rows
    validation: Rows
    test: Rows
    fingerprint: str

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            rows = getattr(self, name)
            if rows.dtype != np.int64 or rows.ndim != 1:
                raise ValueError(f"{name}: expected int64 row numbers, got {rows.dtype} of shape {rows.shape}")
        rows = np.concatenate([self.train, self.validation, self.test])
        if len(np.unique(rows)) != len(rows) or (len(rows) and rows.min() < 0):
            raise ValueError("expected row numbers from 0 that belong to one part each")


def split_dataset(dataset: Dataset, *, test_share: float = 0.2, validation_share: float = 0.15, seed: int = 0) -> Split:
    """Split rows into training, validation and test.

    Classes keep their shares, each class has rows in all parts. A dataset with groups is split by whole groups.

    Args:
        dataset: The rows, with their target.
        test_share: Share of all rows held out, in (0, 1).
        validation_share: Share of the rest that chooses the epoch, in (0, 1).
        seed: Equal seeds give equal splits.

    Raises:
        DataError: If there are too few rows or groups, or a class has no training row.
        ValueError: If a share is outside (0, 1).
    """
    for name, share in (("test_share", test_share), ("validation_share", validation_share)):
        if not 0 < share < 1:
            raise ValueError(f"expected 0 < {name} < 1, got {share}")
    target = dataset.require_target()
    if dataset.num_rows < MIN_ROWS:
        raise DataError(
            f"{dataset.source}: expected at least {MIN_ROWS} rows for training, validation and test, "
            f"got {dataset.num_rows}; bring more rows, hundreds at best"
        )
    random = np.random.default_rng(seed)
    everything = np.arange(dataset.num_rows, dtype=np.int64)
    codes = target if dataset.schema.task is Task.CLASSIFICATION else np.zeros(dataset.num_rows, dtype=np.int64)
    if dataset.groups is not None:
        rest, test = _take_groups(everything, dataset.groups, test_share, random)
        train, validation = _take_groups(rest, dataset.groups, validation_share, random)
        _check_classes(dataset, train)
    else:
        rest, test = _take_rows(everything, codes, test_share, random, keep=2)
        train, validation = _take_rows(rest, codes, validation_share, random, keep=1)
    if not len(train) or not len(validation) or not len(test):
        raise DataError(
            f"{dataset.source}: expected enough rows for training, validation and test, got {dataset.num_rows}; "
            "bring more rows"
        )
    return Split(train=train, validation=validation, test=test, fingerprint=dataset.fingerprint)


def few_rows_warnings(split: Split, num_experts: int) -> tuple[str, ...]:
    """One line when the parts are so small that the scores say little."""
    wanted = FEW_FOR_AN_EXPERT * num_experts
    if len(split.test) >= FEW_HELD_OUT and len(split.train) >= wanted:
        return ()
    return (
        f"few rows: {len(split.train)} train {num_experts} experts and {len(split.test)} are held out, so the scores "
        f"say little; bring at least {wanted} for training and {FEW_HELD_OUT} to hold out, or take fewer experts",
    )


def _take_rows(
    rows: Rows, codes: npt.NDArray[np.int64], share: float, random: np.random.Generator, *, keep: int
) -> tuple[Rows, Rows]:
    """Take ``share`` of each class's rows, at least one, and leave at least ``keep``; returns (rest, taken)."""
    classes, counts = np.unique(codes[rows], return_counts=True)
    quota = counts * share
    sizes = np.floor(quota).astype(np.int64)
    # Largest remainder: the parts have the size asked for, whatever the number of classes.
    short = max(0, round(len(rows) * share) - int(sizes.sum()))
    sizes[np.argsort(sizes - quota, kind="stable")[:short]] += 1
    sizes = np.clip(sizes, 1, np.maximum(counts - keep, 0))
    taken = [random.permutation(rows[codes[rows] == label])[:size] for label, size in zip(classes, sizes, strict=True)]
    chosen = np.sort(np.concatenate(taken)).astype(np.int64)
    return np.setdiff1d(rows, chosen, assume_unique=True).astype(np.int64), chosen


def _take_groups(
    rows: Rows, groups: npt.NDArray[np.int64], share: float, random: np.random.Generator
) -> tuple[Rows, Rows]:
    """Take whole groups in random order until they hold about ``share`` of the rows; returns (rest, taken)."""
    names, counts = np.unique(groups[rows], return_counts=True)
    if len(names) < 2:
        raise DataError("expected at least three groups for training, validation and test; leave --group out")
    order = random.permutation(len(names))
    reached = np.cumsum(counts[order])
    # The number of groups whose rows come closest to the share; one at least is taken, one at least is left.
    wanted = int(np.argmin(np.abs(reached - share * len(rows)))) + 1
    chosen = names[order[: min(wanted, len(names) - 1)]]
    taken = np.isin(groups[rows], chosen)
    return rows[~taken], rows[taken]


def _check_classes(dataset: Dataset, train: Rows) -> None:
    if dataset.schema.task is not Task.CLASSIFICATION:
        return
    absent = np.setdiff1d(np.arange(len(dataset.schema.labels)), dataset.require_target()[train])
    if len(absent):
        label = dataset.schema.labels[int(absent[0])]
        raise DataError(
            f"expected every class among the training groups, but {label!r} is only in groups held out; "
            "try another --seed, smaller --test-share, or leave --group out"
        )
