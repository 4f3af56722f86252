"""Which files moe.js opens, what it says of others, and that LiteRT.js itself agrees with `convert --target web`."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise

import numpy as np
import pytest
from chromium_answers import WEB, served

from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.file_writer import read_model, serialize
from moe_edge_converters.given_rows import probe_rows
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import MixtureSpec, dense_stack
from moe_edge_converters.targets.target import Target
from moe_edge_converters.targets.target_check import check_target

pytestmark = pytest.mark.slow

OPEN = """
return moe.loadMoe(Uint8Array.from(argument), {source: 'it'}).then(
  async (model) => { await model.dispose(); return 'opened'; }, (error) => `${error.name}: ${error.message}`);
"""
INT8, INT64, BOOL = 9, 4, 6


@pytest.fixture
def open_(library):
    return lambda content: library(OPEN, list(content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected a .tflite, got an empty file"),
        (b"PK\x03\x04" + bytes(100), "got a zip or .keras archive"),
        (b"<!doctype html><title>404</title>", "got a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "got a Git LFS pointer"),
        (bytes(4) + b"TFL3" + bytes(20), "truncated or damaged|without a manifest"),
        (b"\xff" * 4 + b"TFL3" + b"\xff" * 40, "truncated or damaged"),
        (bytes(range(256)), "got another kind of file"),
    ],
)
def test_other_files_are_named(open_, content, reason):
    assert re.search(reason, open_(content))


def test_damage_anywhere_is_found_before_the_runtime_sees_it(library, open_, mixture_file):
    sound = mixture_file("plain").read_bytes()
    random = np.random.default_rng(0)
    script = """
    const [bytes, changes, lengths] = argument;
    const open = (content) => moe.loadMoe(content, {source: 'it'}).then(() => 'opened', (error) => `${error}`);
    const said = [];
    for (const at of changes) said.push(await open(Uint8Array.from(bytes).map((byte, index) => byte ^ (index === at ? 65 : 0))));
    for (const length of lengths) said.push(await open(Uint8Array.from(bytes.slice(0, length))));
    return said;
    """
    changes = random.integers(0, len(sound), 60).tolist()
    lengths = [30, len(sound) // 3, len(sound) - 1]
    said = library(script, [list(sound), changes, lengths])
    for place, text in zip([*changes, *lengths], said, strict=True):
        assert text.startswith("MoeError: it: "), (place, text)
    assert open_(sound) == "opened"


def test_a_foreign_tflite_is_no_mixture(open_, mixture_file):
    model = read_model(mixture_file("plain").read_bytes())
    model.metadata, model.metadataBuffer = [], []
    assert "got one of another tool, without a manifest" in open_(serialize(model, manifest=None))


def test_a_newer_manifest_and_a_broken_one(open_, mixture_file, rewrite_manifest):
    path = mixture_file("plain")
    newer = rewrite_manifest(path, lambda text: text.replace('"format_version":1', '"format_version":9'))
    assert "expected manifest version 1 or older, got 9" in open_(newer)
    assert "can't be read" in open_(rewrite_manifest(path, lambda text: text[:-1]))


def test_the_self_test_passes_and_can_fail(library, mixture_file, rewrite_manifest):
    script = """
    const model = await moe.loadMoe(Uint8Array.from(argument));
    const found = await model.selfTest();
    await model.dispose();
    return found;
    """
    for kind, scheme in (("table", "float32"), ("plain", "w8a8"), ("regression", "float32")):
        path = mixture_file(kind, scheme=scheme)
        found = library(script, list(path.read_bytes()))
        assert found["passed"] and found["numRows"] >= 2 and found["notRouted"] is None
        assert [check["mode"] for check in found["modes"]] == ["dense", "routed"]
        if kind != "regression":
            assert all(check["sameLabels"] == found["numRows"] for check in found["modes"])

    def spoil(text: str) -> str:
        start = text.index('"predictions":[[') + len('"predictions":[[')
        end = text.index(",", start)
        return f"{text[:start]}{'9' * (end - start)}{text[end:]}"

    spoilt = library(script, list(rewrite_manifest(mixture_file("plain"), spoil)))
    assert not spoilt["passed"] and spoilt["modes"][0]["maxDifference"] > 0.1


@pytest.fixture(scope="module")
def litert_js(browser, dist, tmp_path_factory):
    """LiteRT.js alone: gives None where it loads a file and runs serving_default, else its own words."""
    folder = tmp_path_factory.mktemp("litert")
    (folder / "blank.html").write_text("<!doctype html><body></body>", encoding="utf-8")
    (folder / "wasm").symlink_to(WEB / "node_modules" / "@litertjs" / "core" / "wasm")
    esbuild = ["node", str(WEB / "node_modules/esbuild/bin/esbuild"), "--bundle", "--format=esm", "--log-level=error"]
    subprocess.run(
        [*esbuild, f"--outfile={folder / 'litert.js'}"],
        cwd=WEB,
        input="export * from '@litertjs/core';",
        text=True,
        check=True,
    )
    script = """async (bytes) => {
      const L = await import('./litert.js');
      window.started ??= L.loadLiteRt('./wasm/');
      await window.started;
      try {
        const model = await L.loadAndCompile(Uint8Array.from(bytes), {accelerator: 'wasm'});
        try {
          const runner = model.signatures.serving_default;
          if (!runner) return 'no serving_default';
          const [{shape}] = runner.getInputDetails();
          const x = new L.Tensor(new Float32Array(shape.reduce((a, b) => a * Math.abs(b), 1)), [...shape].map(Math.abs));
          const outputs = await runner.run({x});
          const count = outputs.prediction.toTypedArray().length;
          for (const tensor of [x, ...Object.values(outputs)]) tensor.delete();
          return count > 0 ? null : 'empty';
        } finally { model.delete(); }
      } catch (error) { return String(error.message ?? error); }
    }"""
    with served(folder) as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(address + "blank.html")
        yield lambda content: page.evaluate(script, list(content))
        context.close()


@pytest.fixture(scope="module")
def spec():
    random = np.random.default_rng(5)

    def stack(sizes, last):
        layers = [(random.normal(size=pair) / np.sqrt(pair[0]), np.zeros(pair[1]), "relu") for pair in pairwise(sizes)]
        return dense_stack([*layers[:-1], (*layers[-1][:2], last)])

    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(8,),
        gate=stack([8, 6, 3], "softmax"),
        experts=tuple(stack([8, 16, 4], "softmax") for _ in range(3)),
        num_outputs=4,
    )


@pytest.fixture(scope="module")
def convert(spec, tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")

    def make(**options) -> bytes:
        path = folder / f"{len(list(folder.iterdir()))}.tflite"
        convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=ConversionOptions(**options))
        return path.read_bytes()

    return make


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": Scheme.FLOAT32},
        {"scheme": Scheme.FLOAT16},
        {"scheme": Scheme.DYNAMIC_W8},
        {"scheme": Scheme.W8A8},
        {"scheme": Scheme.W8A16},
        {"scheme": Scheme.W4},
        {"scheme": Scheme.W8A8, "self_contained": True},
        {"scheme": Scheme.FLOAT32, "top_k": 2},
        {"scheme": Scheme.W8A8, "routed": False},
    ],
    ids=lambda options: "-".join(str(getattr(value, "value", value)) for value in options.values()),
)
def test_what_the_target_accepts_runs(convert, litert_js, options):
    assert litert_js(convert(target=Target.WEB, **options)) is None


def edge(model, signature: str, name: str, *, output: bool):
    found = next(each for each in model.signatureDefs if each.signatureKey == signature.encode())
    entries = found.outputs if output else found.inputs
    entry = next(each for each in entries if each.name == name.encode())
    return model.subgraphs[found.subgraphIndex].tensors[entry.tensorIndex]


@pytest.mark.parametrize("change", ["int8 edges", "int64 output", "bool output", "free batch", "no serving_default"])
def test_what_the_target_refuses_litert_js_refuses(convert, spec, litert_js, change):
    """Each refusal of the table stands for one of LiteRT.js itself."""
    content = convert(scheme=Scheme.W8A8, int8_io=change == "int8 edges")
    model = read_model(content)
    if change in ("int64 output", "bool output"):
        edge(model, "expert_1", "output", output=True).type = INT64 if change == "int64 output" else BOOL
    elif change == "free batch":
        tensor = edge(model, "serving_default", "x", output=False)
        tensor.shapeSignature = np.array([-1, *list(tensor.shape)[1:]], dtype=np.int32)
    elif change == "no serving_default":
        del model.signatureDefs[0]
    changed = content if change == "int8 edges" else serialize(model, manifest=None)
    rows = probe_rows(spec)
    with pytest.raises(ConversionError):
        check_target(changed, Target.WEB, rows)
    assert litert_js(changed) is not None


def test_int8_edges_are_explained(open_, convert):
    assert "x of serving_default is int8; convert the model with --target web" in open_(
        convert(scheme=Scheme.W8A8, int8_io=True)
    )
