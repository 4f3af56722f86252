"""LiteRT.js and the page's other packages, by npm, and esbuild, which bundles them.

Versions are pinned in package.json; there is no lock file, since one holds download addresses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from moe_edge.errors import MoeEdgeError

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
RUNTIME = PACKAGES / "@litertjs" / "core" / "wasm"
_STAMP = PACKAGES / ".installed"


def install_packages() -> None:
    """Install what package.json names, unless it's there.

    Raises:
        MoeEdgeError: If npm is missing or fails.
    """
    wanted = hashlib.sha256((HERE / "package.json").read_bytes()).hexdigest()
    if _STAMP.is_file() and _STAMP.read_text(encoding="utf-8") == wanted:
        return
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise MoeEdgeError("expected node and npm, got none; run: apt-get install nodejs npm")
    # Nothing here needs an install script.
    options = ("--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    result = _run([npm, "install", *options])
    if result.returncode != 0:
        raise MoeEdgeError(f"npm can't install the page's packages: {_last_line(result.stderr)}")
    _STAMP.write_text(wanted, encoding="utf-8")


def bundle(entry: Path, output: Path, *, external: tuple[str, ...] = ()) -> None:
    """Write a module and all that it imports as one minified ES module.

    Args:
        entry: The module.
        output: The file to write.
        external: Imports to leave as they are.

    Raises:
        MoeEdgeError: If esbuild refuses it.
    """
    options = ["--bundle", "--minify", "--format=esm", "--target=es2022", "--charset=utf8", "--legal-comments=eof"]
    options += [f"--external:{name}" for name in external]
    esbuild = PACKAGES / "esbuild" / "bin" / "esbuild"
    node = shutil.which("node") or "node"
    result = _run([node, str(esbuild), str(entry), *options, f"--outfile={output}", "--log-level=error"])
    if result.returncode != 0:
        raise MoeEdgeError(f"esbuild can't bundle {entry.name}: {result.stderr.strip()}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1"}
    return subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.strip().splitlines()) if line.strip()), "no reason given")
