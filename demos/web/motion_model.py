"""The motion model of the page, by demos/motion, and recordings of people it never saw, as a browser reads them."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from moe_edge.atomic import write_atomically
from moe_edge.errors import MoeEdgeError

TRAINER = Path(__file__).parents[1] / "motion" / "train.py"
UNITS = {"acceleration": "g", "rotation": "rad/s", "gravitySign": -1}
"""Of the recordings. A watch of Apple's, flat on its back, measures -1 g on z; browsers specify +9.8."""
SECONDS = 30
"""Of each recording, from its start; one arm of each person and exercise."""


def make_motion(folder: Path, *, smoke: bool = False, say: Callable[[str], None] = print) -> None:
    """Train, and write ``motion.tflite``, ``motion-recordings.json`` and ``.bin`` into ``folder``.

    Raises:
        MoeEdgeError: If training fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, str(TRAINER), "-o", temporary, *(["--smoke"] if smoke else [])]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            reason = result.stderr.strip().splitlines() or ["no reason given"]
            raise MoeEdgeError(f"{TRAINER.name} can't make the motion model: {reason[-1]}")
        say(result.stdout.strip().replace(f"{temporary}/", ""))
        made = Path(temporary)
        shutil.copyfile(made / "motion.tflite", folder / "motion.tflite")
        write_recordings(made / "held_out.npz", folder)


def write_recordings(source: Path, folder: Path) -> None:
    """Write held-out recordings as float32, little-endian, six values a sample, and a .json that tells them apart.

    Args:
        source: The .npz of demos/motion/train.py.
        folder: Where to write.
    """
    names = runpy.run_path(str(TRAINER.with_name("recordings.py")))["EXERCISES"]
    with np.load(source, allow_pickle=False) as held_out:
        rate = int(held_out["rate"])
        starts = np.concatenate([[0], np.cumsum(held_out["lengths"])[:-1]])
        parts, entries, seen, total = [], [], set(), 0
        for start, length, label, person in zip(
            starts.tolist(),
            held_out["lengths"].tolist(),
            [names[code] for code in held_out["labels"].tolist()],
            held_out["people"].tolist(),
            strict=True,
        ):
            if (label, person) in seen:
                continue
            seen.add((label, person))
            part = held_out["samples"][start : start + min(length, SECONDS * rate)].astype("<f4")
            entries.append({"subject": person, "label": label, "start": total, "length": len(part)})
            parts.append(part)
            total += len(part)
    write_atomically(folder / "motion-recordings.bin", np.concatenate(parts).tobytes())
    about = json.dumps({"rateHz": rate, "units": UNITS, "recordings": entries})
    write_atomically(folder / "motion-recordings.json", about.encode())
