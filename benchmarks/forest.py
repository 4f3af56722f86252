"""A random forest of 100 trees of depth 8 as an expert: µs a row and bytes, against scikit-learn and ONNX Runtime.

The forest alone as a .tflite, as one of two experts of a mixture (the other dense), and by its peers: same rows, one
thread, each in a process of its own, alternating rounds. Exactness is counted against ``predict_proba``, on rows at the
thresholds themselves too. Without onnxruntime (``pip install -e '.[bench]'``) its lines are left out, and said to be.

Run: ``make bench``, or ``python benchmarks/forest.py --quick`` to see whether everything works.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib import util
from pathlib import Path
from typing import Any

import joblib
import keras
import numpy as np
import numpy.typing as npt
from goals import by_name, ratio
from results import table, write_section
from sklearn.ensemble import RandomForestClassifier

from moe_edge.runtime.benchmark.campaign import Entrant, Result, run_campaign
from moe_edge.runtime.benchmark.model_benchmark import BARE, PREDICTOR
from moe_edge.training import create_expert_model, create_moe_model, estimator_model
from moe_edge_converters import convert
from moe_edge_converters.sources.tree_networks import tree_network, tree_spec

NUM_FEATURES, NUM_CLASSES, NUM_TREES, DEPTH = 64, 10, 100, 8
BATCH = 1000
ALONE, PEERS = "forest as .tflite, bare interpreter", ("scikit-learn predict_proba", "ONNX Runtime")
Rows = npt.NDArray[np.float32]


def fit_forest() -> tuple[RandomForestClassifier, Rows]:
    """A forest on seeded rows, noisy enough for its trees to grow; and other rows to answer."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, NUM_FEATURES)).astype(np.float32)
    scores = x @ rng.normal(size=(NUM_FEATURES, NUM_CLASSES)) + rng.normal(size=(len(x), NUM_CLASSES)) * 3
    forest = RandomForestClassifier(NUM_TREES, max_depth=DEPTH, random_state=0, n_jobs=1)
    forest.fit(x[:10_000], scores[:10_000].argmax(axis=1))
    return forest, x[10_000:]


