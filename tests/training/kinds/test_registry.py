import subprocess
import sys

import pytest

from moe_edge.training.kinds.options import EXPERT_OPTIONS, GATE_OPTIONS
from moe_edge.training.kinds.registry import (
    EXPERTS,
    GATES,
    NEURAL_EXPERTS,
    NEURAL_GATES,
    REFUSED,
    check_name,
    expert_kind,
    gate_kind,
    with_defaults,
)
from moe_edge.training.kinds.row_sizes import AXES


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("role", ["expert", "gate"])
def test_what_cannot_be_emitted_is_refused_with_the_nearest_that_can(name, role):
    _, nearest = REFUSED[name]
    assert nearest in (EXPERTS if role == "expert" else GATES)
    with pytest.raises(ValueError, match=f"^{name} can't be written.*nearest kind that can: {nearest}$"):
        check_name(name, role)


@pytest.mark.parametrize(
    ("name", "role", "said"),
    [
        ("random_forrest", "expert", "did you mean random_forest"),
        ("gausian", "gate", "did you mean gaussian"),
        ("conv1d", "gate", "a kind of gate among dense"),
        ("", "expert", "a kind of expert among dense"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(name, role, said):
    with pytest.raises(ValueError, match=said):
        check_name(name, role)


@pytest.mark.parametrize("name", ["svm", "nearest_neighbours", "gaussian_process"])
def test_a_refused_kind_is_not_built(name):
    with pytest.raises(ValueError, match="can't be written as a small graph"):
        expert_kind(name)


def test_names_are_checked_without_keras():
    code = (
        "import sys; from moe_edge.training.kinds.registry import check_name, check_parts;"
        "import moe_edge.training.kinds.row_sizes; check_name('conv1d', 'expert');"
        "from moe_edge.config import MixtureConfig, Strategy; check_parts(MixtureConfig(), Strategy.JOINT);"
        "sys.exit(bool({'keras', 'tensorflow', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lists_may_be_one_number_or_a_tuple():
    kind = expert_kind("conv1d")
    assert with_defaults(kind, {"filters": 4})["filters"] == [4]
    assert with_defaults(kind, {"shape": (8, 2)})["shape"] == [8, 2]
    assert with_defaults(kind, {})["kernel_size"] == 3
    assert kind.options["filters"] == [16, 32], "the defaults stay as they are"


def test_what_is_known_without_keras_is_what_the_classes_say():
    from moe_edge.training.kinds.kind import NeuralExpert, NeuralGate

    assert EXPERT_OPTIONS.keys() == EXPERTS.keys()
    assert GATE_OPTIONS.keys() == GATES.keys()
    for name in EXPERTS:
        kind = expert_kind(name)
        assert kind.options == EXPERT_OPTIONS[name]
        assert isinstance(kind, NeuralExpert) == (name in NEURAL_EXPERTS)
        assert ("shape" in kind.options) == (name in AXES)
    for name in GATES:
        kind = gate_kind(name)
        assert kind.options == GATE_OPTIONS[name]
        assert isinstance(kind, NeuralGate) == (name in NEURAL_GATES)
