"""Speed and memory against what users would pick instead: peers of ``peers`` and of ``moe_edge_converters.peers``.

Same rows, one thread, each subject in a process of its own, alternating rounds, medians; ratios are taken round by
round within one run. Writes the sections "Speed and memory" of RESULTS.md and the pictures beside it. Without
onnxruntime (``pip install -e '.[bench]'``) its lines are left out, and said to be.

Run: ``make bench``, or ``python benchmarks/speed.py --quick`` to see whether everything works.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from goals import Goal, by_name, ratio, time_rows
from peers.mixtures import HUGE, LARGE, mixture, per_expert_model, write_file, write_unchecked
from results import table, write_section

from moe_edge.runtime.benchmark.campaign import Entrant, Result, run_campaign
from moe_edge.runtime.benchmark.model_benchmark import BARE, PREDICTOR
from moe_edge_converters.peers.entrants import KERAS, onnx_entrants, plain_tflite_entrant

BATCH = 10_000
TIMES_HEADER = ["model", "subject", "rows", "µs p50", "rounds", "p99", "rows/s"]


class Bench:
    """Where files go, how long to measure, and what came out."""

    def __init__(self, folder: Path, *, rounds: int, budget_ms: float, with_gigabyte: bool) -> None:
        """Nothing is measured yet."""
        self.folder = folder
        self.rounds, self.budget_ms = rounds, budget_ms
        self.with_gigabyte = with_gigabyte
        self.goals: list[Goal] = []
        self.times: list[list[str]] = []
        self.rows = np.random.default_rng(0).normal(size=(BATCH, 64)).astype(np.float32)

    def run(self, title: str, entrants: list[Entrant], **options: Any) -> dict[str, Result]:
        """Measure entrants in one run."""
        print(f"{title} ...", flush=True)
        rows = options.pop("rows", self.rows)
        settings: dict[str, Any] = {"rounds": self.rounds, "budget_ms": self.budget_ms, **options}
        results, refused = run_campaign(entrants, rows, **settings)
        self.times += time_rows(results, title)
        return by_name(results, refused)

    def compare(
        self,
        what: str,
        limit: float | None,
        slower: Result | None,
        faster: Result | None,
        *,
        at_least: bool,
        **how: Any,
    ) -> None:
        """Add a line, when both could be measured."""
        if slower is not None and faster is not None:
            value, note = ratio(slower, faster, **how)
            self.goals.append(Goal(what, limit, value, at_least=at_least, note=note))


def predictor(name: str, model: Path, **point: Any) -> Entrant:
    """Our Predictor at an operating point."""
    return Entrant(name=name, factory=PREDICTOR, options={"model": str(model), **point})


def bare(name: str, model: Path) -> Entrant:
    """The runtime's interpreter on a file."""
    return Entrant(name=name, factory=BARE, options={"model": str(model)})


