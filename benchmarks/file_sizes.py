"""Bytes of a file and seconds of a conversion, for mixtures of 5 to 256 reference experts.

Three forms: the fused graph alone, with the routed signatures that share its bytes, and with nothing shared. Random
weights: sizes don't depend on them. Run: ``make bench``.
"""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from results import table, write_section

from moe_edge.config import Combine, Task
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import DenseNetwork, MixtureSpec, dense_stack

NUM_FEATURES, NUM_CLASSES = 64, 10
EXPERT, GATE = (64, 32), (32,)
NUM_EXPERTS = (5, 16, 64, 256)
SCHEMES = (Scheme.FLOAT32, Scheme.FLOAT16, Scheme.DYNAMIC_W8, Scheme.W8A8, Scheme.W4)


def network(rng: np.random.Generator, hidden: tuple[int, ...], outputs: int) -> DenseNetwork:
    """Dense layers of seeded weights that end in a softmax."""
    sizes = (NUM_FEATURES, *hidden, outputs)
    layers = []
    for index, (inputs, units) in enumerate(pairwise(sizes)):
        activation = "softmax" if index == len(sizes) - 2 else "relu"
        layers.append((rng.normal(size=(inputs, units)) / np.sqrt(inputs), rng.normal(size=units) * 0.1, activation))
    return dense_stack(layers)


def mixture(num_experts: int) -> MixtureSpec:
    """The reference mixture with any number of experts."""
    rng = np.random.default_rng(num_experts)
    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(NUM_FEATURES,),
        gate=network(rng, GATE, num_experts),
        experts=tuple(network(rng, EXPERT, NUM_CLASSES) for _ in range(num_experts)),
        num_outputs=NUM_CLASSES,
    )


def main() -> None:
    """Convert every mixture in every scheme and form."""
    rows = np.random.default_rng(0).normal(size=(2000, NUM_FEATURES)).astype(np.float32)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for count in NUM_EXPERTS:
            spec = mixture(count)
            for scheme in SCHEMES:
                sizes, seconds = [], 0.0
                for form in ({"routed": False}, {}, {"self_contained": True}):
                    start = time.perf_counter()
                    options = ConversionOptions(scheme=scheme, **form)  # type: ignore[arg-type]
                    result = convert_spec(
                        spec, Path(folder) / "model.tflite", reference=None, rows=rows, options=options
                    )
                    seconds = time.perf_counter() - start if not form else seconds
                    sizes.append(result.num_bytes)
                fused, routed, apart = sizes
                cells = [f"{fused:,}", f"{routed:,}", f"{routed / fused:.3f}", f"{apart:,}", f"{seconds:.1f}"]
                lines.append([f"{count}, {scheme.value}", *cells])
                print(*lines[-1], flush=True)
    header = ["experts, scheme", "fused only", "fused + routed", "ratio", "self-contained", "s to convert"]
    intro = (
        f"Experts {NUM_FEATURES} → {EXPERT[0]} → {EXPERT[1]} → {NUM_CLASSES}, gate {NUM_FEATURES} → {GATE[0]} → E; "
        "bytes of the whole file, manifest included; seconds of fused + routed, checks on 200 rows included."
    )
    write_section("File sizes and conversion times", f"{intro}\n\n{table(header, lines)}")


if __name__ == "__main__":
    main()
