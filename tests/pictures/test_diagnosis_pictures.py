"""Every picture of a diagnosis is written for any number of experts, nasty names, and rows of any kind."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import numpy as np
import pytest

from moe_edge.diagnosis import diagnose
from moe_edge.file_diagnosis import InputPartition, MixtureAnswers
from moe_edge.hierarchy import GateTree
from moe_edge.pictures.diagnosis import MOST_EXPERTS, draw_best_experts, draw_experts, draw_routing, drawn_experts
from moe_edge.pictures.gate_tree import _lay_out, draw_gate_tree
from moe_edge.pictures.partition import draw_partition
from moe_edge.task import Task

NASTY = "price_$_in_$\n<b>" + "x" * 200


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def make(experts, *, task=Task.REGRESSION, count=60, sharp=1.0, dead=()):
    rng = np.random.default_rng(experts)
    weights = rng.dirichlet(np.full(experts, sharp), count)
    weights[:, list(dead)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    outputs = 1 if task is Task.REGRESSION else 3
    answers = rng.random((count, experts, outputs))
    target = rng.random((count, 1)) if task is Task.REGRESSION else rng.integers(0, 3, count)
    return diagnose(
        weights,
        task=task,
        labels=(NASTY,) if task is Task.REGRESSION else ("a", NASTY, ""),
        target=target,
        prediction=np.einsum("ne,nek->nk", weights, answers),
        expert_answers=answers,
    )


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("experts", [2, 9, 40])
def test_use_scores_and_routing_of_any_mixture(tmp_path, task, experts):
    diagnosis = make(experts, task=task, dead=(1,) if experts > 2 else ())
    width, height = png_size(draw_experts(diagnosis, tmp_path / "e.png", unit=NASTY))
    assert width > 1000 and height < 2500
    png_size(draw_routing(diagnosis, tmp_path / "r.png"))
    assert diagnosis.scores is not None
    png_size(draw_best_experts(diagnosis.scores, diagnosis.usage, tmp_path / "b.png"))


def test_without_scores_there_is_one_panel(tmp_path):
    alone = diagnose(np.full((5, 2), 0.5), task=Task.REGRESSION, labels=("y",))
    width, _ = png_size(draw_experts(alone, tmp_path / "e.png"))
    assert width < png_size(draw_experts(make(2), tmp_path / "f.png"))[0]


def test_the_most_used_experts_are_drawn_in_order():
    usage = np.random.default_rng(0).dirichlet(np.ones(100))
    drawn = drawn_experts(usage.tolist())
    assert len(drawn) == MOST_EXPERTS and drawn == sorted(drawn)
    assert min(usage[drawn]) >= max(np.delete(usage, drawn))


def found(columns, task, *, experts=3, with_experts=True, with_target=True, seed=0):
    """What ``draw_partition`` needs of a diagnosis, with made-up answers."""
    rng = np.random.default_rng(seed)
    axes = tuple(np.linspace(-1, 1, 41) for _ in range(columns))
    outputs, count = (1, 30) if task is Task.REGRESSION else (3, 30)

    def answers(rows):
        weights = rng.dirichlet(np.full(experts, 0.3), rows)
        parts = rng.random((rows, experts, outputs))
        interval = np.stack([np.zeros((rows, outputs)), np.ones((rows, outputs))], axis=1)
        prediction = np.einsum("ne,nek->nk", weights, parts)
        density = task is Task.REGRESSION and with_experts
        return MixtureAnswers(
            weights=weights,
            prediction=prediction,
            experts=parts if with_experts else None,
            interval=interval if density else None,
        )

    labels = (NASTY,) if task is Task.REGRESSION else ("a", NASTY, "c")
    target = rng.random((count, 1)) if task is Task.REGRESSION else rng.integers(0, 3, count)
    return SimpleNamespace(
        manifest=SimpleNamespace(task=task, schema=SimpleNamespace(labels=labels)),
        features=rng.uniform(-1, 1, (count, columns)),
        target=target if with_target else None,
        answers=answers(count),
        partition=InputPartition(columns=(NASTY, "b")[:columns], axes=axes, answers=answers(41**columns)),
    )


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("columns", [1, 2])
def test_input_spaces_are_drawn(tmp_path, columns, task, known):
    made = found(columns, task, with_experts=known, with_target=known)
    width, height = png_size(draw_partition(made, tmp_path / "p.png"))
    assert 900 < width < 2500 and 500 < height < 1500


def test_more_experts_than_colours_and_an_answer_that_never_changes(tmp_path):
    made = found(2, Task.REGRESSION, experts=12)
    made.partition.answers.prediction[:] = 3.0
    png_size(draw_partition(made, tmp_path / "p.png"))


def test_a_wide_input_has_no_picture(tmp_path):
    made = found(2, Task.REGRESSION)
    made.partition = None
    with pytest.raises(ValueError, match="one or two numeric columns"):
        draw_partition(made, tmp_path / "p.png")


@pytest.mark.parametrize(
    "tree",
    [
        GateTree.from_nested([0, 1]),
        GateTree.from_nested([[0, [1, 2]], 3, [4, 5, 6]]),
        GateTree.balanced(64, branching=4),
    ],
)
def test_trees_of_any_shape_are_drawn(tmp_path, tree):
    usage = np.random.default_rng(1).dirichlet(np.ones(tree.num_experts)).tolist()
    png_size(draw_gate_tree(tree, usage, tmp_path / "t.png"))


def test_a_tree_is_laid_out_without_crossings():
    places = _lay_out(GateTree.from_nested([[0, [1, 2]], 3]))
    assert [places["expert", index][0] for index in range(4)] == [0, 1, 2, 3]
    assert places["gate", 0][1] == 0 and places["expert", 2][1] == -3 and places["expert", 3][1] == -1
    assert places["gate", 2][0] == 1.5