def has_onnx() -> bool:
    """Whether the bench extra is installed."""
    return all(util.find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def reference_model(bench: Bench) -> None:
    """One row and a large batch of the reference model, on everything that can run it."""
    from peers.simple_subjects import save_weights

    spec = mixture(5)
    folder = bench.folder
    ours = write_file(spec, folder / "reference.tflite")
    keras_model = per_expert_model(spec)
    keras = folder / "reference.keras"
    keras_model.save(keras)
    weights = save_weights(spec, folder / "reference-weights.npz")
    entrants = [
        predictor("Predictor, dense", ours, mode="dense"),
        predictor("Predictor, routed top-2", ours, mode="routed", top_k=2),
        bare("bare interpreter, our file", ours),
        plain_tflite_entrant(keras_model, folder),
        Entrant(name="NumPy", factory="peers.simple_subjects:NumpySubject", options={"weights": str(weights)}),
        Entrant(name="Keras call, tf.function", factory=KERAS, options={"model": str(keras), "how": "call"}),
    ]
    entrants += onnx_entrants(spec, folder) if has_onnx() else []
    one = bench.run("reference model, E=5", entrants)
    dense = one["Predictor, dense"]
    bench.compare(
        "`Predictor.predict`, one row, reference model, against the bare interpreter on the same file",
        1.4,
        dense,
        one.get("bare interpreter, our file"),
        at_least=False,
    )
    for layout, limit in (("fused", 2.0), ("batched", None), ("separate", None)):
        bench.compare(
            f"ONNX Runtime, {layout} graph, one row, I/O binding, against `Predictor.predict`",
            limit,
            one.get(f"ONNX Runtime, {layout}"),
            dense,
            at_least=True,
        )
    for name in ("Keras call, tf.function", "NumPy"):
        bench.compare(f"{name}, one row, against `Predictor.predict`", None, one.get(name), dense, at_least=True)
    predict = {"model": str(keras), "how": "predict"}
    many = bench.run(
        "reference model, E=5",
        [
            predictor("Predictor, dense", ours, mode="dense"),
            Entrant(name="Keras predict, batch_size 32", factory=KERAS, options=predict),
            Entrant(name="Keras predict, batch_size 1024", factory=KERAS, options={**predict, "predict_batch": 1024}),
            Entrant(name="Keras predict, batch_size 10000", factory=KERAS, options={**predict, "predict_batch": BATCH}),
            *[entrant for entrant in entrants if entrant.name.startswith(("ONNX", "NumPy", "plain"))],
        ],
        batches=(BATCH,),
    )
    best = min((r for n, r in many.items() if n.startswith("Keras")), key=lambda result: result.at(BATCH).p50_us)
    bench.compare(
        f"{best.name} (its fastest), {BATCH:,} rows, against `Predictor.predict`",
        3.0,
        best,
        many["Predictor, dense"],
        at_least=True,
        batch=BATCH,
    )
    for name, result in many.items():
        if name != "Predictor, dense" and result is not best:
            what = f"{name}, {BATCH:,} rows, against `Predictor.predict`"
            bench.compare(what, None, result, many["Predictor, dense"], at_least=True, batch=BATCH)


def plain_conversions(bench: Bench) -> None:
    """Our fused graph against what the converter makes of separate sub-models, both on the bare interpreter."""
    for count, limit in ((5, 1.2), (16, 1.5), (64, 2.0)):
        spec = mixture(count)
        folder = bench.folder / f"plain-{count}"
        folder.mkdir()
        ours = write_file(spec, folder / "ours.tflite")
        plain = plain_tflite_entrant(per_expert_model(spec), folder)
        found = bench.run(f"reference experts, E={count}", [bare("our file", ours), plain])
        what = f"plain Keras→TFLite against our fused file, float32, E={count}, bare interpreter, one row"
        bench.compare(what, limit, found.get(plain.name), found.get("our file"), at_least=True)


def routed_models(bench: Bench) -> None:
    """How routed execution scales with the number of experts."""
    files = {
        count: write_file(mixture(count, LARGE), bench.folder / f"large-{count}.tflite") for count in (8, 128, 256)
    }
    routed = {"mode": "routed", "top_k": 2}
    entrants = [
        *[predictor(f"routed top-2, E={count}", file, **routed, xnnpack=True) for count, file in files.items()],
        predictor("dense, E=128", files[128], mode="dense", xnnpack=True),
        predictor("dense, E=8", files[8], mode="dense", xnnpack=True),
    ]
    names = tuple(entrant.name for entrant in entrants if entrant.name.startswith("routed"))
    found = bench.run("experts 64→256→128→10", entrants, parts_of=names, answers=True, rows=bench.rows[:500])
    bench.compare(
        "routed top-2 at E=256 against E=8, experts 64→256→128→10, one row",
        1.3,
        found.get("routed top-2, E=256"),
        found.get("routed top-2, E=8"),
        at_least=False,
    )
    bench.compare(
        "dense against routed top-2 at E=128, same experts, one row",
        50.0,
        found.get("dense, E=128"),
        found.get("routed top-2, E=128"),
        at_least=True,
    )
    for count in files:
        native_share(bench, found[f"routed top-2, E={count}"], f"experts 64→256→128→10, E={count}", judged=True)
    operating_points(bench)
    lean_memory(bench, files[256])


def operating_points(bench: Bench) -> None:
    """How far the cost of one file can be turned."""
    file = write_file(mixture(32, LARGE), bench.folder / "points.tflite")
    counts = (1, 2, 3, 4, 6, 8, 12, 16, 24)
    entrants = [predictor(f"routed top-{k}", file, mode="routed", top_k=k, xnnpack=True) for k in counts]
    entrants.append(predictor("dense", file, mode="dense", xnnpack=True))
    costs = [result.at(1).p50_us for result in bench.run("experts 64→256→128→10, E=32", entrants).values()]
    what = f"cost of the dearest of {len(costs)} operating points of one file against the cheapest, E=32"
    note = f"{min(costs):.1f} to {max(costs):.1f} µs"
    bench.goals.append(Goal(what, 3.0, max(costs) / min(costs), at_least=True, note=note))


def lean_memory(bench: Bench, file: Path) -> None:
    """What a routed model of 256 experts adds to the process beside its mapped file, all its experts having run."""
    what = "anonymous memory of the routed 256-expert model, XNNPACK off, against its file"
    for how, limit, batches in (("row by row", 0.15, (1,)), ("in batches of 500 as well", None, (1, 500))):
        off = predictor("routed top-2, E=256, XNNPACK off", file, mode="routed", top_k=2, xnnpack=False)
        result = next(iter(bench.run("experts 64→256→128→10", [off], rows=bench.rows[:500], batches=batches).values()))
        if result.memory is not None and result.memory_before is not None:
            grown = result.memory["anonymous_bytes"] - result.memory_before["anonymous_bytes"]
            size = file.stat().st_size
            note = f"{grown / 1e6:.1f} MB added by opening and running, file {size / 1e6:.1f} MB"
            bench.goals.append(Goal(f"{what}, {how}", limit, grown / size, note=note))


def native_share(bench: Bench, result: Result, model: str, *, judged: bool) -> None:
    """Routed predict in Python against the invokes that it is made of."""
    experts = [time for name, time in result.parts_us.items() if name.startswith("expert_")]
    native = result.parts_us["gate"] + (result.experts_per_row or 0) * float(np.mean(experts))
    note = f"{result.at(1).p50_us:.1f} µs; gate {result.parts_us['gate']:.2f} µs, an expert {np.mean(experts):.2f} µs"
    what = f"routed predict in Python against its native gate + expert invokes, {model}"
    bench.goals.append(Goal(what, 2.0 if judged else None, result.at(1).p50_us / native, note=note))


def routed_batches(bench: Bench) -> None:
    """Rows grouped by expert against the whole graph."""
    for hidden, name, limit in ((LARGE, "64→256→128→10", 8.0), ((64, 32), "64→64→32→10", None)):
        file = write_file(mixture(64, hidden), bench.folder / f"batch-{hidden[0]}.tflite")
        found = bench.run(
            f"experts {name}, E=64",
            [
                predictor("routed top-2", file, mode="routed", top_k=2, xnnpack=True),
                predictor("dense", file, mode="dense", xnnpack=True),
            ],
            batches=(BATCH,),
        )
        what = f"dense against routed top-2 of 64 experts {name}, {BATCH:,} rows"
        bench.compare(what, limit, found.get("dense"), found.get("routed top-2"), at_least=True, batch=BATCH)


def gigabyte(bench: Bench) -> None:
    """A mixture larger than many devices' memory."""
    if not bench.with_gigabyte:
        print("The gigabyte mixture is left out", flush=True)
        return
    file = write_unchecked(mixture(256, HUGE), bench.folder / "huge.tflite")
    size = file.stat().st_size / 1e9
    found = bench.run(
        f"{size:.2f} GB, E=256",
        [predictor("routed top-2, XNNPACK off", file, mode="routed", top_k=2, xnnpack=False)],
        rows=bench.rows[:64],
        rounds=1,
    )
    result = next(iter(found.values()))
    what = f"a {size:.2f} GB float32 mixture: opens and answers a first row"
    bench.goals.append(Goal(what, 1.0, result.first_row_ms / 1000, unit="s", note="imports apart"))
    if result.memory_open is not None:
        resident = result.memory_open["rss_bytes"] / 1e6
        bench.goals.append(Goal(f"{what}, whole process", 150.0, resident, unit="MB resident"))
    file.unlink()


def digits(bench: Bench) -> None:
    """Accuracy against time and memory, on rows that no model has seen."""
    from peers.digits import train_digits
    from peers.simple_subjects import save_weights

    from moe_edge.pictures.operating_points import draw_points
    from moe_edge.runtime.benchmark.model_benchmark import score
    from moe_edge.task import Task

    trained = train_digits(bench.folder)
    weights = save_weights(trained.spec, bench.folder / "digits-weights.npz")
    sklearn = "peers.simple_subjects:SklearnSubject"
    points: list[tuple[str, dict[str, Any]]] = [("dense", {"mode": "dense"})]
    points += [(f"routed top-{k}", {"mode": "routed", "top_k": k}) for k in (1, 2, 3)]
    points += [(f"routed mass {m:g}", {"mode": "routed", "mass": m}) for m in (0.5, 0.7, 0.9, 0.99, 0.999)]
    points.append(("routed mass 0.99, at most 2", {"mode": "routed", "mass": 0.99, "max_experts": 2}))
    entrants = [predictor(name, trained.tflite, **point) for name, point in points]
    numpy_options = {"weights": str(weights)}
    entrants.append(Entrant(name="NumPy", factory="peers.simple_subjects:NumpySubject", options=numpy_options))
    for kind, name in (("mlp", "scikit-learn MLP"), ("boosting", "scikit-learn boosting")):
        entrants.append(Entrant(name=name, factory=sklearn, options={"kind": kind, "train": str(trained.train)}))
    found = bench.run("digits, E=5", entrants, rows=trained.x, batches=(1, len(trained.x)), answers=True)
    scores = {
        name: score(result.prediction, trained.y, Task.CLASSIFICATION)
        for name, result in found.items()
        if result.prediction is not None
    }
    count = len(trained.x)
    lost = round((scores["dense"] - scores["routed mass 0.99"]) * count)
    note = (
        f"{lost} of {count} test rows lost, {found['routed mass 0.99'].experts_per_row:.2f} of 5 experts a row; "
        f"accuracy {scores['dense']:.4f} dense"
    )
    bench.goals.append(
        Goal("soft digits mixture, `mass=0.99`, rows lost in 500", 1.0, lost / count * 500, unit="", note=note)
    )
    routed = [found[name] for name, _ in points if name in found]
    costs = [result.at(1).p50_us for result in routed]
    what = f"cost of the dearest of {len(routed)} operating points of the digits file against the cheapest"
    bench.goals.append(Goal(what, None, max(costs) / min(costs), at_least=True))
    for name in ("scikit-learn MLP", "scikit-learn boosting", "NumPy"):
        what = f"{name} (accuracy {scores.get(name, float('nan')):.4f}), one row, against dense"
        bench.compare(what, None, found.get(name), found.get("dense"), at_least=True)
    drawn: list[tuple[str, float, int | None, float | None]] = []
    for name, result in found.items():
        grown = None
        if result.memory_open is not None and result.memory_before is not None:
            grown = max(0, result.memory_open["anonymous_bytes"] - result.memory_before["anonymous_bytes"])
        # Fitting happens in the process that is measured: its memory isn't the model's.
        drawn.append((name, result.at(1).p50_us, None if name.startswith("scikit") else grown, scores.get(name)))
    draw_points(drawn, Path(__file__).with_name("digits.png"))


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "reference": reference_model,
    "plain": plain_conversions,
    "routed": routed_models,
    "batches": routed_batches,
    "gigabyte": gigabyte,
    "digits": digits,
}


