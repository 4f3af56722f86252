"""A forest as ONNX's own operator answers like scikit-learn, so that the benchmark compares equals."""

import keras
import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

pytest.importorskip("onnx", reason="the bench extra isn't installed")
pytest.importorskip("onnxruntime", reason="the bench extra isn't installed")

from moe_edge.errors import ConversionError
from moe_edge.training.estimators import estimator_model
from moe_edge_converters.peers.onnx_trees import build_onnx_trees
from moe_edge_converters.peers.onnxruntime_subject import OnnxRuntimeSubject
from moe_edge_converters.sources.tree_networks import tree_spec

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


def spec_of(estimator):
    model = estimator_model(estimator, 5)
    assert isinstance(model, keras.Model)
    return tree_spec(model.layers[-1])


def test_a_forest_answers_alike(tmp_path, rows_at_thresholds):
    forest = RandomForestClassifier(12, max_depth=6, random_state=0).fit(X, Y)
    (tmp_path / "forest.onnx").write_bytes(build_onnx_trees(spec_of(forest), 5))
    rows = np.concatenate([X, rows_at_thresholds(estimator_model(forest, 5).layers[-1], RNG, 300)])
    got = OnnxRuntimeSubject(model=str(tmp_path / "forest.onnx")).answers(rows).prediction
    np.testing.assert_allclose(got, forest.predict_proba(rows), atol=1e-5)


def test_other_ensembles_are_refused():
    boosting = GradientBoostingClassifier(n_estimators=3).fit(X, Y)
    with pytest.raises(ConversionError, match="a forest that averages probabilities"):
        build_onnx_trees(spec_of(boosting), 5)
