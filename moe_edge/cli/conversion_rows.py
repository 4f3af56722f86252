"""The rows that ``moe-edge convert`` calibrates and decides on, out of the user's table.

Layer: command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_edge.errors import DataError
from moe_edge.schema import Column

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from moe_edge.training.archive import LoadedModel


@dataclass(frozen=True, kw_only=True)
class ConversionRows:
    """What a table gives a conversion; None for what it can't give.

    Attributes:
        training: float32 (n, ...) raw rows for calibration.
        training_target: Their targets.
        description: Which rows the file is checked on, in words.
        validation: Rows and targets that ``--scheme auto`` decides on.
    """

    training: npt.NDArray[np.float32] | None = None
    training_target: npt.NDArray[Any] | None = None
    description: str = "seeded rows in the columns' range (no DATA was given)"
    validation: tuple[npt.NDArray[np.float32], npt.NDArray[Any]] | None = None


def read_rows(loaded: LoadedModel, data: Path | None, *, all_rows: bool, needs_target: bool) -> ConversionRows:
    """Read the table with the model's schema and take the rows that training used.

    Args:
        loaded: The model with its schema and split; a Keras model from elsewhere has neither.
        data: The table, or None.
        all_rows: Take all rows for training rows, because the table is another one.
        needs_target: Whether targets and validation rows are needed.

    Raises:
        DataError: If the table isn't the one trained on, or can't give what is needed.
    """
    from moe_edge.tables.dataset import encode_dataset
    from moe_edge.training.archive import match_split

    if data is None:
        return ConversionRows()
    if loaded.schema is None:
        if needs_target:
            raise DataError(
                f"{loaded.path} remembers no columns and no split, which auto needs; "
                "choose a scheme, or call convert(..., scheme='auto', validation=(rows, targets)) in Python"
            )
        return ConversionRows(training=_plain_rows(data, loaded.model), description=f"rows of {data.name}")
    dataset = encode_dataset(data, loaded.schema, require_target=needs_target or loaded.split is not None)
    if all_rows or loaded.split is None:
        if needs_target:
            raise DataError("auto decides on the validation rows of the training table; drop --all-rows")
        return ConversionRows(training=dataset.features, description=f"rows of {data.name}")
    split = match_split(loaded, dataset)
    target = dataset.require_target()
    return ConversionRows(
        training=dataset.features[split.train],
        training_target=target[split.train],
        description=f"training rows of {data.name}",
        validation=(dataset.features[split.validation], target[split.validation]),
    )


def _plain_rows(data: Path, model: Any) -> npt.NDArray[np.float32]:
    """All rows of a table for a Keras model from elsewhere, which knows no columns: numbers, in the table's order."""
    import numpy as np

    from moe_edge.tables.columns import encode_column
    from moe_edge.tables.table_files import read_table
    from moe_edge_converters.sources.tracing import row_shape

    table = read_table(data)
    shape = row_shape(model)
    width = int(np.prod(shape))
    names = list(table.names)[:width]
    if len(names) != width:
        raise DataError(f"{data}: expected at least {width} columns for this model, got {len(names)}")
    rows = np.stack([encode_column(Column(name=name), table.column(name)) for name in names], axis=1)
    return rows.reshape(-1, *shape)
