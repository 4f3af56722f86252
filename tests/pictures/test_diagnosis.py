"""Pictures of diagnoses and of gates that are trees: any number of experts, any names, regions that aren't there."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from moe_edge.diagnosis import diagnose
from moe_edge.diagnosis_subject import SplitNode
from moe_edge.hierarchy import GateTree
from moe_edge.pictures.canvas import EXPERT_PALETTE, expert_colour, readable_on
from moe_edge.pictures.diagnosis import draw_line_partition, draw_matrix, draw_plane_partition, draw_usage
from moe_edge.pictures.gate_trees import MOST_LEVELS, draw_gate_tree, draw_splits
from moe_edge.task import Task

NASTY = ("price_$_in_$", "", "x" * 200, "a\nb", r"\alpha")


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_ten_experts_have_ten_colours_and_print_that_can_be_read():
    assert len({expert_colour(index) for index in range(10)}) == len(EXPERT_PALETTE) == 10
    assert expert_colour(10) == expert_colour(0)
    assert (readable_on("#ffffff"), readable_on("#0072B2"), readable_on("#225522")) == ("#222222", "#ffffff", "#ffffff")


@pytest.mark.parametrize("experts", [2, 7, 40])
def test_use_is_drawn_with_collapsed_experts(experts, tmp_path):
    weights = np.random.default_rng(0).dirichlet(np.ones(experts), 50)
    weights[:, 0] = 0
    found = diagnose(weights / weights.sum(axis=1, keepdims=True), task=Task.REGRESSION, labels=("y",))
    assert 0 in found.collapsed
    png_size(draw_usage(found, tmp_path / "use.png"))


def test_a_map_of_any_names_and_zeros(tmp_path):
    path = draw_matrix(
        np.zeros((5, 3)), NASTY, tmp_path / "m.png", title="t", row_title="r", column_title="c", unit="u", counted=True
    )
    png_size(path)


@pytest.mark.parametrize("experts", [2, 13])
def test_a_line_and_a_plane_are_drawn_where_experts_are_first_nowhere(experts, tmp_path):
    rng = np.random.default_rng(1)
    x = np.linspace(-1, 1, 50)
    weights = rng.dirichlet(np.ones(experts), 50)
    weights[:, -1] = 0
    for number, (prediction, answers) in enumerate(((None, None), (x, None), (x, np.tile(x[:, None], experts)))):
        png_size(
            draw_line_partition(
                x, weights, tmp_path / f"{number}.png", names=NASTY[:2], prediction=prediction, answers=answers
            )
        )
    grid = np.tile(weights[:30], (20, 1, 1))
    rows = rng.uniform(size=(9, 2))
    png_size(draw_plane_partition(x[:30], x[:20], grid, tmp_path / "p.png", names=NASTY[:2], rows=rows))


def test_a_tree_of_gates_keeps_its_width_and_grows_with_its_leaves(tmp_path):
    sizes = []
    for experts in (8, 64):
        tree = GateTree.balanced(experts, branching=2 if experts == 8 else 4)
        sizes.append(png_size(draw_gate_tree(tree, (1 / experts,) * experts, tmp_path / f"{experts}.png")))
    assert sizes[0][0] == sizes[1][0] and sizes[1][1] > 6 * sizes[0][1]
    with pytest.raises(ValueError, match="a share for each of 8 experts"):
        draw_gate_tree(GateTree.balanced(8), (1.0,), tmp_path / "no.png")


def test_questions_are_drawn_and_deep_ones_counted(tmp_path):
    leaf = SplitNode(rows=3, weights=(0.2, 0.8))
    deep = leaf
    for _ in range(MOST_LEVELS + 4):
        deep = SplitNode(rows=deep.rows + 3, question="price_$ ≤ 3", yes=deep, no=leaf)
    assert deep.depth == MOST_LEVELS + 4
    width, _ = png_size(draw_splits(deep, tmp_path / "deep.png"))
    assert width < 2000
    png_size(draw_splits(leaf, tmp_path / "leaf.png"))
