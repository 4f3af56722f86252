"""A grown hierarchy finds the pieces of a broken line that a balanced one misses; where it can't grow, it says so."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main
from moe_edge.config import Combine, ExpertConfig, GateConfig, MixtureConfig, Strategy, Task, TrainingConfig
from moe_edge.tables.dataset import dataset_from_arrays
from moe_edge.training.fit import train_mixture
from moe_edge.training.gates.gate_reading import read_gate_tree
from moe_edge.training.score import predict
from moe_edge.training.split import split_dataset

PIECES = 5


@pytest.fixture(scope="module")
def line():
    """Five lines end to end with jumps, noise 0.1."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, PIECES, (600, 1))
    piece = x[:, 0].astype(int)
    slopes, levels = rng.choice([-3.0, -2, 2, 3], PIECES), rng.uniform(-2, 2, PIECES)
    y = levels[piece] + slopes[piece] * (x[:, 0] - piece - 0.5) + 0.1 * rng.normal(size=600)
    dataset = dataset_from_arrays(x, y, task=Task.REGRESSION)
    return dataset, split_dataset(dataset, seed=0)


def train(line, strategy=Strategy.EM, **options):
    dataset, split = line
    config = MixtureConfig(
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        expert=ExpertConfig(kind="linear"),
        gate=GateConfig(kind="hierarchical", num_experts=PIECES, options=options),
    )
    result = train_mixture(dataset, split, config, TrainingConfig(strategy=strategy, seed=1, epochs=5))
    answers = predict(result.model, dataset.features[split.test])
    return result.model, float(np.sqrt(np.mean((answers - dataset.require_target()[split.test]) ** 2)))


def test_a_grown_hierarchy_finds_pieces_that_a_balanced_one_misses(line):
    (balanced, error), (grown, less) = train(line), train(line, grow=True)
    assert less < 0.5 * error and less < 0.25
    trees = read_gate_tree(balanced), read_gate_tree(grown)
    assert trees[0] != trees[1] and trees[1].num_experts == PIECES


def test_growth_beside_a_tree_or_another_strategy_is_refused(line):
    with pytest.raises(ValueError, match="grow=true or a tree"):
        train(line, grow=True, tree=[[0, 1], [2, [3, 4]]])
    for strategy in (Strategy.JOINT, Strategy.STAGED):
        with pytest.raises(ValueError, match="expected strategy em"):
            train(line, strategy, grow=True)


def test_the_command_grows_a_hierarchy(line, tmp_path):
    dataset, _ = line
    table = tmp_path / "line.npz"
    np.savez(table, x=dataset.features, y=dataset.require_target())
    output = tmp_path / "line.keras"
    arguments = ["--gate", "hierarchical:grow=true", "--num-experts", "3", "--expert", "linear", "--strategy", "em"]
    result = CliRunner().invoke(main, ["train", str(table), *arguments, "--em-iterations", "3", "-o", str(output)])
    assert result.exit_code == 0, result.output
    from moe_edge.training.archive import load_model

    assert read_gate_tree(load_model(output).model).num_experts == 3
