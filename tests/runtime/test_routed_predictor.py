"""Routed answers against the whole graph, against the NumPy reference, and against themselves, row by row."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_edge import Predictor, routing
from moe_edge.errors import ModelFileError
from moe_edge.runtime import subgraphs

SCHEMES = ["float32", "float16", "dynamic_w8", "w8a8"]
KINDS = ["plain", "table", "regression"]


def rows_for(predictor: Predictor, count: int, seed: int = 3) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, predictor.num_features)).astype(np.float32)
    if predictor.labels == ("bad", "good"):
        rows[:, 1] = np.random.default_rng(seed).integers(0, 3, size=count)
    return rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("xnnpack", [True, False])
def test_the_whole_mass_is_the_whole_graph_bit_for_bit(mixture_file, kind, scheme, xnnpack):
    path = mixture_file(kind, scheme=scheme)
    with (
        Predictor(path, mode="dense", xnnpack=xnnpack) as dense,
        Predictor(path, mode="routed", mass=1, xnnpack=xnnpack) as routed,
    ):
        assert (dense.mode, routed.mode) == ("dense", "routed")
        x = rows_for(dense, 40)
        for row in x:
            expected, answer = dense.predict_raw(row), routed.predict_raw(row)
            assert answer.pop("experts_run") == dense.num_experts
            assert answer.keys() == expected.keys()
            for name, array in expected.items():
                np.testing.assert_array_equal(answer[name], array)
            np.testing.assert_array_equal(routed.predict(row), dense.predict(row))


@functools.cache
def _parts(path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, their gate weights, and each expert's answer by itself, (n, E, K): experts run by the predictor alone."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    gate = interpreter.get_signature_runner("gate")
    x = np.random.default_rng(8).normal(size=(60, 64)).astype(np.float32)
    found = [gate(x=row[None]) for row in x]
    weights = np.concatenate([answer["routing_weights"] for answer in found])
    logits = np.stack(
        [
            np.concatenate(
                [
                    interpreter.get_signature_runner(f"expert_{e}")(features=answer["features"])["output"]
                    for answer in found
                ]
            )
            for e in range(weights.shape[1])
        ],
        axis=1,
    )
    answers = np.exp(logits - logits.max(axis=2, keepdims=True))
    return x, weights, answers / answers.sum(axis=2, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(mass=st.floats(0.05, 0.995), cap=st.none() | st.integers(1, 4), top_k=st.none() | st.integers(1, 4))
def test_routed_answers_are_those_of_the_reference(mixture_file, mass, cap, top_k):
    path = mixture_file("plain")
    x, weights, answers = _parts(path)
    if top_k is None:
        mask = routing.experts_for_mass(weights, mass)
        options = {"mass": mass, "max_experts": cap}
    else:
        mask, options, cap = np.ones_like(weights, dtype=bool), {"top_k": top_k}, top_k
    best = np.zeros_like(mask)
    np.put_along_axis(best, routing.top_k_experts(weights, cap or 4), True, axis=1)
    mask &= best
    shares = routing.renormalise(weights, mask)
    expected = routing.combine(shares, answers, routing.Combine.PROBABILITIES)
    with Predictor(path, mode="routed", **options) as predictor:
        batch = predictor.predict_raw(x)
        np.testing.assert_array_equal(batch["experts_run"], mask.sum(axis=1))
        np.testing.assert_allclose(batch["routing_weights"], shares, atol=1e-6)
        np.testing.assert_allclose(batch["prediction"], expected, atol=3e-6)
        for row in range(0, len(x), 7):
            np.testing.assert_allclose(predictor.predict_proba(x[row]), expected[row : row + 1], atol=3e-6)
            assert predictor.predict_raw(x[row])["experts_run"] == mask[row].sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_k": 2}, {"mass": 0.8}, {"mass": 0.9, "max_experts": 2}])
def test_rows_grouped_by_expert_answer_like_single_rows(mixture_file, kind, options):
    with Predictor(mixture_file(kind), mode="routed", **options) as predictor:
        x = rows_for(predictor, 700)
        batch = predictor.predict_raw(x)
        for row in range(0, 700, 23):
            single = predictor.predict_raw(x[row])
            assert single.keys() == batch.keys()
            for name, array in single.items():
                np.testing.assert_allclose(array[0], batch[name][row], rtol=2e-6, atol=3e-6)
            np.testing.assert_array_equal(predictor.predict(x[row]).shape, predictor.predict(x)[row : row + 1].shape)
        assert {array.shape[0] for array in predictor.predict_raw(x[:0]).values()} == {0}


def test_experts_run_cost_and_explanation(mixture_file):
    with Predictor(mixture_file("plain"), mode="routed", top_k=2) as predictor:
        x = rows_for(predictor, 30)
        explanation = predictor.explain(x)
        np.testing.assert_array_equal(explanation.experts_run, 2)
        np.testing.assert_array_equal((explanation.routing_weights > 0).sum(axis=1), 2)
        np.testing.assert_allclose(explanation.routing_weights.sum(axis=1), 1, atol=1e-6)
    with Predictor(mixture_file("plain")) as dense:
        assert dense.mode == "dense"
        assert dense.explain(x).experts_run is None
        assert "experts_run" not in dense.predict_raw(x)


def test_more_mass_never_runs_fewer_experts(mixture_file):
    runs = []
    for mass in (0.2, 0.5, 0.8, 0.95, 1):
        with Predictor(mixture_file("plain"), mass=mass) as predictor:
            assert predictor.mode == "routed"
            runs.append(predictor.predict_raw(rows_for(predictor, 100))["experts_run"])
    assert all((before <= after).all() for before, after in itertools.pairwise(runs))
    assert runs[0].mean() < runs[-1].mean() == 4


def test_returned_arrays_belong_to_the_caller(mixture_file):
    for options in ({"mode": "dense"}, {"top_k": 2}, {"mass": 1}):
        with Predictor(mixture_file("plain"), **options) as predictor:
            x = rows_for(predictor, 2)
            first, raw = predictor.predict_proba(x[0]), predictor.predict_raw(x[0])
            kept = first.copy()
            predictor.predict_proba(x[1])
            predictor.predict_raw(x[1])
            np.testing.assert_array_equal(first, kept)
            np.testing.assert_allclose(raw["prediction"], kept, atol=1e-6)
            first[:] = 7
            np.testing.assert_array_equal(predictor.predict_proba(x[0]), kept)


def test_one_expert_that_fails_does_not_spoil_later_rows(mixture_file):
    """Slots of experts that don't run hold zeros: an infinite answer left behind would make every sum no number."""
    with Predictor(mixture_file("regression"), mode="routed", top_k=1) as predictor:
        expected = predictor.predict_raw(rows_for(predictor, 1))["prediction"]
        predictor.predict_raw(np.full((1, 6), 3e38, dtype=np.float32))
        predictor.predict(np.full((1, 6), 3e38, dtype=np.float32))
        np.testing.assert_array_equal(predictor.predict(rows_for(predictor, 1)), expected)


