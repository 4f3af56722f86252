"""Answers of a .tflite in headless Chromium, through the page's own moe.js: the web's column of a comparison.

from chromium_answers import answers
answers(Path("digits.tflite"), rows, "dense")["prediction"]
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

WEB = Path(__file__).parents[3] / "demos" / "web"
for _folder in (WEB, WEB.parents[1], WEB.parents[1] / "converters"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{WEB.parents[1]}:{WEB.parents[1] / 'converters'}"}
"""For Pythons of their own that import this checkout."""
PACKAGES = {"chromium": "chromium", "node": "nodejs", "npm": "npm"}
"""Program -> Debian's package."""
_BLANK = "blank.html"
_RUN = """async ([file, rows, mode, options, runtime]) => {
  const {loadMoe, startRuntime} = await import('./moe.js');
  await startRuntime(runtime);
  const moe = await loadMoe(await (await fetch(file)).arrayBuffer(), {source: file});
  const found = {prediction: [], routing_weights: []};
  try {
    for (const row of rows) {
      const answer = mode === 'dense' ? await moe.predict(row) : await moe.route(row, options);
      found.prediction.push(Array.from(answer.prediction));
      found.routing_weights.push(Array.from(answer.routingWeights));
    }
  } finally {
    await moe.dispose();
  }
  return found;
}"""


def set_up() -> str | None:
    """Install what is missing, as root, by apt; returns why the web can't be run here, or None."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            return f"expected {' '.join(missing)}; run: apt-get install {' '.join(missing)}"
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            result = subprocess.run(
                ["apt-get", "-qq", *command], env=environment, capture_output=True, text=True, check=False, timeout=600
            )
            if result.returncode != 0 and command[0] == "install":
                return f"apt-get can't install {' '.join(missing)}: {result.stderr.strip()[-400:]}"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "expected the package playwright; run: pip install -e '.[dev]'"
    from npm_packages import install_packages

    from moe_edge.errors import MoeEdgeError

    try:
        install_packages()
    except MoeEdgeError as error:
        return str(error)
    return None


def chromium_options() -> dict[str, Any]:
    """For ``playwright.chromium.launch``: Debian's Chromium, which as root needs to run without its sandbox."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {"executable_path": shutil.which("chromium"), "args": arguments}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as demos/web/serve.py does; yields its address."""
    from serve import make_server

    with make_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def answers(
    model: Path,
    rows: np.ndarray,
    mode: str = "dense",
    *,
    mass: float | None = None,
    top_k: int | None = None,
    variant: str | None = None,
) -> dict[str, np.ndarray]:
    """Run a file in headless Chromium.

    Args:
        model: A .tflite of moe-edge.
        rows: (n, ...) raw rows, NaN where a value is missing.
        mode: ``dense`` or ``routed``; routed without options means what it means to the Predictor.
        mass: Of routed.
        top_k: Of routed.
        variant: ``relaxed`` or ``compat``; by default as the browser chooses.

    Returns:
        float32 ``prediction`` (n, K) and ``routing_weights`` (n, E).

    Raises:
        RuntimeError: If Chromium or npm's packages can't be had here.
        playwright.sync_api.Error: If the page refuses the file or a row; the message has the reason.
        ValueError: If ``mode`` is neither.
    """
    if mode not in ("dense", "routed"):
        raise ValueError(f"expected mode dense or routed, got {mode!r}")
    folder = _library_folder()
    name = f"{os.urandom(8).hex()}.tflite"
    shutil.copyfile(model, folder / name)
    options = {key: value for key, value in {"mass": mass, "topK": top_k}.items() if value is not None}
    flat = np.asarray(rows, dtype=np.float32).reshape(len(rows), -1).tolist()
    runtime = {} if variant is None else {"variant": variant}
    try:
        # A thread of its own: the caller may be running another browser.
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(_run_page, folder, [name, flat, mode, options, runtime]).result()
    finally:
        (folder / name).unlink()
    return {key: np.asarray(values, dtype=np.float32) for key, values in found.items()}


def _run_page(folder: Path, argument: list[Any]) -> dict[str, list[list[float]]]:
    from playwright.sync_api import sync_playwright

    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium_options())
        try:
            page = browser.new_page()
            page.goto(address + _BLANK)
            found: dict[str, list[list[float]]] = page.evaluate(_RUN, argument)
            return found
        finally:
            browser.close()


@cache
def _library_folder() -> Path:
    """The page's scripts and runtime, without models, and an empty page."""
    reason = set_up()
    if reason is not None:
        raise RuntimeError(reason)
    from page_files import write_page

    folder = Path(tempfile.mkdtemp(prefix="moe-edge-web-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_page(folder)
    (folder / _BLANK).write_text("<!doctype html><title>blank</title><body></body>", encoding="utf-8")
    return folder
