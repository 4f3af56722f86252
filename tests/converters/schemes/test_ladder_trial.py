"""One candidate judged: its figures, counted again in NumPy."""

import numpy as np
import pytest

from moe_edge.config import Combine, Task
from moe_edge_converters.file_writer import pack
from moe_edge_converters.schemes.ladder_trial import run_trial


@pytest.fixture(scope="module")
def classifier(mixtures):
    spec = mixtures.make_spec(num_experts=3, num_columns=8, num_outputs=4)
    rows = mixtures.make_rows(spec, 300)
    # A fifth of the labels are wrong, and class 3 is never the target.
    target = mixtures.reference(spec, rows).prediction.argmax(axis=1)
    flipped = np.random.default_rng(2).random(300) < 0.2
    target = np.where(flipped, (target + 1) % 3, np.minimum(target, 2))
    return spec, rows, target, pack(mixtures.fuse(spec)[0])


def test_a_classifiers_figures(mixtures, classifier):
    spec, rows, target, content = classifier
    trial = run_trial(content, rows, target, task=Task.CLASSIFICATION, reference=None)
    answers = mixtures.reference(spec, rows).prediction.argmax(axis=1)
    assert (trial.num_bytes, trial.num_rows) == (len(content), 300)
    assert trial.correct == (answers == target).sum() and trial.metric == trial.correct / 300
    assert trial.class_names == ("0", "1", "2")
    assert trial.class_correct == tuple(int(((answers == target) & (target == code)).sum()) for code in range(3))
    assert sum(trial.class_correct) == trial.correct
    assert (trial.agreement, trial.route_agreement, trial.route_flips) == (1, 1, 0)
    assert trial.latency_us > 0


def test_another_file_is_compared_with_the_first(mixtures, classifier):
    spec, rows, target, content = classifier
    first = run_trial(content, rows, target, task=Task.CLASSIFICATION, reference=None)
    *hidden, last = spec.gate.layers
    bias = last.bias + np.float32([0.5, 0, 0])
    other = mixtures.replace(
        spec, gate=mixtures.replace(spec.gate, layers=(*hidden, mixtures.replace(last, bias=bias)))
    )
    trial = run_trial(pack(mixtures.fuse(other)[0]), rows, target, task=Task.CLASSIFICATION, reference=first)
    before, after = mixtures.reference(spec, rows), mixtures.reference(other, rows)
    flips = int((before.routing_weights.argmax(axis=1) != after.routing_weights.argmax(axis=1)).sum())
    assert flips > 0 and trial.route_flips == flips
    assert trial.route_agreement == pytest.approx(1 - flips / 300)
    same = (before.prediction.argmax(axis=1) == after.prediction.argmax(axis=1)).mean()
    assert trial.agreement == pytest.approx(same) and same < 1


def test_a_regressions_metric_is_its_rmse_in_the_users_units(mixtures):
    spec = mixtures.make_spec(combine=Combine.GAUSSIAN, num_outputs=2, num_columns=8)
    rows = mixtures.make_rows(spec, 200)
    prediction = mixtures.reference(spec, rows).prediction
    target = (prediction + np.random.default_rng(0).normal(size=prediction.shape) * 3).astype(np.float32)
    trial = run_trial(pack(mixtures.fuse(spec)[0]), rows, target, task=Task.REGRESSION, reference=None)
    assert trial.metric == pytest.approx(np.sqrt(np.square(prediction - target).mean()), rel=1e-4)
    assert (trial.correct, trial.class_names, trial.agreement) == (0, (), 1)
