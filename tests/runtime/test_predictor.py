from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.config import Task
from moe_edge.errors import BackendError, DataError, ModelFileError
from moe_edge.runtime import predictor as predictor_module
from moe_edge.runtime.backends import Backend, load_backend

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plain(mixture_file):
    with Predictor(mixture_file("plain")) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def table(mixture_file):
    with Predictor(mixture_file("table")) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def regression(mixture_file):
    with Predictor(mixture_file("regression")) as predictor:
        yield predictor


def rows_for(predictor: Predictor, count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, predictor.num_features)).astype(np.float32)


def test_says_what_the_model_is(plain, regression):
    assert (plain.task, plain.num_experts, plain.num_features, plain.backend) == (Task.CLASSIFICATION, 4, 64, "litert")
    assert plain.labels == ("0", "1", "2")
    assert (plain.has_sigma, regression.has_sigma) == (False, True)


def test_labels_probabilities_and_explanation_agree(plain):
    x = rows_for(plain, 9)
    labels, probabilities, explanation = plain.predict(x), plain.predict_proba(x), plain.explain(x)
    assert labels.shape == (9,) and labels.dtype.kind == "U"
    assert probabilities.shape == (9, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(labels, np.asarray(plain.labels)[probabilities.argmax(axis=1)])
    np.testing.assert_array_equal(explanation.labels, labels)
    np.testing.assert_array_equal(explanation.confidence, probabilities.max(axis=1))
    np.testing.assert_allclose(explanation.routing_weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(explanation.top_experts(1)[:, 0], explanation.routing_weights.argmax(axis=1))


def test_regression_gives_numbers_and_sigma(regression):
    x = rows_for(regression, 5)
    raw = regression.predict_raw(x)
    np.testing.assert_array_equal(regression.predict(x), raw["prediction"])
    assert raw["sigma"].shape == (5, 1) and (raw["sigma"] > 0).all()
    assert regression.explain(x).labels is None
    assert "±" in str(regression.explain(x[:1]))
    with pytest.raises(DataError, match="regression, which has no probabilities"):
        regression.predict_proba(x)


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic_w8", "w8a8"])
def test_every_batch_size_gives_the_rows_the_same_answers(mixture_file, scheme):
    with Predictor(mixture_file("plain", scheme=scheme)) as predictor:
        x = rows_for(predictor, 600)
        one_by_one = np.concatenate([predictor.predict_raw(row)["prediction"] for row in x[:64]])
        for size in (1, 7, 64, 257, 600):
            answers = predictor.predict_raw(x[:size])["prediction"]
            # One step of int8 softmax is 1/256; batches differ from single rows only by the order of float sums.
            np.testing.assert_allclose(answers[:64], one_by_one[: min(size, 64)], atol=1e-5)


def test_returned_arrays_belong_to_the_caller(plain):
    x = rows_for(plain, 1)
    first = plain.predict_raw(x)["prediction"]
    kept = first.copy()
    plain.predict_raw(x + 1)
    np.testing.assert_array_equal(first, kept)
    first[:] = 7
    np.testing.assert_array_equal(plain.predict_raw(x)["prediction"], kept)


def test_input_is_left_as_it_was(table):
    x = np.asarray([[1.8, 0, np.nan]], dtype=np.float32)
    kept = x.copy()
    table.predict(x)
    np.testing.assert_array_equal(x, kept)


def test_no_rows_give_no_answers(plain, regression):
    assert plain.predict(np.empty((0, 64))).shape == (0,)
    assert plain.predict([]).shape == (0,)
    raw = regression.predict_raw(np.empty((0, 6), dtype=np.float32))
    assert {name: array.shape for name, array in raw.items()} == {
        "prediction": (0, 1),
        "routing_weights": (0, 3),
        "sigma": (0, 1),
        "expert_means": (0, 3, 1),
        "expert_sigmas": (0, 3, 1),
    }
    assert str(plain.explain([])) == ""


def test_texts_mappings_codes_and_frames_are_one_row(table):
    import pandas as pd

    codes = table.predict_raw(np.asarray([1.8, 2, 4200.0]))
    same = (
        {"price": "4200", "colour": " red ", "height": "1.8", "unused": "x"},
        [{"height": 1.8, "colour": "red", "price": 4200}],
        ["1.8", "red", "4200"],
        [["1.8", "red", "4.2e3"]],
        np.asarray([["1.8", "red", "4200"]], dtype=object),
        np.asarray([["1.8", "red", "4200"]]),
        pd.DataFrame({"price": [4200], "height": [1.8], "colour": ["red"]}),
        pd.DataFrame({"price": [4200], "height": [1.8], "colour": ["red"]}).convert_dtypes(),
    )
    for x in same:
        for name, expected in codes.items():
            np.testing.assert_array_equal(table.predict_raw(x)[name], expected)


def test_missing_values_are_filled_in_the_graph(table):
    filled = table.predict_proba({"height": 1.7, "colour": "blue", "price": 5000})
    for missing in ("", "NA", None, np.nan):
        np.testing.assert_array_equal(
            table.predict_proba({"height": missing, "colour": "blue", "price": missing}), filled
        )
    assert table.predict_proba({"height": None, "colour": None, "price": None}).shape == (1, 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 63)), r"expected rows of shape \(n, 64\).*got \(2, 63\)"),
        (np.zeros((2, 2, 64)), r"got \(2, 2, 64\)"),
        (np.float32(3), r"got \(\)"),
        ([[1.0, 2.0], [1.0]], "rows of equal length"),
        (np.zeros((1, 64), dtype=complex), "expected numbers.*complex"),
        ("seven", "expected numbers"),
        (None, "expected numbers"),
        ({"x0": 1}, "missing columns 'x1'"),
        (np.full((1, 64), np.inf), "row 1, column 'x0': expected a finite float32 number, got inf"),
        (np.full((1, 64), 1e39), "got inf"),
        (np.full((3, 64), np.nan), "takes no missing values"),
        ([{"x0": 1}, 3], "row 2: expected a mapping|missing column"),
    ],
)
def test_bad_rows_are_refused_in_words(plain, x, message):
    with pytest.raises(DataError, match=message):
        plain.predict(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"height": 1.8, "color": "red", "price": 1}, "is 'color' meant to be 'colour'"),
        ({"height": 1.8, "colour": "rde", "price": 1}, "did you mean 'red'"),
        ({"height": "tall", "colour": "red", "price": 1}, "column 'height': expected a number, got 'tall'"),
        ({"height": "inf", "colour": "red", "price": 1}, "finite"),
        ({"height": "1_000", "colour": "red", "price": 1}, "expected a number"),
        (["1.8", "red"], "expected 3 values"),
        ([1.8, 3, 4200], r"category's code in \[0, 3\), got 3"),
        ([1.8, 0.5, 4200], "category's code"),
        ([1.8, -1, 4200], "category's code"),
        (np.zeros((1, 4)), "the columns are height, colour, price"),
    ],
)
def test_bad_cells_are_refused_in_words(table, x, message):
    with pytest.raises(DataError, match=message):
        table.predict(x)


