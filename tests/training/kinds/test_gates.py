"""Kinds of gates: built, fitted to responsibilities, saved and loaded; options checked."""

import keras
import numpy as np
import pytest

from moe_edge.training import archive  # noqa: F401 - registers the layers
from moe_edge.training.kinds.kind import FittedGate, GateJob
from moe_edge.training.kinds.registry import gate_kind

KINDS = [
    ("dense", {}),
    ("linear", {}),
    ("gaussian", {}),
    ("gaussian", {"covariance": "full"}),
    ("hierarchical", {}),
    ("hierarchical", {"tree": [0, [1, 2]], "hidden": True}),
]


def rows():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, size=400)
    centres = np.array([[0, 0], [4, 0], [0, 4]])
    return (centres[codes] + rng.normal(size=(400, 2))).astype(np.float32), np.eye(3)[codes]


def make_job(shape=(2,), **changes):
    return GateJob(input_shape=shape, num_experts=3, **changes)


@pytest.mark.parametrize(("name", "options"), KINDS, ids=str)
def test_built_gates_give_distributions_and_survive_a_file(name, options, tmp_path):
    x, _ = rows()
    model = gate_kind(name).build(make_job(options=options, temperature=0.5, entropy_coef=0.1, seed=3))
    weights = model.predict(x, verbose=0)
    assert weights.shape == (400, 3)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert weights.std(axis=0).min() > 1e-3
    model.save(tmp_path / "gate.keras")
    again = keras.saving.load_model(tmp_path / "gate.keras")
    assert np.array_equal(again.predict(x, verbose=0), weights)


@pytest.mark.parametrize(("name", "options"), [kind for kind in KINDS if kind[0] != "dense"], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_fitted_gates_follow_responsibilities(name, options, temperature):
    x, responsibilities = rows()
    kind = gate_kind(name)
    assert isinstance(kind, FittedGate)
    job = make_job(options=options, temperature=temperature, hidden=(8,))
    weights = kind.fit(job, x, responsibilities).predict(x, verbose=0)
    assert (weights.argmax(axis=1) == responsibilities.argmax(axis=1)).mean() > 0.95
    assert -np.log((weights * responsibilities).sum(axis=1)).mean() < 0.2


def test_the_temperature_of_a_fitted_linear_gate_changes_nothing():
    x, responsibilities = rows()
    kind = gate_kind("linear")
    answers = [
        kind.fit(make_job(temperature=temperature), x, responsibilities).predict(x, verbose=0)
        for temperature in (1.0, 0.3)
    ]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_windows_are_flattened():
    x = np.random.default_rng(0).normal(size=(20, 4, 3)).astype(np.float32)
    responsibilities = np.random.default_rng(0).dirichlet(np.ones(3), size=20)
    for name in ("dense", "linear", "gaussian", "hierarchical"):
        assert gate_kind(name).build(make_job((4, 3))).predict(x, verbose=0).shape == (20, 3)
    assert gate_kind("gaussian").fit(make_job((4, 3)), x, responsibilities).predict(x, verbose=0).shape == (20, 3)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gaussian", {"options": {"covariance": "round"}}, "diagonal or full"),
        ("gaussian", {"z_loss_coef": 0.1}, "z_loss_coef=0"),
        ("hierarchical", {"options": {"tree": [0, 1]}}, "a tree of 3 experts, got 2"),
        ("hierarchical", {"options": {"branching": 1}}, "at least 2 experts and 2 branches"),
        ("hierarchical", {"options": {"depth": 1}}, "unknown option 'depth'"),
    ],
)
def test_options_that_fit_nothing_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        gate_kind(name).build(make_job(**changes))
