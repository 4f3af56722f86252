"""A day of the sensor demo in minutes: gaps, a full disk, a restart, a turned sensor; exit code 1 on a broken promise.

    python demos/raspberry_pi/soak.py            # 24 hours of samples, some minutes on one core
    python demos/raspberry_pi/soak.py --smoke    # half an hour of samples, seconds

People held out of training and calibration wear the sensor for a day, changing every hour. The disk is a real one of
4 MiB (tmpfs) where this may mount it, and really full; else the kernel refuses every write to a file (RLIMIT_FSIZE).
In the middle everything is dropped and built anew from the disk. Then each quarter and half turn is tried.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from full_disk import SmallDisk, small_disk
from journal import BACKUPS, MAX_BYTES
from model_folder import DEFAULT, find_model
from monitor import Monitor
from replay import Recordings, parse_turn, turn_rows
from rich.console import Console
from rich.table import Table
from samples import RATE, Sample
from session import Session

from moe_edge.errors import MoeEdgeError

TURNS = ("x90", "x-90", "x180", "y90", "y-90", "y180", "z90", "z-90", "z180")
MOST_WINDOWS = 200
"""Within which an alarm must follow a turn."""
GAPS_AN_HOUR = 20
MOST_GROWTH = 8.0
"""MiB that memory may grow by from the first tenth of the day to its end."""
FULL = (0.25, 0.45)
"""Share of the day in which the disk is full."""


@dataclass
class Day:
    """What the simulation knows of its samples, apart from what the demo counts.

    Attributes:
        runs: Samples without a gap between them, of each run.
        gaps: Gaps made.
    """

    runs: list[int] = field(default_factory=lambda: [0])
    gaps: int = 0

    def break_run(self) -> None:
        """A gap, or a restart."""
        self.runs.append(0)

    def windows(self, steps: int, hop: int) -> int:
        """Windows that the runs hold."""
        return sum((run - steps) // hop + 1 for run in self.runs if run >= steps)


def wear(recordings: Recordings, hours: float, day: Day, random: np.random.Generator) -> Iterator[Sample]:
    """A day's samples: people in turn, their recordings in random order, with gaps of 0.04 s to half a minute."""
    clock, end, period = 0.0, hours * 3600, 1 / RATE
    people = sorted(set(recordings.people))
    next_gap = random.exponential(3600 / GAPS_AN_HOUR)
    while clock < end:
        person = people[int(clock // 3600) % len(people)]
        mine = [index for index, each in enumerate(recordings.people) if each == person]
        for index in random.permutation(mine):
            for row in recordings.each(int(index)).tolist():
                if clock >= end:
                    return
                if clock >= next_gap:
                    day.gaps += 1
                    day.break_run()
                    clock += period * round(np.exp(random.uniform(np.log(2), np.log(30 * RATE))))
                    next_gap = clock + max(5.0, random.exponential(3600 / GAPS_AN_HOUR))
                day.runs[-1] += 1
                yield Sample(clock, tuple(row), recordings.labels[int(index)])
                clock += period


def main() -> int:
    """Run the day and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT, help="folder of demos/motion/train.py")
    parser.add_argument("--hours", type=float, default=24.0, help="of samples")
    parser.add_argument("--smoke", action="store_true", help="half an hour, and three turns")
    arguments = parser.parse_args()
    hours = 0.5 if arguments.smoke else arguments.hours
    if not 0.1 <= hours <= 1000:
        parser.error(f"expected --hours from 0.1 to 1000, got {hours:g}")
    try:
        folder = find_model(arguments.model, smoke=arguments.smoke)
        recordings = Recordings.read(folder / "held_out.npz")
        with tempfile.TemporaryDirectory() as place, small_disk(Path(place)) as disk:
            return judge(folder, recordings, hours, disk, turns=TURNS[:7:3] if arguments.smoke else TURNS)
    except MoeEdgeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def judge(folder: Path, recordings: Recordings, hours: float, disk: SmallDisk, *, turns: tuple[str, ...]) -> int:
    """Run everything; print what was found; 1 if a promise was broken."""
    begun = time.monotonic()
    day, largest_log = Day(), 0
    notices: list[str] = []
    memory: list[float] = []
    now = 0.0
    begin_full, end_full = (share * hours * 3600 for share in FULL)
    full = done_full = restarted = False
    whole = True
    in_full = [0, 0]  # windows at the begin and the end of the full disk

    def open_session() -> Session:
        monitor = Monitor(folder / "motion.tflite", folder / "drift.json")
        return Session(monitor, disk.folder, notify=notices.append, clock=lambda: now)

    session = open_session()
    steps, hop = session.monitor.steps, session.monitor.profile.hop
    answers = right = dropped = 0
    for sample in wear(recordings, hours, day, np.random.default_rng(0)):
        now = sample.time
        if not full and not done_full and now >= begin_full:
            full, in_full[0] = True, answers
            disk.fill()
        if full and now >= end_full:
            in_full[1] = answers
            whole = whole and session.state.load() is not None
            disk.free()
            full, done_full = False, True
        if not restarted and now >= hours * 1800:
            restarted = True
            before, dropped = session.monitor.counters, session.journal.dropped
            session.save()
            session.journal.close()  # no proper end: what a killed process leaves
            session.monitor.close()
            del session
            gc.collect()
            session = open_session()
            whole = whole and session.monitor.counters == {**before, "restarts": 1}
            # The sample in hand begins the first run after the restart.
            day.runs[-1] -= 1
            day.break_run()
            day.runs[-1] += 1
        answer = session.take(sample)
        if answer is None:
            continue
        answers += 1
        right += answer.label == answer.truth
        if answers % 500 == 0:
            memory.append(resident_mib())
            largest_log = max(largest_log, disk.log_bytes())
    counters = session.monitor.counters
    dropped += session.journal.dropped
    session.close()
    largest_log = max(largest_log, disk.log_bytes())
    early = max(memory[: max(1, len(memory) // 10)], default=resident_mib())
    growth = (memory[-1] if memory else resident_mib()) - early
    expected = day.windows(steps, hop)
    ideal = int((hours * 3600 * RATE - steps) // hop + 1)
    bound = (BACKUPS + 1) * MAX_BYTES
    warnings_of_disk = sum("can't write" in notice for notice in notices)

    table = Table(title=f"{hours:g} hours of samples in {time.monotonic() - begun:.0f} s, disk: {disk.kind}")
    for column in ("promise", "expected", "found", ""):
        table.add_column(column)
    failures = []

    def check(promise: str, wanted: str, found: str, ok: bool) -> None:
        table.add_row(promise, wanted, found, "[green]ok" if ok else "[red]FAIL")
        if not ok:
            failures.append(f"{promise}: expected {wanted}, found {found}")

    check("windows classified", f"{expected:,}", f"{answers:,}", answers == expected == counters["windows"])
    check("gaps counted", f"{day.gaps:,}", f"{counters['gaps']:,}", counters["gaps"] == day.gaps)
    table.add_row("windows lost to gaps and the restart", f"of {ideal:,}", f"{ideal - expected:,}", "")
    table.add_row("windows answered rightly", "", f"{right / max(1, answers):.1%}", "")
    check("answered while the disk was full", "all", f"{in_full[1] - in_full[0]:,}", in_full[1] > in_full[0])
    check(
        "log lines dropped, one warning a file",
        "some; 2",
        f"{dropped:,}; {warnings_of_disk}",
        dropped > 0 and warnings_of_disk == 2,
    )
    check("state whole on the full disk, resumed", "yes", "yes" if whole else "no", whole)
    check("largest log", f"at most {bound:,} bytes", f"{largest_log:,}", 0 < largest_log <= bound)
    check("memory grew by", f"at most {MOST_GROWTH:g} MiB", f"{growth:.1f} of {early:.0f} MiB", growth <= MOST_GROWTH)
    check("false alarms a day, new people", "0", f"{counters['alarms'] / hours * 24:.1f}", counters["alarms"] == 0)
    for person, delays in turn_delays(folder, recordings, turns).items():
        text = ", ".join(f"{name} {delay or 'never'}" for name, delay in delays.items())
        ok = all(delay is not None and delay <= MOST_WINDOWS for delay in delays.values())
        check(f"windows to the alarm, person {person}", f"at most {MOST_WINDOWS}", text, ok)
    Console().print(table)
    for notice in notices:
        print(f"Notice: {notice}")
    for failure in failures:
        print(f"FAIL: {failure}")
    return 1 if failures else 0


def turn_delays(folder: Path, recordings: Recordings, turns: tuple[str, ...]) -> dict[int, dict[str, int | None]]:
    """Windows from a turn to the alarm, for each person, after a time of ordinary wear; None for never."""
    found: dict[int, dict[str, int | None]] = {}
    for person in sorted(set(recordings.people)):
        random = np.random.default_rng(person)
        mine = [index for index, each in enumerate(recordings.people) if each == person]
        found[person] = {}
        for name in turns:
            ordinary, later = (
                np.concatenate([recordings.each(int(index)) for index in random.permutation(mine)]) for _ in range(2)
            )
            with contextlib.closing(Monitor(folder / "motion.tflite", folder / "drift.json")) as monitor:
                found[person][name] = _delay(monitor, ordinary, turn_rows(later, parse_turn(name)))
    return found


def _delay(monitor: Monitor, ordinary: np.ndarray, turned: np.ndarray) -> int | None:
    at = None
    for number, row in enumerate(np.concatenate([ordinary, turned]).tolist()):
        answer = monitor.push(Sample(number / RATE, tuple(row)))
        if number == len(ordinary):
            at = monitor.counters["windows"]
        if answer is not None and at is not None and answer.drift.alarms:
            return answer.number - at
    return None


def resident_mib() -> float:
    """Memory of this process in use."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    sys.exit(main())
