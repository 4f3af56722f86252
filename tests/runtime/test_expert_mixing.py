from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_edge import routing
from moe_edge.runtime.expert_choice import Pairs
from moe_edge.runtime.expert_mixing import FewExperts, MixingForm


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 12),
    st.sampled_from([0.1, 5.0, 60.0, 500.0, 3e4]),
    st.sampled_from([0.0, 300.0, -300.0]),
)
def test_a_few_answers_mix_like_the_reference_however_large(seed, count, num_values, scale, offset):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(count, num_values)) * scale + offset).astype(np.float32)
    shares = rng.dirichlet(np.ones(count)).astype(np.float32)
    exact = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    for form, answers in ((MixingForm.SOFTMAX, exact), (MixingForm.SUM, logits)):
        expected = routing.combine(shares[None], answers[None], routing.Combine.PROBABILITIES)
        few = FewExperts(form, num_values)
        single = few.mix_row(list(logits[:, None]), shares.tolist())
        starts, counts = np.zeros(1, dtype=np.intp), np.array([count])
        rows, experts = np.zeros(count, dtype=np.intp), np.arange(count)
        batch = few.mix_rows(logits.copy(), Pairs(starts, counts, rows, experts, shares))
        atol = 2e-6 * max(1.0, float(np.abs(answers).max()))
        np.testing.assert_allclose(single, expected, atol=atol)
        np.testing.assert_allclose(batch, expected, atol=atol)


@pytest.mark.parametrize("far", [79.0, 81.0, 1e4, -1e4])
def test_experts_far_apart_both_count(far):
    answers = [np.array([[far, far - 1]], dtype=np.float32), np.array([[0, 1]], dtype=np.float32)]
    mixed = FewExperts(MixingForm.SOFTMAX, 2).mix_row(answers, [0.5, 0.5])
    np.testing.assert_allclose(mixed, [[0.5, 0.5]], atol=1e-6)
