"""The C host of demos/c: instructions of one row on an emulated Pi 4, microseconds here, into docs/NATIVE.md.

python benchmarks/native.py        # a minute; make c-host first where no compiler is installed
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "demos" / "c"))

from c_host import count, run  # noqa: E402

from moe_edge.atomic import atomic_path  # noqa: E402
from moe_edge.config import Combine, Task  # noqa: E402
from moe_edge_converters.conversion import convert_spec  # noqa: E402
from moe_edge_converters.given_rows import probe_rows  # noqa: E402
from moe_edge_converters.options import ConversionOptions, Layout  # noqa: E402
from moe_edge_converters.schemes.scheme import Scheme  # noqa: E402
from moe_edge_converters.spec import MixtureSpec, dense_stack  # noqa: E402

PAGE = ROOT / "docs" / "NATIVE.md"
START, END = "<!-- benchmarks/native.py writes from here -->", "<!-- to here -->"
CALLS, ROUNDS = 4000, 5
HEADINGS = (
    "top-1 mixture, `float32`",
    "whole graph, all experts",
    "whole graph, gathered",
    "routed, `combine`",
    "routed, own weighing",
    "first / last",
)


@dataclass(frozen=True)
class Mixture:
    """A top-1 mixture.

    Attributes:
        num_experts: How many.
        sizes: Units of an expert, input to output.
    """

    num_experts: int
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.num_experts} experts {'-'.join(map(str, self.sizes))}"


MIXTURES = (Mixture(32, (64, 128, 10)), Mixture(32, (64, 512, 10)), Mixture(64, (64, 512, 10)))


def main() -> None:
    """Count, time, and write the tables."""
    counts = [f"| {' | '.join(HEADINGS)} |", "|---|--:|--:|--:|--:|--:|"]
    times = list(counts)
    with tempfile.TemporaryDirectory(prefix="moe-edge-native-") as folder:
        for mixture in MIXTURES:
            dense, gather = (
                make(Path(folder) / f"{layout.value}.tflite", mixture, layout)
                for layout in (Layout.FULLY_CONNECTED, Layout.GATHER)
            )
            found = [count(dense, "dense"), count(gather, "dense"), count(dense, "file"), count(dense, "few")]
            counts.append(_line(mixture, [f"{value:,}" for value in found], found))
            measured = _times(dense, gather, mixture.sizes[0])
            times.append(_line(mixture, [f"{value:.1f} µs" for value in measured], measured))
    lines = [*counts, "", *times]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    with atomic_path(PAGE) as temporary:
        temporary.write_text("\n".join([before + START, *lines, END]) + after, encoding="utf-8")
    print("\n".join(lines))


def make(path: Path, mixture: Mixture, layout: Layout) -> Path:
    """Convert the mixture with seeded random weights."""
    rng = np.random.default_rng(3)

    def network(*sizes: int) -> Any:
        layers = [
            (rng.normal(size=(inputs, units)) * 1.5 / np.sqrt(inputs), rng.normal(size=units) * 0.1)
            for inputs, units in pairwise(sizes)
        ]
        return dense_stack([(*layer, "relu") for layer in layers[:-1]] + [(*layers[-1], "softmax")])

    spec = MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(mixture.sizes[0],),
        gate=network(mixture.sizes[0], mixture.num_experts),
        experts=tuple(network(*mixture.sizes) for _ in range(mixture.num_experts)),
        num_outputs=mixture.sizes[-1],
    )
    options = ConversionOptions(scheme=Scheme.FLOAT32, top_k=1, layout=layout)
    convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=options, schema=None)
    return path


def _times(dense: Path, gather: Path, num_features: int) -> list[float]:
    """Microseconds of a row, median of rounds: whole, gathered, routed with the file's mixing, with own."""
    row = np.random.default_rng(1).normal(size=num_features).astype("<f4").tobytes()
    rounds = []
    for _ in range(ROUNDS):
        found = []
        for model, mixing in ((dense, "file"), (dense, "few"), (gather, "file")):
            result = run("--binary", "--benchmark", CALLS, "--top-k", 1, "--mixing", mixing, model, given=row)
            if result.returncode != 0:
                raise SystemExit(result.stderr.decode())
            found += [float(value) for value in re.findall(rb"([0-9.]+) us", result.stdout)]
        rounds.append([found[0], found[4], found[1], found[3]])
    return list(np.median(rounds, axis=0))


def _line(mixture: Mixture, words: list[str], values: list[Any]) -> str:
    return f"| {mixture} | {' | '.join(words)} | {values[0] / values[-1]:.1f} × |"


if __name__ == "__main__":
    main()