def main() -> None:
    """Measure everything, then write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--milliseconds", type=float, default=150.0)
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    parser.add_argument("--only", choices=list(SECTIONS), action="append", help="these alone, nothing written")
    parser.add_argument("--no-gigabyte", action="store_true", help="leave out the file of a gigabyte")
    given = parser.parse_args()
    rounds, budget_ms = (1, 5.0) if given.quick else (given.rounds, given.milliseconds)
    with tempfile.TemporaryDirectory(prefix="moe-edge-bench-") as folder:
        bench = Bench(Path(folder), rounds=rounds, budget_ms=budget_ms, with_gigabyte=not given.no_gigabyte)
        for name, section in SECTIONS.items():
            if given.only is None or name in given.only:
                section(bench)
    goals = table(
        ["what", "reach", "this run", "verdict", "rounds' spread and absolute figures"],
        [g.cells() for g in bench.goals],
    )
    times = table(TIMES_HEADER, bench.times)
    judged = [goal for goal in bench.goals if goal.reached is not None]
    head = (
        f"{sum(bool(goal.reached) for goal in judged)} of {len(judged)} goals reached; median of {rounds} alternating "
        f"rounds of {budget_ms:g} ms each, one thread."
    )
    if not has_onnx():
        head += " ONNX Runtime isn't installed here (pip install -e '.[bench]'): its lines are missing."
    if given.quick or given.only:
        print(f"\n{head}\n\n{goals}\n\n{times}")
        return
    write_section("Speed and memory", f"{head}\n\n{goals}\n\n![accuracy against time and memory](digits.png)")
    write_section("Speed and memory, all times", times)


if __name__ == "__main__":
    main()
