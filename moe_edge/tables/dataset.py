"""Tables as datasets: raw-encoded features, target, schema, fingerprint.

Layer: shared, device-safe. Imports NumPy, never Keras.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import DataError
from moe_edge.schema import ColumnKind, FeatureSchema
from moe_edge.tables import targets
from moe_edge.tables.columns import describe_column, encode_column
from moe_edge.tables.table_files import Cells, Table, read_table, table_from_arrays

__all__ = ["Dataset", "dataset_from_arrays", "encode_dataset", "read_dataset", "read_table"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Rows as the model takes them.

    Attributes:
        features: float32 (n, d), raw values, categories as codes, NaN where a value is missing.
        target: int64 class codes (n,), or float32 quantities (n, K); None when the table has no target.
        schema: The columns, the target and its labels.
        fingerprint: SHA-256 of features and target; equal for equal rows in equal order.
        groups: The group of each row, int64 (n,), or None.
        source: What to call the table in messages.
        subtasks: Cells of a column that pieces are split by, numbers or texts (n,), or None; it may be a feature too.
        subtask_name: That column's name.
        row_shape: Shape of a row of features before it was laid flat, such as (8, 8) for images; None where the
            table has plain columns, or some were dropped.
    """

    features: npt.NDArray[np.float32]
    target: npt.NDArray[Any] | None
    schema: FeatureSchema
    fingerprint: str
    groups: npt.NDArray[np.int64] | None = None
    source: str = "arrays"
    subtasks: npt.NDArray[Any] | None = None
    subtask_name: str | None = None
    row_shape: tuple[int, ...] | None = None

    @property
    def num_rows(self) -> int:
        """Rows n."""
        return len(self.features)

    @property
    def missing(self) -> dict[str, int]:
        """Rows without a value, for each column that lacks some."""
        counts = np.isnan(self.features).sum(axis=0)
        return {name: int(count) for name, count in zip(self.schema.names, counts, strict=True) if count}

    def require_target(self) -> npt.NDArray[Any]:
        """The target.

        Raises:
            DataError: If the table has none.
        """
        if self.target is None:
            raise DataError(f"{self.source}: expected the target column {self.schema.target!r}, got none; add it")
        return self.target


def read_dataset(
    path: Path | str,
    *,
    target: str | None = None,
    task: Task | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    group: str | None = None,
    subtask: str | None = None,
) -> Dataset:
    """Read a table and find out what its columns are.

    Args:
        path: ``.csv``, ``.parquet``, ``.npz`` or ``.npy``.
        target: Name of the target column; several, joined by commas, for a regression with several outputs. By
            default ``y`` of a ``.npz`` and the last column of a ``.npy``.
        task: The task; by default read off the target's values.
        categorical: Columns to take as categories even when they hold numbers.
        drop: Columns to leave out.
        group: A column that names the group of each row (a person, a device); no feature.
        subtask: A column that pieces are split by; a feature too, unless it is dropped.

    Raises:
        DataError: If the table or a column is not fit for training; the message says what to do.
    """
    table = read_table(path)
    with _naming(table):
        dataset = _describe(table, _target_name(table, target), task, categorical=categorical, drop=drop, group=group)
    if subtask is None:
        return dataset
    if subtask not in table.names:
        raise _no_column(table, "column", subtask)
    return replace(dataset, subtasks=_subtask_cells(subtask, table.column(subtask)), subtask_name=subtask)


def dataset_from_arrays(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    task: Task | None = None,
    categorical: Sequence[str] = (),
    groups: npt.ArrayLike | None = None,
    source: str = "arrays",
) -> Dataset:
    """Make a dataset of arrays.

    Args:
        x: Numbers or texts, shape (n, d), or (n, ...) to be laid flat; NaN means missing.
        y: Class codes or names (n,), or quantities (n,) or (n, K).
        names: Column names; ``x0``, ``x1``, ... by default.
        labels: Names of the classes when ``y`` holds the codes 0, 1, ...
        task: The task; by default read off ``y``, classification where ``labels`` are given.
        categorical: Columns to take as categories.
        groups: The group of each row, (n,).
        source: What to call the data in messages.

    Raises:
        DataError: As ``read_dataset``, and if ``y`` holds codes beyond ``labels``.
    """
    table = table_from_arrays(x, y, names=names, source=source)
    if labels is not None:
        codes = np.asarray(y)
        if codes.ndim != 1 or codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= len(labels):
            raise DataError(f"{source}: expected y to hold codes from 0 to {len(labels) - 1}, one a label")
        task = task or Task.CLASSIFICATION
    dataset = _describe(table, str(table.target), task, categorical=categorical)
    if labels is not None and dataset.schema.task is Task.CLASSIFICATION:
        row_shape = dataset.row_shape
        dataset = _finish(
            replace(dataset.schema, labels=tuple(labels)), dataset.features, np.asarray(y, np.int64), source
        )
        dataset = replace(dataset, row_shape=row_shape)
    if groups is None:
        return dataset
    members = np.asarray(groups)
    if members.shape != (dataset.num_rows,):
        raise DataError(f"{source}: expected groups of shape ({dataset.num_rows},), got {members.shape}")
    return replace(dataset, groups=np.unique(members, return_inverse=True)[1].astype(np.int64))


