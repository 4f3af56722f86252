"""Every picture is written as a readable PNG for any labels, sizes and counts that a user's table may have."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_edge.errors import MoeEdgeError
from moe_edge.pictures.canvas import plain_text, tick_step
from moe_edge.pictures.curves import draw_training_curves
from moe_edge.pictures.heatmaps import draw_confusion, draw_usage_by_class
from moe_edge.pictures.mixture import MixtureDrawing, draw_mixture
from moe_edge.pictures.schemes import SchemeResult, draw_schemes

NASTY = ["price_$_in_$", "a\nb", "<b>&amp;", "ÄÖÜ é", "x" * 200, r"\alpha", "{%", "_^_", ""]


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def mixture(num_experts, names=("a", "b"), answer="y: a number"):
    usage = np.random.default_rng(num_experts).dirichlet(np.ones(num_experts))
    return MixtureDrawing(
        feature_names=names, answer=answer, expert_layers=(64, 32, 3), gate_layers=(32, num_experts), usage=tuple(usage)
    )


@pytest.mark.parametrize("num_experts", [2, 5, 10, 11, 128])
def test_a_mixture_of_any_size_is_drawn(num_experts, tmp_path):
    width, height = png_size(draw_mixture(mixture(num_experts), tmp_path / "m.png"))
    assert width > 1000 and 500 < height < 2000


def test_names_from_the_users_table_are_drawn_verbatim(tmp_path):
    png_size(draw_mixture(mixture(3, NASTY, "tar$get$: one of 3 labels"), tmp_path / "m.png"))
    codes = np.arange(len(NASTY))
    weights = np.full((len(NASTY), 2), 0.5)
    png_size(draw_usage_by_class(weights, codes, NASTY, tmp_path / "u.png", row_title="tar$get$"))
    png_size(draw_confusion(codes, codes[::-1], NASTY, tmp_path / "c.png", scheme="w8a8"))


@given(st.text(max_size=80), st.integers(2, 40))
def test_plain_text_is_one_short_line_without_mathematics(text, limit):
    plain = plain_text(text, limit)
    assert "\n" not in plain and len(plain.replace(r"\$", "$")) <= limit
    assert plain.replace(r"\$", "").count("$") == 0


@given(st.integers(1, 10_000), st.integers(1, 50))
def test_labelled_ticks_never_crowd(count, most):
    assert len(range(0, count, tick_step(count, most))) <= most


@pytest.mark.parametrize("epochs", [1, 2, 100])
def test_curves_of_any_length(epochs, tmp_path):
    history = {"loss": [0.5] * epochs, "val_loss": [0.6] * epochs, "accuracy": [0.9] * epochs}
    png_size(draw_training_curves(history, tmp_path / "t.png", best_epoch=1))


def test_curves_need_a_metric(tmp_path):
    with pytest.raises(ValueError, match="at least one metric"):
        draw_training_curves({"val_loss": [1.0], "loss": []}, tmp_path / "t.png")
    assert not (tmp_path / "t.png").exists()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 70), st.integers(1, 60))
def test_heat_maps_of_any_number_of_classes(tmp_path, num_classes, num_rows):
    random = np.random.default_rng(num_classes)
    labels = [f"class {code}" for code in range(num_classes)]
    codes, others = random.integers(0, num_classes, (2, num_rows))
    png_size(draw_confusion(codes, others, labels, tmp_path / "c.png", scheme="w8a8"))
    weights = random.dirichlet(np.ones(20), num_rows)
    png_size(draw_usage_by_class(weights, codes, labels, tmp_path / "u.png"))


def test_schemes_are_drawn_with_zero_and_equal_values(tmp_path):
    results = [
        SchemeResult(scheme=name, num_bytes=size, accuracy=0.0, agreement=1.0, row_us=0.0)
        for name, size in (("float32", 1), ("w8a8", 10**9))
    ]
    png_size(draw_schemes(results, tmp_path / "s.png"))
    with pytest.raises(ValueError, match="at least one scheme"):
        draw_schemes([], tmp_path / "s.png")


def test_a_picture_that_cannot_be_written_is_the_users_error(tmp_path):
    with pytest.raises(MoeEdgeError, match="no folder"):
        draw_mixture(mixture(2), tmp_path / "missing" / "m.png")
