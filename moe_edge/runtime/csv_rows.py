"""Rows of a table on the device, a chunk at a time: .csv by the standard library, .npy and .npz by NumPy.

Parquet needs the desktop extra and says so. Missing values are the schema's ``MISSING_TOKENS``, as in training.
Layer: device. Imports the standard library, NumPy and ``moe_edge.schema``; pandas only for Parquet, if it is there.
"""

from __future__ import annotations

import csv
import io
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from moe_edge.errors import DataError, require
from moe_edge.schema import FeatureSchema

CHUNK_ROWS = 1024
"""Rows held in memory at a time."""
SUFFIXES = (".csv", ".npy", ".npz", ".parquet")
STANDARD_INPUT = Path("-")

Chunk = npt.NDArray[np.floating]


def read_chunks(path: Path, schema: FeatureSchema) -> Iterator[Chunk]:
    """Read a table's feature columns; other columns are left out.

    Args:
        path: A .csv with a header line, .npy, .npz (array ``x``, or the only one), .parquet; ``-`` is a .csv on
            standard input.
        schema: The model's columns.

    Yields:
        Rows in the model's order, (n, columns) with n <= CHUNK_ROWS; NaN where a value is missing. Arrays as they are
        in the file.

    Raises:
        DataError: If the file can't be read, a column is missing, or a value isn't what the column takes; names the
            line.
        MissingDependencyError: For Parquet without the desktop extra.
    """
    if path == STANDARD_INPUT:
        yield from read_csv(sys.stdin.buffer, schema, source="standard input")
    elif path.suffix.lower() == ".csv":
        try:
            with path.open("rb") as file:
                yield from read_csv(file, schema, source=str(path))
        except OSError as error:
            raise DataError(f"can't read {path}: {error.strerror or error}") from error
    elif path.suffix.lower() in (".npy", ".npz"):
        array = _load_array(path)
        for start in range(0, len(array), CHUNK_ROWS):
            yield array[start : start + CHUNK_ROWS]
    elif path.suffix.lower() == ".parquet":
        yield from _read_parquet(path, schema)
    else:
        raise DataError(f"expected a table that ends in {', '.join(SUFFIXES)}, got {path}")


def read_csv(file: BinaryIO, schema: FeatureSchema, *, source: str) -> Iterator[Chunk]:
    """Read a comma-separated table with a header line, in UTF-8 (a byte-order mark is fine).

    Args:
        file: Opened for reading bytes; left open.
        schema: The model's columns.
        source: What messages call the file.

    Yields:
        float32 (n, columns) with n <= CHUNK_ROWS.

    Raises:
        DataError: See ``read_chunks``.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not any(header):
            raise DataError(f"{source}: expected a header line with column names, got an empty file")
        places = _find_columns(header, schema, source)
        chunk: list[list[float]] = []
        number = 0
        for cells in reader:
            if not cells:
                continue
            number += 1
            where = f"{source}, line {reader.line_num}"
            if len(cells) != len(header):
                raise DataError(f"{where}: expected {len(header)} values as in the header, got {len(cells)}")
            try:
                chunk.append(
                    [column.encode(cells[at], row=number) for column, at in zip(schema.columns, places, strict=True)]
                )
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
            if len(chunk) == CHUNK_ROWS:
                yield np.asarray(chunk, dtype=np.float32)
                chunk = []
        if chunk:
            yield np.asarray(chunk, dtype=np.float32)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source}, after line {reader.line_num}: expected UTF-8 text, got {error.reason}; save the table as UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: expected comma-separated values, got {error}") from error
    finally:
        text.detach()


def _find_columns(header: list[str], schema: FeatureSchema, source: str) -> list[int]:
    """Where each feature column stands."""
    try:
        schema.check_columns(header)
    except DataError as error:
        for separator, name in ((";", "semicolons"), ("\t", "tabs")):
            if separator in header[0]:
                raise DataError(
                    f"{source}: expected values separated by commas, got {name}; save it with commas and decimal points"
                ) from error
        raise DataError(f"{source}: {error}") from error
    twice = [name for name, count in Counter(header).items() if count > 1 and name in schema.names]
    if twice:
        raise DataError(f"{source}: expected each column once, got {twice[0]!r} twice; rename or drop one")
    return [header.index(name) for name in schema.names]


def _load_array(path: Path) -> Chunk:
    """The array in an .npy or .npz file; pickled objects are refused, they can run code."""
    try:
        loaded: Any = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix.lower() == ".npy" else None)
        if isinstance(loaded, np.ndarray):
            array: Chunk = loaded
        else:
            with loaded:
                names = loaded.files
                if "x" not in names and len(names) != 1:
                    raise DataError(f"{path}: expected an array called x, got {', '.join(names) or 'none'}")
                array = loaded["x" if "x" in names else names[0]]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected an array of numbers written by numpy.save, got {error}") from error
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error
    if array.ndim < 1:
        raise DataError(f"{path}: expected rows, got a single number")
    return array if array.ndim > 1 else array[None]


def _read_parquet(path: Path, schema: FeatureSchema) -> Iterator[Chunk]:
    require("pandas", extra="desktop", purpose="reading Parquet (a .csv needs nothing more)")
    require("pyarrow", extra="desktop", purpose="reading Parquet (a .csv needs nothing more)")
    try:
        table = import_module("pandas").read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"can't read {path} as Parquet: {' '.join(str(error).split())}") from error
    schema.check_columns(table.columns)
    table = table[list(schema.names)].astype(object).where(table[list(schema.names)].notna(), None)
    for start in range(0, len(table), CHUNK_ROWS):
        yield schema.encode_rows(table.iloc[start : start + CHUNK_ROWS].to_dict("records"))
