"""Fitted estimators as Keras models: their answers, at thresholds, for missing values, and what is refused."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import ensemble, linear_model, neighbors, svm, tree
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from moe_edge.training import estimator_model
from moe_edge.training.estimators.tree_arrays import next_above, round_thresholds
from shared.tree_rows import threshold_rows

F = 5
TREES = {
    "tree": (tree.DecisionTreeClassifier(max_depth=6, random_state=0), 4),
    "stump": (tree.DecisionTreeClassifier(max_depth=1, random_state=0), 2),
    "forest": (ensemble.RandomForestClassifier(7, max_depth=6, random_state=0), 3),
    "extra": (ensemble.ExtraTreesClassifier(7, max_depth=6, random_state=0), 3),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=8, random_state=0), 3),
    "binary boosting": (ensemble.GradientBoostingClassifier(n_estimators=8, random_state=0), 2),
    "exponential": (ensemble.GradientBoostingClassifier(n_estimators=8, loss="exponential", random_state=0), 2),
    "hist": (ensemble.HistGradientBoostingClassifier(max_iter=8, random_state=0), 3),
    "binary hist": (ensemble.HistGradientBoostingClassifier(max_iter=8, random_state=0), 2),
    "tree regression": (tree.DecisionTreeRegressor(max_depth=6, random_state=0), 0),
    "forest regression": (ensemble.RandomForestRegressor(7, max_depth=6, random_state=0), 0),
    "two outputs": (ensemble.RandomForestRegressor(7, max_depth=6, random_state=0), -2),
    "boosted regression": (ensemble.GradientBoostingRegressor(n_estimators=8, random_state=0), 0),
    "boosted from zero": (ensemble.GradientBoostingRegressor(n_estimators=8, init="zero", random_state=0), 0),
    "hist regression": (ensemble.HistGradientBoostingRegressor(max_iter=8, random_state=0), 0),
    "poisson": (ensemble.HistGradientBoostingRegressor(max_iter=8, loss="poisson", random_state=0), 0),
    "boosted outputs": (MultiOutputRegressor(ensemble.GradientBoostingRegressor(n_estimators=8, random_state=0)), -2),
}
LINEAR = {
    "linear": (linear_model.LinearRegression(), 0),
    "linear outputs": (linear_model.LinearRegression(), -2),
    "ridge": (linear_model.Ridge(), 0),
    "logistic": (linear_model.LogisticRegression(), 3),
    "binary logistic": (linear_model.LogisticRegression(), 2),
}
TAKE_NAN = ("tree", "forest", "extra", "hist", "binary hist", "tree regression", "forest regression", "hist regression")


def rows_and_targets(classes, missing=0.0):
    rng = np.random.default_rng(3)
    x = np.round(rng.normal(size=(400, F)), 1).astype(np.float32)
    value = x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2])
    if missing:
        x[rng.random(x.shape) < missing] = np.nan
    if classes > 0:
        return x, np.digitize(value, np.quantile(value, np.linspace(0, 1, classes + 1)[1:-1]))
    y = np.abs(value) + 0.1
    return x, np.stack([y, value], axis=1) if classes < 0 else y


def fitted(name, missing=0.0):
    from sklearn.base import clone

    estimator, classes = {**TREES, **LINEAR}[name]
    return clone(estimator).fit(*rows_and_targets(classes, missing))


def expected(estimator, rows):
    answer = estimator.predict_proba(rows) if hasattr(estimator, "predict_proba") else estimator.predict(rows)
    return np.asarray(answer).reshape(len(rows), -1)


@pytest.mark.parametrize("name", [*TREES, *LINEAR])
def test_model_answers_as_the_estimator(name, tmp_path):
    estimator = fitted(name)
    model = estimator_model(estimator, F)
    rows = np.random.default_rng(1).normal(size=(300, F)).astype(np.float32)
    rows = np.concatenate([rows, rows_and_targets(2)[0]])
    if name in TREES:
        rows = np.concatenate([rows, threshold_rows(estimator, F, 500)])
    np.testing.assert_allclose(np.asarray(model(rows)), expected(estimator, rows), rtol=1e-5, atol=1e-5)
    assert not model.trainable_weights
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(rows)), np.asarray(model(rows)))


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("name", TAKE_NAN)
def test_missing_values_go_where_the_estimator_sends_them(name, missing):
    estimator = fitted(name, missing)
    rows = threshold_rows(estimator, F, 500)
    rows[np.random.default_rng(2).random(rows.shape) < 0.3] = np.nan
    got = np.asarray(estimator_model(estimator, F)(rows))
    np.testing.assert_allclose(got, expected(estimator, rows), rtol=1e-5, atol=1e-5)


numbers = st.floats(allow_nan=False, allow_subnormal=False, width=64)
normal = st.floats(allow_nan=False, allow_subnormal=False, width=32)


@settings(max_examples=300, deadline=None)
@given(numbers, normal)
def test_rounded_threshold_sends_every_float32_the_same_way(threshold, value):
    rounded = round_thresholds(np.array([threshold]))
    tiny = np.finfo(np.float32).tiny
    with np.errstate(over="ignore"):
        beside = np.nextafter(rounded, np.float32([np.inf, -np.inf]))
    for x in np.array([value, rounded[0], *beside], np.float32):
        if (abs(x) < tiny and x != 0) or np.isinf(x):
            continue
        assert (x <= rounded[0]) == (float(x) <= threshold)
        assert (-x > -next_above(rounded)[0]) == (float(x) <= threshold)


def test_classes_without_rows_get_nothing():
    x, y = rows_and_targets(3)
    codes = np.array([1, 3, 4])[y]
    for estimator in (
        tree.DecisionTreeClassifier(max_depth=4),
        ensemble.GradientBoostingClassifier(n_estimators=3),
        linear_model.LogisticRegression(),
    ):
        estimator.fit(x, codes)
        got = np.asarray(estimator_model(estimator, F, num_outputs=5)(x))
        np.testing.assert_allclose(got[:, [1, 3, 4]], estimator.predict_proba(x), atol=1e-5)
        assert got[:, [0, 2]].max() <= 2e-7
    two = ensemble.HistGradientBoostingClassifier(max_iter=3).fit(x, np.array([0, 2, 2])[y])
    got = np.asarray(estimator_model(two, F, num_outputs=3)(x))
    np.testing.assert_allclose(got[:, [0, 2]], two.predict_proba(x), atol=1e-5)
    assert got[:, 1].max() == 0


@pytest.mark.parametrize(
    ("estimator", "nearest"),
    [
        (neighbors.KNeighborsClassifier(), "random_forest"),
        (svm.SVC(kernel="rbf"), "logistic_regression"),
        (GaussianProcessRegressor(), "hist_gradient_boosting"),
        (make_pipeline(StandardScaler(), tree.DecisionTreeClassifier()), "last estimator"),
        (ensemble.AdaBoostClassifier(), "RandomForestClassifier"),
    ],
)
def test_refuses_by_name_what_is_no_small_graph(estimator, nearest):
    with pytest.raises(ValueError, match=f"(?s){type(estimator).__name__}.*{nearest}"):
        estimator_model(estimator, F)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="fitted DecisionTreeClassifier"):
        estimator_model(tree.DecisionTreeClassifier(), F)
    with pytest.raises(ValueError, match="of 4 features, got one of 5"):
        estimator_model(fitted("tree"), 4)
    with pytest.raises(ValueError, match="of 3 outputs, got one of 2"):
        estimator_model(fitted("two outputs"), F, num_outputs=3)
    with pytest.raises(ValueError, match="from 0 to 1"):
        estimator_model(fitted("tree"), F, num_outputs=2)
