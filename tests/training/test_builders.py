import keras
import numpy as np
import pytest

from moe_edge.config import Combine, ExpertConfig, GateConfig, MixtureConfig, Task
from moe_edge.errors import ModelFileError
from moe_edge.training.builders import create_expert_model, create_gating_network, create_moe_model
from moe_edge.training.layers import Preprocess, StackedDense
from moe_edge.training.mixture import build_mixture
from moe_edge.training.outputs import expert_outputs, full_outputs

KINDS = [
    (Task.CLASSIFICATION, Combine.PROBABILITIES),
    (Task.CLASSIFICATION, Combine.LOGITS),
    (Task.REGRESSION, Combine.GAUSSIAN),
    (Task.REGRESSION, Combine.MEAN),
]


def reloaded(model, tmp_path):
    model.save(tmp_path / "m.keras")
    return keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)


def answer(model, x):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x))


@pytest.mark.parametrize(("task", "combine"), KINDS)
def test_every_kind_of_mixture_saves_loads_evaluates_and_fits(task, combine, tmp_path):
    config = MixtureConfig(task=task, combine=combine, expert=ExpertConfig(hidden=(4,)), gate=GateConfig(num_experts=3))
    layer = Preprocess([0, 1], [0.0] * 2, [0.0] * 2, [1.0] * 2, [-2.0] * 2, [2.0] * 2)
    model = build_mixture(config, 2, 2, preprocess=layer, target_mean=[5.0, 6.0], target_scale=[2.0, 3.0])
    classifies = task is Task.CLASSIFICATION
    model.compile("adam", "sparse_categorical_crossentropy" if classifies else "mse")
    x = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    y = np.arange(16) % 2 if classifies else x
    model.fit(x, y, epochs=1, verbose=0)
    again = reloaded(model, tmp_path)
    assert np.array_equal(answer(model, x), answer(again, x))
    full = answer(full_outputs(again), x)
    assert np.array_equal(full["prediction"], answer(model, x))
    np.testing.assert_allclose(full["routing_weights"].sum(axis=1), 1, atol=1e-6)
    assert ("sigma" in full) == (combine is Combine.GAUSSIAN)
    if classifies:
        np.testing.assert_allclose(full["prediction"].sum(axis=1), 1, atol=1e-6)
    before = again.evaluate(x, y, verbose=0)
    again.fit(x, y, epochs=1, verbose=0)
    assert np.isfinite(before)
    assert not np.array_equal(answer(model, x), answer(again, x))


def test_the_stacked_mixture_equals_separate_sub_models_with_the_same_weights():
    config = MixtureConfig(expert=ExpertConfig(hidden=(64, 32)), gate=GateConfig(num_experts=4))
    stacked = build_mixture(config, 6, 3)
    separate = create_moe_model(6, 3, 4)
    layers = [layer for layer in stacked.layers if isinstance(layer, StackedDense)]
    random = np.random.default_rng(0)
    for layer in layers:
        layer.bias.assign(random.normal(size=layer.bias.shape))
    for index in range(4):
        weights = [keras.ops.convert_to_numpy(w)[index] for layer in layers for w in (layer.kernel, layer.bias)]
        separate.get_layer(f"expert_{index}").set_weights(weights)
    gate = [w for name in ("gate_hidden_0", "gate_output") for w in stacked.get_layer(name).get_weights()]
    separate.get_layer("gate").set_weights(gate)
    x = random.normal(size=(50, 6)).astype(np.float32)
    np.testing.assert_allclose(answer(stacked, x), answer(separate, x), atol=1e-6)


def test_the_guides_models_are_the_guides():
    expert, gate = create_expert_model(4, 3), create_gating_network(4, 5)
    assert [layer.units for layer in expert.layers] == [64, 32, 3]
    assert [layer.units for layer in gate.layers] == [32, 5]
    assert [layer.activation.__name__ for layer in expert.layers] == ["relu", "relu", "softmax"]


def test_any_architecture_may_be_passed(tmp_path):
    def picture_expert(shape, output_dim):
        row = keras.Input(shape)
        hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(row))
        return keras.Model(row, keras.layers.Dense(output_dim, activation="softmax")(hidden), name="same_name")

    def picture_gate(shape, num_experts):
        return keras.Sequential(
            [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(num_experts, activation="softmax")]
        )

    model = create_moe_model((8, 8, 1), 3, 2, expert=picture_expert, gate=picture_gate, load_balancing_coef=0.1)
    model.compile("adam", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    model.fit(x, np.arange(8) % 3, verbose=0)
    again = reloaded(model, tmp_path)
    assert answer(full_outputs(again), x)["routing_weights"].shape == (8, 2)
    assert answer(expert_outputs(again), x)["expert_answers"].shape == (8, 2, 3)


def test_experts_of_the_wrong_shape_are_refused_by_name():
    with pytest.raises(ValueError, match=r"expert_0: expected outputs of shape \(None, 3\)"):
        create_moe_model(4, 3, 2, expert=lambda d, k: create_expert_model(d, k + 1))
    with pytest.raises(ValueError, match=r"gate: expected outputs of shape \(None, 2\)"):
        create_moe_model(4, 3, 2, gate=lambda d, e: create_gating_network(d, e + 1))
    with pytest.raises(ValueError, match=r"expert_0: can't take rows of shape \(None, 4\)"):
        create_moe_model(4, 3, 2, expert=lambda d, k: create_expert_model(d + 1, k))
    with pytest.raises(ValueError, match=r"expert_0: expected a keras\.Model"):
        create_moe_model(4, 3, 2, expert=lambda d, k: keras.layers.Dense(k))
    one = create_expert_model(4, 3)
    with pytest.raises(ValueError, match="same one twice"):
        create_moe_model(4, 3, 2, expert=lambda d, k: one)
    with pytest.raises(ValueError, match="num_experts >= 2"):
        create_moe_model(4, 3, 1)


def test_a_model_without_experts_has_no_routing_to_show():
    with pytest.raises(ModelFileError, match="combines experts"):
        full_outputs(create_expert_model(4, 3))
