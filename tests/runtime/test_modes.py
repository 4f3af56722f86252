from __future__ import annotations

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.errors import ModelFileError
from moe_edge.runtime.modes import Request


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sparse"}, "expected mode among auto, dense, routed, got 'sparse'"),
        ({"mass": 0}, "0 < mass <= 1, got 0"),
        ({"mass": 1.5}, "0 < mass <= 1"),
        ({"mass": float("nan")}, "0 < mass <= 1"),
        ({"top_k": 0}, "top_k to be a whole number"),
        ({"top_k": 1.5}, "top_k to be a whole number"),
        ({"max_experts": True}, "max_experts to be a whole number"),
        ({"top_k": 1, "mass": 0.5}, "top_k or mass, got both"),
        ({"mode": "dense", "mass": 0.5}, "no mass, top_k or max_experts in mode dense"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Request(**options)


def test_a_request_that_exists_is_valid():
    assert Request(mode="routed", mass=1, max_experts=3).mass == 1
    assert Request(top_k=2).mode == "auto"


def test_a_top_k_file_without_its_experts_runs_whole(mixture_file):
    whole = mixture_file("fused_1")
    rows = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    with Predictor(whole) as predictor, Predictor(mixture_file("gathered_1")) as other:
        np.testing.assert_allclose(predictor.predict_proba(rows), other.predict_proba(rows), atol=1e-6)
    with pytest.raises(ModelFileError, match="no signature 'gate'"):
        Predictor(whole, mode="routed")