def rows_at_thresholds(layer: Any, rows: Rows, count: int) -> Rows:
    """Rows with one value at a threshold, and one float32 below and above it."""
    feature, threshold = np.asarray(layer.feature), np.asarray(layer.threshold)
    inner = np.random.default_rng(1).permutation(np.flatnonzero(np.isfinite(threshold)))[: count // 3]
    found = np.repeat(rows[: len(inner)][None], 3, axis=0)
    for place, value in enumerate(
        (threshold[inner], *(np.nextafter(threshold[inner], np.float32(end)) for end in (-np.inf, np.inf)))
    ):
        found[place, np.arange(len(inner)), feature[inner]] = value
    return found.reshape(-1, rows.shape[1])


def write_files(forest: RandomForestClassifier, trees: Any, folder: Path) -> dict[str, Path]:
    """The forest alone, in a mixture, and for its peers."""
    files = {name: folder / name for name in ("forest.tflite", "mixture.tflite", "forest.joblib", "forest.onnx")}
    row = keras.Input((NUM_FEATURES,))
    answer = trees(row)
    network = tree_network(row, answer)
    if network is None:
        raise SystemExit("expected a forest to become a walk by GATHER")
    files["forest.tflite"].write_bytes(network.model)
    experts = iter((trees, create_expert_model(NUM_FEATURES, NUM_CLASSES)))
    mixture = create_moe_model(NUM_FEATURES, NUM_CLASSES, 2, expert=lambda *_: next(experts))
    convert(mixture, files["mixture.tflite"], scheme="float32")
    joblib.dump(forest, files["forest.joblib"])
    if has_onnx():
        from moe_edge_converters.peers.onnx_trees import build_onnx_trees

        files["forest.onnx"].write_bytes(build_onnx_trees(tree_spec(trees.layers[-1]), NUM_FEATURES))
    return files


def has_onnx() -> bool:
    """Whether the bench extra is installed."""
    return all(util.find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def entrants(files: dict[str, Path]) -> list[Entrant]:
    """Everybody who answers with the forest."""
    mixture = str(files["mixture.tflite"])
    found = [
        Entrant(name=ALONE, factory=BARE, options={"model": str(files["forest.tflite"])}),
        Entrant(
            name="mixture of it and a dense expert, Predictor, dense",
            factory=PREDICTOR,
            options={"model": mixture, "mode": "dense"},
        ),
        Entrant(
            name="the same, Predictor, routed top-1",
            factory=PREDICTOR,
            options={"model": mixture, "mode": "routed", "top_k": 1},
        ),
        Entrant(
            name=PEERS[0],
            factory="peers.forest_subjects:ForestSubject",
            options={"model": str(files["forest.joblib"])},
        ),
    ]
    if has_onnx():
        factory = "moe_edge_converters.peers.onnxruntime_subject:OnnxRuntimeSubject"
        found.append(Entrant(name=PEERS[1], factory=factory, options={"model": str(files["forest.onnx"])}))
    return found


def cells(result: Result, alone: Result, size: int, expected: Rows) -> list[str]:
    """A row of the table."""
    own = result.prediction
    error = (
        "-" if own is None or result.name.startswith(("mixture", "the same")) else f"{abs(own - expected).max():.1e}"
    )
    times = [f"{result.at(1).p50_us:,.1f}", f"{result.at(BATCH).p50_us / BATCH:,.2f}"]
    slower = "1" if result is alone else f"{ratio(result, alone)[0]:,.1f} ({ratio(result, alone)[1].split(';')[0]})"
    return [result.name, *times, slower, f"{size:,}", error]


def main() -> None:
    """Fit, write, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--milliseconds", type=float, default=150.0)
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    given = parser.parse_args()
    rounds, budget_ms = (1, 5.0) if given.quick else (given.rounds, given.milliseconds)
    keras.utils.set_random_seed(0)
    forest, rows = fit_forest()
    trees = estimator_model(forest, NUM_FEATURES)
    rows = np.concatenate([rows[:BATCH], rows_at_thresholds(trees.layers[-1], rows, 3000)])
    expected = forest.predict_proba(rows)
    with tempfile.TemporaryDirectory(prefix="moe-edge-forest-") as name:
        files = write_files(forest, trees, Path(name))
        found, refused = run_campaign(
            entrants(files), rows, batches=(1, BATCH), rounds=rounds, budget_ms=budget_ms, answers=True
        )
        results = by_name(found, refused)
        sizes = {path.name: path.stat().st_size for path in files.values() if path.exists()}
    alone = results[ALONE]
    size_of = {ALONE: "forest.tflite", PEERS[0]: "forest.joblib", PEERS[1]: "forest.onnx"}
    lines = [
        cells(result, alone, sizes[size_of.get(name, "mixture.tflite")], expected) for name, result in results.items()
    ]
    header = ["subject", "µs, one row", f"µs a row of {BATCH:,}", "one row, ratio", "bytes", "largest error"]
    depth, nodes = trees.layers[-1].depth, trees.layers[-1].num_nodes
    intro = (
        f"{NUM_TREES} trees of depth {depth}, {nodes:,} nodes, {NUM_FEATURES} features, {NUM_CLASSES} classes. Errors "
        f"against scikit-learn's predict_proba on {len(rows):,} rows, {len(rows) - BATCH:,} of them at thresholds or "
        f"one float32 beside. Ratios: median of {rounds} rounds, and their spread; one thread."
    )
    if not has_onnx():
        intro += " ONNX Runtime isn't installed here (pip install -e '.[bench]'): its line is missing."
    if given.quick:
        print(f"\n{intro}\n\n{table(header, lines)}")
        return
    write_section("A forest as an expert", f"{intro}\n\n{table(header, lines)}")


if __name__ == "__main__":
    main()
