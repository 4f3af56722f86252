"""Read a table as columns of raw cells: ``.csv``, ``.parquet``, ``.npz``, ``.npy``. No cell is interpreted here.

CSV is read as text by the standard library's reader, as on the device; what a text means is ``schema.Column``'s to say.
Layer: shared, device-safe. Imports pyarrow for Parquet only, never Keras.
"""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.errors import DataError, require

Cells = Sequence[Any] | npt.NDArray[Any]
"""One column: texts, Python values with None for "no value", or a one-dimensional array of numbers."""

SUFFIXES = (".csv", ".parquet", ".npz", ".npy")


@dataclass(frozen=True, eq=False)
class Table:
    """A table by columns.

    Attributes:
        names: Column names, unique and not empty.
        columns: The cells of each column, all of one length.
        source: What to call the table in messages.
        named: Whether the names came from the file, or were made up for an array.
        target: The column that the file itself marks as the target (``y`` of a ``.npz``), or None.
        row_shape: Shape of a row before it was laid flat, such as (8, 8) for images; None for plain columns.
    """

    names: tuple[str, ...]
    columns: tuple[Cells, ...]
    source: str
    named: bool = True
    target: str | None = None
    row_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError(f"{self.source}: expected at least one column, got none")
        seen: set[str] = set()
        for index, name in enumerate(self.names):
            if not name:
                raise DataError(
                    f"{self.source}: column {index + 1} has no name (a saved row index?); name it or remove it"
                )
            if name in seen:
                raise DataError(f"{self.source}: expected unique column names, got {name!r} twice; rename one")
            seen.add(name)
        if self.num_rows == 0:
            raise DataError(f"{self.source}: expected rows, got a table with a header only")

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return len(self.columns[0])

    def column(self, name: str) -> Cells:
        """The cells of the column ``name``."""
        return self.columns[self.names.index(name)]


def read_table(path: Path | str) -> Table:
    """Read a table by its suffix.

    Args:
        path: ``.csv`` (UTF-8, comma, header), ``.parquet``, ``.npz`` (arrays ``x`` or ``X``, and ``y``), or ``.npy``
            (columns are named ``x0``, ``x1``, ...). Rows of several dimensions are laid flat, as ``reshape`` does:
            ``x0_0``, ``x0_1``, ...

    Raises:
        DataError: If the file is missing, empty, malformed or of another kind.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz, ".npy": _read_npy}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"expected a table that ends in {', '.join(SUFFIXES)}, got {path}")
    if not path.is_file():
        raise DataError(f"expected a table, but there is no file {path}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: expected a table, got an empty file")
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error


def _read_csv(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            rows = []
            for row in reader:
                if not row:
                    continue  # a blank line, as the device's reader skips it
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: expected {len(header)} values as in the header, "
                        f"got {len(row)}"
                    )
                rows.append(row)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected UTF-8 text, got byte 0x{error.object[error.start]:02x}; save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: expected CSV, got: {error}") from error
    _check_header(header, path)
    columns: list[tuple[str, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    return Table(tuple(header), tuple(columns), str(path))


def _check_header(header: list[str], path: Path) -> None:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataError(
            f"{path}: expected values separated by commas, got the header {header[0][:60]!r}; save it with commas"
        )
    if header and all(_is_number(name) for name in header):
        raise DataError(f"{path}: expected column names in the first line, got numbers; add a header line")


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


def _read_parquet(path: Path) -> Table:
    require("pyarrow", extra="desktop", purpose="read Parquet")
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: expected a Parquet file, got: {str(error).splitlines()[0]}") from error
    columns: list[Cells] = []
    for column in table.columns:
        kind = column.type
        numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        # Integers with gaps stay Python values: as floats, the category 3 would read "3.0".
        if numeric and not column.null_count:
            columns.append(column.to_numpy())
        else:
            columns.append(column.to_pylist())
    return Table(tuple(str(name) for name in table.column_names), tuple(columns), str(path))


def _read_npz(path: Path) -> Table:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise DataError(f"{path}: expected a .npz of numbers or texts, got: {_first_line(error)}") from error
    features = next((arrays[name] for name in ("x", "X") if name in arrays), None)
    if features is None:
        raise DataError(
            f"{path}: expected arrays 'x' (or 'X') and 'y', got {sorted(arrays)}; save with np.savez(path, x=x, y=y)"
        )
    return table_from_arrays(features, arrays.get("y", arrays.get("Y")), source=str(path))


def _read_npy(path: Path) -> Table:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: expected a .npy of numbers, got: {_first_line(error)}") from error
    return table_from_arrays(array, None, source=str(path))


def table_from_arrays(
    x: npt.ArrayLike, y: npt.ArrayLike | None, *, names: Sequence[str] | None = None, source: str = "arrays"
) -> Table:
    """Make a table of arrays.

    Args:
        x: Numbers or texts, shape (n, d), or (n, ...) to be laid flat.
        y: Targets, shape (n,), or (n, K) for a regression with several outputs; None when there are none.
        names: Names of the d columns; ``x0``, ``x1``, ... by default. Targets are named ``y``, or ``y0``, ``y1``, ...
        source: What to call the table in messages.

    Raises:
        DataError: If shapes or lengths don't fit.
    """
    features = np.asarray(x)
    if features.ndim < 2:
        raise DataError(f"{source}: expected x of shape (rows, columns), got {features.shape}; reshape it")
    if features.dtype.kind not in "biufUO":
        raise DataError(f"{source}: expected numbers or texts, got {features.dtype}")
    row_shape = features.shape[1:] if features.ndim > 2 else None
    made_up = [f"x{'_'.join(map(str, place))}" for place in np.ndindex(*features.shape[1:])]
    features = features.reshape(len(features), len(made_up))
    if names is not None and len(names) != features.shape[1]:
        raise DataError(f"{source}: expected {features.shape[1]} column names, got {len(names)}")
    header = made_up if names is None else [str(name) for name in names]
    columns: list[Cells] = [_cells(features[:, index]) for index in range(features.shape[1])]
    target = None
    if y is not None:
        targets = np.asarray(y)
        targets = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
        if targets.ndim not in (1, 2) or len(targets) != len(features):
            raise DataError(
                f"{source}: expected y of shape ({len(features)},) or ({len(features)}, outputs), got {targets.shape}"
            )
        added = ["y"] if targets.ndim == 1 else [f"y{index}" for index in range(targets.shape[1])]
        target = ",".join(added)
        header += added
        columns += [_cells(targets)] if targets.ndim == 1 else [_cells(column) for column in targets.T]
    return Table(tuple(header), tuple(columns), source, named=names is not None, target=target, row_shape=row_shape)


def _cells(column: npt.NDArray[Any]) -> Cells:
    """Numbers stay an array; texts and objects become Python values."""
    return column if column.dtype.kind in "biuf" else column.tolist()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
