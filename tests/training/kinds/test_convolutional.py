import numpy as np
import pytest

from moe_edge.config import Combine, Task
from moe_edge.training.kinds.kind import ExpertJob
from moe_edge.training.kinds.registry import expert_kind


def job(input_shape, **changes):
    values = {"num_outputs": 3, "task": Task.CLASSIFICATION, "combine": Combine.PROBABILITIES, "hidden": (8,)}
    return ExpertJob(input_shape=input_shape, **{**values, **changes})


def layer_names(model):
    return [type(layer).__name__ for layer in model.layers]


@pytest.mark.parametrize(
    ("kind", "input_shape", "options"),
    [
        ("conv1d", (24,), {"shape": [12, 2]}),
        ("conv1d", (12,), {"shape": [12]}),
        ("conv1d", (12, 2), {}),
        ("conv1d", (24,), {"shape": (12, 2), "filters": 4, "dilation": 2, "depthwise": True}),
        ("conv2d", (64,), {"shape": [8, 8, 1]}),
        ("conv2d", (64,), {"shape": [8, 8], "padding": "valid", "filters": [4], "summary": "average"}),
        ("conv2d", (8, 8, 1), {"depthwise": True, "strides": 2, "pool": 1}),
    ],
)
def test_rows_become_probabilities(kind, input_shape, options):
    model = expert_kind(kind).build(job(input_shape, options=options))
    rows = np.random.default_rng(0).normal(size=(5, *input_shape)).astype(np.float32)
    answers = np.asarray(model(rows))
    assert answers.shape == (5, 3)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert answers.std(axis=0).max() > 1e-4, "rows must be told apart"


def test_features_lie_as_the_shape_says_last_axis_fastest():
    flat = expert_kind("conv2d").build(job((12,), options={"shape": [2, 3, 2], "pool": 1, "filters": [4]}))
    shaped = expert_kind("conv2d").build(job((2, 3, 2), options={"pool": 1, "filters": [4]}))
    rows = np.random.default_rng(0).normal(size=(4, 2, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(flat(rows.reshape(4, 12))), np.asarray(shaped(rows)))


def test_options_make_the_layers():
    options = {"shape": [16, 4], "filters": [4, 6, 8], "kernel_size": 5, "pool": 1, "depthwise": True}
    model = expert_kind("conv1d").build(job((64,), options=options, combine=Combine.GAUSSIAN, task=Task.REGRESSION))
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "SeparableConv1D"]
    assert [layer.filters for layer in convolutions] == [4, 6, 8]
    assert convolutions[0].kernel_size == (5,)
    assert "MaxPooling1D" not in layer_names(model)
    assert model.output_shape == (None, 6)
    assert model.layers[-1].activation.__name__ == "linear"


def test_the_seed_decides_the_initial_weights():
    def kernel(seed):
        return expert_kind("conv1d").build(job((8,), options={"shape": [8]}, seed=seed)).get_weights()[0]

    np.testing.assert_array_equal(kernel(3), kernel(3))
    assert np.abs(kernel(3) - kernel(4)).max() > 0.01


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("conv1d", {}, "rows are flat: say how their 64 features lie"),
        ("conv1d", {"shape": [9, 9]}, "9x9 = 81"),
        ("conv1d", {"shape": [4, 4, 4]}, r"\[timesteps, channels\]"),
        ("conv2d", {"shape": [8, 8, 0]}, "at least 1"),
        ("conv2d", {"shape": [8, 8], "filters": []}, "filters of at least one"),
        ("conv2d", {"shape": [8, 8], "filters": [4, 4, 4, 4]}, "pooling over 2 doesn't fit into height 1"),
        ("conv2d", {"shape": [8, 8], "kernel_size": 9, "padding": "valid"}, "doesn't fit into height 8"),
        ("conv2d", {"shape": [8, 8], "strides": 2, "dilation": 2}, "not both"),
        ("conv2d", {"shape": [8, 8], "padding": "sam"}, "same or valid"),
        ("conv2d", {"shape": [8, 8], "pool": 0}, "pool >= 1"),
        ("conv2d", {"shape": "8x8"}, "list of whole numbers"),
        ("conv2d", {"shapes": [8, 8]}, "unknown option 'shapes'"),
        ("conv2d", {"shape": [8, 8], "pool": True}, "of type int"),
    ],
)
def test_options_that_do_not_fit_are_named(kind, options, said):
    with pytest.raises(ValueError, match=said) as caught:
        expert_kind(kind).build(job((64,), options=options))
    assert str(caught.value).startswith(kind)