def encode_dataset(
    path: Path | str, schema: FeatureSchema, *, require_target: bool = True, by_position: bool = False
) -> Dataset:
    """Read a table with the schema of a model that is already trained. Other columns are ignored.

    Args:
        path: ``.csv``, ``.parquet``, ``.npz`` or ``.npy``. Arrays have no column names: their order counts.
        schema: The model's schema.
        require_target: Refuse a table without the target column; else its ``target`` is None.
        by_position: Go by the columns' order in tables with names too: the schema is of a model that knows none.

    Raises:
        DataError: If columns are missing, a value can't be read, or a label is unknown.
    """
    table = read_table(path)
    names = [schema.target] if schema.target in table.names else _split_names(schema.target)
    if by_position or not table.named:
        table, names = _positional(table, schema)
    with _naming(table):
        return _encode(table, names, schema, require_target=require_target)


def _encode(table: Table, names: Sequence[str], schema: FeatureSchema, *, require_target: bool) -> Dataset:
    schema.check_columns(table.names)
    features = np.stack([encode_column(column, table.column(column.name)) for column in schema.columns], axis=1)
    missing = [name for name in names if name not in table.names]
    if missing and require_target:
        if not table.named:
            raise DataError(
                f"{table.source}: expected {len(names)} target column(s) after the features (or y in a .npz), got none"
            )
        raise _no_column(table, "target", missing[0])
    if missing:
        return _finish(schema, features, None, table.source)
    cells = [table.column(name) for name in names]
    for name, column in zip(names, cells, strict=True):
        targets.check_known(name, column)
    if schema.task is Task.CLASSIFICATION:
        return _finish(schema, features, targets.encode_labels(names[0], cells[0], schema.labels), table.source)
    return _finish(schema, features, targets.encode_quantities(names, cells), table.source)


@contextmanager
def _naming(table: Table) -> Iterator[None]:
    """Errors of columns and cells say which table they are of."""
    try:
        yield
    except DataError as error:
        if str(error).startswith(table.source):
            raise
        raise DataError(f"{table.source}: {error}") from error


def _positional(table: Table, schema: FeatureSchema) -> tuple[Table, list[str]]:
    """Give an array's columns the schema's names."""
    num_features = len(schema.columns)
    num_targets = 1 if schema.task is Task.CLASSIFICATION else len(schema.labels)
    marked = _split_names(table.target) if table.target else []
    found = len(table.names) - len(marked)
    if found not in (num_features, num_features + (0 if marked else num_targets)):
        raise DataError(f"{table.source}: expected {num_features} columns as in training, got {found}")
    # Blank-free names that no column can have, so that a target never shadows a feature.
    names = [*schema.names, *(f"target {index}" for index in range(len(table.names) - num_features))]
    expected = [f"target {index}" for index in range(num_targets)]
    return replace(table, names=tuple(names), named=False), expected


