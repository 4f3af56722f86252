from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from moe_edge.errors import ModelFileError
from moe_edge.runtime import model_file
from moe_edge.runtime.integrity import HASH_BYTES, compute_digests, find_head
from moe_edge.runtime.model_file import ModelFile


def test_opens_by_path_and_by_bytes(mixture_file):
    path = mixture_file("plain", scheme="w8a8")
    with ModelFile.open(path) as by_path, ModelFile.open(path.read_bytes()) as by_bytes:
        assert by_path.path == path and by_bytes.path is None
        assert by_path.manifest == by_bytes.manifest
        assert by_path.manifest.scheme == "w8a8"
        signature = by_path.signatures["serving_default"]
        assert signature.subgraph == 0 and set(signature.inputs) == {"x"}
        assert {"prediction", "routing_weights"} <= set(signature.outputs)
        assert by_path.subgraphs[0].outputs[0] == signature.outputs["prediction"]
        assert by_path.structure.head < len(by_path.content)
        by_path.verify_weights()
        by_bytes.verify_weights()
    by_path.close()


def test_a_foreign_file_opens_without_manifest(foreign_model):
    with ModelFile.open(foreign_model) as file:
        assert file.manifest is None and file.signatures == {}
        assert file.subgraphs[0].tensors[1].shape == (2, 4)
        assert file.structure.head == len(foreign_model)
        with pytest.raises(ModelFileError, match="foreign"):
            file.verify_weights()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got nothing"),
        (b"short", "another kind of file"),
        (b"PK\x03\x04" + bytes(60), "moe-edge convert"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5"),
        (b"<!DOCTYPE html><html>" + bytes(60), "web page"),
        (b"\n  <html>" + bytes(60), "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x1f\x8b\x08\x00" + bytes(60), "gzip"),
        (b"a,b,c\n1,2,3\n" * 9, "another kind of file"),
        (bytes(4) + b"TFL3", "truncated or damaged"),
        (b"\xff\xff\xff\xffTFL3" + bytes(60), "truncated or damaged"),
    ],
)
def test_other_files_are_named(content, message, tmp_path):
    with pytest.raises(ModelFileError, match=message):
        ModelFile.open(content)
    if content:
        (tmp_path / "model.tflite").write_bytes(content)
        with pytest.raises(ModelFileError, match=message):
            ModelFile.open(tmp_path / "model.tflite")


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(ModelFileError, match="there is no file"):
        ModelFile.open(tmp_path / "none.tflite")
    with pytest.raises(ModelFileError, match="got the folder"):
        ModelFile.open(tmp_path)
    (tmp_path / "empty.tflite").touch()
    with pytest.raises(ModelFileError, match="empty file"):
        ModelFile.open(tmp_path / "empty.tflite")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="no regular file"):
        ModelFile.open(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file(tmp_path):
    (tmp_path / "secret.tflite").write_bytes(b"x")
    (tmp_path / "secret.tflite").chmod(stat.S_IWUSR)
    with pytest.raises(ModelFileError, match="can't read"):
        ModelFile.open(tmp_path / "secret.tflite")


@pytest.mark.parametrize("scheme", ["float32", "w8a8"])
def test_every_truncation_is_refused(mixture_file, scheme):
    content = mixture_file("plain", scheme=scheme).read_bytes()
    for length in {*range(0, len(content), 997), len(content) - 1, len(content) - 20}:
        with pytest.raises(ModelFileError):
            ModelFile.open(content[:length])


def test_every_changed_byte_before_the_weights_is_noticed(mixture_file):
    content = bytearray(mixture_file("table").read_bytes())
    with ModelFile.open(bytes(content)) as file:
        head = file.structure.head
        weights_digest_at = file.structure.metadata["moe_edge_sha256"][0] + HASH_BYTES // 2
    for at in range(8, head, 61):
        if weights_digest_at <= at < weights_digest_at + HASH_BYTES // 2:
            continue
        content[at] ^= 0x10
        with pytest.raises(ModelFileError):
            ModelFile.open(bytes(content))
        content[at] ^= 0x10


def test_changed_weights_are_noticed_on_opening_where_they_are_few(mixture_file, tmp_path):
    content = bytearray(mixture_file("plain").read_bytes())
    content[-5] ^= 1
    path = tmp_path / "changed.tflite"
    path.write_bytes(content)
    for model in (bytes(content), path):
        with pytest.raises(ModelFileError, match="weights are damaged"):
            ModelFile.open(model)


def test_changed_weights_of_a_large_file_are_noticed_when_asked(mixture_file, monkeypatch):
    monkeypatch.setattr(model_file, "SMALL_WEIGHTS_BYTES", 0)
    content = bytearray(mixture_file("plain").read_bytes())
    content[-5] ^= 1
    with ModelFile.open(bytes(content)) as file, pytest.raises(ModelFileError, match="weights are damaged"):
        file.verify_weights()


def test_opening_leaves_no_file_open(mixture_file, tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    (tmp_path / "bad.tflite").write_bytes(mixture_file("plain").read_bytes()[:5000])
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        with pytest.raises(ModelFileError):
            ModelFile.open(tmp_path / "bad.tflite")
        ModelFile.open(mixture_file("plain")).close()
    assert len(list(descriptors.iterdir())) == before


def test_head_and_digests():
    assert find_head([0, 1, 900, 640, 0], total_bytes=1000) == 640
    assert find_head([0, 1], total_bytes=1000) == 1000
    content = bytes(range(256)) * 2
    digests = compute_digests(content, head=300, hash_at=100)
    filled = content[:100] + digests + content[164:]
    assert compute_digests(filled, head=300, hash_at=100) == digests
    changed = compute_digests(content[:-1] + b"!", head=300, hash_at=100)
    assert changed[:32] == digests[:32] and changed[32:] != digests[32:]
    changed = compute_digests(b"!" + content[1:], head=300, hash_at=100)
    assert changed[:32] != digests[:32] and changed[32:] == digests[32:]
    for hash_at in (-1, 237, 600):
        with pytest.raises(ValueError, match="inside"):
            compute_digests(content, head=300, hash_at=hash_at)
