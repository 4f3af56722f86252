"""The distribution of a written file: each output's own, and why some files have none."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.config import Combine
from moe_edge.errors import DataError
from moe_edge.runtime.mixture_density import MixtureDensity
from moe_edge_converters import assembly
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme

LEVELS = (0.01, 0.05, 0.5, 0.95, 0.999)


def test_several_outputs_have_their_own_quantiles(mixtures, tmp_path):
    spec = mixtures.make_spec(combine=Combine.GAUSSIAN, num_outputs=3, preprocess=True)
    rows = mixtures.make_rows(spec, 40)
    result = convert_spec(
        spec, tmp_path / "m.tflite", reference=None, rows=rows, options=ConversionOptions(scheme=Scheme.FLOAT32)
    )
    expected = mixtures.reference(spec, rows)
    wanted = MixtureDensity(
        weights=expected.routing_weights, means=expected.expert_means, sigmas=expected.expert_sigmas
    ).quantiles(LEVELS)
    with Predictor(result.path, mode="dense") as dense, Predictor(result.path, mass=1) as routed:
        for predictor in (dense, routed):
            np.testing.assert_allclose(predictor.predict_quantiles(rows, LEVELS), wanted, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(routed.predict_quantiles(rows[:1]), dense.predict_quantiles(rows[:1]))


@pytest.mark.parametrize("kind", ["int8", "old", "mean"])
def test_files_without_a_distribution_say_why(mixtures, tmp_path, kind, monkeypatch):
    combine = Combine.MEAN if kind == "mean" else Combine.GAUSSIAN
    spec = mixtures.make_spec(combine=combine, preprocess=True)
    rows = mixtures.make_rows(spec, 100)
    if kind == "old":
        build = partial(assembly.build_fused_graph, densities=False)

        def build_as_before(spec, schemes, *, densities):
            return build(spec, schemes)

        monkeypatch.setattr(assembly, "build_fused_graph", build_as_before)
    options = ConversionOptions(scheme=Scheme.W8A8, int8_io=kind == "int8")
    result = convert_spec(spec, tmp_path / "m.tflite", reference=None, rows=rows, options=options)
    reason = {"int8": "int8 edges.*without --io int8", "old": "convert the model again", "mean": "--combine gaussian"}
    with Predictor(result.path, mode="dense") as predictor:
        assert predictor.has_sigma == (kind != "mean") and not predictor.has_density
        x = np.zeros((1, *predictor.manifest.input_shape), np.float32)
        for call in (predictor.predict_quantiles, predictor.predict_distribution):
            with pytest.raises(DataError, match=reason[kind]):
                call(x)
        assert "90 %" not in str(predictor.explain(x))
