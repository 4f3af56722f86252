"""A file diagnosed through the library: its answers, its experts' own, its grid and its tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.errors import DataError
from moe_edge.file_diagnosis import _make_grid, _read_tree, diagnose_file
from moe_edge.hierarchy import GateTree
from moe_edge.schema import Column, ColumnKind


def rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("scheme", ["float32", "w8a8"])
def test_experts_answers_mixed_by_the_gate_are_the_mixtures(mixture_file, scheme):
    x = rows(50, 64)
    found = diagnose_file(mixture_file("plain", scheme=scheme), x, np.zeros(50, np.int64))
    answers = found.answers
    assert answers.experts is not None and answers.experts.shape == (50, 4, 3) and answers.interval is None
    np.testing.assert_allclose(answers.experts.sum(axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(np.einsum("ne,nek->nk", answers.weights, answers.experts), answers.prediction, atol=1e-5)
    assert found.partition is None and found.tree is None and found.diagnosis.scores is not None
    assert found.routing.num_rows == found.diagnosis.num_rows == 50


def test_a_mixture_density_gives_experts_and_interval(mixture_file):
    x = rows(40, 6)
    found = diagnose_file(mixture_file("regression"), x, rows(40, 1, seed=1))
    answers = found.answers
    assert answers.experts is not None and answers.interval is not None
    with Predictor(mixture_file("regression"), mass=1) as routed:
        np.testing.assert_allclose(answers.experts, routed.predict_experts(x), atol=1e-5)
    assert (answers.interval[:, 0] < answers.interval[:, 1]).all()
    assert found.diagnosis.scores is not None and found.diagnosis.scores.metric == "rmse"


def test_rows_that_do_not_fit_are_refused(mixture_file):
    with pytest.raises(DataError):
        diagnose_file(mixture_file("plain"), rows(5, 3))
    with Predictor(mixture_file("plain"), mass=1) as routed:
        assert routed.predict_experts(rows(0, 64)).shape == (0, 4, 3)
    with pytest.raises(ValueError, match="at least one row"):
        diagnose_file(mixture_file("plain"), rows(0, 64))


@pytest.fixture
def manifest(mixture_file):
    with Predictor(mixture_file("plain")) as predictor:
        return predictor.manifest


def narrow(manifest, *columns):
    return replace(manifest, schema=replace(manifest.schema, columns=columns), input_shape=(len(columns),))


def test_the_grid_covers_the_rows_and_a_little_more(manifest):
    two = narrow(manifest, Column(name="a"), Column(name="b"))
    x = rows(200, 2) * [1, 1000]
    x[3, 0] = np.nan
    grid = _make_grid(two, x.astype(np.float32))
    assert grid is not None
    axes, points = grid
    for axis, values in zip(axes, x.T, strict=True):
        assert axis[0] < np.nanmin(values) and axis[-1] > np.nanmax(values)
    assert points.shape == (len(axes[0]) * len(axes[1]), 2) and points.dtype == np.float32
    # The last column changes fastest, which is what pictures reshape by.
    assert points[1, 0] == points[0, 0] and points[1, 1] > points[0, 1]


def test_a_column_that_never_changes_has_a_grid_too(manifest):
    grid = _make_grid(narrow(manifest, Column(name="a")), np.full((5, 1), 1e6, np.float32))
    assert grid is not None and (np.diff(grid[1][:, 0]) >= 0).all() and np.ptp(grid[1]) > 0


def test_what_has_no_plane_has_no_grid(manifest):
    colour = Column(name="colour", kind=ColumnKind.CATEGORICAL, categories=("red", "blue"))
    assert _make_grid(narrow(manifest, Column(name="a"), colour), rows(5, 2)) is None
    assert _make_grid(narrow(manifest, *(Column(name=name) for name in "abc")), rows(5, 3)) is None
    assert _make_grid(narrow(manifest, Column(name="a")), np.full((5, 1), np.nan, np.float32)) is None


def test_the_tree_is_read_as_the_file_records_it(manifest):
    record = [[0, 1], [2, 3]]
    assert _read_tree(replace(manifest, extras={"gate_tree": record})) == GateTree.from_nested(record)
    for wrong in (None, "tree", [0, [1, 2]], [0, [1, 1]], 3):
        assert _read_tree(replace(manifest, extras={"gate_tree": wrong})) is None
    assert _read_tree(manifest) is None
