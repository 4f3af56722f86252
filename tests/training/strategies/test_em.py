import numpy as np
import pytest

from moe_edge.config import (
    Combine,
    ExpertConfig,
    GateConfig,
    MixtureConfig,
    PiecesConfig,
    Strategy,
    Task,
    TrainingConfig,
)
from moe_edge.tables.dataset import dataset_from_arrays
from moe_edge.training.archive import load_model, save_model
from moe_edge.training.examples import s_curve_dataset
from moe_edge.training.fit import train_mixture
from moe_edge.training.gates.gaussian_gate import GaussianGate
from moe_edge.training.outputs import expert_outputs
from moe_edge.training.score import predict
from moe_edge.training.split import split_dataset
from moe_edge.training.strategies.em import _Run
from moe_edge.training.strategies.likelihood import responsibilities
from moe_edge.training.strategies.problem import Problem


def lines(gate="linear", **options):
    return MixtureConfig(
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        expert=ExpertConfig(kind="linear"),
        gate=GateConfig(num_experts=3, kind=gate, **options),
    )


def errors_on_test_rows(model, dataset, split):
    """RMSE of one line, of the mixture, of the first expert's choice."""
    x, y = (values[split.test].astype(np.float64) for values in (dataset.features, dataset.target))
    known = np.c_[dataset.features[split.train], np.ones(len(split.train))].astype(np.float64)
    line = np.linalg.lstsq(known, dataset.target[split.train], rcond=None)[0]
    inside = predict(expert_outputs(model), dataset.features[split.test])
    first = inside["routing_weights"].argmax(axis=1)
    hard = inside["expert_answers"][np.arange(len(first)), first]
    answers = (np.c_[x, np.ones(len(x))] @ line, predict(model, dataset.features[split.test]), hard)
    return [float(np.sqrt(np.mean((answer - y) ** 2))) for answer in answers]


@pytest.mark.parametrize("strategy", [Strategy.STAGED, Strategy.EM])
@pytest.mark.parametrize("gate", ["linear", "gaussian"])
@pytest.mark.parametrize("seed", [0, 1])
def test_three_lines_follow_an_s_curve_dense_and_hard(strategy, gate, seed):
    dataset = s_curve_dataset(600, seed=seed)
    split = split_dataset(dataset, seed=seed)
    result = train_mixture(dataset, split, lines(gate), TrainingConfig(strategy=strategy, seed=seed))
    line, mixture, hard = errors_on_test_rows(result.model, dataset, split)
    assert mixture <= line / 5
    assert hard <= line / 5


