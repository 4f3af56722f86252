"""What the C host answers, as arrays: for tables of golden vectors over all platforms."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent))

from c_host import run


def answers(
    model: Path,
    rows: npt.NDArray[np.float32],
    mode: str,
    board: str | None = None,
    *,
    top_k: int | None = None,
    mass: float | None = None,
    mixing: str = "file",
    outputs: tuple[str, ...] = ("prediction", "routing_weights"),
    sanitize: bool = False,
) -> dict[str, npt.NDArray[np.float32]]:
    """Answer rows with the program of demos/c.

    Args:
        model: A .tflite of moe-edge.
        rows: float32 (n, ...), n at least 1; NaN for missing values.
        mode: ``dense``, or ``routed``: every expert with a weight above 0 unless ``top_k`` or ``mass`` say fewer.
        board: None for this machine, ``arm64`` for the cross-compiled program on the emulated Raspberry Pi 4.
        top_k: Experts that run, routed.
        mass: Gate weight to reach, routed.
        mixing: ``file`` or ``few``, who weighs the answers, routed.
        outputs: Which of the outputs.
        sanitize: With AddressSanitizer and UndefinedBehaviorSanitizer; on this machine.

    Returns:
        Name of each output -> float32 (n, values), bit for bit.

    Raises:
        CannotBuildError: If there is no compiler or no emulated board.
        RuntimeError: If the program failed, with its message.
    """
    options: list[object] = [] if mode == "dense" else ["--routed", "--mixing", mixing]
    for name, value in (("--top-k", top_k), ("--mass", mass)):
        options += [] if value is None else [name, value]
    for output in outputs:
        options += ["--output", output]
    given = np.ascontiguousarray(rows, dtype="<f4").tobytes()
    result = run(*options, "--binary", "--missing", model, "-", board=board, sanitize=sanitize, given=given)
    if result.returncode != 0:
        raise RuntimeError(f"moe ended with {result.returncode}: {result.stderr.decode()[-2000:]}")
    lines = result.stdout.decode().splitlines()
    owners = np.array([name.rsplit("_", 1)[0] for name in lines[0].split(",")])
    values = np.array([line.split(",") for line in lines[1:]], dtype=np.float64).astype(np.float32)
    return {output: values[:, owners == output] for output in outputs}
