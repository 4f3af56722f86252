"""Gates of every kind on tflite-runtime 2.14, whole, routed and by branches: its answers are LiteRT's."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.config import Combine, Task
from moe_edge.hierarchy import GateTree
from moe_edge_converters.conversion import ConversionOptions, convert_spec
from moe_edge_converters.graphs.gaussian_gate_graph import gaussian_gate_graph
from moe_edge_converters.graphs.hierarchical_gate_graph import hierarchical_gate_graph
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import MixtureSpec, dense_stack

ROOT = Path(__file__).parents[2]
NUM_FEATURES = 5

SCRIPT = """
import json, sys
import numpy as np
from moe_edge import Predictor

for job in json.loads(sys.argv[1]):
    with Predictor(job["model"], backend="tflite-runtime", xnnpack=job["xnnpack"], **job["how"]) as predictor:
        np.savez(job["answers"], **predictor.predict_raw(np.load(job["rows"])))
"""


def make_gate(kind):
    rng = np.random.default_rng(0)
    if kind.startswith("gaussian"):
        full = kind == "gaussian, full"
        whitening = np.tril(rng.normal(size=(4, 4, 4)), -1) * 0.3 + np.eye(4) if full else rng.uniform(0.5, 2, (4, 4))
        return gaussian_gate_graph(
            (NUM_FEATURES,),
            peak=rng.normal(size=4),
            mean=rng.normal(size=(4, 4)),
            whitening=whitening,
            temperature=0.5,
            columns=(4, 0, 1, 2),
        )
    tree, units = GateTree.balanced(4), 6
    sizes = [(NUM_FEATURES, units), (units, 2)] if kind.endswith("hidden") else [(NUM_FEATURES, 2)]
    layers = [
        (rng.normal(size=(3, fan_in, out)).astype(np.float32), rng.normal(size=(3, out)).astype(np.float32))
        for fan_in, out in sizes
    ]
    return hierarchical_gate_graph((NUM_FEATURES,), tree, layers)


@pytest.mark.parametrize("kind", ["gaussian", "gaussian, full", "hierarchical", "hierarchical, hidden"])
def test_answers_are_litert_s(old_runtime_python, kind, tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(65, NUM_FEATURES)).astype(np.float32)
    spec = MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(NUM_FEATURES,),
        gate=make_gate(kind),
        experts=tuple(
            dense_stack([(rng.normal(size=(NUM_FEATURES, 3)), rng.normal(size=3), "softmax")]) for _ in range(4)
        ),
        num_outputs=3,
    )
    path = tmp_path / "m.tflite"
    convert_spec(spec, path, reference=None, rows=rows, options=ConversionOptions(scheme=Scheme.FLOAT32))
    np.save(tmp_path / "rows.npy", rows)
    ways = [{"mode": "dense"}, {"mode": "routed", "mass": 0.8}]
    if kind.startswith("hierarchical"):
        ways.append({"branches": True, "top_k": 2})
    jobs = [
        {
            "model": str(path),
            "rows": str(tmp_path / "rows.npy"),
            "answers": str(tmp_path / f"{number}_{xnnpack}.npz"),
            "how": how,
            "xnnpack": xnnpack,
        }
        for number, how in enumerate(ways)
        for xnnpack in (True, False)
    ]
    result = subprocess.run(
        [str(old_runtime_python), "-c", SCRIPT, json.dumps(jobs)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    for job in jobs:
        with Predictor(path, **job["how"]) as predictor:
            expected = predictor.predict_raw(rows)
        with np.load(job["answers"]) as got:
            assert set(got) == set(expected)
            for name, values in expected.items():
                np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-5)