def test_a_refused_row_leaves_the_predictor_working(plain):
    x = rows_for(plain, 2)
    before = plain.predict_proba(x)
    with pytest.raises(DataError):
        plain.predict(np.zeros(3))
    np.testing.assert_array_equal(plain.predict_proba(x), before)


def test_explanations_read_well(plain, table):
    assert str(table.explain({"height": 1.8, "colour": "red", "price": 4200})).startswith(("bad (", "good ("))
    assert "expert_" in str(plain.explain(rows_for(plain, 1)))
    assert str(plain.explain(rows_for(plain, 30))).endswith("... and 20 rows more")


def test_bytes_and_path_answer_alike(mixture_file):
    path = mixture_file("plain", scheme="w8a8")
    with Predictor(path) as by_path, Predictor(path.read_bytes()) as by_bytes, Predictor(str(path)) as by_text:
        x = rows_for(by_path, 70)
        expected = by_path.predict_proba(x)
        np.testing.assert_array_equal(by_bytes.predict_proba(x), expected)
        np.testing.assert_array_equal(by_text.predict_proba(x), expected)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a path to an open file")
def test_a_file_replaced_later_does_not_change_an_open_predictor(mixture_file, tmp_path):
    path, other = tmp_path / "model.tflite", mixture_file("regression").read_bytes()
    path.write_bytes(mixture_file("plain").read_bytes())
    with Predictor(path) as predictor:
        x = rows_for(predictor, 8)
        expected = np.concatenate([predictor.predict_proba(row) for row in x])
        replacement = tmp_path / "new.tflite"
        replacement.write_bytes(other)
        replacement.replace(path)
        # A batch makes a second interpreter, after the file has gone.
        np.testing.assert_allclose(predictor.predict_proba(x), expected, atol=1e-6)


