"""``moe-edge benchmark``: how fast a .tflite answers here, in every mode, and what it takes.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from moe_edge.atomic import check_writable
from moe_edge.cli.console import EXISTING_FILE, OUTPUT_FILE, Reporter, output_options
from moe_edge.cli.interruption import will_write
from moe_edge.cli.native_notices import hide_native_notices
from moe_edge.errors import MoeEdgeError, require
from moe_edge.runtime.backends import AUTO, BACKEND_NAMES

if TYPE_CHECKING:
    from moe_edge.runtime.benchmark.campaign import Entrant
    from moe_edge.runtime.benchmark.model_benchmark import ModelBenchmark

PEERS = {"onnxruntime": "onnxruntime", "keras": "tensorflow", "plain-tflite": "tensorflow"}
"""Name of each peer -> the module that it needs."""


def _peers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in PEERS:
            raise click.BadParameter(f"expected peers among {', '.join(PEERS)}, got {name!r}")
    return tuple(dict.fromkeys(names))


def _batches(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        sizes = tuple(dict.fromkeys(int(size) for size in value.split(",")))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or max(sizes) > 100_000:
        raise click.BadParameter(f"expected rows a call in [1, 100000], separated by commas, got {value!r}")
    return sizes


@click.command()
@click.argument("model", type=EXISTING_FILE)
@click.argument("data", type=EXISTING_FILE, required=False)
@click.option("--batches", default="1,32,1024", show_default=True, callback=_batches, help="Rows a call.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Alternating rounds.")
@click.option(
    "--milliseconds",
    type=click.FloatRange(1, 60_000),
    default=100.0,
    show_default=True,
    help="What one measurement of one round may take.",
)
@click.option("--top-k", "top_ks", type=click.IntRange(1), multiple=True, help="Also run only K experts; repeatable.")
@click.option(
    "--mass",
    "masses",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    help="Also run experts until this much of the gate's weight is reached; repeatable.",
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of one call.")
@click.option("--backend", type=click.Choice(BACKEND_NAMES), default=AUTO, show_default=True, help="The runtime.")
@click.option(
    "--against",
    default="",
    callback=_peers,
    metavar="PEERS",
    help=f"Also measure {', '.join(PEERS)} (separated by commas) on the --keras model.",
)
@click.option("--keras", "keras_model", type=EXISTING_FILE, help="The .keras that MODEL was converted from.")
@click.option("--picture", type=OUTPUT_FILE, help="Draw time, size and score as a .png.")
@output_options
def command(
    *,
    model: Path,
    data: Path | None,
    batches: tuple[int, ...],
    rounds: int,
    milliseconds: float,
    top_ks: tuple[int, ...],
    masses: tuple[float, ...],
    threads: int,
    backend: str,
    against: tuple[str, ...],
    keras_model: Path | None,
    picture: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how MODEL, a .tflite of moe-edge, answers on this machine.

    Every mode runs in a process of its own, in alternating rounds: latency for one row and for batches, time to open,
    memory, experts run for a row, time of each part. DATA is a table; with its target column the score is shown too.
    Without DATA the rows stored in MODEL are run.
    """
    if against and keras_model is None:
        raise click.UsageError(
            f"--against {','.join(against)} runs the model that MODEL was converted from: add --keras MODEL.keras"
        )
    for peer in against:
        if peer == "onnxruntime":
            require("onnx", extra="bench", purpose="--against onnxruntime")
            require("onnxruntime", extra="bench", purpose="--against onnxruntime")
        else:
            require("tensorflow", extra="desktop", purpose=f"--against {peer}")
    if picture is not None:
        check_writable(picture, suffix=".png")
        will_write(picture)
        require("matplotlib", extra="desktop", purpose="--picture")
    from moe_edge.runtime.benchmark.model_benchmark import measure_model

    report = Reporter(as_json=as_json, quiet=quiet)
    import tempfile

    with (
        tempfile.TemporaryDirectory(prefix="moe-edge-peers-") as folder,
        report.progress(f"Measuring {model.name}") as advance,
    ):
        entrants: list[Entrant] = []
        if against and keras_model is not None:
            advance(0, "preparing the peers")
            entrants = _prepare_peers(against, keras_model, model, Path(folder), threads)
        with hide_native_notices():
            result = measure_model(
                model,
                data,
                batches=batches,
                rounds=rounds,
                budget_ms=milliseconds,
                top_ks=top_ks,
                masses=masses,
                num_threads=threads,
                backend=backend,
                peers=entrants,
                progress=advance,
            )
    if not any(result_.name == "dense" for result_ in result.results):
        raise MoeEdgeError(next(iter(result.refused.values())))
    report.document(result.document())
    _show(report, result)
    if picture is not None:
        from moe_edge.pictures.operating_points import draw_points

        draw_points(result.plotted(), picture, score_name=result.score_name)
        report.say(f"Wrote {picture}")


def _prepare_peers(names: tuple[str, ...], keras_model: Path, model: Path, folder: Path, threads: int) -> list[Entrant]:
    """Turn the Keras model into what the peers run."""
    from moe_edge_converters.peers.entrants import prepare_peers

    with hide_native_notices():
        return prepare_peers(names, keras_model, tflite=model, folder=folder, num_threads=threads)


def _show(report: Reporter, benchmark: ModelBenchmark) -> None:
    report.say(benchmark.headline)
    report.table(
        "Time of one call",
        ("mode", "rows", "µs p50", "p90", "p99", "rows/s"),
        [
            (
                result.name,
                times.batch_size,
                *(f"{value:.1f}" for value in (times.p50_us, times.p90_us, times.p99_us)),
                f"{times.rows_per_second:,.0f}",
            )
            for result in benchmark.results
            for times in result.times
        ],
    )
    header = ["mode", "experts a row", "init ms", "first row ms", "MB resident", "MB anonymous"]
    rows = []
    for result in benchmark.results:
        experts = "-" if result.experts_per_row is None else f"{result.experts_per_row:.2f}"
        cells = [result.name, experts, f"{result.init_ms:.2f}", f"{result.first_row_ms:.2f}"]
        score = benchmark.scores.get(result.name)
        shown = [] if not benchmark.scores else ["-" if score is None else f"{score:.4f}"]
        rows.append([*cells, *benchmark.memory_cells(result), *shown])
    report.table(
        "Start and memory, added by opening the file and one row",
        [*header, *[benchmark.score_name] * bool(benchmark.scores)],
        rows,
    )
    if benchmark.parts_us:
        report.table("Parts, run alone", ("part", "µs p50"), benchmark.part_rows())
    for name, overhead in benchmark.overheads_us.items():
        report.say(f"Python's share of one row, {name}: {overhead:.1f} µs")
    for name, reason in benchmark.refused.items():
        report.say(f"Not measured: {reason if reason.startswith(name) else f'{name}: {reason}'}")
