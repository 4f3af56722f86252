"""What a user passes to the predictor -> the float32 rows that the graph takes, checked.

Layer: device. Imports NumPy and ``moe_edge`` modules of the device side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from moe_edge.errors import DataError
from moe_edge.manifest import Manifest, Role
from moe_edge.schema import ColumnKind

if TYPE_CHECKING:
    import numpy.typing as npt

FloatRows: TypeAlias = "npt.NDArray[np.float32]"

_FLOAT32 = np.dtype(np.float32)


class InputRows:
    """Reads and checks rows for one model."""

    def __init__(self, manifest: Manifest) -> None:
        """Take what the manifest says about the model's input."""
        self._schema = manifest.schema
        self._shape = tuple(manifest.input_shape)
        self._num_values = math.prod(self._shape)
        self._one_row = ((1, *self._shape), self._shape)
        self._takes_missing = any(part.role is Role.PREPROCESS for part in manifest.parts)
        self._codes = [
            (index, column)
            for index, column in enumerate(manifest.schema.columns)
            if column.kind is ColumnKind.CATEGORICAL and len(self._shape) == 1
        ]

    def read(self, x: Any) -> FloatRows:
        """Turn ``x`` into checked rows.

        Args:
            x: One row or several: numbers (array or nested lists; categories as codes), mappings from column name to
                value, rows of raw texts, or a pandas data frame.

        Returns:
            float32 (n, *input_shape), contiguous.

        Raises:
            DataError: If the shape, the kind, or a value isn't what the model takes.
        """
        if type(x) is np.ndarray and x.dtype is _FLOAT32 and x.shape in self._one_row:
            row = x if x.ndim > len(self._shape) else x[None]
            if not row.flags.c_contiguous:
                row = np.ascontiguousarray(row)
            # A search through the flags' bytes takes a third of the time of all().
            if b"\0" not in np.isfinite(row).tobytes():
                if self._codes:
                    self._check_codes(row)
                return row
        array = self._as_array(x)
        if array.shape == self._shape or (array.ndim == 1 and array.shape == (self._num_values,)):
            array = array[None]
        # Images and windows count as flat rows too: a model trained on a table of them takes their values in order.
        flat = array.ndim >= 2 and len(array) > 0 and array[0].size == self._num_values
        if array.shape[1:] != self._shape and not flat:
            if array.size == 0 and array.ndim == 1:
                array = np.empty((0, *self._shape), dtype=np.float32)
            else:
                raise DataError(self._shape_message(array.shape))
        rows = array.reshape(len(array), *self._shape)
        if not np.isfinite(rows).all():
            self._refuse_values(rows)
        if self._codes:
            self._check_codes(rows)
        return np.ascontiguousarray(rows)

    def _as_array(self, x: Any) -> FloatRows:
        """Numbers as float32; texts, mappings and data frames through the schema."""
        if isinstance(x, np.ndarray) and x.dtype == np.float32:
            return x
        if hasattr(x, "columns") and hasattr(x, "to_dict"):
            # Nullable dtypes have their own missing value, which float() doesn't know.
            x = x.astype(object).where(x.notna(), None).to_dict("records")
            if not x:
                return np.empty((0, *self._shape), dtype=np.float32)
        if isinstance(x, np.ndarray) and x.dtype.kind in "OUS":
            x = x.astype(str).tolist() if x.dtype.kind == "S" else x.tolist()
        if isinstance(x, Mapping):
            return self._schema.encode_rows([x])
        if isinstance(x, (list, tuple)) and x:
            if isinstance(x[0], Mapping):
                self._check_mappings(x)
                return self._schema.encode_rows(x)
            if any(cell is None or isinstance(cell, str) for cell in x):
                return self._schema.encode_rows([x])
            if any(
                isinstance(row, (list, tuple)) and any(cell is None or isinstance(cell, str) for cell in row)
                for row in x
            ):
                return self._schema.encode_rows(x)
        return self._as_numbers(x)

    def _as_numbers(self, x: Any) -> FloatRows:
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise DataError(f"expected rows of equal length, {self._shape_words()}, got rows that differ") from error
        if array.dtype.kind not in "fiub" or isinstance(x, (str, bytes)):
            raise DataError(
                f"expected numbers, or raw texts by column, got {type(x).__name__} of dtype {array.dtype}; "
                "pass an array, a list of rows, or a mapping {column: value}"
            )
        with np.errstate(over="ignore"):
            return array.astype(np.float32)

    def _check_mappings(self, rows: Any) -> None:
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, Mapping):
                raise DataError(f"row {number}: expected a mapping like the first row, got {type(row).__name__}")

    def _refuse_values(self, rows: FloatRows) -> None:
        """Infinity never, NaN only where the graph replaces missing values."""
        bad = np.isinf(rows) if self._takes_missing else ~np.isfinite(rows)
        if not bad.any():
            return
        place = np.argwhere(bad)[0]
        value = rows[tuple(place)]
        column = self._schema.names[place[1]] if rows.ndim == 2 and place[1] < len(self._schema.names) else None
        where = f"column {column!r}" if column is not None else f"position {tuple(int(i) for i in place[1:])}"
        advice = "use NaN for a missing value" if self._takes_missing else "this model takes no missing values: fill it"
        raise DataError(f"row {int(place[0]) + 1}, {where}: expected a finite float32 number, got {value}; {advice}")

    def _check_codes(self, rows: FloatRows) -> None:
        """Categories given as numbers are codes: whole, and known."""
        for index, column in self._codes:
            values = rows[:, index]
            known = np.isnan(values) | (
                (values >= 0) & (values < len(column.categories)) & (values == np.floor(values))
            )
            if not known.all():
                row = int(np.argmin(known))
                raise DataError(
                    f"row {row + 1}, column {column.name!r}: expected a category's code in "
                    f"[0, {len(column.categories)}), got {values[row]:g}; pass the text itself to have it looked up"
                )

    def _shape_words(self) -> str:
        inner = ", ".join(map(str, self._shape))
        return f"(n, {inner}) or one row ({inner}{',' if len(self._shape) == 1 else ''})"

    def _shape_message(self, shape: tuple[int, ...]) -> str:
        message = f"expected rows of shape {self._shape_words()}, got {shape}"
        names = self._schema.names
        if len(self._shape) == 1 and names[0] != "x0":
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            message += f"; the columns are {shown}"
        return message
