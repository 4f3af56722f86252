"""Watch a motion sensor: label, confidence, experts, drift; in the terminal, on a page, or as JSON lines.

    python demos/raspberry_pi/run.py                                  # replays people held out, trains first if need be
    python demos/raspberry_pi/run.py --speed 20 --turn z90 --turn-after 300 --page 8765
    python run.py --source serial --port /dev/ttyACM0                 # on a Pi, this folder copied
    python run.py --source imu --json                                 # MPU-6050 on I2C bus 1

Needs the device's wheel and nothing of the training stack.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from model_folder import DEFAULT, find_model
from monitor import Monitor
from page_server import PageServer
from replay import Recordings, Replay, parse_turn
from rich.console import Console
from rich.live import Live
from samples import RATE, SampleSource
from session import Session
from terminal import draw

from moe_edge.errors import MoeEdgeError

SMOKE_WINDOWS = 400


@click.command()
@click.option(
    "--model",
    "folder",
    type=click.Path(path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="folder with motion.tflite, drift.json",
)
@click.option("--source", type=click.Choice(["replay", "serial", "imu"]), default="replay", show_default=True)
@click.option("--port", default="/dev/ttyACM0", show_default=True, help="serial port")
@click.option("--baud", type=click.IntRange(300), default=115200, show_default=True)
@click.option("--bus", type=click.IntRange(0), default=1, show_default=True, help="I2C bus")
@click.option(
    "--recordings", type=click.Path(path_type=Path), help="what to replay; by default held_out.npz of the model"
)
@click.option(
    "--speed", type=click.FloatRange(0), default=1.0, show_default=True, help="of the replay; 0: as fast as it goes"
)
@click.option("--turn", help="turn the replayed sensor: axis and degrees, such as z90")
@click.option("--turn-after", type=click.IntRange(0), default=0, show_default=True, help="windows before it is turned")
@click.option("--windows", type=click.IntRange(1), help="end after so many")
@click.option("--hop", type=click.IntRange(1), help="samples from window to window; by default as calibrated")
@click.option("--state", type=click.Path(path_type=Path), help="folder for state and log; by default beside the model")
@click.option("--page", type=click.IntRange(0, 65535), help="serve a page on this port of 127.0.0.1; 0: a free one")
@click.option("--json", "as_json", is_flag=True, help="one line a window on standard output")
@click.option(
    "--smoke", is_flag=True, help=f"{SMOKE_WINDOWS} windows as fast as they go, on a model trained in seconds"
)
def main(**options: Any) -> None:
    """Watch a motion sensor with a Mixture of Experts."""
    signal.signal(signal.SIGTERM, _interrupt)  # systemd's stop: save, then end
    try:
        watch(**options)
    except (MoeEdgeError, ValueError) as error:
        raise SystemExit(f"Error: {error}") from error
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the JSON lines has gone
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def watch(
    *,
    folder: Path,
    state: Path | None,
    windows: int | None,
    as_json: bool,
    page: int | None,
    smoke: bool,
    hop: int | None,
    **options: Any,
) -> None:
    """Open everything, run, close everything."""
    source_options = dict(options)
    if smoke:
        windows, source_options["speed"] = windows or SMOKE_WINDOWS, 0.0
    turn = parse_turn(options["turn"]) if options["turn"] else None
    replays = options["source"] == "replay"
    folder = find_model(folder, smoke=smoke, replay=replays and options["recordings"] is None)
    state = state or folder / "state"
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MoeEdgeError(f"can't make the folder {state}: {error.strerror}; choose another --state") from error
    notices: list[str] = []

    def notify(message: str) -> None:
        notices[:] = [*notices[-2:], message]
        if as_json:
            print(f"Warning: {message}", file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        monitor = Monitor(folder / "motion.tflite", folder / "drift.json", hop=hop)
        stack.callback(monitor.close)
        source = open_source(folder, turn, (hop or monitor.profile.hop), source_options)
        stack.callback(source.close)
        session = Session(monitor, state, notify=notify)
        stack.callback(session.close)
        if page is not None:
            server = PageServer(page, lambda: session.snapshot(source.name))
            stack.callback(server.close)
            notify(f"page: {server.address}")
        answers = session.run(iter(source))
        if as_json:
            for number, answer in enumerate(answers, start=1):
                print(json.dumps(answer.to_record(), ensure_ascii=False), flush=True)
                if number == windows:
                    return
            return
        show(session, source.name, answers, windows, notices)


def open_source(folder: Path, turn: Any, hop: int, options: dict[str, Any]) -> SampleSource:
    """The source asked for."""
    if options["source"] == "serial":
        from serial_source import SerialSource

        return SerialSource(options["port"], baud=options["baud"])
    if options["source"] == "imu":
        from imu import open_imu

        return open_imu(options["bus"])
    recordings = Recordings.read(options["recordings"] or folder / "held_out.npz")
    if recordings.rate != RATE:
        raise MoeEdgeError(f"expected recordings at {RATE:g} samples a second, got {recordings.rate:g}")
    return Replay(recordings, speed=options["speed"], turn=turn, turn_after=options["turn_after"] * hop)


def show(session: Session, name: str, answers: Iterator[Any], windows: int | None, notices: list[str]) -> None:
    """The terminal view, until the end."""
    console = Console()
    with Live(console=console, refresh_per_second=8, get_renderable=lambda: draw(session.snapshot(name), notices)):
        for number, _ in enumerate(answers, start=1):
            if number == windows:
                break
    if not session.monitor.history:
        console.print("No window was filled.")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
