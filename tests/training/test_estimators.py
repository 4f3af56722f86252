import warnings

import numpy as np
import pytest
from sklearn import (
    ensemble,
    gaussian_process,
    linear_model,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.multioutput import MultiOutputRegressor

from moe_edge.errors import DataError
from moe_edge.training import estimator_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6)).astype(np.float32)
MANY = ((X[:, 0] > 0) + 2 * (X[:, 1] > 0.3)).astype(int)
TWO = (X[:, 0] * X[:, 1] > 0).astype(int)
NUMBER = np.sin(2 * X[:, 0]) * X[:, 1]
NUMBERS = np.stack([NUMBER, X[:, 2] ** 2, 1000 + X[:, 3]], axis=1)

TREES = {
    "decision_tree": (tree.DecisionTreeClassifier(max_depth=5), MANY),
    "decision_tree-numbers": (tree.DecisionTreeRegressor(), NUMBERS),
    "extra_tree": (tree.ExtraTreeClassifier(random_state=0), MANY),
    "forest": (ensemble.RandomForestClassifier(20, random_state=0), MANY),
    "forest-two": (ensemble.RandomForestClassifier(9, max_depth=4, random_state=0), TWO),
    "forest-numbers": (ensemble.RandomForestRegressor(9, random_state=0), NUMBERS),
    "extra_trees": (ensemble.ExtraTreesClassifier(9, random_state=0), MANY),
    "extra_trees-number": (ensemble.ExtraTreesRegressor(9, random_state=0), NUMBER),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=12), MANY),
    "boosting-two": (ensemble.GradientBoostingClassifier(n_estimators=12, subsample=0.7, random_state=0), TWO),
    "boosting-exponential": (ensemble.GradientBoostingClassifier(n_estimators=12, loss="exponential"), TWO),
    "boosting-zero": (ensemble.GradientBoostingRegressor(n_estimators=12, init="zero"), NUMBER),
    "boosting-numbers": (MultiOutputRegressor(ensemble.GradientBoostingRegressor(n_estimators=8)), NUMBERS),
    "hist": (ensemble.HistGradientBoostingClassifier(max_iter=12), MANY),
    "hist-two": (ensemble.HistGradientBoostingClassifier(max_iter=12, max_bins=16), TWO),
    "hist-number": (ensemble.HistGradientBoostingRegressor(max_iter=12, loss="absolute_error"), NUMBER),
    "hist-numbers": (
        MultiOutputRegressor(
            ensemble.HistGradientBoostingRegressor(early_stopping=True, n_iter_no_change=2, random_state=0)
        ),
        NUMBERS,
    ),
}
LINEAR = {
    "linear": (linear_model.LinearRegression(), NUMBER),
    "linear-numbers": (linear_model.LinearRegression(fit_intercept=False), NUMBERS),
    "ridge": (linear_model.Ridge(), NUMBERS),
    "lasso": (linear_model.Lasso(0.01), NUMBER),
    "logistic": (linear_model.LogisticRegression(), MANY),
    "logistic-two": (linear_model.LogisticRegression(), TWO),
}


def ask(estimator, rows):
    answer = getattr(estimator, "predict_proba", estimator.predict)(rows)
    return np.asarray(answer).reshape(len(rows), -1)


@pytest.mark.parametrize("name", TREES)
def test_trees_answer_like_the_estimator_at_thresholds_too(name, rows_at_thresholds):
    estimator, y = TREES[name]
    estimator.fit(X, y)
    model = estimator_model(estimator, 6)
    rows = np.concatenate([X, rows_at_thresholds(model.layers[-1], np.random.default_rng(1))])
    expected = ask(estimator, rows)
    # Sums of float32: seven digits of the largest answer.
    np.testing.assert_allclose(np.asarray(model(rows)), expected, rtol=0, atol=1e-5 * max(1, abs(expected).max()))


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_answer_like_the_estimator(name):
    estimator, y = LINEAR[name]
    estimator.fit(X, y)
    expected = ask(estimator, X)
    model = estimator_model(estimator, 6)
    np.testing.assert_allclose(np.asarray(model(X)), expected, rtol=0, atol=1e-5 * max(1, abs(expected).max()))
    assert not model.trainable_weights


