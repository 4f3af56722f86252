"""The manifest says how much the training rows use each expert."""

import keras
import numpy as np

from moe_edge.manifest import Role
from moe_edge.runtime.model_file import ModelFile
from moe_edge.training import create_moe_model
from moe_edge.training.outputs import full_outputs
from moe_edge_converters.conversion import convert


def usage_in(path):
    with ModelFile.open(path) as file:
        return [part.usage for part in file.manifest.parts if part.role is Role.EXPERT]


def test_usage_is_the_mean_weight_of_each_expert(tmp_path):
    keras.utils.set_random_seed(0)
    rows = np.random.default_rng(0).normal(size=(700, 5)).astype(np.float32)
    model = create_moe_model(5, 3, num_experts=4)
    expected = np.array(full_outputs(model)(rows)["routing_weights"]).mean(axis=0)
    assert np.ptp(expected) > 0.01
    for scheme in ("float32", "w8a8"):
        convert(model, tmp_path / "m.tflite", scheme=scheme, calibration=rows)
        np.testing.assert_allclose(usage_in(tmp_path / "m.tflite"), expected, atol=1e-4)


def test_without_training_rows_there_is_none(tmp_path):
    keras.utils.set_random_seed(0)
    convert(create_moe_model(5, 3, num_experts=2), tmp_path / "m.tflite", scheme="float32")
    assert usage_in(tmp_path / "m.tflite") == [None, None]
