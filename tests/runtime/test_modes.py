from __future__ import annotations

import pytest

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