def test_without_the_native_methods_the_public_runner_answers_alike(mixture_file, monkeypatch):
    path = mixture_file("plain")
    options = ({"mode": "dense"}, {"top_k": 2}, {"mass": 1})
    x = np.random.default_rng(1).normal(size=(9, 64)).astype(np.float32)
    direct = []
    for option in options:
        with Predictor(path, **option) as predictor:
            direct.append((predictor.predict_proba(x), predictor.predict_proba(x[0])))
    monkeypatch.setattr(subgraphs, "_NATIVE", ("a method that no runtime has",))
    for option, (batch, single) in zip(options, direct, strict=True):
        with Predictor(path, **option) as predictor:
            np.testing.assert_allclose(predictor.predict_proba(x), batch, atol=1e-6)
            np.testing.assert_allclose(predictor.predict_proba(x[0]), single, atol=1e-6)


def _convert(spec, path, **options):
    from moe_edge_converters.conversion import ConversionOptions, convert_spec, probe_rows
    from moe_edge_converters.options import parse_scheme

    convert_spec(
        spec,
        path,
        reference=None,
        rows=probe_rows(spec),
        options=ConversionOptions(scheme=parse_scheme("float32"), **options),
    )
    return path


def _wide_spec(*, experts: int = 8, top_k: int | None = None, combine: str = "probabilities", units: int = 160):
    from moe_edge.config import Combine, Task
    from moe_edge_converters.spec import MixtureSpec, dense_stack

    rng = np.random.default_rng(4)

    def stack(*layers):
        return dense_stack(
            [(rng.normal(size=(a, b)) / np.sqrt(a) * 2, rng.normal(size=b) * 0.1, kind) for a, b, kind in layers]
        )

    last = "linear" if combine == "logits" else "softmax"
    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine(combine),
        input_shape=(16,),
        gate=stack((16, experts, "softmax")),
        experts=tuple(stack((16, units, "relu"), (units, units, "relu"), (units, 5, last)) for _ in range(experts)),
        num_outputs=5,
        top_k=top_k,
    )


