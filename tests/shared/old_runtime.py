"""A Python with the predecessor of ai-edge-litert, as on a device where that has no wheel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "click", "rich", "flatbuffers")


def make_python(folder: Path) -> Path:
    """Make a virtual environment in ``folder``, once; returns its Python. Set PYTHONPATH to the checkout to use it.

    Raises:
        OSError: With pip's last words if it can't be made here.
    """
    key = hashlib.sha256("\n".join((*PACKAGES, sys.version.split()[0])).encode()).hexdigest()[:12]
    home = folder / f"tflite-runtime-{key}"
    python, done = home / "bin" / "python", home / "complete"
    if not done.exists():
        steps = (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *PACKAGES],
        )
        for step in steps:
            result = subprocess.run(step, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                raise OSError(f"can't make a Python with tflite-runtime: {result.stderr.strip()[-500:]}")
        done.touch()
    return python
