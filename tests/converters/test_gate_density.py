"""What a file records of its training rows' densities, and what an explanation makes of it."""

import keras
import numpy as np

from moe_edge import Predictor
from moe_edge.training.kinds.kind import GateJob
from moe_edge.training.kinds.registry import gate_kind
from moe_edge.training.layers import StackedDense, WeightedSum
from moe_edge.training.outputs import full_outputs
from moe_edge_converters.conversion import convert


def make_mixture(kind, rows):
    x = keras.Input((3,))
    job = GateJob(input_shape=(3,), num_experts=3)
    responsibilities = np.eye(3)[rows.argmax(axis=1)]
    weights = gate_kind(kind).fit(job, rows, responsibilities)(x)
    return keras.Model(x, WeightedSum()([weights, StackedDense(3, 2, "softmax")(x)]))


def test_quantiles_are_those_of_the_training_rows_and_flag_what_is_unlike_them(tmp_path):
    rows = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    model = make_mixture("gaussian", rows)
    convert(model, tmp_path / "m.tflite", scheme="float32", calibration=rows)
    density = np.array(full_outputs(model)(rows)["gate_log_density"])
    with Predictor(tmp_path / "m.tflite") as predictor:
        record = predictor.manifest.extras["gate_log_density"]
        assert record["rows"] == 1000
        for share, value in record["quantiles"].items():
            assert abs(value - np.quantile(density, float(share))) < 1e-3
        usual = predictor.explain(rows)
        assert usual.is_unusual is not None and usual.is_unusual.mean() == 0.01
        assert "unlike the training rows" not in str(predictor.explain(np.zeros((1, 3), np.float32)))
        strange = predictor.explain(np.full((1, 3), 20, np.float32))
        assert str(strange).endswith("; unlike the training rows")


def test_without_rows_there_is_a_density_and_no_verdict(tmp_path):
    rows = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    convert(make_mixture("gaussian", rows), tmp_path / "m.tflite", scheme="float32")
    with Predictor(tmp_path / "m.tflite") as predictor:
        explanation = predictor.explain(rows + 20)
    assert explanation.gate_log_density is not None and explanation.gate_log_density.shape == (100,)
    assert explanation.is_unusual is None and "unlike" not in str(explanation)


def test_other_gates_record_nothing(tmp_path):
    rows = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    convert(make_mixture("linear", rows), tmp_path / "m.tflite", scheme="float32", calibration=rows)
    with Predictor(tmp_path / "m.tflite") as predictor:
        assert "gate_log_density" not in predictor.manifest.extras
        assert predictor.explain(rows).gate_log_density is None
