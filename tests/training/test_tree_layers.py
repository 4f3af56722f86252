import keras
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from moe_edge.schema import numbered_schema
from moe_edge.task import Task
from moe_edge.training.archive import load_model, save_model
from moe_edge.training.estimators import estimator_model
from moe_edge.training.tree_arrays import leaf, plant
from moe_edge.training.tree_layers import TreeEnsemble, tree_model


@pytest.fixture(scope="module")
def forest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    return RandomForestClassifier(7, max_depth=5, random_state=0).fit(x, (x[:, 0] > x[:, 1]).astype(int)), x


def test_a_saved_model_answers_alike_without_training_anything(forest, tmp_path):
    estimator, x = forest
    model = estimator_model(estimator, 4)
    save_model(model, tmp_path / "trees.keras", schema=numbered_schema(4, 2, Task.CLASSIFICATION))
    loaded = load_model(tmp_path / "trees.keras").model
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(model(x)))
    np.testing.assert_allclose(np.asarray(loaded(x)), estimator.predict_proba(x), atol=1e-5)
    assert not loaded.trainable_weights
    assert loaded.layers[-1].get_config() == model.layers[-1].get_config()


def test_it_stays_frozen_inside_a_model_that_is_trained(forest):
    estimator, x = forest
    trees = estimator_model(estimator, 4)
    row = keras.Input((4,))
    model = keras.Model(row, keras.layers.Dense(1)(trees(row)))
    before = [np.array(weight) for weight in trees.get_weights()]
    model.compile("sgd", "mse")
    model.fit(x, x[:, 0], epochs=1, verbose=0)
    assert len(model.trainable_weights) == 2
    for old, new in zip(before, trees.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_constants_and_columns_follow_the_link():
    model = tree_model(plant([leaf([1.0, 2.0])]), 3, base=[0.5, 0.0], constants=[-3.0], columns=[2, 0, 1, 0])
    np.testing.assert_array_equal(np.asarray(model(np.zeros((2, 3), np.float32))), [[-3.0, 1.5, 2.0, 1.5]] * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_trees": 0}, "at least one tree"),
        ({"num_sums": 3}, "multiple of num_sums=3"),
        ({"link": "tanh"}, "expected link among"),
        ({"link": "sigmoid", "num_sums": 2}, "sigmoid: 1 sum"),
        ({"columns": [0, 4]}, r"columns in \[0, 2\)"),
    ],
)
def test_helpful_errors(change, message):
    right = {"num_trees": 2, "num_nodes": 4, "depth": 1, "leaf_size": 1, "num_sums": 2}
    with pytest.raises(ValueError, match=message):
        TreeEnsemble(**{**right, **change})


def test_rows_must_be_flat():
    layer = TreeEnsemble(num_trees=1, num_nodes=1, depth=1, leaf_size=1, num_sums=1)
    with pytest.raises(ValueError, match=r"expected features \(B, F\)"):
        layer.build((None, 3, 3))