def test_auto_routes_only_what_was_trained_to_be_routed_and_is_worth_it(tmp_path):
    large = _convert(_wide_spec(top_k=2), tmp_path / "large.tflite")
    x = np.random.default_rng(2).normal(size=(50, 16)).astype(np.float32)
    with Predictor(large) as auto, Predictor(large, mode="dense") as dense:
        assert (auto.mode, dense.mode) == ("routed", "dense")
        raw = auto.predict_raw(x)
        np.testing.assert_allclose(raw["prediction"], dense.predict_raw(x)["prediction"], atol=2e-6)
        np.testing.assert_allclose(raw["routing_weights"], dense.predict_raw(x)["routing_weights"], atol=2e-6)
        assert (raw["experts_run"] <= 2).all()
    with Predictor(_convert(_wide_spec(), tmp_path / "soft.tflite")) as soft:
        assert soft.mode == "dense"
    with Predictor(_convert(_wide_spec(units=8, top_k=2), tmp_path / "small.tflite")) as small:
        assert small.mode == "dense"
    with pytest.raises(ValueError, match=r"top_k in \[1, 2\]"):
        Predictor(large, top_k=3)


def test_files_that_may_not_be_routed_are_refused(tmp_path, mixture_file):
    logits = _convert(_wide_spec(combine="logits", units=8), tmp_path / "logits.tflite")
    with pytest.raises(ModelFileError, match=r"combines by logits.*mode dense"):
        Predictor(logits, mode="routed", top_k=2)
    with Predictor(logits) as predictor:
        assert predictor.mode == "dense"
    fused = _convert(_wide_spec(units=8), tmp_path / "fused.tflite", routed=False)
    with pytest.raises(ModelFileError, match=r"no signature 'gate'.*--fused-only"):
        Predictor(fused, mass=0.9)
    with pytest.raises(ModelFileError, match=r"trained with all its 4 experts.*mass=0.99 or top_k=2"):
        Predictor(mixture_file("plain"), mode="routed")


ON_OLD_RUNTIME = """
import json, sys
import numpy as np
from moe_edge import Predictor
from moe_edge.runtime.subgraphs import DirectSubgraph
with np.load(sys.argv[1]) as data:
    x = data["x"]
answers = {}
for path in sys.argv[2:]:
    for xnnpack in (True, False):
        with Predictor(path, mode="dense", xnnpack=xnnpack) as dense, Predictor(path, mass=1, xnnpack=xnnpack) as whole:
            assert dense.backend == "tflite-runtime"
            for row in x[:10]:
                assert np.array_equal(dense.predict_raw(row)["prediction"], whole.predict_raw(row)["prediction"]), path
        with Predictor(path, top_k=2, xnnpack=xnnpack) as predictor:
            assert isinstance(predictor._pool._free[0]._gate, DirectSubgraph)
            single = np.concatenate([predictor.predict_proba(row) for row in x])
            raw = predictor.predict_raw(x)
            assert (raw["experts_run"] == 2).all()
            assert np.allclose(single, raw["prediction"], atol=1e-5), (path, xnnpack)
    answers[path] = single.tolist()
print(json.dumps(answers))
"""


def test_the_old_runtime_routes_like_the_new(mixture_file, old_runtime_python, tmp_path):
    files = [mixture_file("plain", scheme=scheme) for scheme in ("float32", "w8a8")]
    x = np.random.default_rng(5).normal(size=(300, 64)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    result = subprocess.run(
        [old_runtime_python, "-c", ON_OLD_RUNTIME, tmp_path / "x.npz", *files],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for path, answers in json.loads(result.stdout).items():
        with Predictor(path, top_k=2) as predictor:
            tolerance = 0.02 if "w8a8" in path else 1e-5
            np.testing.assert_allclose(answers, predictor.predict_proba(x), atol=tolerance)


def test_a_file_replaced_while_open_keeps_answering(mixture_file, tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("needs a path to an open file")
    path, replacement = tmp_path / "model.tflite", tmp_path / "new.tflite"
    path.write_bytes(mixture_file("plain").read_bytes())
    with Predictor(path, top_k=2) as predictor:
        x = np.random.default_rng(5).normal(size=(300, 64)).astype(np.float32)
        with Predictor(mixture_file("plain"), top_k=2) as same:
            expected = same.predict_raw(x)["prediction"]
        replacement.write_bytes(mixture_file("regression").read_bytes())
        replacement.replace(path)
        # Experts are opened when they first run, and another thread's interpreter later still: all after the change.
        np.testing.assert_array_equal(predictor.predict_raw(x)["prediction"], expected)
        engine = predictor._pool.take()
        try:
            np.testing.assert_array_equal(predictor.predict_raw(x)["prediction"], expected)
        finally:
            predictor._pool.give(engine)
