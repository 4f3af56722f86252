"""Every scheme's file on tflite-runtime 2.14, by position, in batches: its answers are LiteRT's, or the file is refused.

That runtime loads per-channel dynamic weights and answers wrongly without an error, so files are accepted by answers.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from moe_edge.config import Combine
from moe_edge_converters.conversion import ConversionOptions, convert_spec
from moe_edge_converters.schemes.scheme import Scheme

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter

jobs, batches = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for job in jobs:
    rows, answers = np.load(job["rows"]), {}
    for batch in batches:
        interpreter = Interpreter(model_path=job["model"])
        details = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(details["index"], rows[:batch].shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(details["index"], rows[:batch])
        interpreter.invoke()
        for position, output in enumerate(interpreter.get_output_details()):
            answers[f"{batch}_{position}"] = interpreter.get_tensor(output["index"])
    np.savez(job["answers"], **answers)
"""

FILES = [
    (combine, scheme, per_tensor)
    for combine in (Combine.PROBABILITIES, Combine.GAUSSIAN)
    for scheme, per_tensor in [
        *((scheme, False) for scheme in Scheme),
        (Scheme.DYNAMIC_W8, True),
        (Scheme.W8A8, True),
        (Scheme.W4, True),
    ]
]
IDS = [f"{combine.value}-{scheme.value}{'-per-tensor' * per_tensor}" for combine, scheme, per_tensor in FILES]


def is_miscomputed(scheme, per_tensor):
    """What is known to be wrong there."""
    return scheme in (Scheme.DYNAMIC_W8, Scheme.W4) and not per_tensor


def run_there(python, code, *arguments):
    """Run a script in the old runtime's Python, with the checkout's device package."""
    return subprocess.run(
        [str(python), "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def old_answers(mixtures, old_runtime_python, tmp_path_factory):
    """Name of a file -> (LiteRT's outputs, the old runtime's, each by batch and position; the file)."""
    folder = tmp_path_factory.mktemp("old-runtime")
    jobs, modern = [], {}
    for name, (combine, scheme, per_tensor) in zip(IDS, FILES, strict=True):
        spec = mixtures.make_spec(
            num_experts=4, num_columns=16, combine=combine, hidden=[(24, 16)] * 3 + [(8,)], preprocess=True
        )
        rows = mixtures.make_rows(spec, 300, missing=0.05)
        path = folder / f"{name}.tflite"
        options = ConversionOptions(scheme=scheme, per_tensor=per_tensor)
        convert_spec(spec, path, reference=None, rows=rows, options=options)
        np.save(folder / f"{name}.npy", rows[:64])
        content = path.read_bytes()
        modern[name] = {
            f"{batch}_{position}": values
            for batch in mixtures.BATCHES
            for position, values in enumerate(mixtures.run_by_position(content, rows[:batch], delegate=False))
        }
        jobs.append({"model": str(path), "rows": str(folder / f"{name}.npy"), "answers": str(folder / f"{name}.npz")})
    result = run_there(old_runtime_python, SCRIPT, json.dumps(jobs), json.dumps(mixtures.BATCHES))
    assert result.returncode == 0, result.stderr
    answers = {}
    for name in IDS:
        with np.load(folder / f"{name}.npz") as arrays:
            answers[name] = modern[name], dict(arrays), folder / f"{name}.tflite"
    return answers


RIGHT = [
    name for name, (_, scheme, per_tensor) in zip(IDS, FILES, strict=True) if not is_miscomputed(scheme, per_tensor)
]


@pytest.mark.parametrize("name", RIGHT)
def test_batches_agree_row_by_row(mixtures, old_answers, name):
    modern, old, _ = old_answers[name]
    assert modern.keys() == old.keys()
    for key, values in old.items():
        assert values.shape == modern[key].shape and len(values) == int(key.split("_")[0])
        expected = modern[key]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(values, expected, atol=0.05 * scale, rtol=1e-4, err_msg=key)
        # Kernels of another age round a half the other way now and then, no more.
        assert np.mean(np.abs(values - expected) > 1e-4 * scale) < 0.1
        # The same rows within a smaller batch.
        for smaller in (batch for batch in mixtures.BATCHES if batch < len(values)):
            single = old[f"{smaller}_{key.split('_')[1]}"]
            np.testing.assert_allclose(values[:smaller], single, atol=0.05 * scale, rtol=1e-4, err_msg=key)


@pytest.mark.parametrize("scheme", ["dynamic_w8", "w4"])
def test_per_channel_dynamic_weights_are_wrong_there_and_the_predictor_refuses_them(
    old_answers, old_runtime_python, scheme
):
    """When the first part fails, the predictor may stop refusing."""
    modern, old, path = old_answers[f"probabilities-{scheme}"]
    assert np.abs(modern["64_0"] - old["64_0"]).max() > 0.2
    code = f"from moe_edge import Predictor; Predictor({str(path)!r})"
    result = run_there(old_runtime_python, code)
    assert f"{scheme} files wrongly" in result.stderr and result.returncode == 1
