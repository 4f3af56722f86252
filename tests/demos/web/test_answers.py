"""moe.js answers like the Predictor: the same files, row by row, whole and routed."""

from __future__ import annotations

import numpy as np
import pytest
from chromium_answers import answers

from moe_edge import Predictor

pytestmark = pytest.mark.slow

NUM_ROWS = 100
FLOAT, STEP = 1e-5, 1.001 / 256
CASES = [
    ("plain", "float32", FLOAT),
    ("plain", "w8a8", STEP),
    ("plain", "dynamic_w8", STEP),
    ("table", "float32", FLOAT),
    ("table", "w8a8", STEP),
    ("regression", "float32", FLOAT),
]
ROUTES = [{"mass": 1.0}, {"mass": 0.9}, {"mass": 0.8, "max_experts": 2}, {"top_k": 1}, {"top_k": 2}]
RUN = """
const [bytes, rows, routes] = argument;
const model = await moe.loadMoe(Uint8Array.from(bytes));
const plain = (answer) => ({...answer, prediction: [...answer.prediction], routingWeights: [...answer.routingWeights],
  sigma: answer.sigma && [...answer.sigma], expertMeans: answer.expertMeans && [...answer.expertMeans]});
const found = [[]];
for (const row of rows) found[0].push(plain(await model.predict(row)));
for (const options of routes) {
  const here = [];
  for (const row of rows) here.push(plain(await model.route(row, options)));
  found.push(here);
}
await model.dispose();
return found;
"""


def make_rows(kind: str) -> np.ndarray:
    random = np.random.default_rng(3)
    if kind == "table":
        rows = np.stack(
            [random.normal(1.7, 0.2, NUM_ROWS), random.integers(0, 3, NUM_ROWS), random.normal(5e3, 1e3, NUM_ROWS)],
            axis=1,
        )
        rows[random.random(rows.shape) < 0.1] = np.nan
        return rows.astype(np.float32)
    return random.normal(size=(NUM_ROWS, 64 if kind == "plain" else 6)).astype(np.float32)


@pytest.mark.parametrize(("kind", "scheme", "tolerance"), CASES)
def test_whole_and_routed_answers_are_the_predictors(library, mixture_file, kind, scheme, tolerance):
    path, rows = mixture_file(kind, scheme=scheme), make_rows(kind)
    names = {"max_experts": "maxExperts", "top_k": "topK", "mass": "mass"}
    routes = [{names[key]: value for key, value in route.items()} for route in ROUTES]
    found = library(RUN, [list(path.read_bytes()), rows.tolist(), routes])
    for options, got in zip([None, *ROUTES], found, strict=True):
        with Predictor(path, mode="dense") if options is None else Predictor(path, **options) as predictor:
            expected = predictor.predict_raw(rows)
            labels = predictor.predict(rows) if kind != "regression" else None
        scale = np.maximum(1.0, np.abs(expected["prediction"]))
        prediction = np.array([answer["prediction"] for answer in got])
        weights = np.array([answer["routingWeights"] for answer in got])
        assert (np.abs(prediction - expected["prediction"]) / scale).max() <= tolerance
        assert np.abs(weights - expected["routing_weights"]).max() <= tolerance
        if options is not None:
            assert [answer["expertsRun"] for answer in got] == expected["experts_run"].tolist()
        if kind == "regression":
            assert all(answer["label"] is None for answer in got)
            sigma = np.array([answer["sigma"] for answer in got])
            assert np.abs(sigma - expected["sigma"]).max() <= tolerance
            means = np.array([answer["expertMeans"] for answer in got]).reshape(expected["expert_means"].shape)
            ran = expected["routing_weights"] > 0
            assert np.abs(means - expected["expert_means"])[ran].max() <= tolerance * scale.max()
        else:
            sure = np.sort(expected["prediction"])[:, -1] - np.sort(expected["prediction"])[:, -2] > 2 * tolerance
            assert sure.mean() > 0.9
            assert np.array_equal(np.array([answer["label"] for answer in got])[sure], labels[sure])


@pytest.mark.parametrize("mode", ["dense", "routed"])
def test_the_digits_of_the_page(dist, held_out, mode):
    rows, labels = held_out
    path = dist / "models" / "digits.tflite"
    got = answers(path, rows, mode)
    with Predictor(path, mode=mode) as predictor:
        expected = predictor.predict_raw(rows)
    for name in ("prediction", "routing_weights"):
        assert got[name].dtype == np.float32 and got[name].shape == expected[name].shape
        assert np.abs(got[name] - expected[name]).max() <= STEP
    assert (got["prediction"].argmax(axis=1).astype(str) == labels).mean() > 0.9


def test_a_browser_without_relaxed_simd_answers_alike(mixture_file):
    rows = make_rows("plain")[:20]
    path = mixture_file("plain", scheme="w8a8")
    with Predictor(path, mode="dense") as predictor:
        expected = predictor.predict_raw(rows)["prediction"]
    for variant in ("compat", "relaxed"):
        assert np.abs(answers(path, rows, variant=variant)["prediction"] - expected).max() <= STEP


