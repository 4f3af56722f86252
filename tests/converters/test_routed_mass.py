from __future__ import annotations

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.errors import ConversionError
from moe_edge_converters.conversion import ConversionOptions, convert_spec, probe_rows
from moe_edge_converters.options import parse_scheme
from moe_edge_converters.routed_mass import MASSES, MassPoint, measure_masses, smallest_mass


@pytest.fixture(scope="module")
def answered(mixture_file):
    """A file, rows, and as targets the file's own answers: only the whole mixture is always right."""
    path = mixture_file("plain")
    rows = np.random.default_rng(5).normal(size=(400, 64)).astype(np.float32)
    with Predictor(path) as predictor:
        return path, rows, predictor.predict_raw(rows)["prediction"].argmax(axis=1)


def test_points_span_the_cost_and_more_mass_is_closer(answered):
    points = measure_masses(*answered)
    assert [point.mass for point in points] == list(MASSES) and len(points) >= 10
    runs = [point.experts_run for point in points]
    assert runs == sorted(runs) and runs[0] < runs[-1] <= 4
    assert points[0].rows_lost > points[-1].rows_lost >= 0
    assert not points[0].within_noise and points[-1].within_noise
    best = smallest_mass(points)
    assert best is not None and best.mass == min(p.mass for p in points if p.mass >= best.mass)


def test_a_lucky_point_below_a_bad_one_does_not_count():
    def point(mass: float, *, good: bool) -> MassPoint:
        return MassPoint(mass=mass, experts_run=1, loss=0, loss_rise=0, rows_lost=0, within_noise=good)

    points = (point(0.3, good=True), point(0.5, good=False), point(0.9, good=True), point(0.99, good=True))
    assert smallest_mass(points) == points[2]
    assert smallest_mass((points[0], points[1])) is None


def test_a_regression_is_measured_too(mixture_file):
    path = mixture_file("regression")
    rows = np.random.default_rng(6).normal(size=(100, 6)).astype(np.float32)
    with Predictor(path) as predictor:
        target = predictor.predict(rows)[:, 0]
    points = measure_masses(path, rows, target)
    assert points[0].loss > points[-1].loss and {point.rows_lost for point in points} == {0}


def _soft_spec():
    from moe_edge.config import Combine, Task
    from moe_edge_converters.spec import MixtureSpec, dense_stack

    rng = np.random.default_rng(9)

    def stack(*layers):
        return dense_stack(
            [(rng.normal(size=(a, b)) / np.sqrt(a) * 2, rng.normal(size=b) * 0.1, kind) for a, b, kind in layers]
        )

    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(64,),
        gate=stack((64, 4, "softmax")),
        experts=tuple(stack((64, 16, "relu"), (16, 3, "softmax")) for _ in range(4)),
        num_outputs=3,
    )


def test_conversion_stores_the_mass_and_the_predictor_takes_it(tmp_path, answered):
    spec = _soft_spec()
    _, rows, _ = answered
    dense = convert_spec(
        spec,
        tmp_path / "dense.tflite",
        reference=None,
        rows=probe_rows(spec),
        options=ConversionOptions(scheme=parse_scheme("float32")),
    )
    assert dense.manifest.mass is None
    with Predictor(dense.path) as predictor:
        target = predictor.predict_raw(rows)["prediction"].argmax(axis=1)
    result = convert_spec(
        spec,
        tmp_path / "m.tflite",
        reference=None,
        rows=probe_rows(spec),
        options=ConversionOptions(scheme=parse_scheme("float32")),
        validation=(rows, target),
    )
    record = result.manifest.extras["mass"]
    assert result.manifest.mass in MASSES and len(record["points"]) == len(MASSES)
    with Predictor(result.path, mode="routed") as predictor:
        raw = predictor.predict_raw(rows)
        assert raw["experts_run"].mean() == pytest.approx(record["experts_run"], abs=1e-3)
        lost = len(rows) - (raw["prediction"].argmax(axis=1) == target).sum()
        assert lost <= len(rows) / 400
    with Predictor(result.path) as predictor:
        assert predictor.mode == "dense"


def test_rows_without_targets_are_refused(answered):
    path, rows, target = answered
    with pytest.raises(ConversionError, match="a target each, got 400, 399"):
        measure_masses(path, rows, target[1:])