@pytest.mark.parametrize("gate", ["linear", "gaussian"])
def test_the_likelihood_does_not_fall(gate):
    dataset = s_curve_dataset(400, seed=3)
    training = TrainingConfig(strategy=Strategy.EM)
    told = []
    result = train_mixture(
        dataset, split_dataset(dataset), lines(gate), training, on_epoch=lambda number, _: told.append(number)
    )
    values = result.history["log_likelihood"]
    assert len(values) >= 3
    # Four parts may each fall by the tolerance, a millionth of a nat a row.
    assert np.diff(values).min() >= -4.1e-6
    assert values[-1] > values[0]
    assert told == list(range(1, len(values) + 1))
    assert result.best_epoch == int(np.argmax(result.history["val_log_likelihood"])) + 1


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_gaussian_gate_learns_features_and_answers_together(covariance):
    dataset = s_curve_dataset(400, seed=3)
    split = split_dataset(dataset)
    wide = np.random.default_rng(0).normal(size=(400, 2)) + dataset.features
    constant = np.full((400, 1), 7.0)
    dataset = dataset_from_arrays(np.hstack([dataset.features, wide, constant]), dataset.target, task=Task.REGRESSION)
    training = TrainingConfig(strategy=Strategy.EM, em_iterations=12)
    config = lines("gaussian", options={"covariance": covariance})
    result = train_mixture(dataset, split, config, training)
    values = result.history["log_likelihood"]
    assert np.diff(values).min() >= -4.1e-6
    assert sum(result.history["rejected"]) == 0

    # The likelihood of the iteration that was kept, once more from the model: log p(x) + log sum_e g_e P(y | x, e).
    model, rows = result.model, split.train
    features = predict(model.get_layer("preprocess"), dataset.features[rows])
    density = next(layer for layer in model.get_layer("gate").layers if isinstance(layer, GaussianGate))
    inside = predict(expert_outputs(model), dataset.features[rows])
    scale = float(np.std(dataset.target[rows].astype(np.float64)))
    mean, sigma = (inside[name][..., 0].astype(float) for name in ("expert_means", "expert_sigmas"))
    each = np.exp(-0.5 * ((dataset.target[rows] - mean) / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma) * scale
    joint = np.asarray(density.log_density(features))[:, 0] + np.log((inside["routing_weights"] * each).sum(axis=1))
    assert joint.mean() == pytest.approx(values[result.best_epoch - 1], abs=2e-3)


@pytest.mark.parametrize("kind", ["dense", "linear", "random_forest"])
def test_an_expert_that_loses_all_its_rows_stays_as_it_is(kind, monkeypatch):
    """Adam steps as far on a gradient of next to nothing as on any other."""
    monkeypatch.setattr("moe_edge.training.strategies.em.responsibilities", _nothing_for_expert_0)
    dataset = s_curve_dataset(120)
    split = split_dataset(dataset)
    options = {"n_estimators": 3} if kind == "random_forest" else {}
    config = MixtureConfig(
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        expert=ExpertConfig(kind=kind, hidden=(4,), options=options),
        gate=GateConfig(num_experts=2, kind="linear"),
    )
    problem = Problem(
        dataset=dataset, split=split, config=config, training=TrainingConfig(strategy=Strategy.EM, epochs=2)
    )
    run = _Run(problem, problem.features, problem.pieces)
    before = predict(run.experts.models[0], problem.features)
    run.step()
    np.testing.assert_array_equal(predict(run.experts.models[0], problem.features), before)


def _nothing_for_expert_0(log_joint):
    h, rows = responsibilities(log_joint)
    return np.eye(h.shape[1])[np.ones(len(h), int)] * (1 - 4e-6) + 2e-6, rows


def test_mixed_kinds_learn_save_and_load(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3)).astype(np.float32)
    y = np.where(x[:, 0] > 0, x[:, 1] > 0, x[:, 2] > 0).astype(np.int64)
    dataset = dataset_from_arrays(x, y, labels=["a", "b"])
    split = split_dataset(dataset)
    config = MixtureConfig(
        experts=(
            ExpertConfig(hidden=(8,)),
            ExpertConfig(kind="logistic_regression"),
            ExpertConfig(kind="random_forest", options={"n_estimators": 10}),
        ),
        gate=GateConfig(num_experts=3, kind="decision_tree"),
    )
    training = TrainingConfig(strategy=Strategy.EM, em_iterations=4)
    result = train_mixture(dataset, split, config, training)
    assert result.test.value > 0.8
    path = tmp_path / "m.keras"
    save_model(result.model, path, schema=result.schema, mixture_config=config)
    np.testing.assert_array_equal(predict(load_model(path).model, x), predict(result.model, x))


def test_experts_without_a_likelihood_are_refused():
    dataset = s_curve_dataset(100)
    config = MixtureConfig(task=Task.REGRESSION, combine=Combine.MEAN, gate=GateConfig(num_experts=2))
    with pytest.raises(ValueError, match="needs a likelihood"):
        train_mixture(dataset, split_dataset(dataset), config, TrainingConfig(strategy=Strategy.EM))


def test_joint_training_refuses_fitted_experts_and_names_the_strategies_that_take_them():
    dataset = s_curve_dataset(100)
    config = MixtureConfig(
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        expert=ExpertConfig(kind="decision_tree"),
        gate=GateConfig(num_experts=2),
    )
    with pytest.raises(ValueError, match="staged or em"):
        train_mixture(dataset, split_dataset(dataset), config, TrainingConfig())


def test_joint_training_from_pieces_follows_the_curve_with_one_expert_for_each_row():
    dataset = s_curve_dataset(600)
    split = split_dataset(dataset)
    training = TrainingConfig(pieces=PiecesConfig(), learning_rate=0.02, epochs=60, batch_size=32)
    result = train_mixture(dataset, split, lines("dense", top_k=1), training)
    line, mixture, hard = errors_on_test_rows(result.model, dataset, split)
    assert mixture == pytest.approx(hard)
    assert hard <= line / 5
