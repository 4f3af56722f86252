import sys

import keras
import numpy as np
import pytest

from moe_edge.config import Combine, Task
from moe_edge.training.kinds.kind import ExpertJob
from moe_edge.training.kinds.registry import expert_kind

MODULE = """
import keras

def small(input_shape, num_outputs):
    return keras.Sequential(
        [keras.Input(input_shape), keras.layers.Dense(7, "tanh"), keras.layers.Dense(num_outputs, "softmax")]
    )

def by_job(job):
    start = keras.initializers.GlorotUniform(seed=job.seed)
    layer = keras.layers.Dense(job.num_values, job.output_activation, kernel_initializer=start)
    return keras.Sequential([keras.Input(job.input_shape), layer])

SHARED = small((6,), 3)

def same_again(input_shape, num_outputs):
    return SHARED

def raw_numbers(input_shape, num_outputs):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(num_outputs)])

def wrong_width(input_shape, num_outputs):
    return small(input_shape, num_outputs + 1)

def wrong_rows(input_shape, num_outputs):
    return small((5,), num_outputs)

def no_model(input_shape, num_outputs):
    return "a model"

def failing(input_shape, num_outputs):
    raise KeyError("weights.h5")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The user's module in the folder where the command runs, as its author would have it."""
    name = f"users_own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


def build(place, **changes):
    values = {"num_outputs": 3, "task": Task.CLASSIFICATION, "combine": Combine.PROBABILITIES}
    return expert_kind("keras").build(ExpertJob(input_shape=(6,), options={"build": place}, **{**values, **changes}))


def test_a_function_in_the_current_folder_builds_the_expert(module):
    model = build(f"{module}:small")
    assert isinstance(model, keras.Model) and model.output_shape == (None, 3)
    assert model.layers[0].units == 7


def test_a_function_of_the_job_gets_its_seed(module):
    one, same, other = (build(f"{module}:by_job", seed=seed).get_weights()[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_a_gaussian_expert_is_asked_for_means_and_sigmas(module):
    model = build(f"{module}:raw_numbers", num_outputs=2, combine=Combine.GAUSSIAN, task=Task.REGRESSION)
    assert model.output_shape == (None, 4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raw_numbers", "end it in a softmax"),
        ("wrong_width", r"expected outputs \(rows, 3\)"),
        ("wrong_rows", r"can't take rows of shape \(6,\)"),
        ("no_model", "got str"),
        ("failing", "KeyError: 'weights.h5'"),
        ("missing", "expected a function 'missing'"),
        ("SHARED_", "expected a function"),
    ],
)
def test_what_does_not_fit_is_told(module, name, said):
    with pytest.raises(ValueError, match=said):
        build(f"{module}:{name}")


def test_one_model_is_no_two_experts(module):
    build(f"{module}:same_again")
    with pytest.raises(ValueError, match="a new model from each call"):
        build(f"{module}:same_again")


@pytest.mark.parametrize(("place", "said"), [("", "module:function"), ("nowhere_at_all:f", "can't import")])
def test_a_place_that_is_none(place, said):
    with pytest.raises(ValueError, match=said):
        build(place)
