"""The drift alarm: densities agree with scikit-learn's, turns are found and named, state survives."""

import json

import numpy as np
import pytest
from drift import DriftMonitor, DriftProfile, divergence
from orientation import TURNS, UsualMotion, describe_turn, turn_scores, window_features
from replay import parse_turn, turn_rows
from sklearn.mixture import GaussianMixture

from moe_edge.errors import DataError


def motion_windows(count, seed=0):
    """A body whose gravity points along x or y, and which turns mostly about y."""
    random = np.random.default_rng(seed)
    windows = random.normal(0, [0.1, 0.05, 0.05, 0.3, 2.0, 0.5], size=(count, 40, 6))
    along_x = random.random(count) < 0.5
    windows[along_x, :, 0] += 1
    windows[~along_x, :, 1] += 1
    return (windows + random.normal(0, 0.05, size=(count, 1, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    features = window_features(motion_windows(600))[:, 0]
    mixture = GaussianMixture(4, reg_covar=1e-3, random_state=0).fit(features)
    floor = float(mixture.score_samples(features).min()) - 20
    return mixture, UsualMotion(
        log_weights=np.log(mixture.weights_),
        means=mixture.means_,
        whitening=mixture.precisions_cholesky_,
        floor=floor,
    )


def profile_of(motion):
    return DriftProfile(
        motion=motion, windows=30, hop=20, thresholds={"turned": 1.0, "gate": 0.2, "unsure": 0.5}, model="abc"
    )


def test_densities_are_those_of_scikit_learn(fitted):
    mixture, motion = fitted
    features = window_features(motion_windows(50, seed=1), TURNS)
    expected = mixture.score_samples(features.reshape(-1, 15)).reshape(50, 24)
    np.testing.assert_allclose(motion.log_density(features), np.maximum(expected, motion.floor), rtol=1e-8)
    again = UsualMotion.from_record(json.loads(json.dumps(motion.to_record())))
    np.testing.assert_allclose(again.log_density(features), motion.log_density(features), atol=0.02)


def test_features_of_turned_windows_are_those_of_turned_samples():
    windows = motion_windows(3)
    for index, turn in enumerate(TURNS):
        turned = np.stack([turn_rows(window, turn) for window in windows])
        np.testing.assert_allclose(window_features(turned)[:, 0], window_features(windows, TURNS)[:, index], atol=1e-5)


def test_there_are_24_turns_and_they_have_names():
    assert len(TURNS) == 24 and describe_turn(TURNS[0]) == "no turn"
    names = {describe_turn(turn) for turn in TURNS}
    assert len(names) == 24
    for text, name in (("z90", "90° about z"), ("x-90", "90° about −x"), ("y180", "180° about y")):
        assert describe_turn(parse_turn(text)) == name


@pytest.mark.parametrize("turn", ["x90", "y-90", "z180"])
def test_a_turn_is_found_and_named_and_ordinary_wear_is_quiet(fitted, turn):
    monitor = DriftMonitor(profile_of(fitted[1]), [0.5, 0.5])
    even = np.array([0.5, 0.5])
    for window in motion_windows(100, seed=2):
        assert not monitor.update(window, even, 0.9).alarms
    rotation = parse_turn(turn)
    states = [monitor.update(turn_rows(window, rotation), even, 0.9) for window in motion_windows(30, seed=3)]
    assert states[-1].alarms == ("turned",) and states[-1].turn == describe_turn(rotation)
    for window in motion_windows(31, seed=4):
        state = monitor.update(window, even, 0.9)
    assert not state.alarms and not state.turn


def test_gate_and_confidence_alarm_by_themselves(fitted):
    monitor = DriftMonitor(profile_of(fitted[1]), [0.5, 0.5])
    windows = motion_windows(30, seed=5)
    states = [monitor.update(window, np.array([1.0, 0.0]), 0.3) for window in windows]
    assert not states[28].ready and not states[28].alarms
    assert states[29].alarms == ("gate", "unsure") and states[29].entropy == 0
    assert states[29].figures["gate"] == pytest.approx(divergence([1, 0], [0.5, 0.5]))


def test_divergence_is_of_jensen_and_shannon():
    from scipy.spatial.distance import jensenshannon

    random = np.random.default_rng(0)
    for _ in range(5):
        p, q = random.dirichlet(np.ones(4), size=2)
        assert divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert divergence([1, 0], [0, 1]) == pytest.approx(1) and divergence([0.3, 0.7], [0.3, 0.7]) == 0


def test_the_windows_survive_a_restart(fitted):
    profile = profile_of(fitted[1])
    first, second = (DriftMonitor(profile, [0.5, 0.5]) for _ in range(2))
    weights = np.array([0.4, 0.6])
    for window in motion_windows(47, seed=6):
        first.update(window, weights, 0.8)
    second.restore(json.loads(json.dumps(first.to_record())), first.state().alarms)
    for window in motion_windows(5, seed=7):
        one, other = (monitor.update(window, weights, 0.8) for monitor in (first, second))
        assert one.figures == pytest.approx(other.figures, abs=1e-3) and one.alarms == other.alarms
    with pytest.raises(ValueError, match="expected rows of 27 finite numbers"):
        second.restore([[1.0]], ())


def test_an_alarm_on_its_way_back_survives_a_restart(fitted):
    profile = profile_of(fitted[1])
    first, second = (DriftMonitor(profile, [0.5, 0.5]) for _ in range(2))
    threshold = profile.thresholds["unsure"]
    windows, weights = motion_windows(profile.windows, seed=6), np.array([0.5, 0.5])
    # Beyond the threshold, then below it by less than ends an alarm.
    for unsure in (threshold * 1.1, threshold * 0.95):
        for window in windows:
            state = first.update(window, weights, 1 - unsure)
    assert "unsure" in state.alarms and state.figures["unsure"] < threshold
    second.restore(first.to_record(), state.alarms)
    assert second.state().alarms == state.alarms


def test_a_profile_that_does_not_fit_is_refused_in_one_line(fitted, tmp_path):
    path = tmp_path / "drift.json"
    with pytest.raises(DataError, match=r"can't read .*No such file"):
        DriftProfile.read(path, model="abc")
    path.write_bytes(profile_of(fitted[1]).to_json())
    assert DriftProfile.read(path, model="abc").windows == 30
    with pytest.raises(DataError, match="belongs to another model"):
        DriftProfile.read(path, model="def")
    for content in (b"", b"[]", path.read_bytes().replace(b'"format":1', b'"format":2'), b'{"format":1}'):
        path.write_bytes(content)
        with pytest.raises(DataError, match="expected a drift profile"):
            DriftProfile.read(path, model="abc")


def test_scores_compare_each_turn_with_none():
    densities = np.zeros((4, 24))
    densities[:, 5] = 2
    assert turn_scores(densities).argmax() == 4 and turn_scores(densities).max() == 2
