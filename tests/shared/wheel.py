"""The project's wheel, as a device installs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """Build it in ``folder``, from a copy: a build leaves folders behind, and stale ones would end up in it.

    Raises:
        subprocess.CalledProcessError: If it can't be built.
    """
    copy = folder / "tree"
    copy.mkdir()
    for name in ("moe_edge", "converters", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(copy)]
    subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    (built,) = folder.glob("*.whl")
    return built
