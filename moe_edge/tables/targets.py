"""The target column: which task it asks for, which labels it names, and its codes or numbers.

Layer: shared, device-safe. Imports NumPy, never Keras.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import DataError
from moe_edge.schema import Column
from moe_edge.tables.columns import encode_column, is_missing, natural_order
from moe_edge.tables.table_files import Cells

MAX_INTEGER_CLASSES = 20
"""A target of integers with more different values than this is taken as a quantity."""
MIN_CLASS_ROWS = 3
"""One row of each class for training, validation and test."""


def check_known(name: str, cells: Cells, *, role: str = "target") -> None:
    """Refuse a target, or a column of another role, with gaps.

    Raises:
        DataError: With the number of rows without a value.
    """
    if isinstance(cells, np.ndarray):
        gaps = int(np.isnan(cells).sum()) if cells.dtype.kind == "f" else 0
    else:
        gaps = sum(is_missing(cell) for cell in cells)
    if gaps:
        raise DataError(
            f"{role} {name!r}: expected a value in every row, got none in {gaps} of {len(cells)}; remove those rows"
        )


def infer_task(cells: Cells) -> Task:
    """Classification for texts and for few different whole numbers, else regression."""
    values: set[Any] = set(cells.tolist() if isinstance(cells, np.ndarray) else cells)
    try:
        numbers = {float(value) for value in values if not isinstance(value, bool)}
    except (TypeError, ValueError):
        return Task.CLASSIFICATION
    if all(number.is_integer() for number in numbers) and len(numbers) <= MAX_INTEGER_CLASSES:
        return Task.CLASSIFICATION
    return Task.REGRESSION


def label_text(cell: Any) -> str:
    """The name of a class: texts without outer blanks, whole numbers without a fraction (``3.0`` is ``3``)."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.strip() if isinstance(cell, str) else str(cell)


def find_labels(name: str, cells: Cells) -> tuple[str, ...]:
    """Collect the classes, numbers by value, then texts by alphabet.

    Raises:
        DataError: If there is only one class, or one has too few rows to be split.
    """
    counts = Counter(_texts(cells))
    if len(counts) < 2:
        raise DataError(
            f"target {name!r}: expected at least two classes, got only {next(iter(counts))!r}; choose another --target"
        )
    rare = [label for label, count in counts.items() if count < MIN_CLASS_ROWS]
    if rare:
        advice = "; is it a quantity? then use --task regression" if _numbers(rare) else ""
        raise DataError(
            f"target {name!r}: expected at least {MIN_CLASS_ROWS} rows of each class (training, validation, test), got "
            f"{counts[rare[0]]} of {rare[0]!r}"
            + (f" and {len(rare) - 1} more such classes" if len(rare) > 1 else "")
            + "; remove or merge them"
            + advice
        )
    return tuple(sorted(counts, key=natural_order))


def encode_labels(name: str, cells: Cells, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Turn class names into codes, int64 (n,).

    Raises:
        DataError: For a label that isn't among ``labels``, with its row.
    """
    codes = {label: code for code, label in enumerate(labels)}
    encoded = np.empty(len(cells), dtype=np.int64)
    for row, text in enumerate(_texts(cells)):
        code = codes.get(text)
        if code is None:
            # The same class, saved as 3 in one table and as 3.0 in another.
            code = codes.get(label_text(float(text))) if _numbers([text]) else None
        if code is None:
            close = get_close_matches(text, list(labels), n=1)
            known = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(map(repr, labels[:8]))
            raise DataError(f"row {row + 1}, target {name!r}: expected a label seen in training, got {text!r}; {known}")
        encoded[row] = code
    return encoded


def encode_quantities(names: Sequence[str], columns: Sequence[Cells]) -> npt.NDArray[np.float32]:
    """Turn the target columns of a regression into float32 (n, K).

    Raises:
        DataError: If a value is no number, or a column never changes.
    """
    return np.stack(
        [encode_column(Column(name=name), cells) for name, cells in zip(names, columns, strict=True)], axis=1
    )


def check_varies(names: Sequence[str], target: npt.NDArray[np.float32]) -> None:
    """Refuse a quantity that never changes.

    Raises:
        DataError: With its name and its only value.
    """
    for name, column in zip(names, target.T, strict=True):
        if column.min() == column.max():
            raise DataError(f"target {name!r}: expected values that differ, got {column[0]:g} in every row")


def _texts(cells: Cells) -> list[str]:
    return [label_text(cell) for cell in (cells.tolist() if isinstance(cells, np.ndarray) else cells)]


def _numbers(texts: Sequence[str]) -> bool:
    try:
        return all(math.isfinite(float(text)) for text in texts)
    except ValueError:
        return False
