"""inspect_file: ours with its manifest and parts, a foreign file as one part, and what is no .tflite at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge.errors import ModelFileError
from moe_edge_converters.file_writer import pack
from moe_edge_converters.inspection import _SeenBytes, inspect_file


def test_our_file(mixture_file):
    path = mixture_file("plain", scheme="w8a8")
    found = inspect_file(path)
    assert found.num_bytes == path.stat().st_size
    assert found.manifest is not None and found.manifest.scheme == "w8a8"
    serving = found.signatures[0]
    assert (serving.name, serving.subgraph) == ("serving_default", 0)
    assert [(view.name, view.shape, view.dtype) for view in serving.inputs] == [("x", (1, 64), "float32")]
    assert [(view.name, view.shape, view.dtype) for view in serving.outputs] == [
        ("prediction", (1, 3), "float32"),
        ("routing_weights", (1, 4), "float32"),
    ]
    parts = {part.name: part for part in found.parts}
    assert {"gate", "bank_0", "expert_0", "expert_3"} <= parts.keys()
    assert "float32" in parts["gate"].dtypes and "int8" not in parts["gate"].dtypes
    assert "int8" in parts["bank_0"].dtypes
    assert any(view.name == "FULLY_CONNECTED" for view in found.operators)


@settings(max_examples=100, deadline=None)
@given(ranges=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=12))
def test_every_byte_is_counted_for_its_first_user_only(ranges):
    seen, counted = set(), _SeenBytes()
    for start, size in ranges:
        new = set(range(start, start + size)) - seen
        assert counted.add(start, start + size) == len(new)
        seen |= new


@pytest.mark.parametrize("scheme", ["float32", "w8a8"])
def test_bytes_of_parts_add_up_to_less_than_the_file(mixture_file, scheme):
    found = inspect_file(mixture_file("plain", scheme=scheme))
    stored = sum(part.num_bytes for part in found.parts)
    # 4 experts of 64 x 32 and 32 x 3, a gate of 64 x 16 and 16 x 4; the rest is biases, scales and the flatbuffer.
    weights = 4 * (64 * 32 + 32 * 3) * (1 if scheme == "w8a8" else 4) + 4 * (64 * 16 + 16 * 4)
    assert weights <= stored < 1.25 * weights
    assert stored < found.num_bytes


def test_a_quantized_bank_is_a_quarter(mixture_file):
    sizes = {
        scheme: {part.name: part.num_bytes for part in inspect_file(mixture_file("plain", scheme=scheme)).parts}
        for scheme in ("float32", "w8a8")
    }
    assert sizes["w8a8"]["bank_0"] < 0.3 * sizes["float32"]["bank_0"]
    assert sizes["w8a8"]["gate"] == sizes["float32"]["gate"]


def test_a_foreign_file_is_one_part(mixtures, tmp_path):
    path = tmp_path / "foreign.tflite"
    path.write_bytes(pack(mixtures.fuse(mixtures.make_spec())[0]))
    found = inspect_file(path)
    assert found.manifest is None and found.metadata == ()
    assert [part.name for part in found.parts] == ["whole graph"]
    assert found.parts[0].num_bytes > 0


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(mixture_file, tmp_path, share):
    content = mixture_file("plain").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match=r"cut\.tflite"):
        inspect_file(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"<html>", np.random.default_rng(0).bytes(500)])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"expected a \.tflite"):
        inspect_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no file .*nowhere\.tflite"):
        inspect_file(tmp_path / "nowhere.tflite")