def test_threads_share_a_predictor(plain):
    x = rows_for(plain, 40)
    expected = plain.predict_proba(x)
    wrong: list[int] = []

    def work(offset: int) -> None:
        for step in range(50):
            at = (offset + step) % 40
            if not np.allclose(plain.predict_proba(x[at])[0], expected[at], atol=1e-6):
                wrong.append(at)
            if not np.allclose(plain.predict_proba(x[: 2 + offset]), expected[: 2 + offset], atol=1e-6):
                wrong.append(-1)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_closed_predictor_says_so(mixture_file):
    predictor = Predictor(mixture_file("plain"))
    predictor.close()
    predictor.close()
    with pytest.raises(BackendError, match="closed"):
        predictor.predict(np.zeros(64))


def test_a_foreign_file_is_refused(foreign_model):
    with pytest.raises(ModelFileError, match="written by moe-edge"):
        Predictor(foreign_model)


def test_wrong_arguments(mixture_file):
    with pytest.raises(ValueError, match="num_threads >= 1"):
        Predictor(mixture_file("plain"), num_threads=0)
    with pytest.raises(BackendError, match="expected backend among auto, litert"):
        Predictor(mixture_file("plain"), backend="onnx")


@pytest.mark.parametrize(("scheme", "per_tensor_works"), [("dynamic_w8", True), ("w4", False)])
def test_dynamic_weights_are_refused_where_they_are_miscomputed(mixture_file, monkeypatch, scheme, per_tensor_works):
    per_channel = mixture_file("plain", scheme=scheme)
    per_tensor = mixture_file("plain", scheme=scheme, per_tensor=True)
    old = object.__new__(Backend)
    old.__dict__.update(vars(load_backend("litert")), name="tflite-runtime")
    monkeypatch.setattr(predictor_module, "load_backend", lambda name: old)
    with pytest.raises(BackendError, match="--scheme w8a8, or dynamic_w8 with --per-tensor"):
        Predictor(per_channel)
    if per_tensor_works:
        Predictor(per_tensor).close()
    else:
        with pytest.raises(BackendError, match="answers w4 files wrongly"):
            Predictor(per_tensor)


ON_OLD_RUNTIME = """
import json, sys
import numpy as np
from moe_edge import Predictor
from moe_edge.errors import BackendError
with np.load(sys.argv[1]) as data:
    x = data["x"]
answers = {}
for path in sys.argv[2:]:
    try:
        with Predictor(path) as predictor:
            assert predictor.backend == "tflite-runtime"
            single = np.concatenate([predictor.predict_raw(row)["prediction"] for row in x])
            for size in (7, 64):
                batch = predictor.predict_raw(x[:size])["prediction"]
                assert np.allclose(batch, single[:size], atol=1e-5), (path, size)
            answers[path] = single.tolist()
    except BackendError as error:
        answers[path] = str(error)
assert "tensorflow" not in sys.modules
print(json.dumps(answers))
"""


def test_the_old_runtime_answers_like_the_new(mixture_file, old_runtime_python, tmp_path):
    files = {scheme: mixture_file("plain", scheme=scheme) for scheme in ("float32", "float16", "w8a8", "dynamic_w8")}
    files["per-tensor"] = mixture_file("plain", scheme="dynamic_w8", per_tensor=True)
    x = np.random.default_rng(5).normal(size=(64, 64)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    result = subprocess.run(
        [old_runtime_python, "-c", ON_OLD_RUNTIME, tmp_path / "x.npz", *files.values()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert "wrongly" in answers[str(files.pop("dynamic_w8"))]
    for scheme, path in files.items():
        with Predictor(path) as predictor:
            expected = predictor.predict_raw(x)["prediction"]
        # int8 kernels of the two runtimes round differently by up to two steps of the 1/256 softmax.
        tolerance = 0.02 if scheme in ("w8a8", "per-tensor") else 1e-5
        np.testing.assert_allclose(answers[str(path)], expected, atol=tolerance, err_msg=scheme)


def test_a_device_imports_no_desktop_package(mixture_file):
    code = (
        "import sys; from moe_edge import Predictor; Predictor(sys.argv[1]).predict([0.0] * 64);"
        "heavy = {'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib', 'rich', 'click'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code, mixture_file("plain")], check=True)
