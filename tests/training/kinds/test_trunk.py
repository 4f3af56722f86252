import numpy as np
import pytest

from moe_edge.config import TrunkConfig
from moe_edge.training.kinds.kind import NeuralExpert
from moe_edge.training.kinds.registry import NEURAL_EXPERTS, expert_kind
from moe_edge.training.kinds.trunk import NAME, build_trunk


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("dense", {}),
        ("linear", {}),
        ("conv1d", {"shape": [8, 3]}),
        ("conv2d", {"shape": [4, 3, 2], "filters": [4]}),
        ("gru", {"shape": [8, 3]}),
    ],
)
def test_a_trunk_gives_its_units_after_its_activation(kind, options):
    trunk = build_trunk(TrunkConfig(kind=kind, units=9, hidden=(), options=options), (24,), seed=1)
    assert trunk.name == NAME and trunk.output_shape == (None, 9)
    features = np.asarray(trunk(np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)))
    assert features.min() == 0 and features.max() > 0, "relu, its activation, comes last"


def test_a_linear_trunk_has_no_activation():
    trunk = build_trunk(TrunkConfig(activation="linear", units=4), (6,))
    features = np.asarray(trunk(np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)))
    assert features.min() < 0


def test_trunks_are_neural():
    with pytest.raises(ValueError, match=r"a neural kind.*'decision_tree'.*dense, linear"):
        try:
            build_trunk(TrunkConfig(kind="decision_tree"), (6,))
        except ImportError:
            pytest.skip("there are no trees yet")


def test_what_is_called_neural_is():
    assert all(isinstance(expert_kind(name), NeuralExpert) for name in NEURAL_EXPERTS)
