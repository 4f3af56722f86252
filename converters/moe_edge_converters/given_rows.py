"""The rows that a conversion is given: checked, or made up where there are none.

Layer: desktop (converters).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import Task
from moe_edge.errors import ConversionError
from moe_edge_converters.schemes.calibration import thin_rows
from moe_edge_converters.schemes.scheme_ladder import LadderData
from moe_edge_converters.spec import MixtureSpec

Rows = npt.NDArray[np.float32]

CHECK_ROWS = 200
"""Rows that every written file answers before the conversion is called done."""


def check_rows(rows: Any, spec: MixtureSpec) -> Rows:
    """Turn the user's rows into what the graph takes.

    Raises:
        ConversionError: If the shape is wrong, there are no rows, or a value is no finite number (NaN is a missing
            value, allowed where the mixture has preprocessing).
    """
    array = np.asarray(rows)
    if array.dtype.kind not in "fiub":
        raise ConversionError(f"expected numeric calibration rows, got dtype {array.dtype}; encode texts first")
    if array.ndim < 1 or array.shape[1:] != spec.input_shape or len(array) == 0:
        raise ConversionError(
            f"expected calibration rows of shape (n, {', '.join(map(str, spec.input_shape))}) with n >= 1, "
            f"got {array.shape}"
        )
    array = np.ascontiguousarray(array, dtype=np.float32)
    if np.isinf(array).any() or (spec.preprocess is None and np.isnan(array).any()):
        raise ConversionError("expected finite calibration rows, got NaN or infinity; drop or mend those rows")
    return array


def probe_rows(spec: MixtureSpec) -> Rows:
    """Seeded rows in the range of the training data, for checking a file when no data was given."""
    rows = np.random.default_rng(0).normal(size=(CHECK_ROWS, *spec.input_shape)).astype(np.float32)
    if spec.preprocess is not None:
        columns = list(spec.preprocess.numeric)
        rows[:, columns] = rows[:, columns] / spec.preprocess.inverse_scale + spec.preprocess.mean
        for column, count in spec.preprocess.categorical:
            rows[:, column] = np.arange(len(rows)) % count
    return rows


def ladder_data(spec: MixtureSpec, rows: Rows | None, target: Any, validation: tuple[Any, Any] | None) -> LadderData:
    """Check that ``auto`` has all it needs."""
    if rows is None or target is None or validation is None:
        raise ConversionError(
            "scheme auto needs training rows with targets and validation rows with targets: "
            "expected calibration=, training_target= and validation=(rows, targets)"
        )
    targets = []
    for count, values in ((len(rows), target), (len(validation[0]), validation[1])):
        array = np.asarray(values)
        if len(array) != count:
            raise ConversionError(f"expected {count} targets for {count} rows, got {len(array)}")
        if spec.task is Task.CLASSIFICATION and array.dtype.kind not in "iu":
            raise ConversionError(f"expected class codes (integers) as targets, got dtype {array.dtype}")
        targets.append(array)
    return LadderData(
        train_rows=thin_rows(rows),
        train_target=thin_rows(targets[0]),
        validation_rows=check_rows(validation[0], spec),
        validation_target=targets[1],
    )
