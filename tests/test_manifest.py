from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.config import Combine, Task
from moe_edge.errors import ModelFileError
from moe_edge.manifest import FORMAT_VERSION, Golden, Manifest, Part, Role
from moe_edge.schema import Column, ColumnKind, FeatureSchema


def make_manifest(**changes) -> Manifest:
    schema = FeatureSchema(
        columns=(
            Column(name="höhe", minimum=-1.5, maximum=2),
            Column(name="c", kind=ColumnKind.CATEGORICAL, categories=("a", "b")),
        ),
        target="y",
        task=Task.CLASSIFICATION,
        labels=("no", "yes"),
    )
    values = {
        "task": Task.CLASSIFICATION,
        "combine": Combine.PROBABILITIES,
        "num_experts": 2,
        "scheme": "w8a8",
        "schema": schema,
        "parts": (Part(id="gate", role=Role.GATE), Part(id="expert_0", role=Role.EXPERT, scheme="w8a8", usage=0.25)),
        "input_shape": (2,),
        "golden": Golden(inputs=((1.5, None),), predictions=((0.25, 0.75),)),
        "calibration": {"rows": 100, "rows_per_expert": [60, 40]},
        "tools": {"moe-edge": "0.1.0"},
    }
    return Manifest(**(values | changes))


def test_round_trips_byte_for_byte():
    manifest = make_manifest()
    content = manifest.to_json()
    again = Manifest.from_json(content, source="m.tflite")
    assert again == manifest and again.to_json() == content
    assert "höhe".encode() in content


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.text(), min_size=1, max_size=4).map(tuple),
    mass=st.none() | st.floats(0, 1),
    extras=st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3),
)
def test_any_labels_and_extras_round_trip(labels, mass, extras):
    schema = FeatureSchema(columns=(Column(name="n"),), target="y", task=Task.CLASSIFICATION, labels=labels)
    manifest = make_manifest(schema=schema, mass=mass, extras=extras)
    assert Manifest.from_json(manifest.to_json(), source="m") == manifest


def test_nan_is_never_written():
    with pytest.raises(ValueError, match="JSON"):
        make_manifest(mass=float("nan")).to_json()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format_version":1}',
        b'{"task":"x"}',
        b'{"a":NaN}',
    ],
)
def test_what_is_no_manifest(content):
    with pytest.raises(ModelFileError, match=r"m.tflite: the manifest inside can't be read.*convert the model again"):
        Manifest.from_json(content, source="m.tflite")


def test_a_newer_manifest_asks_for_a_newer_program():
    data = json.loads(make_manifest().to_json()) | {"format_version": FORMAT_VERSION + 1, "news": True}
    with pytest.raises(ModelFileError, match="upgrade moe-edge"):
        Manifest.from_json(json.dumps(data).encode(), source="m.tflite")


def test_unknown_keys_and_roles_are_refused():
    data = json.loads(make_manifest().to_json())
    with pytest.raises(ModelFileError, match="unknown key 'experts'"):
        Manifest.from_json(json.dumps(data | {"experts": 3}).encode(), source="m")
    data["parts"][0]["role"] = "king"
    with pytest.raises(ModelFileError, match="expected one of preprocess, trunk, gate"):
        Manifest.from_json(json.dumps(data).encode(), source="m")
