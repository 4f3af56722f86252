"""The folder with the model: on a desktop it is made when missing; a device gets it copied."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from moe_edge.errors import MoeEdgeError

TRAIN = Path(__file__).parents[1] / "motion" / "train.py"
NEEDED = ("motion.tflite", "drift.json")
DEFAULT = Path("demo-output/motion")


def find_model(folder: Path, *, smoke: bool = False, replay: bool = True) -> Path:
    """The folder, with its files in it.

    Args:
        folder: Where they should be.
        smoke: Train a poorer model, in seconds.
        replay: Whether the recordings are needed too.

    Raises:
        MoeEdgeError: If files are missing and can't be made here.
    """
    needed = (*NEEDED, "held_out.npz") if replay else NEEDED
    missing = [name for name in needed if not (folder / name).is_file()]
    if not missing:
        return folder
    # Only where it belongs, or into a folder that someone made for it: not into a mistyped path.
    if not TRAIN.is_file() or not (folder == DEFAULT or folder.is_dir()):
        raise MoeEdgeError(
            f"{folder} lacks {', '.join(missing)}; copy them from where demos/motion/train.py wrote them"
        )
    print(f"{folder} lacks {', '.join(missing)}: training the model first", file=sys.stderr)
    command = [sys.executable, str(TRAIN), "-o", str(folder), *(["--smoke"] if smoke else [])]
    # Standard output may be a pipe of JSON lines.
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise MoeEdgeError("the training failed; see above")
    return folder
