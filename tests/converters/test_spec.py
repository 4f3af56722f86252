"""MixtureSpec: mixtures as data."""

import numpy as np

from moe_edge_converters.spec import PreprocessSpec, dense_stack


def test_dense_stack_holds_float32_whatever_it_is_given():
    network = dense_stack([([[1, 2, 3]], [0, 0, 0], "relu"), (np.ones((3, 2), np.float64), [1, 2], "softmax")])
    assert [layer.kernel.dtype for layer in network.layers] == [np.float32] * 2
    assert network.shapes == ((1, 3, "relu"), (3, 2, "softmax"))
    assert network.num_outputs == 2


def test_preprocess_by_hand():
    spec = PreprocessSpec(
        num_columns=3,
        numeric=(2, 0),
        fill=np.array([10, 5], np.float32),
        mean=np.array([8, 5], np.float32),
        inverse_scale=np.array([0.5, 1], np.float32),
        low=np.array([-2, -1], np.float32),
        high=np.array([2, 1], np.float32),
        categorical=((1, 3),),
    )
    rows = np.array([[5.5, 2, 9], [np.nan, np.nan, np.nan], [-100, 0, 100], [5, 7, 8]], np.float32)
    assert spec.num_features == 5
    np.testing.assert_array_equal(
        spec.apply(rows),
        [[0.5, 0.5, 0, 0, 1], [1, 0, 0, 0, 0], [2, -1, 1, 0, 0], [0, 0, 0, 0, 0]],
    )
