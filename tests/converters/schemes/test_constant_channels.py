"""Channels whose weights are all 0: the quantizer cuts their bias off, and the file must not."""

import numpy as np
import pytest

from moe_edge.config import Combine
from moe_edge_converters.assembly import assemble
from moe_edge_converters.file_writer import pack
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme


@pytest.mark.parametrize("scheme", [Scheme.W8A8, Scheme.W8A16, Scheme.DYNAMIC_W8], ids=lambda scheme: scheme.value)
@pytest.mark.parametrize("per_tensor", [False, True], ids=["channel", "tensor"])
@pytest.mark.parametrize("hidden", [(), (8,)], ids=["one-layer", "two-layers"])
def test_a_sigma_that_is_a_bias_alone_is_kept(mixtures, scheme, per_tensor, hidden):
    spec = mixtures.make_spec(combine=Combine.GAUSSIAN, num_experts=3, num_columns=6, hidden=hidden)

    def constant_sigma(expert, log_sigma):
        *before, last = expert.layers
        kernel, bias = last.kernel.copy(), last.bias.copy()
        half = kernel.shape[1] // 2
        kernel[:, half:], bias[half:] = 0, log_sigma
        return mixtures.replace(expert, layers=(*before, mixtures.replace(last, kernel=kernel, bias=bias)))

    experts = tuple(constant_sigma(expert, value) for expert, value in zip(spec.experts, (-2.5, 0.4, 1.3), strict=True))
    spec = mixtures.replace(spec, experts=experts)
    rows = mixtures.make_rows(spec, 200)
    options = ConversionOptions(scheme=scheme, per_tensor=per_tensor)
    exact = assemble(spec, ConversionOptions(scheme=Scheme.FLOAT32), None)
    # The last of a Gaussian mixture's outputs: expert_sigmas (n, E, K).
    got, expected = (
        mixtures.run_by_position(pack(made.model), rows)[-1] for made in (assemble(spec, options, rows), exact)
    )
    # An int8 step of values between -3 and 3 is about 0.025; a sigma's logarithm may be off by some of them.
    assert np.abs(np.log(got / expected)).max() < 0.1
