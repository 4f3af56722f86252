"""Open and run thousands of damaged .tflite files, in child processes that may die.

    python scripts/fuzz_model_files.py model.tflite other.tflite --count 10000

Each mutant is opened by ``ModelFile``; when that accepts it, by ``Predictor``, which answers a row and a batch; and
every subgraph is run by the bare interpreter. What may happen: an answer, or a ``MoeEdgeError``. What may not, and
ends this script with exit code 1: a signal, a call that doesn't return, any other error. The mutants that did it are
kept in ``--keep FOLDER``. The same files, seed and count give the same mutants.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_file_mutations import Corpus

MEMORY_BYTES = 6 * 2**30
"""Address space of a child: a file of 100 kB that asks for more is a find."""


@dataclass
class Tally:
    """What happened.

    Attributes:
        verdicts: Verdict -> how often.
        ran: Mutation -> how many of its mutants an interpreter answered.
        finds: (number, what happened) of each mutant that did what none may.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    ran: Counter[str] = field(default_factory=Counter)
    finds: list[tuple[int, str]] = field(default_factory=list)


def main() -> int:
    """Parse the command line; fuzz, or be a child."""
    parser = argparse.ArgumentParser(description="Open and run damaged .tflite files in child processes.")
    parser.add_argument("files", nargs="+", type=Path, help="whole .tflite files to damage")
    parser.add_argument("--count", type=int, default=10000, help="mutants")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds after which one mutant counts as hanging")
    parser.add_argument("--keep", type=Path, help="folder for the mutants that did what none may")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return _work(arguments)
    started = time.monotonic()
    tally = Tally()
    lanes = [
        range(arguments.first + lane, arguments.first + arguments.count, arguments.processes)
        for lane in range(arguments.processes)
    ]
    with ThreadPoolExecutor(arguments.processes) as pool:
        for part in pool.map(lambda lane: _supervise(arguments, lane), lanes):
            tally.verdicts += part.verdicts
            tally.ran += part.ran
            tally.finds += part.finds
    _report(arguments, tally, time.monotonic() - started)
    return 1 if tally.finds else 0


def _report(arguments: argparse.Namespace, tally: Tally, seconds: float) -> None:
    finds = [{"number": number, "what": what} for number, what in sorted(tally.finds)]
    if arguments.keep and tally.finds:
        from model_file_mutations import make_mutant

        corpus = _corpus(arguments.files)
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for number, _ in tally.finds:
            mutant = make_mutant(corpus, arguments.seed, number)
            (arguments.keep / f"{arguments.seed}-{number}-{mutant.mutation}.tflite").write_bytes(mutant.content)
    if arguments.json:
        print(
            json.dumps({"verdicts": dict(tally.verdicts), "ran": dict(tally.ran), "finds": finds, "seconds": seconds})
        )
        return
    print(f"{arguments.count} mutants of {len(arguments.files)} files, seed {arguments.seed}, {seconds:.0f} s")
    for verdict, count in tally.verdicts.most_common():
        print(f"{count:8d}  {verdict}")
    print("run to an answer:", ", ".join(f"{count} {name}" for name, count in tally.ran.most_common()) or "none")
    for find in finds:
        print(f"FOUND mutant {find['number']}: {find['what']}")


def _supervise(arguments: argparse.Namespace, lane: range) -> Tally:
    """Keep one child at work; when it dies or hangs, note it and go on behind that mutant."""
    tally = Tally()
    rest = lane
    while rest:
        command = [sys.executable, __file__, "--child", *map(str, arguments.files), "--seed", str(arguments.seed)]
        command += ["--first", str(rest[0]), "--count", str(rest[-1] - rest[0] + 1), "--processes", str(rest.step)]
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
            current = None
            for line in _lines(child, arguments.timeout):
                number, verdict, mutation = line.split("\t")
                current = int(number) if verdict == "begin" else None
                if verdict != "begin":
                    tally.verdicts[verdict] += 1
                    tally.ran[mutation] += verdict == "answered"
                    if verdict.startswith("error"):
                        tally.finds.append((int(number), f"{verdict} ({mutation})"))
                    rest = lane[lane.index(int(number)) + 1 :]
            hung = child.poll() is None
            if hung:
                child.kill()
            status = child.wait()
            if current is None and status == 0:
                continue
            errors.seek(0)
            said = errors.read()[-300:].decode(errors="replace").strip().splitlines()[-1:]
            if current is None:
                raise RuntimeError(f"a child ended with {status} before it began: {said}")
            what = "no answer in time" if hung else f"ended with {status}"
            tally.verdicts[what] += 1
            tally.finds.append((current, f"{what} {said}"))
            rest = lane[lane.index(current) + 1 :]
    return tally


def _lines(child: subprocess.Popen[bytes], timeout: float) -> Iterator[str]:
    """The child's lines until it ends, or says nothing for ``timeout`` seconds."""
    if child.stdout is None:
        raise RuntimeError("expected a child with a pipe")
    pending = b""
    # The first line takes as long as the imports.
    patience = timeout + 60
    while select.select([child.stdout], [], [], patience)[0]:
        chunk = os.read(child.stdout.fileno(), 65536)
        if not chunk:
            child.wait()
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            yield line.decode()
        patience = timeout


def _corpus(files: list[Path]) -> Corpus:
    # Its module needs the converters, which a parent doesn't load.
    from model_file_mutations import Corpus

    return Corpus([path.read_bytes() for path in files])


def _work(arguments: argparse.Namespace) -> int:
    """A child's part: make each mutant, try it, say what happened."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from model_file_mutations import make_mutant
    from model_file_trial import try_file

    corpus = _corpus(arguments.files)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.tflite"
        for number in range(arguments.first, arguments.first + arguments.count, arguments.processes):
            mutant = make_mutant(corpus, arguments.seed, number)
            print(f"{number}\tbegin\t{mutant.mutation}", flush=True)
            verdict = try_file(mutant.content, path if number % 4 == 0 else None)
            print(f"{number}\t{verdict}\t{mutant.mutation}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
