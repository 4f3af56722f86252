"""Split the rows into one piece for each expert: clusters, a column, ranges of a column, classes that are confused.

Layer: desktop (training). Imports scikit-learn on call.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.config import PiecesConfig, Task
from moe_edge.errors import DataError, require
from moe_edge.schema import ColumnKind
from moe_edge.tables.dataset import Dataset
from moe_edge.training.split import Rows

Membership = npt.NDArray[np.float64]
_MOST_VALUES = 64
"""A column of more different values than this is no choice of experts."""


def split_into_pieces(
    config: PiecesConfig,
    dataset: Dataset,
    rows: Rows,
    features: npt.NDArray[np.float32],
    *,
    num_pieces: int,
    seed: int,
) -> Membership:
    """Say how much of each row belongs to each piece.

    Pieces by ``gaussian_mixture`` are soft, its posterior probabilities; all others hard. With ``overlap`` o, each
    piece of m rows then also takes the ``ceil(o * m)`` rows of other pieces that lie nearest to it: by distance to
    its nearest own row, in ``features`` or, for ranges, in the column's values. A row that several
    pieces have belongs to each alike.

    Args:
        config: How to split.
        dataset: The table, for columns and targets.
        rows: Rows to split, (n,).
        features: Standardised features of these rows, float32 (n, F).
        num_pieces: E.
        seed: For clusterings and for the model whose confusions are counted.

    Returns:
        float64 (n, E); rows sum to 1.

    Raises:
        DataError: If the data doesn't fall into E pieces, each of at least one row; names the column or the remedy.
    """
    values: npt.NDArray[np.float64] | None = None
    flat = features.reshape(len(features), -1).astype(np.float64)
    if config.by == "clusters":
        membership = _cluster(flat, config.method, num_pieces, seed)
    elif config.by == "column":
        membership = _one_hot(_column_codes(dataset, str(config.column), rows, num_pieces), num_pieces)
    elif config.by == "ranges":
        values = _column_numbers(dataset, str(config.column), rows)
        if len(config.edges) != num_pieces - 1:
            raise DataError(
                f"pieces by ranges: expected {num_pieces - 1} edges for {num_pieces} experts, got {len(config.edges)}"
            )
        membership = _one_hot(np.searchsorted(np.asarray(config.edges), values, side="right"), num_pieces)
    else:
        membership = _by_confusion(dataset, rows, flat, num_pieces, seed)
    counts = np.bincount(membership.argmax(axis=1), minlength=num_pieces)
    if counts.min() == 0:
        raise DataError(
            f"pieces by {config.by}: expected training rows in each of {num_pieces} pieces, "
            f"got none in piece {int(counts.argmin())}; take fewer experts or other borders"
        )
    if config.overlap:
        membership = _overlap(membership, flat if values is None else values[:, None], config.overlap)
    return membership


def _one_hot(codes: npt.NDArray[Any], count: int) -> Membership:
    return np.asarray(np.eye(count)[codes], np.float64)


def _cluster(flat: npt.NDArray[np.float64], method: str, num_pieces: int, seed: int) -> Membership:
    require("sklearn", extra="desktop", purpose="split rows into clusters")
    distinct = len(np.unique(flat, axis=0))
    if distinct < num_pieces:
        raise DataError(f"pieces by clusters: expected at least {num_pieces} different rows, got {distinct}")
    if method == "gaussian_mixture":
        from sklearn.mixture import GaussianMixture

        # Diagonal: a full covariance of many columns needs more rows than small tables have.
        model = GaussianMixture(num_pieces, covariance_type="diag", reg_covar=1e-3, n_init=3, random_state=seed)
        posterior = model.fit(flat).predict_proba(flat)
        return np.asarray(posterior / posterior.sum(axis=1, keepdims=True), np.float64)
    from sklearn.cluster import KMeans

    return _one_hot(KMeans(num_pieces, n_init=10, random_state=seed).fit_predict(flat), num_pieces)


def _column_cells(dataset: Dataset, name: str, rows: Rows) -> npt.NDArray[Any]:
    """The column's cells on these rows: as read beside the features, or a feature's own; missing ones refused."""
    if dataset.subtask_name == name and dataset.subtasks is not None:
        cells = dataset.subtasks[rows]
    elif name in dataset.schema.names:
        index = list(dataset.schema.names).index(name)
        column, cells = dataset.schema.columns[index], dataset.features[rows, index]
        if column.kind is ColumnKind.CATEGORICAL and not np.isnan(cells).any():
            cells = np.asarray(column.categories)[cells.astype(np.int64)]
    else:
        raise DataError(
            f"{dataset.source}: expected a column {name!r} to split by; read the table with subtask={name!r}"
        )
    missing = int(np.isnan(cells).sum()) if cells.dtype.kind == "f" else 0
    if missing:
        raise DataError(f"{dataset.source}, column {name!r}: expected a value in every row, {missing} are missing")
    return cells


def _column_codes(dataset: Dataset, name: str, rows: Rows, num_pieces: int) -> npt.NDArray[np.int64]:
    found, codes = np.unique(_column_cells(dataset, name, rows), return_inverse=True)
    if len(found) != num_pieces:
        shown = ", ".join(str(value) for value in found[:8]) + (", ..." if len(found) > 8 else "")
        advice = f"try --num-experts {len(found)}"
        if len(found) > _MOST_VALUES:
            numbers = found.dtype.kind in "fiu"
            advice = "give --ranges of it" if numbers else "take a column of fewer values, or --pieces clusters"
        elif len(found) < 2:
            advice = "take another column"
        raise DataError(
            f"pieces by column {name!r}: expected as many values as experts, {num_pieces}, got {len(found)} ({shown}); "
            f"{advice}"
        )
    return np.asarray(codes, np.int64)


def _column_numbers(dataset: Dataset, name: str, rows: Rows) -> npt.NDArray[np.float64]:
    cells = _column_cells(dataset, name, rows)
    try:
        return cells.astype(np.float64)
    except ValueError as error:
        texts = [str(cell) for cell in cells if not _is_number(cell)]
        raise DataError(
            f"pieces by ranges of {name!r}: expected numbers, got {texts[0]!r}; drop --ranges to split by its values"
        ) from error


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _by_confusion(
    dataset: Dataset, rows: Rows, flat: npt.NDArray[np.float64], num_pieces: int, seed: int
) -> Membership:
    """Groups of classes that a small dense network confuses, out of fold.

    The super-classes of Mobile V-MoE (Daxberger et al. 2023, arXiv 2309.04354). Average-linkage clustering of classes
    whose similarity is the mean probability that the network gives to one for rows of the other.
    """
    require("sklearn", extra="desktop", purpose="group classes that are confused")
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold
    from sklearn.neural_network import MLPClassifier

    if dataset.schema.task is not Task.CLASSIFICATION:
        raise DataError("pieces by confusion: expected a classification; take clusters or ranges for a regression")
    y = np.asarray(dataset.require_target()[rows], np.int64)
    num_classes = len(dataset.schema.labels)
    if num_classes < num_pieces:
        raise DataError(f"pieces by confusion: expected at least {num_pieces} classes, got {num_classes}")
    counts = np.bincount(y, minlength=num_classes)
    if counts.min() < 2:
        raise DataError(
            f"pieces by confusion: expected at least 2 training rows of each class, got {int(counts.min())} "
            f"of {dataset.schema.labels[int(counts.argmin())]!r}"
        )
    confusion = np.zeros((num_classes, num_classes))
    folds = StratifiedKFold(int(min(3, counts.min())), shuffle=True, random_state=seed)
    for known, unknown in folds.split(flat, y):
        model = MLPClassifier((32,), max_iter=60, random_state=seed)
        with warnings.catch_warnings():
            # Its confusions are wanted, not its last digits.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(flat[known], y[known])
        np.add.at(confusion, y[unknown], model.predict_proba(flat[unknown]))
    confusion /= counts[:, None]
    distance = 1 - (confusion + confusion.T) / 2
    np.fill_diagonal(distance, 0)
    group = AgglomerativeClustering(num_pieces, metric="precomputed", linkage="average").fit_predict(distance)
    return _one_hot(group[y], num_pieces)


def _overlap(membership: Membership, points: npt.NDArray[np.float64], overlap: float) -> Membership:
    """Let each piece take the nearest rows of the others; see ``split_into_pieces``."""
    require("sklearn", extra="desktop", purpose="let pieces overlap")
    from sklearn.neighbors import NearestNeighbors

    first = membership.argmax(axis=1)
    widened = membership.copy()
    for piece in range(membership.shape[1]):
        inside, outside = np.flatnonzero(first == piece), np.flatnonzero(first != piece)
        wanted = min(len(outside), math.ceil(overlap * len(inside)))
        distance = NearestNeighbors(n_neighbors=1).fit(points[inside]).kneighbors(points[outside])[0][:, 0]
        taken = outside[np.argsort(distance, kind="stable")[:wanted]]
        widened[taken, piece] = widened[taken].max(axis=1)
    return np.asarray(widened / widened.sum(axis=1, keepdims=True), np.float64)
