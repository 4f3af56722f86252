"""The mixtures that are measured: of seeded random weights for speed, trained on digits for accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from moe_edge.config import Combine, Task
from moe_edge_converters import MixtureSpec, Scheme
from moe_edge_converters.assembly import assemble
from moe_edge_converters.conversion import convert_spec, probe_rows
from moe_edge_converters.manifest_record import describe_file
from moe_edge_converters.options import ConversionOptions, Layout
from moe_edge_converters.spec import DenseNetwork, dense_stack

NUM_FEATURES, NUM_CLASSES = 64, 10
REFERENCE = (64, 32)
"""Hidden units of the reference expert; the reference model has five of them."""
LARGE = (256, 128)
HUGE = (1024, 896)
"""256 such experts are a gigabyte in float32."""


def network(rng: np.random.Generator, hidden: Sequence[int], outputs: int) -> DenseNetwork:
    """Dense layers of seeded weights that end in a softmax."""
    layers = []
    sizes = (NUM_FEATURES, *hidden, outputs)
    for index, (inputs, units) in enumerate(pairwise(sizes)):
        kernel = rng.standard_normal(size=(inputs, units), dtype=np.float32) / np.float32(np.sqrt(inputs))
        last = index == len(sizes) - 2
        layers.append((kernel, rng.standard_normal(size=units) * 0.1, "softmax" if last else "relu"))
    return dense_stack(layers)


def mixture(num_experts: int, hidden: Sequence[int] = REFERENCE) -> MixtureSpec:
    """A classification mixture; the same numbers give the same weights."""
    rng = np.random.default_rng(num_experts)
    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(NUM_FEATURES,),
        gate=network(rng, (32,), num_experts),
        experts=tuple(network(rng, hidden, NUM_CLASSES) for _ in range(num_experts)),
        num_outputs=NUM_CLASSES,
    )


def write_file(spec: MixtureSpec, path: Path, *, scheme: Scheme = Scheme.FLOAT32) -> Path:
    """Convert a mixture; float32 unless said otherwise."""
    options = ConversionOptions(scheme=scheme)
    convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=options)
    return path


def write_unchecked(spec: MixtureSpec, path: Path) -> Path:
    """Write a float32 file without running it: checking a gigabyte takes several of memory."""
    options = ConversionOptions(scheme=Scheme.FLOAT32, layout=Layout.FULLY_CONNECTED)
    assembly = assemble(spec, options, None)
    manifest = describe_file(spec, options, schema=None, coverage=None, float_content=assembly.float_content)
    path.write_bytes(assembly.to_bytes(manifest))
    return path


def per_expert_model(spec: MixtureSpec) -> Any:
    """The same mixture as separate Keras sub-models, as the classical guide builds it."""
    from moe_edge.training.keras_setup import load_keras

    load_keras()
    from moe_edge.training import builders

    hidden = [layer.bias.size for layer in spec.experts[0].layers[:-1]]  # type: ignore[union-attr]
    model = builders.create_moe_model(
        NUM_FEATURES,
        NUM_CLASSES,
        spec.num_experts,
        expert=lambda inputs, outputs: _sequential(inputs, [*hidden, outputs]),
        gate=lambda inputs, experts: _sequential(inputs, [32, experts]),
    )
    parts = {"gate": spec.gate, **{f"expert_{index}": expert for index, expert in enumerate(spec.experts)}}
    for name, part in parts.items():
        model.get_layer(name).set_weights([a for layer in part.layers for a in (layer.kernel, layer.bias)])  # type: ignore[union-attr]
    return model


def _sequential(inputs: Any, units: Sequence[int]) -> Any:
    import keras

    layers = [keras.layers.Dense(count, activation="relu") for count in units[:-1]]
    return keras.Sequential([keras.Input(shape=(inputs,)), *layers, keras.layers.Dense(units[-1], "softmax")])
