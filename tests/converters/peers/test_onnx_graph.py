"""The ONNX graphs of a mixture answer like the mixture; what they can't hold is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the bench extra isn't installed")
pytest.importorskip("onnxruntime", reason="the bench extra isn't installed")

from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError
from moe_edge_converters.peers.onnx_graph import OnnxLayout, build_onnx
from moe_edge_converters.peers.onnxruntime_subject import OnnxRuntimeSubject
from moe_edge_converters.spec import MixtureSpec, PreprocessSpec, dense_stack


def stack(rng, sizes):
    last = len(sizes) - 2
    return dense_stack(
        [
            (
                rng.normal(size=(sizes[i], sizes[i + 1])),
                rng.normal(size=sizes[i + 1]),
                "softmax" if i == last else "relu",
            )
            for i in range(last + 1)
        ]
    )


def mixture(*, hidden=(8, 6)):
    rng = np.random.default_rng(3)
    numbers = lambda *values: np.asarray(values, dtype=np.float32)  # noqa: E731
    preprocess = PreprocessSpec(
        num_columns=3,
        numeric=(0, 2),
        fill=numbers(1, 50),
        mean=numbers(0.5, 40),
        inverse_scale=numbers(2, 0.1),
        low=numbers(-2, -2),
        high=numbers(2, 2),
        categorical=((1, 3),),
    )
    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(3,),
        preprocess=preprocess,
        gate=stack(rng, [5, 4, 4]),
        experts=tuple(stack(rng, [5, *hidden, 2]) for _ in range(4)),
        num_outputs=2,
    )


def reference(spec, rows):
    def run(network, values):
        for layer in network.layers:
            values = values @ layer.kernel + layer.bias
            if layer.activation == "relu":
                values = np.maximum(values, 0)
            else:
                values = np.exp(values - values.max(axis=1, keepdims=True))
                values /= values.sum(axis=1, keepdims=True)
        return values

    features = spec.preprocess.apply(rows)
    answers = np.stack([run(expert, features) for expert in spec.experts], axis=1)
    return np.einsum("be,bek->bk", run(spec.gate, features), answers)


@pytest.mark.parametrize("layout", list(OnnxLayout))
@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_every_layout_answers_like_the_mixture(tmp_path, layout, hidden):
    spec = mixture(hidden=hidden)
    path = tmp_path / "mixture.onnx"
    path.write_bytes(build_onnx(spec, layout=layout))
    rows = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32) * np.float32([1, 0, 60])
    rows[:, 1] = np.arange(9) % 3
    rows[2, 0] = rows[4, 2] = np.nan
    subject = OnnxRuntimeSubject(model=str(path))
    expected = reference(spec, rows)
    np.testing.assert_allclose(subject.answers(rows).prediction, expected, atol=1e-5)
    first = subject.runner(9)(rows)
    np.testing.assert_allclose(first, expected, atol=1e-5)
    # An answer is the caller's own: the next call leaves it alone.
    subject.runner(9)(rows[::-1].copy())
    np.testing.assert_allclose(first, expected, atol=1e-5)


@pytest.mark.parametrize("change", [{"top_k": 2}, {"combine": Combine.LOGITS}])
def test_other_mixtures_are_refused(change):
    with pytest.raises(ConversionError, match="expected a classification mixture of probabilities"):
        build_onnx(replace(mixture(), **change))