@pytest.mark.parametrize(
    "name", ["forest", "forest-two", "boosting", "boosting-two", "hist", "logistic", "logistic-two"]
)
def test_classes_never_seen_get_no_probability(name):
    estimator, y = {**TREES, **LINEAR}[name]
    codes = np.array([4, 0, 5, 2])
    estimator.fit(X, codes[y])
    got = np.asarray(estimator_model(estimator, 6, num_outputs=7)(X))
    expected = np.zeros((len(X), 7))
    expected[:, estimator.classes_] = estimator.predict_proba(X)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    exact = 2e-7 if name.startswith("logistic") else 0.0
    assert got[:, [1, 3, 6]].max() <= exact


def test_names_of_classes_keep_their_order():
    estimator = tree.DecisionTreeClassifier(max_depth=3).fit(X, np.array(["b", "a"])[TWO])
    np.testing.assert_allclose(np.asarray(estimator_model(estimator, 6)(X)), estimator.predict_proba(X), atol=1e-6)
    with pytest.raises(DataError, match="codes in"):
        estimator_model(estimator, 6, num_outputs=3)


@pytest.mark.parametrize(
    "estimator", [tree.DecisionTreeRegressor(max_depth=3), linear_model.LinearRegression()], ids=["tree", "linear"]
)
def test_sigma_follows_the_numbers(estimator):
    estimator.fit(X, NUMBERS)
    got = np.asarray(estimator_model(estimator, 6, sigma=[0.5, 1.0, 2.0])(X))
    np.testing.assert_allclose(got[:, :3], estimator.predict(X), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(got[:, 3:], np.tile(np.log([0.5, 1.0, 2.0]), (len(X), 1)), atol=1e-6)
    with pytest.raises(DataError, match="one sigma above 0 an output"):
        estimator_model(estimator, 6, sigma=[1.0])


@pytest.mark.parametrize(
    ("estimator", "y", "message"),
    [
        (neighbors.KNeighborsClassifier(), TWO, "KNeighborsClassifier.*every training row.*random_forest"),
        (svm.SVC(), TWO, "SVC.*support vectors.*logistic_regression"),
        (gaussian_process.GaussianProcessRegressor(), NUMBER, "GaussianProcessRegressor.*dense"),
        (pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge()), NUMBER, "Pipeline.*last step"),
        (neural_network.MLPRegressor(hidden_layer_sizes=(3,), max_iter=5), NUMBER, "MLPRegressor.*dense"),
        (ensemble.AdaBoostClassifier(n_estimators=2), TWO, "AdaBoostClassifier.*no exact graph.*random_forest"),
        (ensemble.HistGradientBoostingRegressor(max_iter=2, loss="poisson"), NUMBER**2, "poisson"),
        (tree.DecisionTreeClassifier(), np.stack([TWO, MANY], 1), "one target of a classifier"),
        (ensemble.GradientBoostingRegressor(n_estimators=2, init=linear_model.Ridge()), NUMBER, "init=Ridge"),
        (ensemble.HistGradientBoostingRegressor(max_iter=2, categorical_features=[5]), NUMBER, "splits by categories"),
    ],
)
def test_what_has_no_exact_graph_is_refused_by_name(estimator, y, message):
    rows = X.copy()
    rows[:, 5] = RNG.integers(0, 3, len(X))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(rows, y)
    with pytest.raises(DataError, match=message):
        estimator_model(estimator, 6)


def test_helpful_errors():
    with pytest.raises(DataError, match="expected a fitted DecisionTreeClassifier"):
        estimator_model(tree.DecisionTreeClassifier(), 6)
    estimator = tree.DecisionTreeClassifier(max_depth=2).fit(X, MANY)
    with pytest.raises(DataError, match="of 5 features"):
        estimator_model(estimator, 5)
    with pytest.raises(DataError, match="at most 2 classes"):
        estimator_model(estimator, 6, num_outputs=2)
    with pytest.raises(DataError, match="an estimator of 2 outputs"):
        estimator_model(tree.DecisionTreeRegressor().fit(X, NUMBER), 6, num_outputs=2)
    with pytest.raises(DataError, match="dict can't be written"):
        estimator_model({}, 6)
