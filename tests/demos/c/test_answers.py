"""The C host answers as Python does on the same machine, bit for bit; on the emulated Pi too."""

import numpy as np
import pytest
from c_answers import answers
from c_host import PI_4, ROOT
from emulated_pi import EmulatedPi

from moe_edge import Predictor

OUTPUTS = ("prediction", "routing_weights")
CHOICES = ({"top_k": 1}, {"top_k": 2}, {"mass": 0.5}, {"mass": 0.9}, {"top_k": 2, "mass": 0.95}, {"top_k": 3})


def make_rows(kind: str, num_features: int, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(11)
    rows = rng.normal(size=(count, num_features)).astype(np.float32)
    if kind == "table":
        rows[:, 2] = rng.normal(5000, 2000, count)
        rows[:, 1] = rng.integers(0, 3, count)
        rows[::3, 0] = np.nan
    return rows


def one_by_one(answer, rows):
    """Each row alone, as the C host: in a batch kernels may add in another order."""
    found = [answer(row[None]) for row in rows]
    if isinstance(found[0], dict):
        return {name: np.concatenate([answered[name] for answered in found]) for name in found[0]}
    return np.concatenate(found)


def assert_same_bits(got: np.ndarray, expected: np.ndarray, what: object) -> None:
    assert got.shape == expected.shape, what
    assert got.view(np.int32).tolist() == expected.astype(np.float32).view(np.int32).tolist(), what


def alone(predictor, rows):
    """``predict_proba`` or the numbers: for so few experts mixed by the file's ``combine``, as in C."""
    return one_by_one(predictor.predict_proba if predictor.task.value == "classification" else predictor.predict, rows)


@pytest.fixture
def cases(files):
    """Name -> file and rows."""

    def make():
        for name in ("float32", "w8a8", "dynamic_w8", "gaussian", "table", "forest", "gaussian-gate", "top1-gather"):
            with Predictor(files[name]) as predictor:
                kind = "table" if name in ("dynamic_w8", "table") else name
                yield name, files[name], make_rows(kind, predictor.num_features)

    return list(make())


def test_the_whole_graph_answers_with_the_same_bits(host, cases):
    for name, model, rows in cases:
        with Predictor(model, mode="dense") as predictor:
            expected = one_by_one(predictor.predict_raw, rows)
        got = answers(model, rows, "dense", outputs=tuple(expected), sanitize=True)
        for output, values in expected.items():
            assert_same_bits(got[output], values.reshape(len(rows), -1), (name, output))


def test_routed_to_all_experts_it_answers_with_the_same_bits(host, cases):
    for name, model, rows in cases:
        if name == "top1-gather":
            continue
        with Predictor(model, mode="routed", mass=1.0) as predictor:
            expected = one_by_one(predictor.predict_raw, rows)
        del expected["experts_run"]
        got = answers(model, rows, "routed", outputs=tuple(expected), sanitize=True)
        for output, values in expected.items():
            assert_same_bits(got[output], values.reshape(len(rows), -1), (name, output))


def test_routed_to_few_experts_it_answers_with_the_same_bits(host, cases):
    for name, model, rows in cases:
        for choice in CHOICES:
            with Predictor(model) as predictor:
                most = predictor.manifest.top_k or predictor.num_experts
            if choice.get("top_k", 1) > most:
                continue
            asked = {"max_experts" if "mass" in choice and key == "top_k" else key: choice[key] for key in choice}
            with Predictor(model, mode="routed", **asked) as predictor:
                weights = one_by_one(predictor.predict_raw, rows)["routing_weights"]
                prediction = alone(predictor, rows)
            got = answers(model, rows, "routed", **choice)
            assert_same_bits(got["routing_weights"], weights, (name, choice))
            assert_same_bits(got["prediction"], prediction, (name, choice))
            few = answers(model, rows, "routed", mixing="few", **choice, sanitize=True)
            assert_same_bits(few["routing_weights"], weights, (name, choice))
            np.testing.assert_allclose(few["prediction"], prediction, rtol=1e-6, atol=3e-7, err_msg=f"{name} {choice}")


def test_routing_to_fewer_experts_changes_answers(host, cases):
    """Without this the tests above could compare the same thing thrice."""
    name, model, rows = cases[0]
    assert name == "float32"
    whole, one = answers(model, rows, "dense"), answers(model, rows, "routed", top_k=1)
    assert np.abs(whole["prediction"] - one["prediction"]).max() > 0.01
    assert ((one["routing_weights"] > 0).sum(axis=1) == 1).all()


PYTHON_ON_THE_BOARD = """
import sys
import numpy as np
from moe_edge import Predictor

model, rows, answers, mode = sys.argv[1:]
rows = np.load(rows)
with Predictor(model, mode=mode, mass=1.0 if mode == "routed" else None) as predictor:
    found = [predictor.predict_raw(row[None]) for row in rows]
np.savez(answers, **{name: np.concatenate([answer[name] for answer in found]) for name in found[0]})
"""


@pytest.mark.slow
@pytest.mark.device
@pytest.mark.parametrize("name", ["float32", "w8a8", "table", "gaussian", "forest"])
def test_on_the_board_it_answers_as_python_there(arm64, files, name, tmp_path):
    script = tmp_path / "predict.py"
    script.write_text(PYTHON_ON_THE_BOARD)
    with Predictor(files[name]) as predictor:
        rows = make_rows(name, predictor.num_features, 10)
    np.save(tmp_path / "rows.npy", rows)
    for mode in ("dense", "routed"):
        found = tmp_path / f"{mode}.npz"
        result = EmulatedPi(PI_4, ROOT).python(script, files[name], tmp_path / "rows.npy", found, mode)
        assert result.returncode == 0, result.stderr
        expected = np.load(found)
        there, here = answers(files[name], rows, mode, arm64), answers(files[name], rows, mode)
        for output in OUTPUTS:
            assert_same_bits(there[output], expected[output], (mode, output))
            # Against this machine: sums in another order, or an int8 step.
            np.testing.assert_allclose(there[output], here[output], rtol=1e-6, atol=0.011 if name == "w8a8" else 1e-6)


@pytest.mark.slow
@pytest.mark.device
def test_routing_by_signatures_costs_fewer_instructions_than_the_gather_graph(arm64, files):
    from c_host import count

    dense, gather = (count(files[f"top1-{kind}"], "dense") for kind in ("fully_connected", "gather"))
    routed = count(files["top1-fully_connected"], "few")
    assert dense > 8 * routed and gather > 1.3 * routed, f"{dense:,} dense, {gather:,} gather, {routed:,} routed"
    # Counts are exact.
    assert count(files["top1-fully_connected"], "few") == pytest.approx(routed, rel=1e-3)
