"""``moe-edge inspect``: our files, foreign files, and what is no .tflite."""

import json

import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A .tflite without metadata: x times a constant."""
    import numpy as np

    from moe_edge_converters.file_writer import pack
    from moe_edge_converters.graphs.graph import GraphBuilder, new_model

    builder = GraphBuilder(new_model("another tool's"), "main")
    factor = builder.constant("factor", np.full((1, 4), 2, np.float32))
    builder.output("y", builder.binary("MUL", builder.input("x", (4,)), factor, name="product"))
    path = tmp_path_factory.mktemp("inspect") / "foreign.tflite"
    path.write_bytes(pack(builder.model))
    return path


def test_our_file(mixture_file):
    path = mixture_file("table", scheme="w8a8")
    result = run(path)
    assert result.exit_code == 0, result.output
    assert f"{path.stat().st_size:,} bytes" in result.output
    for text in ("serving_default", "x float32[1, 3]", "prediction float32[1, 2]", "FULLY_CONNECTED", "bank_0"):
        assert text in result.output, text
    for text in ("w8a8", "height, colour, price", "bad, good", "calibration", "Next: moe-edge predict"):
        assert text in result.output, text


@pytest.mark.parametrize(
    ("kind", "scheme", "per_tensor"),
    [("plain", "float32", False), ("regression", "float16", False), ("plain", "dynamic_w8", True)],
)
def test_every_kind_of_file(mixture_file, kind, scheme, per_tensor):
    result = run(mixture_file(kind, scheme=scheme, per_tensor=per_tensor))
    assert result.exit_code == 0, result.output
    assert scheme in result.output and ("per tensor" in result.output) == per_tensor


def test_json_holds_the_whole_inspection(mixture_file):
    path = mixture_file("plain", scheme="w8a8")
    document = json.loads(run(path, "--json").stdout)
    assert document["path"] == str(path) and document["num_bytes"] == path.stat().st_size
    assert document["manifest"]["num_experts"] == 4 and document["manifest"]["scheme"] == "w8a8"
    assert document["signatures"][0]["name"] == "serving_default"
    parts = {part["name"]: part for part in document["parts"]}
    assert parts["gate"]["num_bytes"] >= 4 * (64 * 16 + 16 * 4)
    assert sum(part["num_bytes"] for part in parts.values()) < document["num_bytes"]


def test_quiet_prints_nothing(mixture_file):
    result = run(mixture_file("plain"), "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_a_foreign_file_is_shown_as_it_is(foreign):
    result = run(foreign)
    assert result.exit_code == 0, result.output
    assert "another tool's" in result.output and "No moe-edge manifest inside" in result.output
    assert "MUL" in result.output and "whole graph" in result.output
    assert "Next:" not in result.output
    assert json.loads(run(foreign, "--json").stdout)["manifest"] is None


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_files_end_in_one_line(mixture_file, tmp_path, share):
    content = mixture_file("plain").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(share * len(content))])
    result = run(path)
    assert result.exit_code == 1
    assert "cut.tflite" in result.output and len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PK\x03\x04 a zip", "a zip archive, perhaps a .keras"), (b"colour,price\n1,2\n", "expected a .tflite")],
)
def test_other_files_are_named(tmp_path, content, message):
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    result = run(path)
    assert result.exit_code == 1 and message in result.output


def test_a_missing_file_is_a_usage_error(tmp_path):
    assert run(tmp_path / "nowhere.tflite").exit_code == 2