def _describe(
    table: Table,
    target: str,
    task: Task | None,
    *,
    categorical: Sequence[str],
    drop: Sequence[str] = (),
    group: str | None = None,
) -> Dataset:
    for name in (*categorical, *drop, *([group] if group is not None else [])):
        if name not in table.names:
            raise _no_column(table, "column", name)
    names = [target] if target in table.names else _split_names(target)
    for name in names:
        if name not in table.names:
            raise _no_column(table, "target", name)
    if len(set(names)) != len(names) or set(names) & {*categorical, *drop, *([group] if group is not None else [])}:
        raise DataError(
            f"target {target!r}: expected each target once, and neither dropped, grouped by nor categorical"
        )
    if len(names) > 1 and task is Task.CLASSIFICATION:
        raise DataError(f"target {target!r}: expected one target for a classification, got {len(names)}")
    cells = [table.column(name) for name in names]
    for name, column in zip(names, cells, strict=True):
        targets.check_known(name, column)
    if task is None:
        task = Task.REGRESSION if len(names) > 1 else targets.infer_task(cells[0])

    taken = [name for name in table.names if name not in {*names, *drop} and name != group]
    if not taken:
        raise DataError(f"{table.source}: expected at least one feature column beside the target, got none")
    labels = targets.find_labels(names[0], cells[0]) if task is Task.CLASSIFICATION else tuple(names)
    encoded: npt.NDArray[Any]
    if task is Task.CLASSIFICATION:
        encoded = targets.encode_labels(names[0], cells[0], labels)
    else:
        encoded = targets.encode_quantities(names, cells)
        targets.check_varies(names, encoded)
    columns = [describe_column(name, table.column(name), categorical=name in categorical) for name in taken]
    features = np.stack([encode_column(column, table.column(column.name)) for column in columns], axis=1)
    schema = FeatureSchema(columns=tuple(columns), target=",".join(names), task=task, labels=labels)
    dataset = _finish(describe_ranges(schema, features), features, encoded, table.source)
    if table.row_shape is not None and math.prod(table.row_shape) == features.shape[1]:
        dataset = replace(dataset, row_shape=table.row_shape)
    return dataset if group is None else replace(dataset, groups=_group_codes(group, table.column(group)))


def describe_ranges(schema: FeatureSchema, features: npt.NDArray[np.float32]) -> FeatureSchema:
    """Note in the schema the range of each column and its share of missing values on these rows, float32 (n, d)."""
    columns = []
    for column, values in zip(schema.columns, features.T, strict=True):
        known = values[~np.isnan(values)]
        numeric = column.kind is ColumnKind.NUMERIC and len(known) > 0
        columns.append(
            replace(
                column,
                minimum=float(known.min()) if numeric else None,
                maximum=float(known.max()) if numeric else None,
                missing_share=1 - len(known) / max(1, len(values)),
            )
        )
    return replace(schema, columns=tuple(columns))


def _finish(
    schema: FeatureSchema, features: npt.NDArray[np.float32], target: npt.NDArray[Any] | None, source: str
) -> Dataset:
    return Dataset(
        features=features, target=target, schema=schema, fingerprint=_fingerprint(features, target), source=source
    )


def _fingerprint(features: npt.NDArray[np.float32], target: npt.NDArray[Any] | None) -> str:
    digest = hashlib.sha256()
    for array in (features, target):
        if array is None:
            continue
        # One NaN and one zero: their bits depend on where they came from.
        plain = np.where(np.isnan(array), np.float32(np.nan), array + 0).astype(array.dtype)
        digest.update(f"{plain.dtype.str}{plain.shape}".encode())
        digest.update(np.ascontiguousarray(plain).tobytes())
    return digest.hexdigest()


def _group_codes(name: str, cells: Cells) -> npt.NDArray[np.int64]:
    targets.check_known(name, cells, role="group")
    texts = [targets.label_text(cell) for cell in (cells.tolist() if isinstance(cells, np.ndarray) else cells)]
    return np.unique(texts, return_inverse=True)[1].astype(np.int64)


def _subtask_cells(name: str, cells: Cells) -> npt.NDArray[Any]:
    targets.check_known(name, cells, role="column to split by")
    if isinstance(cells, np.ndarray):
        return cells
    try:
        return np.asarray([float(cell) for cell in cells], np.float64)
    except (TypeError, ValueError):
        return np.asarray([targets.label_text(cell) for cell in cells])


def _target_name(table: Table, target: str | None) -> str:
    if target is not None:
        return target
    if table.target is not None:
        return table.target
    if not table.named and len(table.names) > 1:
        if table.row_shape is not None:
            raise DataError(
                f"{table.source}: expected rows of plain columns, the last of them the target, got rows of shape "
                f"{table.row_shape}; save rows and targets in one file, np.savez('my.npz', x=x, y=y), or "
                f"name the number that is one, such as --target {table.names[-1]}"
            )
        return table.names[-1]
    shown = ", ".join(map(repr, table.names[:12])) + (", ..." if len(table.names) > 12 else "")
    raise DataError(f"{table.source}: expected --target with one of the columns {shown}")


def _split_names(target: str) -> list[str]:
    return [name.strip() for name in target.split(",")]


def _no_column(table: Table, what: str, name: str) -> DataError:
    close = get_close_matches(name, table.names, n=1)
    shown = ", ".join(map(repr, table.names[:12])) + (", ..." if len(table.names) > 12 else "")
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return DataError(f"{table.source}: there is no {what} {name!r}; expected one of {shown}{guess}")
