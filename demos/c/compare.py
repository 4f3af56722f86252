"""Python and the C host side by side on one file: the same bits, and how long a row takes.

    python demos/c/compare.py                             # trains a small mixture on handwritten digits; 20 s
    python demos/c/compare.py my.tflite rows.npy          # yours; rows as numbers, the model's columns in order

Builds the host first (demos/c/setup.sh installs a compiler, as root). Exit code 1 if an answer of the whole graph
differs in a bit, or a routed one in more than its last bits.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from moe_edge import Predictor
from moe_edge.errors import MoeEdgeError
from moe_edge.runtime.latency import measure_latency

HERE = Path(__file__).parent
MOST_ROWS, CALLS, LAST_BITS = 50, 2000, 1e-6

Rows = npt.NDArray[np.float32]


def main() -> None:
    """Build, answer, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a .tflite of moe-edge; by default a small one is made")
    parser.add_argument("rows", nargs="?", type=Path, help=".npy, one row an example")
    parser.add_argument("--top-k", type=int, default=1, help="experts that run, routed; default 1")
    arguments = parser.parse_args()
    if arguments.model is not None and arguments.rows is None:
        parser.error("expected rows beside the model: rows.npy")
    with tempfile.TemporaryDirectory(prefix="moe-edge-c-") as folder:
        try:
            if arguments.model is None:
                model, rows = make_small_mixture(Path(folder))
            else:
                model, rows = arguments.model, np.load(arguments.rows).astype(np.float32)[:MOST_ROWS]
            same = compare(build(), model, rows.reshape(len(rows), -1), top_k=arguments.top_k)
        except (MoeEdgeError, OSError, ValueError) as error:
            sys.exit(str(error))
        except subprocess.CalledProcessError as error:
            sys.exit(error.stderr.strip() or f"{error.cmd[0]} ended with {error.returncode}")
    sys.exit(0 if same else 1)


def build() -> Path:
    """Compile the host for this machine."""
    subprocess.run(["bash", HERE / "setup.sh", HERE / "build" / "cross"], check=True, capture_output=True, text=True)
    folder = HERE / "build" / "native"
    subprocess.run(["make", "-s", "-C", HERE, f"OUT={folder}"], check=True, capture_output=True, text=True)
    return folder / "moe"


def make_small_mixture(folder: Path) -> tuple[Path, Rows]:
    """Train five experts on handwritten digits, convert them to int8; some held-out rows."""
    from moe_edge.training import create_moe_model  # first: it sets TensorFlow's environment

    import keras  # isort: skip
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from moe_edge_converters import convert

    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    x_train, x_test, y_train, _ = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
    model = create_moe_model(64, 10, num_experts=5, load_balancing_coef=0.3)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(x_train, y_train, epochs=10, batch_size=32, verbose=0)
    path = folder / "digits.tflite"
    convert(model, path, calibration=x_train)
    return path, x_test[:MOST_ROWS]


def compare(program: Path, model: Path, rows: Rows, *, top_k: int) -> bool:
    """Print the table; whether all bits are the same."""
    console = Console()
    table = Table(
        "row", "Python, whole", "C, whole", "Python, routed", "C, routed", title=f"{model.name}, top_k={top_k}"
    )
    with Predictor(model, mode="dense") as dense, Predictor(model, mode="routed", top_k=top_k) as routed:
        expected = [_each(predictor, rows) for predictor in (dense, routed)]
        found = [_answer(program, model, rows), _answer(program, model, rows, "--top-k", top_k)]
        times = [measure_latency(predictor.predict, rows[:1], num_runs=500).median_us for predictor in (dense, routed)]
        classifies = dense.task.value == "classification"
    for place in range(min(5, len(rows))):
        cells = [_word(answers[place], classifies) for pair in zip(expected, found, strict=True) for answers in pair]
        table.add_row(str(place), *cells)
    console.print(table)
    differences = [_difference(*pair) for pair in zip(expected, found, strict=True)]
    for name, difference in zip(("whole", "routed"), differences, strict=True):
        words = "the same bits" if difference == 0 else f"at most {difference:.1e} apart"
        console.print(f"{name}: {words} in {len(rows)} rows")
    console.print(f"Python: whole {times[0]:.1f} us a row, routed {times[1]:.1f} us (checks of the row included)")
    benchmark = _run(program, model, rows, "--benchmark", CALLS, "--top-k", top_k, "--mixing", "few")
    console.print(f"C, weighing the answers itself:\n{benchmark.rstrip()}")
    # Where experts give many values, Python weighs them in NumPy, which adds in another order than the file's combine.
    return differences[0] == 0 and differences[1] <= LAST_BITS


def _difference(expected: Rows, found: Rows) -> float:
    """The largest, relative to the larger of 1 and what was expected; infinite where one of them is no number."""
    if np.array_equal(expected.view(np.int32), found.view(np.int32)):
        return 0.0
    difference = float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())
    return difference if np.isfinite(difference) else float("inf")


def _each(predictor: Predictor, rows: Rows) -> Rows:
    """Row by row, as on a device."""
    answer = predictor.predict_proba if predictor.task.value == "classification" else predictor.predict
    return np.concatenate([answer(row[None]) for row in rows])


def _answer(program: Path, model: Path, rows: Rows, *options: object) -> Rows:
    text = _run(program, model, rows, "--output", "prediction", *options)
    return np.array([line.split(",") for line in text.splitlines()[1:]], dtype=np.float64).astype(np.float32)


def _run(program: Path, model: Path, rows: Rows, *options: object) -> str:
    spec = find_spec("ai_edge_litert")
    if spec is None or spec.origin is None:
        raise OSError(
            "expected ai-edge-litert, whose library the C host opens, got none; run: pip install ai-edge-litert"
        )
    library = Path(spec.origin).with_name("libLiteRt.so")
    words: list[Any] = [program, "--library", library, *options, "--binary", "--missing", model]
    result = subprocess.run([*map(str, words)], input=rows.tobytes(), capture_output=True, check=False)
    if result.returncode != 0:
        raise ValueError(result.stderr.decode().strip())
    return result.stdout.decode()


def _word(answer: Rows, classifies: bool) -> str:
    if not classifies:
        return ", ".join(f"{value:.6g}" for value in answer)
    return f"{answer.argmax()} ({answer.max():.6f})"


if __name__ == "__main__":
    main()
