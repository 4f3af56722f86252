from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.config import ExpertConfig, GateConfig, MixtureConfig, TrainingConfig
from moe_edge.strict import from_dict, to_dict


class Colour(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    size: int
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"expected size >= 0, got {self.size}")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    colour: Colour = Colour.RED
    inners: tuple[Inner, ...] = ()
    flag: bool = False
    maybe: int | None = None
    rows: tuple[tuple[float | None, ...], ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INNERS = st.builds(Inner, size=st.integers(0, 10**12), ratio=FLOATS)
JSON_VALUES = st.recursive(st.none() | st.booleans() | st.integers() | FLOATS | st.text(), st.lists, max_leaves=5)
OUTERS = st.builds(
    Outer,
    name=st.text(),
    inner=INNERS,
    colour=st.sampled_from(Colour),
    inners=st.lists(INNERS, max_size=3).map(tuple),
    flag=st.booleans(),
    maybe=st.none() | st.integers(),
    rows=st.lists(st.lists(st.none() | FLOATS, max_size=3).map(tuple), max_size=3).map(tuple),
    sizes=st.dictionaries(st.text(), st.integers(), max_size=3),
    anything=st.dictionaries(st.text(), JSON_VALUES, max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(OUTERS)
def test_json_round_trips(value):
    assert from_dict(Outer, json.loads(json.dumps(to_dict(value)))) == value


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 99), max_size=3).map(tuple), st.integers(2, 64), st.none() | st.floats(0, 10))
def test_configs_round_trip(hidden, experts, balance):
    config = MixtureConfig(
        expert=ExpertConfig(hidden=hidden), gate=GateConfig(num_experts=experts, load_balancing_coef=balance)
    )
    assert from_dict(MixtureConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert from_dict(TrainingConfig, to_dict(TrainingConfig.classical(seed=3))) == TrainingConfig.classical(seed=3)


GOOD = {"name": "n", "inner": {"size": 1}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": 1}, "Outer: unknown key 'nmae'"),
        ({"inner": {"size": 1, "sise": 2}}, "Outer.inner: unknown key 'sise'"),
        ({"inner": {}}, "Outer.inner: missing key 'size'"),
        ({"inner": 3}, "Outer.inner: expected an object, got int"),
        ({"inner": {"size": "1"}}, "Outer.inner.size: expected int, got '1'; write 1 without quotes"),
        ({"inner": {"size": "many"}}, "Outer.inner.size: expected int, got 'many'$"),
        ({"inner": {"size": True}}, "expected int, got True"),
        ({"inner": {"size": 1.0}}, "expected int, got 1.0"),
        ({"inner": {"size": -1}}, "expected size >= 0"),
        ({"inner": {"size": 1, "ratio": "x"}}, "expected float"),
        ({"inner": {"size": 1, "ratio": None}}, "expected float"),
        ({"name": None}, "Outer.name: expected str"),
        ({"colour": "green"}, "expected one of red, blue, got 'green'"),
        ({"inners": {}}, "Outer.inners: expected a list"),
        ({"inners": [{"size": 1}, {"size": "x"}]}, r"Outer.inners\[1\].size"),
        ({"flag": 1}, "Outer.flag: expected bool"),
        ({"maybe": "x"}, "Outer.maybe: expected int"),
        ({"sizes": {"a": "b"}}, "Outer.sizes.a: expected int"),
        ({"sizes": []}, "expected an object"),
    ],
)
def test_wrong_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Outer, GOOD | change)


def test_what_is_no_object():
    for data in (None, [], "x", 3):
        with pytest.raises(ValueError, match="manifest: expected an object"):
            from_dict(Outer, data, where="manifest")
