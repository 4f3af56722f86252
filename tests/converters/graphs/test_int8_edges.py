"""``--io int8``: preprocessed features in, int8 answers out."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from moe_edge import Predictor
from moe_edge.config import Combine
from moe_edge.errors import ConversionError
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.graphs.int8_edges import feature_rows
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme


def write(tmp_path, spec, rows, **options):
    options = ConversionOptions(int8_io=True, **{"scheme": Scheme.W8A8, **options})
    return convert_spec(spec, tmp_path / "model.tflite", reference=None, rows=rows, options=options)


@pytest.mark.parametrize("gate_scheme", [Scheme.FLOAT32, Scheme.W8A8])
@pytest.mark.parametrize("combine", [Combine.PROBABILITIES, Combine.GAUSSIAN])
def test_features_in_and_int8_out_answer_like_the_mixture(mixtures, tmp_path, combine, gate_scheme):
    spec = mixtures.make_spec(preprocess=True, combine=combine)
    rows = mixtures.make_rows(spec, 200)
    result = write(tmp_path, spec, rows, gate_scheme=gate_scheme)
    assert result.manifest.io == "int8"
    assert all(part.signature is None for part in result.manifest.parts)
    interpreter = Interpreter(model_path=str(result.path))
    edges = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert {detail["dtype"] for detail in edges} == {np.int8}
    expected = mixtures.reference(spec, rows)
    with Predictor(result.path) as predictor:
        answers = predictor.predict_raw(feature_rows(spec, rows))
    spread = max(1.0, np.ptp(expected.prediction))
    # Features, three layers and the answer are each rounded to 256 levels; a rounded gate adds its own.
    assert np.abs(answers["prediction"] - expected.prediction).mean() < 0.05 * spread
    assert np.abs(answers["routing_weights"] - expected.routing_weights).mean() < 0.05


def test_values_beyond_the_range_saturate(mixtures, tmp_path):
    spec = mixtures.make_spec(preprocess=True)
    rows = mixtures.make_rows(spec, 200)
    result = write(tmp_path, spec, rows)
    with Predictor(result.path) as predictor:
        features = feature_rows(spec, rows[:1])
        edge = predictor.predict_raw(np.where(features >= 0, 100, -100).astype(np.float32))
        beyond = predictor.predict_raw(np.where(features >= 0, 1e30, -1e30).astype(np.float32))
    np.testing.assert_array_equal(edge["prediction"], beyond["prediction"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": Scheme.W4}, "needs experts in w8a8, got w4"),
        ({"expert_schemes": {1: Scheme.FLOAT16}}, "needs experts in w8a8, got float16"),
        ({"routed": True}, "fused graph only"),
    ],
)
def test_what_cannot_have_int8_edges_is_refused(mixtures, tmp_path, options, message):
    spec = mixtures.make_spec()
    with pytest.raises(ConversionError, match=message):
        write(tmp_path, spec, mixtures.make_rows(spec, 100), **options)
    assert not list(tmp_path.iterdir())
