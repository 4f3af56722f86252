"""Gates that are trees, read back from trained mixtures: the questions lead every row to the weights that Keras gives."""

from __future__ import annotations

import re

import numpy as np
import pytest

from moe_edge.config import Combine, ExpertConfig, GateConfig, MixtureConfig, Strategy, Task, TrainingConfig
from moe_edge.hierarchy import GateTree
from moe_edge.tables.dataset import dataset_from_arrays
from moe_edge.training.fit import train_mixture
from moe_edge.training.gates.gate_reading import read_gate_splits, read_gate_tree
from moe_edge.training.outputs import full_outputs
from moe_edge.training.score import predict
from moe_edge.training.split import split_dataset


def train(gate, **training):
    """Two numbers of very different units and a colour that decide which of two sines answers."""
    rng = np.random.default_rng(0)
    x = np.empty((300, 3), dtype=object)
    height, price = rng.uniform(0, 1, 300), rng.uniform(0, 5000, 300)
    colour = rng.choice(["red", "green", "blue"], 300)
    x[:, 0], x[:, 1], x[:, 2] = height, price, colour
    y = np.where((price > 2000) & (colour != "red"), np.sin(9 * height), 3 - height) + 0.05 * rng.normal(size=300)
    dataset = dataset_from_arrays(x, y, names=["height", "price", "colour"], task=Task.REGRESSION)
    config = MixtureConfig(
        task=Task.REGRESSION, combine=Combine.GAUSSIAN, expert=ExpertConfig(hidden=(8,)), gate=GateConfig(**gate)
    )
    result = train_mixture(dataset, split_dataset(dataset, seed=0), config, TrainingConfig(seed=0, **training))
    return result.model, dataset


def follow(node, row):
    """Walk as a reader of the picture would."""
    while node.question:
        column, asked, value = re.fullmatch(r"(?:not )?(\w+) (≤|≥|is) (\S+)", node.question).groups()
        held = {"≤": lambda a, b: a <= float(b), "≥": lambda a, b: a >= float(b), "is": lambda a, b: a == b}[asked]
        node = node.yes if held(row[column], value) != node.question.startswith("not ") else node.no
    return node.weights


def test_the_questions_lead_every_row_to_keras_weights():
    gate = {"kind": "decision_tree", "num_experts": 3, "options": {"max_depth": 4}}
    model, dataset = train(gate, strategy=Strategy.EM, epochs=5, em_iterations=4)
    rows = dataset.features
    root = read_gate_splits(model, dataset.schema, rows)
    assert root is not None and root.rows == len(rows) and 1 <= root.depth <= 4
    assert root.yes.rows + root.no.rows == len(rows) and read_gate_tree(model) is None
    expected = predict(full_outputs(model), rows)["routing_weights"]
    categories = dataset.schema.columns[2].categories
    wrong = 0
    for row, weights in zip(rows, expected, strict=True):
        named = {"height": row[0], "price": row[1], "colour": categories[int(row[2])]}
        wrong += not np.allclose(follow(root, named), weights, atol=1e-6)
    # Four digits of a threshold stand in a question: a row that lies within them may go astray.
    assert wrong <= 2


@pytest.mark.parametrize("kind", ["hierarchical", "dense"])
def test_a_hierarchy_is_read_and_other_gates_are_not(kind):
    model, dataset = train({"kind": kind, "num_experts": 3}, epochs=1)
    assert read_gate_tree(model) == (GateTree.balanced(3) if kind == "hierarchical" else None)
    assert read_gate_splits(model, dataset.schema, dataset.features) is None
