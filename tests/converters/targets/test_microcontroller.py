"""C sources: they compile, hold the model's very bytes, aligned, and name the operators of its resolver."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.targets import microcontroller
from moe_edge_converters.targets.microcontroller import (
    build_sources,
    c_name,
    resolver_method,
    strip_metadata,
    write_sources,
)
from moe_edge_converters.targets.operator_support import MICRO_OPERATORS
from moe_edge_converters.targets.target import Target
from moe_edge_converters.targets.target_runs import run_litert

PROGRAM = """
#include <cstdint>
#include <cstdio>
#include "{name}.h"
#include "{name}.h"
int main() {{
  if (reinterpret_cast<std::uintptr_t>({symbol}) % 16) return 2;
  std::fwrite({symbol}, 1, {symbol}_len, stdout);
  return 0;
}}
"""


@pytest.fixture(scope="module")
def rows(mixtures):
    return mixtures.make_rows(mixtures.make_spec(preprocess=True), 50)


@pytest.fixture(scope="module")
def model(mixtures, rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("micro") / "my-model.v2.tflite"
    options = ConversionOptions(target=Target.MICROCONTROLLER)
    return convert_spec(mixtures.make_spec(preprocess=True), path, reference=None, rows=rows, options=options)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_sources_compile_and_hold_the_model(model, tmp_path):
    header, source = write_sources(tmp_path / "my-model.v2.tflite", model.path.read_bytes(), arena_bytes=4096)
    assert (header.name, source.name) == ("my-model.v2.h", "my-model.v2.cc")
    (tmp_path / "main.cc").write_text(PROGRAM.format(name="my-model.v2", symbol="my_model_v2"))
    command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "main.cc", source.name, "-o", "program"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([tmp_path / "program"], capture_output=True, check=False)
    assert ran.returncode == 0 and ran.stdout == strip_metadata(model.path.read_bytes())


def test_the_array_answers_like_the_file_without_its_manifest(model, rows):
    content = model.path.read_bytes()
    array = strip_metadata(content)
    assert len(array) < len(content) and b"moe_edge_manifest" in content
    assert b"moe_edge" not in array and model.manifest.to_json()[:40] not in array
    for name, answers in run_litert(array, rows).answers.items():
        np.testing.assert_array_equal(answers, run_litert(content, rows).answers[name])


def test_the_header_lists_each_operator_once(model):
    content = strip_metadata(model.path.read_bytes())
    header = build_sources(content, "model", arena_bytes=None).header
    methods = re.findall(r"resolver\.(Add\w+)\(\);", header)
    assert methods == sorted(set(methods), key=methods.index) and "AddFullyConnected" in methods
    assert {"AddSelectV2", "AddNotEqual", "AddQuantize", "AddDequantize"} <= set(methods)
    assert f"model_num_operators = {len(methods)};" in header
    assert f"model_len = {len(content)};" in header and "arena_bytes" not in header
    assert "#ifndef MODEL_H_" in header


def test_the_same_model_gives_the_same_sources(model):
    content = strip_metadata(model.path.read_bytes())
    assert build_sources(content, "a", arena_bytes=1) == build_sources(content, "a", arena_bytes=1)


@pytest.mark.parametrize(
    ("operator", "method"),
    [
        ("FULLY_CONNECTED", "AddFullyConnected"),
        ("SELECT_V2", "AddSelectV2"),
        ("CONV_2D", "AddConv2D"),
        ("BATCH_MATMUL", "AddBatchMatMul"),
        ("SPACE_TO_BATCH_ND", "AddSpaceToBatchNd"),
        ("RELU6", "AddRelu6"),
        ("SQUARED_DIFFERENCE", "AddSquaredDifference"),
    ],
)
def test_methods_of_the_resolver(operator, method):
    assert operator in MICRO_OPERATORS and resolver_method(operator) == method


@pytest.mark.parametrize(("stem", "symbol"), [("digits", "digits"), ("a-b.c", "a_b_c"), ("3d", "model_3d"), ("é", "_")])
def test_c_names(stem, symbol):
    assert c_name(stem) == symbol


def test_a_failed_write_leaves_the_old_header(model, tmp_path, monkeypatch):
    (tmp_path / "m.h").write_text("old")

    def fail(path, content):
        raise OSError("disk full")

    monkeypatch.setattr(microcontroller, "write_atomically", fail)
    with pytest.raises(OSError, match="disk full"):
        write_sources(tmp_path / "m.tflite", model.path.read_bytes(), arena_bytes=None)
    assert (tmp_path / "m.h").read_text() == "old"
