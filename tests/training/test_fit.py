import numpy as np
import pytest

from moe_edge.config import Combine, ExpertConfig, GateConfig, MixtureConfig, Task, TrainingConfig
from moe_edge.tables.dataset import dataset_from_arrays
from moe_edge.training.archive import load_model, save_model
from moe_edge.training.examples import s_curve_dataset
from moe_edge.training.fit import train_mixture
from moe_edge.training.split import split_dataset
from moe_edge.training.standardise import fit_preprocess

SHORT = TrainingConfig(epochs=3, batch_size=32)


def blobs(num_rows=240, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(num_rows) % 3
    x = random.normal(size=(num_rows, 4)) + 3 * np.eye(3, 4)[y]
    x = x * [1, 5000, 1, 1e-3]
    x[random.random(x.shape) < 0.03] = np.nan
    return dataset_from_arrays(x, y, labels=["a", "b", "c"])


def small(task=Task.CLASSIFICATION, combine=Combine.PROBABILITIES, **gate):
    return MixtureConfig(
        task=task, combine=combine, expert=ExpertConfig(hidden=(16,)), gate=GateConfig(num_experts=3, **gate)
    )


def test_columns_of_any_range_with_gaps_are_learnt_and_every_expert_lives():
    dataset = blobs()
    split = split_dataset(dataset)
    epochs = []
    result = train_mixture(
        dataset,
        split,
        small(),
        TrainingConfig(epochs=30, batch_size=32),
        on_epoch=lambda epoch, figures: epochs.append((epoch, figures["val_loss"])),
    )
    assert result.test.value > 0.9
    assert result.test.rows == len(split.test)
    assert min(result.usage) > 0.1
    assert sum(result.usage) == pytest.approx(1, abs=1e-5)
    assert sum(expert.chosen.rows for expert in result.experts) == len(split.test)
    assert epochs == list(enumerate(result.history["val_loss"], start=1))
    assert result.best_epoch == int(np.argmin(result.history["val_loss"])) + 1
    assert result.warnings == ()


def test_the_epoch_that_validation_chose_is_the_one_kept():
    dataset = blobs(60)
    split = split_dataset(dataset)
    result = train_mixture(dataset, split, small(), TrainingConfig(epochs=60, patience=3, learning_rate=0.05))
    assert len(result.history["loss"]) <= result.best_epoch + 3
    accuracy = result.history["val_accuracy"][result.best_epoch - 1]
    assert result.validation.value == pytest.approx(accuracy)


def test_equal_seeds_give_equal_models():
    dataset = blobs(90)
    split = split_dataset(dataset)
    one, two = (train_mixture(dataset, split, small(), SHORT).model.get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    other = train_mixture(dataset, split, small(), TrainingConfig(epochs=3, batch_size=32, seed=1)).model.get_weights()
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_test_rows_touch_nothing():
    dataset = blobs(90)
    split = split_dataset(dataset)
    features = dataset.features.copy()
    features[split.test] = 1e9
    changed = dataset_from_arrays(features, dataset.target, labels=["a", "b", "c"])
    one, two = (train_mixture(d, split, small(), SHORT).model for d in (dataset, changed))
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), two.get_weights(), strict=True))
    assert one.get_layer("preprocess").get_config() == two.get_layer("preprocess").get_config()


@pytest.mark.parametrize("combine", [Combine.PROBABILITIES, Combine.LOGITS])
def test_the_classical_recipe_runs_all_its_epochs(combine):
    dataset = blobs(90)
    result = train_mixture(
        dataset, split_dataset(dataset), small(combine=combine, load_balancing_coef=0.0), TrainingConfig.classical()
    )
    assert len(result.history["loss"]) == result.best_epoch == 10
    assert np.isfinite(result.test.value)


@pytest.mark.parametrize("combine", [Combine.GAUSSIAN, Combine.MEAN])
def test_an_s_curve_far_from_zero_is_followed_and_the_saved_model_trains_on(combine, tmp_path):
    curve = s_curve_dataset(300)
    y = curve.target * 50 + 10_000
    dataset = dataset_from_arrays(curve.features, np.hstack([y, -y]), task=Task.REGRESSION)
    split = split_dataset(dataset)
    result = train_mixture(
        dataset,
        split,
        small(Task.REGRESSION, combine),
        TrainingConfig(epochs=40, batch_size=32, learning_rate=0.02),
    )
    assert result.test.r2 > 0.9
    assert result.test.value < 25  # the target's own spread is 43 with noise 5
    path = tmp_path / "m.keras"
    save_model(result.model, path, schema=result.schema, split=split)
    model = load_model(path).model
    loss, rmse = model.evaluate(dataset.features[split.test], dataset.target[split.test], verbose=0)
    assert rmse == pytest.approx(result.test.value, rel=1e-3)
    assert np.isfinite(loss)
    model.fit(dataset.features[split.train], dataset.target[split.train], epochs=1, verbose=0)


def test_a_dead_expert_is_named_with_advice():
    dataset = blobs(90)
    config = small(load_balancing_coef=0.0)
    training = TrainingConfig(epochs=30, learning_rate=0.05, competitive_weight=1.0, patience=60)
    result = train_mixture(dataset, split_dataset(dataset), config, training)
    assert min(result.usage) < 0.2 / 3
    assert "--load-balancing-coef 0.1" in result.warnings[0]


def test_a_config_of_the_other_task_is_refused():
    dataset = blobs(30)
    with pytest.raises(ValueError, match="expected a mixture for classification"):
        train_mixture(dataset, split_dataset(dataset), small(Task.REGRESSION, Combine.GAUSSIAN), SHORT)


def test_preprocessing_is_fitted_to_strange_columns_too():
    x = np.array([[1, np.nan, 3e38, 2e9], [1, np.nan, -3e38, 2e9 + 500], [1, np.nan, 0, np.nan]], np.float32)
    schema = dataset_from_arrays(np.zeros((6, 4)), np.arange(6) % 2).schema
    layer = fit_preprocess(schema, x)
    z = np.asarray(layer(np.vstack([x, np.full((1, 4), 1e30, np.float32)])))
    assert np.isfinite(z).all()
    assert np.abs(z).max() <= 10
    assert (z[:3, :2] == 0).all()