def test_windows_of_motion_in_both_modes(library, dist):
    """A model with a trunk of convolutions over raw samples."""
    path = dist / "models" / "motion.tflite"
    samples = np.fromfile(dist / "models" / "motion-recordings.bin", dtype="<f4").reshape(-1, 6)
    rows = np.stack([samples[start : start + 100].reshape(-1) for start in range(0, 20 * 90, 90)])
    found = library(RUN, [list(path.read_bytes()), rows.tolist(), [{"mass": 1}, {"topK": 1}]])
    for options, got in zip([{"mode": "dense"}, {"mass": 1.0}, {"top_k": 1}], found, strict=True):
        with Predictor(path, **options) as predictor:
            expected = predictor.predict_raw(rows)
        assert np.abs(np.array([answer["prediction"] for answer in got]) - expected["prediction"]).max() <= FLOAT
        weights = np.array([answer["routingWeights"] for answer in got])
        assert np.abs(weights - expected["routing_weights"]).max() <= FLOAT


def test_calls_at_the_same_time_answer_each_their_own_row(library, mixture_file):
    rows = make_rows("plain")[:50]
    script = """
    const model = await moe.loadMoe(Uint8Array.from(argument[0]));
    const both = await Promise.all(argument[1].flatMap((row) => [model.predict(row), model.route(row, {mass: 1})]));
    await model.dispose();
    return both.map(({prediction}) => [...prediction]);
    """
    path = mixture_file("plain")
    got = np.array(library(script, [list(path.read_bytes()), rows.tolist()])).reshape(50, 2, -1)
    with Predictor(path, mode="dense") as predictor:
        expected = predictor.predict_raw(rows)["prediction"]
    assert np.abs(got - expected[:, None]).max() <= FLOAT


def test_memory_stays_as_it_is(library, mixture_file):
    script = """
    const {heapBytes} = await moe.startRuntime();
    const used = [];
    const row = new Float32Array(64).fill(0.5);
    for (let round = 0; round < 3; round += 1) {
      const model = await moe.loadMoe(Uint8Array.from(argument));
      for (let count = 0; count < 1000; count += 1) {
        await model.predict(row);
        if (count % 4 === 0) await model.route(row, {topK: 2});
      }
      await model.dispose();
      used.push(heapBytes());
    }
    return used;
    """
    used = library(script, list(mixture_file("plain").read_bytes()))
    assert used[0] == used[1] == used[2] > 1e6


def test_what_a_row_must_be(library, mixture_file):
    script = """
    const [plain, table] = await Promise.all(argument.map((bytes) => moe.loadMoe(Uint8Array.from(bytes))));
    const tries = {
      short: () => plain.predict(new Float32Array(63)),
      nan: () => plain.predict(new Float32Array(64).fill(NaN)),
      infinite: () => table.predict([Infinity, 0, 1]),
      code: () => table.predict([1.7, 3, 1]),
      category: () => table.predict({height: 1.7, colour: 'pink', price: 5}),
      text: () => table.predict({height: 'tall', colour: 'red', price: 5}),
      column: () => table.predict({height: 1.7, colour: 'red'}),
      mass: () => plain.route(new Float32Array(64), {}),
      both: () => plain.route(new Float32Array(64), {mass: 0.5, topK: 1}),
      topK: () => plain.route(new Float32Array(64), {topK: 5}),
    };
    const said = {};
    for (const [name, call] of Object.entries(tries)) {
      said[name] = await call().then(() => 'answered', (error) => `${error.name}: ${error.message}`);
    }
    said.texts = (await table.predict({height: ' 1.7', colour: 'red', price: 'NA', other: 1})).label;
    said.numbers = (await table.predict([1.7, 2, NaN])).label;
    await plain.dispose();
    said.disposed = await plain.predict(new Float32Array(64)).catch((error) => error.message);
    await table.dispose();
    await table.dispose();
    return said;
    """
    files = [list(mixture_file(kind).read_bytes()) for kind in ("plain", "table")]
    said = library(script, files)
    assert said["short"] == "MoeError: row 1: expected 64 values, got 63"
    assert "takes no missing values" in said["nan"]
    assert "column 'height': expected a finite float32 number, got Infinity" in said["infinite"]
    assert "expected a category's code in [0, 3), got 3" in said["code"]
    assert "got 'pink'; known: 'blue', 'green', 'red'" in said["category"]
    assert "column 'height': expected a number, got 'tall'" in said["text"]
    assert "missing column 'price'" in said["column"]
    assert "has no measured mass" in said["mass"]
    assert "got both" in said["both"] and "topK in [1, 4]" in said["topK"]
    assert said["texts"] == said["numbers"] in ("bad", "good")
    assert "disposed" in said["disposed"]
