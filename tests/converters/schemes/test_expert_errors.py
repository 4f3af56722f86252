"""What each scheme costs each expert: errors that reach the answer, and bytes."""

import numpy as np
import pytest

from moe_edge.config import Combine
from moe_edge_converters.assembly import assemble
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.expert_errors import measure_costs, run_experts
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.schemes.scheme_ladder import LADDER_SCHEMES


@pytest.fixture(scope="module")
def job(mixtures):
    spec = mixtures.make_spec(num_experts=4, num_columns=16, hidden=[(24, 16)] * 3 + [(8,)], preprocess=True)
    rows = mixtures.make_rows(spec, 300)
    return spec, rows, measure_costs(spec, rows, LADDER_SCHEMES, ConversionOptions())


def by_scheme(costs, name):
    return dict(zip(costs.schemes, getattr(costs, name).T, strict=True))


def test_parts_answer_like_the_reference(mixtures, job):
    spec, rows, (_, uniform) = job
    weights, outputs, features = run_experts(uniform[Scheme.FLOAT32], rows, spec.num_experts)
    expected = spec.preprocess.apply(rows)
    np.testing.assert_allclose(features, expected, atol=1e-6)
    np.testing.assert_allclose(weights, mixtures.run_network(spec.gate, expected), atol=1e-5)
    for index, expert in enumerate(spec.experts):
        # The signature answers before the softmax, which is shared; logits are known up to a constant.
        probabilities = mixtures.run_network(expert, expected)
        shifted = np.exp(outputs[:, index] - outputs[:, index].max(axis=1, keepdims=True))
        np.testing.assert_allclose(shifted / shifted.sum(axis=1, keepdims=True), probabilities, atol=1e-5)


def test_errors_are_an_experts_share_of_the_mixtures(job):
    """Sum of g^2 |difference|^2, recomputed row by row for one scheme."""
    spec, rows, (costs, uniform) = job
    weights, exact, _ = run_experts(uniform[Scheme.FLOAT32], rows, spec.num_experts)
    _, rounded, _ = run_experts(uniform[Scheme.W4], rows, spec.num_experts)
    for index, error in enumerate(by_scheme(costs, "errors")[Scheme.W4]):
        total = 0.0
        for row in range(len(rows)):
            difference = rounded[row, index].astype(np.float64) - exact[row, index]
            total += weights[row, index] ** 2 * (difference @ difference)
        assert error == pytest.approx(total, rel=1e-4)


def test_fewer_bits_cost_more_error_and_fewer_bytes(job):
    errors, sizes = by_scheme(job[2][0], "errors"), by_scheme(job[2][0], "num_bytes")
    assert (errors[Scheme.FLOAT32] == 0).all()
    for more, fewer in [
        (Scheme.FLOAT16, Scheme.W8A8),
        (Scheme.W8A16, Scheme.W8A8),
        (Scheme.DYNAMIC_W8, Scheme.W4),
        (Scheme.W8A8, Scheme.W4),
    ]:
        assert (errors[more] < errors[fewer]).all(), (more, fewer)
    for smaller, larger in [
        (Scheme.FLOAT16, Scheme.FLOAT32),
        (Scheme.DYNAMIC_W8, Scheme.FLOAT16),
        (Scheme.W4, Scheme.DYNAMIC_W8),
    ]:
        assert (sizes[smaller] < sizes[larger]).all(), (smaller, larger)


def test_float_bytes_are_those_of_the_weights(job):
    spec, _, (costs, _) = job
    for expert, num_bytes in zip(spec.experts, by_scheme(costs, "num_bytes")[Scheme.FLOAT32], strict=True):
        weights = sum(layer.kernel.nbytes + layer.bias.nbytes for layer in expert.layers)
        assert weights <= num_bytes <= weights + 64, "weights, and a few shapes"


def test_an_expert_that_no_row_reaches_costs_no_error(mixtures):
    spec = mixtures.make_spec(num_experts=3, num_columns=8)
    *hidden, last = spec.gate.layers
    bias = last.bias + np.float32([0, 0, -300])
    gate = mixtures.replace(spec.gate, layers=(*hidden, mixtures.replace(last, bias=bias)))
    schemes = (Scheme.FLOAT32, Scheme.DYNAMIC_W8, Scheme.W4)
    costs, _ = measure_costs(
        mixtures.replace(spec, gate=gate), mixtures.make_rows(spec, 200), schemes, ConversionOptions()
    )
    assert (costs.errors[2] == 0).all() and (costs.errors[:2, 1:] > 0).all()


def test_gaussian_experts_are_measured_on_means_and_log_sigmas(mixtures):
    spec = mixtures.make_spec(combine=Combine.GAUSSIAN, num_outputs=2, num_columns=8)
    assembly = assemble(spec, ConversionOptions(scheme=Scheme.FLOAT32), None)
    rows = mixtures.make_rows(spec, 50)
    _, outputs, _ = run_experts(assembly, rows, spec.num_experts)
    expected = np.stack([mixtures.run_network(expert, rows) for expert in spec.experts], axis=1)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)
