import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.config import Task
from moe_edge.errors import DataError
from moe_edge.tables.dataset import dataset_from_arrays
from moe_edge.training.split import Split, split_dataset


def parts(split):
    return split.train, split.validation, split.test


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=6),
    test_share=st.floats(0.05, 0.6),
    validation_share=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
)
def test_each_row_has_one_part_and_each_class_all_parts(counts, test_share, validation_share, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    dataset = dataset_from_arrays(np.zeros((len(y), 1)), y, labels=[str(i) for i in range(len(counts))])
    split = split_dataset(dataset, test_share=test_share, validation_share=validation_share, seed=seed)
    assert sorted(np.concatenate(parts(split)).tolist()) == list(range(len(y)))
    for rows in parts(split):
        assert set(y[rows]) == set(y)
    again = split_dataset(dataset, test_share=test_share, validation_share=validation_share, seed=seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts(split), parts(again), strict=True))


def test_classes_keep_their_shares():
    y = np.repeat([0, 1], [800, 200])
    dataset = dataset_from_arrays(np.zeros((1000, 1)), y)
    split = split_dataset(dataset, test_share=0.3, validation_share=0.1)
    assert len(split.test) == 300
    assert (y[split.test] == 1).mean() == pytest.approx(0.2)
    assert len(split.validation) == 70
    assert not np.array_equal(split.test, split_dataset(dataset, test_share=0.3, validation_share=0.1, seed=1).test)


def test_groups_stay_whole():
    random = np.random.default_rng(0)
    groups = random.integers(0, 12, 300)
    dataset = dataset_from_arrays(np.zeros((300, 1)), random.normal(size=300), groups=groups, task=Task.REGRESSION)
    split = split_dataset(dataset, test_share=0.25)
    seen = [set(groups[rows]) for rows in parts(split)]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert 0.1 < len(split.test) / 300 < 0.4


def test_too_few_groups_or_rows_are_refused():
    x = np.zeros((10, 1))
    two = dataset_from_arrays(x, np.arange(10.0) / 3, groups=np.arange(10) % 2, task=Task.REGRESSION)
    with pytest.raises(DataError, match="three groups"):
        split_dataset(two)
    with pytest.raises(DataError, match="bring more rows"):
        split_dataset(dataset_from_arrays(x[:2], [0.5, 1.5], task=Task.REGRESSION))


def test_a_class_only_in_held_out_groups_is_refused():
    groups = np.repeat(np.arange(4), 5)
    dataset = dataset_from_arrays(np.zeros((20, 1)), groups.copy(), groups=groups)
    with pytest.raises(DataError, match="only in groups held out"):
        split_dataset(dataset)


def test_a_split_that_shares_rows_can_not_exist():
    rows = np.arange(3, dtype=np.int64)
    with pytest.raises(ValueError, match="one part each"):
        Split(train=rows, validation=rows, test=rows, fingerprint="")
