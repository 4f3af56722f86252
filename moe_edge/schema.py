"""The feature schema: the table's columns, their categories, and the labels, from training to the device.

A device is given raw rows. This module turns their texts into the float32 row that the graph takes: numbers as they
are, categories as codes, missing values as NaN (imputation and normalisation are in the graph).
Layer: shared. Imports NumPy and the standard library.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_edge.task import Task

if TYPE_CHECKING:
    import numpy.typing as npt
from moe_edge.errors import DataError

MISSING_TOKENS = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?")
"""Texts that mean "no value", on the desktop and on the device alike."""


class ColumnKind(str, enum.Enum):
    """How a column's values are read."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One feature column.

    Attributes:
        name: The column's name in the table.
        kind: Numeric, or categorical with ``categories``.
        categories: The texts seen in training, in code order; code i means ``categories[i]``.
        minimum: Smallest value seen in training (numeric columns), for messages and reports.
        maximum: Largest value seen in training.
        missing_share: Share of training rows without a value, in [0, 1].
    """

    name: str
    kind: ColumnKind = ColumnKind.NUMERIC
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    missing_share: float = 0.0

    def __post_init__(self) -> None:
        if (self.kind is ColumnKind.CATEGORICAL) != bool(self.categories):
            raise ValueError(f"column {self.name!r}: expected categories for a categorical column and for no other")

    def encode(self, value: Any, *, row: int) -> float:
        """Turn one cell into the float that the graph takes; NaN when it is missing.

        Args:
            value: A number, a text, or None.
            row: The row's number, counted from 1, for messages.

        Raises:
            DataError: If a number can't be read, is infinite, or a category is unknown.
        """
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return math.nan
        if isinstance(value, str):
            value = value.strip()
            if value in MISSING_TOKENS and value not in self.categories:
                return math.nan
        if self.kind is ColumnKind.CATEGORICAL:
            text = str(value)
            try:
                return float(self.categories.index(text))
            except ValueError:
                close = _closest(text, self.categories)
                known = f"did you mean {close!r}?" if close is not None else f"known: {_short(self.categories)}"
                raise DataError(
                    f"row {row}, column {self.name!r}: expected a category seen in training, got {text!r}; {known}"
                ) from None
        try:
            if isinstance(value, str) and "_" in value:
                raise ValueError("float() takes 1_000, which no table means as a number")
            number = float(value)
        except (TypeError, ValueError):
            raise DataError(f"row {row}, column {self.name!r}: expected a number, got {value!r}") from None
        if math.isinf(number) or abs(number) > float(np.finfo(np.float32).max):
            raise DataError(
                f"row {row}, column {self.name!r}: expected a finite float32 number, got {value!r}; "
                "correct it, or leave the cell empty for a missing value"
            )
        return number


@dataclass(frozen=True, kw_only=True)
class FeatureSchema:
    """The columns of a table in the order in which the model takes them, the target and its labels.

    Attributes:
        columns: The feature columns, at least one, names unique.
        target: Name of the target column (for a regression with several outputs, their names joined by a comma).
        task: Classification or regression.
        labels: Names of the classes in output order; of the outputs for a regression.
    """

    columns: tuple[Column, ...]
    target: str
    task: Task
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("expected at least one feature column, got none")
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"expected unique column names, got {names}")

    @property
    def names(self) -> tuple[str, ...]:
        """The feature columns' names, in model order."""
        return tuple(column.name for column in self.columns)

    def encode_rows(self, rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]]) -> npt.NDArray[np.float32]:
        """Turn raw rows into what the graph takes.

        Args:
            rows: Mappings from column name to value (other keys are ignored), or sequences in model order.

        Returns:
            float32, shape (len(rows), number of columns); NaN where a value is missing.

        Raises:
            DataError: If a column is missing, a row has the wrong length, or a value can't be read.
        """
        encoded = np.empty((len(rows), len(self.columns)), dtype=np.float32)
        for index, row in enumerate(rows):
            if isinstance(row, Mapping):
                self.check_columns(row.keys())
                cells = [row[name] for name in self.names]
            else:
                cells = list(row)
                if len(cells) != len(self.columns):
                    raise DataError(
                        f"row {index + 1}: expected {len(self.columns)} values ({_short(self.names)}), got {len(cells)}"
                    )
            encoded[index] = [
                column.encode(cell, row=index + 1) for column, cell in zip(self.columns, cells, strict=True)
            ]
        return encoded

    def check_columns(self, names: Any) -> None:
        """Refuse a table that lacks a feature column.

        Raises:
            DataError: With the missing names, the names that came, and a guess at a misspelling.
        """
        came = [str(name) for name in names]
        missing = [name for name in self.names if name not in set(came)]
        if missing:
            close = _closest(missing[0], came)
            guess = f"; is {close!r} meant to be {missing[0]!r}?" if close is not None else ""
            raise DataError(
                f"missing column{'s' if len(missing) > 1 else ''} {_short(missing)}, {len(missing)} of the model's "
                f"{len(self.columns)}; got {_short(came)}{guess}"
            )


def numbered_schema(num_features: int, num_outputs: int, task: Task) -> FeatureSchema:
    """A schema for arrays without names: columns ``x0``, ``x1``, ..., labels ``0``, ``1``, ..."""
    return FeatureSchema(
        columns=tuple(Column(name=f"x{index}") for index in range(num_features)),
        target="y",
        task=task,
        labels=tuple(str(index) for index in range(num_outputs)),
    )


def _closest(text: str, known: Sequence[str]) -> str | None:
    """The known text that ``text`` may be a misspelling of."""
    from difflib import get_close_matches  # only mistakes pay for it

    return next(iter(get_close_matches(text, known, n=1)), None)


def _short(names: Sequence[str], limit: int = 8) -> str:
    """List a few names and say how many more there are."""
    shown = ", ".join(repr(name) for name in list(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
