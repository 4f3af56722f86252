import numpy as np
import pytest

from moe_edge.config import PiecesConfig
from moe_edge.errors import DataError
from moe_edge.tables.dataset import dataset_from_arrays, read_dataset
from moe_edge.training.pieces import split_into_pieces


def pieces_of(config, x, y, count, dataset=None):
    dataset = dataset or dataset_from_arrays(x, y, names=[f"c{i}" for i in range(x.shape[1])])
    return split_into_pieces(config, dataset, np.arange(len(x)), x, num_pieces=count, seed=0)


X = np.linspace(0, 1, 100, dtype=np.float32)[:, None]
Y = (np.arange(100) % 2).astype(np.int64)


@pytest.mark.parametrize("method", ["kmeans", "gaussian_mixture"])
def test_clusters_are_found(method):
    x = np.vstack([X - 5, X + 5]).astype(np.float32)
    membership = pieces_of(PiecesConfig(method=method), x, np.arange(200) % 2, 2)
    assert membership.dtype == np.float64
    np.testing.assert_allclose(membership.sum(axis=1), 1)
    first = membership.argmax(axis=1)
    assert len(set(first[:100])) == len(set(first[100:])) == 1
    assert first[0] != first[-1]


def test_ranges_overlap_by_the_rows_nearest_to_the_border():
    plain = pieces_of(PiecesConfig(by="ranges", column="c0", edges=(0.5,)), X, Y, 2)
    assert plain[:, 0].tolist() == [1.0] * 50 + [0.0] * 50
    shared = pieces_of(PiecesConfig(by="ranges", column="c0", edges=(0.5,), overlap=0.2), X, Y, 2)
    assert np.flatnonzero(shared[:, 0] > 0).tolist() == list(range(60))
    assert np.flatnonzero(shared[:, 1] > 0).tolist() == list(range(40, 100))
    np.testing.assert_allclose(shared[40:60], 0.5)


def test_classes_that_look_alike_share_a_piece():
    random = np.random.default_rng(0)
    y = np.arange(240) % 4
    x = (random.normal(size=(240, 2)) + np.array([[-6, 0], [-5.5, 0], [6, 0], [5.5, 0]])[y]).astype(np.float32)
    first = pieces_of(PiecesConfig(by="confusion"), x, y, 2).argmax(axis=1)
    assert [len(set(first[y == label])) for label in range(4)] == [1] * 4
    assert first[0] == first[1] != first[2] == first[3]


def test_a_dropped_column_still_splits_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,device,y\n" + "".join(f"{i},{'pw'[i % 2]},{i % 3}\n" for i in range(30)))
    dataset = read_dataset(path, target="y", drop=["device"], subtask="device")
    assert dataset.schema.names == ("a",)
    config = PiecesConfig(by="column", column="device")
    membership = pieces_of(config, dataset.features, None, 2, dataset)
    assert membership.argmax(axis=1).tolist() == [0, 1] * 15
    with pytest.raises(DataError, match="as many values as experts, 3, got 2"):
        pieces_of(config, dataset.features, None, 3, dataset)


def test_an_empty_range_is_named():
    with pytest.raises(DataError, match="none in piece 1"):
        pieces_of(PiecesConfig(by="ranges", column="c0", edges=(5.0,)), X, Y, 2)
