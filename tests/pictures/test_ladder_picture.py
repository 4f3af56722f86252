"""The ladder's picture: written for any rungs, and refused in words where it can't be."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_edge.config import Task
from moe_edge.errors import MoeEdgeError
from moe_edge.pictures.ladder import draw_ladder


def rung(num_bytes, metric, *, accepted=True, chosen=False, schemes="w8a8"):
    return {"schemes": schemes, "bytes": num_bytes, "metric": metric, "accepted": accepted, "chosen": chosen}


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rungs=st.lists(st.tuples(st.integers(100, 10**9), st.floats(0, 1), st.booleans()), min_size=1, max_size=20),
    chosen=st.integers(0, 19),
    task=st.sampled_from(list(Task)),
)
def test_any_ladder_is_drawn(tmp_path, rungs, chosen, task):
    drawn = [
        rung(size, metric, accepted=accepted, chosen=index == chosen % len(rungs), schemes="1 w4 + " * index + "$x$")
        for index, (size, metric, accepted) in enumerate(rungs)
    ]
    width, height = png_size(draw_ladder(drawn, tmp_path / "ladder.png", task=task))
    assert 500 < width < 4000 and 300 < height < 3000


def test_another_choice_is_another_picture(tmp_path):
    pictures = set()
    for chosen in range(2):
        rungs = [rung(size, 0.9, chosen=index == chosen) for index, size in enumerate((1000, 2000))]
        pictures.add(draw_ladder(rungs, tmp_path / f"{chosen}.png", task=Task.CLASSIFICATION).read_bytes())
    assert len(pictures) == 2


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(MoeEdgeError, match="nowhere"):
        draw_ladder([rung(1, 1, chosen=True)], tmp_path / "nowhere" / "l.png", task=Task.REGRESSION)
