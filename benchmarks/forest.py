"""A random forest of 100 trees of depth 8 as an expert: µs and bytes against scikit-learn and ONNX Runtime.

Digits (64 features, 10 classes), one thread, one process, subjects taking turns; the best round counts. How far each
answer is from ``predict_proba`` is printed beside it. Run: ``make bench``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper
from results import table, write_section
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from moe_edge.training import create_expert_model, create_moe_model, estimator_model
from moe_edge.training.estimators.frozen_models import read_trees
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.sources.extraction import extract_mixture
from moe_edge_converters.sources.keras_networks import extract_network

TREES, DEPTH, BATCH = 100, 8, 64
ROUNDS, SECONDS = 15, 0.05

Rows = npt.NDArray[np.float32]
Answer = Callable[[Rows], npt.NDArray[Any]]


def onnx_forest(forest: RandomForestClassifier) -> bytes:
    """The forest as ONNX's own TreeEnsembleClassifier, which compares in float32 as ours does."""
    nodes: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "featureids", "values", "modes")}
    nodes |= {"truenodeids": [], "falsenodeids": []}
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for number, tree in enumerate(read_trees(forest).trees):
        inner = tree.left >= 0
        rounded = np.where(inner, tree.threshold, 0).astype(np.float32)
        above = rounded > tree.threshold
        rounded = np.where(above & inner, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        nodes["treeids"] += [number] * len(inner)
        nodes["nodeids"] += range(len(inner))
        nodes["featureids"] += np.where(inner, tree.feature, 0).tolist()
        nodes["values"] += rounded.tolist()
        nodes["modes"] += ["BRANCH_LEQ" if branches else "LEAF" for branches in inner]
        nodes["truenodeids"] += np.where(inner, tree.left, 0).tolist()
        nodes["falsenodeids"] += np.where(inner, tree.right, 0).tolist()
        for node in np.flatnonzero(~inner):
            for label, weight in enumerate(tree.values[node]):
                leaves["treeids"].append(number)
                leaves["nodeids"].append(int(node))
                leaves["ids"].append(label)
                leaves["weights"].append(float(weight))
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "prediction"],
        domain="ai.onnx.ml",
        classlabels_int64s=forest.classes_.tolist(),
        post_transform="NONE",
        **{f"nodes_{key}": value for key, value in nodes.items()},
        **{f"class_{key}": value for key, value in leaves.items()},
    )
    graph = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", forest.n_features_in_])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N", len(forest.classes_)]),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def interpreter_answer(content: bytes, batch: int) -> Answer:
    """The bare interpreter on batches of one size, one thread."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    place = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(place["index"], [batch, *place["shape"][1:]])
    interpreter.allocate_tensors()
    out = interpreter.get_output_details()[0]["index"]

    def answer(rows: Rows) -> npt.NDArray[Any]:
        interpreter.set_tensor(place["index"], rows)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(out))

    return answer


def onnx_answer(content: bytes) -> Answer:
    """ONNX Runtime, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda rows: np.asarray(session.run(["prediction"], {"x": rows})[0])


def best_microseconds(answers: dict[str, Answer], rows: Rows) -> dict[str, float]:
    """The best round's µs of one call, subjects taking turns."""
    best = dict.fromkeys(answers, np.inf)
    for _ in range(ROUNDS):
        for name, answer in answers.items():
            answer(rows)
            calls, start = 0, time.perf_counter()
            while (spent := time.perf_counter() - start) < SECONDS:
                answer(rows)
                calls += 1
            best[name] = min(best[name], 1e6 * spent / calls)
    return best


def mixture_files(forest: RandomForestClassifier, rows: Rows, folder: Path) -> dict[str, bytes]:
    """Two mixtures of four experts: dense ones only, and one of them the forest instead."""
    files = {}
    for name, with_forest in (("mixture of 4 dense experts", False), ("the same, one expert the forest", True)):
        ready = [estimator_model(forest, rows.shape[1], num_outputs=10)] if with_forest else []
        model = create_moe_model(
            rows.shape[1], 10, 4, expert=lambda d, k, ready=ready: ready.pop() if ready else create_expert_model(d, k)
        )
        path = folder / "mixture.tflite"
        options = ConversionOptions(scheme=Scheme.FLOAT32)
        convert_spec(extract_mixture(model), path, reference=None, rows=rows, options=options)
        files[name] = path.read_bytes()
    return files


def main() -> None:
    """Measure one row and a batch."""
    digits = load_digits()
    rows = digits.data.astype(np.float32)
    forest = RandomForestClassifier(TREES, max_depth=DEPTH, random_state=0, n_jobs=1).fit(rows, digits.target)
    expected = forest.predict_proba(rows)
    model = estimator_model(forest, rows.shape[1])
    ours = extract_network(model.inputs[0], model.outputs[0], role="the forest").model
    theirs = onnx_forest(forest)
    with tempfile.TemporaryDirectory() as folder:
        mixtures = mixture_files(forest, rows, Path(folder))
    sizes = {"forest, bare interpreter": len(ours), "forest, ONNX Runtime": len(theirs)}
    sizes |= {name: len(content) for name, content in mixtures.items()}
    times: dict[int, dict[str, float]] = {}
    far: dict[str, float] = {}
    for batch in (1, BATCH):
        answers: dict[str, Answer] = {
            "forest, bare interpreter": interpreter_answer(ours, batch),
            "forest, ONNX Runtime": onnx_answer(theirs),
            "forest, scikit-learn predict_proba": forest.predict_proba,
            **{name: interpreter_answer(content, batch) for name, content in mixtures.items()},
        }
        for name in list(answers)[:3]:
            starts = range(0, len(rows) - batch + 1, batch)
            got = [
                np.abs(answers[name](rows[start : start + batch]) - expected[start : start + batch]) for start in starts
            ]
            far[name] = max(far.get(name, 0.0), float(np.max(got)))
        times[batch] = best_microseconds(answers, rows[:batch])
    reference = {batch: found["forest, bare interpreter"] for batch, found in times.items()}
    lines = [
        [
            name,
            *(f"{times[batch][name]:.1f}" for batch in times),
            *(f"{times[batch][name] / reference[batch]:.2f}" for batch in times),
            f"{sizes[name]:,}" if name in sizes else "",
            f"{far[name]:.1e}" if name in far else "",
        ]
        for name in times[1]
    ]
    leaves = sum(int((tree.left < 0).sum()) for tree in read_trees(forest).trees)
    intro = (
        f"Digits, {TREES} trees of depth {DEPTH}, {leaves:,} leaves of 10 probabilities; one thread, best of {ROUNDS} "
        f"rounds, subjects taking turns. Ratios are to the forest in the bare interpreter. Difference: the largest "
        f"from `predict_proba` over {len(rows)} rows."
    )
    header = ["subject", "µs, 1 row", f"µs, {BATCH} rows", "ratio, 1", f"ratio, {BATCH}", "bytes", "difference"]
    write_section("A forest as an expert", f"{intro}\n\n{table(header, lines)}")


if __name__ == "__main__":
    main()
