"""Measure the built page in Chromium: first answer, microseconds a row, download.

    python demos/web/measure.py        # after build.py; needs the dev extra, and chromium from apt

Times are those of this machine; of each, the fastest of several rounds, since others may be using it too.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from serve import DIST, make_server

from moe_edge.errors import MoeEdgeError, require

VISITS, ROUNDS, CALLS = 5, 12, 500
MODELS = ("digits", "motion")
_US = """async ([file, rounds, calls]) => {
  const {loadMoe} = await import('./moe.js');
  const moe = await loadMoe(await (await fetch(file)).arrayBuffer());
  const rows = moe.manifest.golden.inputs.map((row) => Float32Array.from(row, (cell) => cell ?? NaN));
  const found = {};
  for (const [mode, call] of [['dense', (row) => moe.predict(row)], ['routed', (row) => moe.route(row)]]) {
    let [best, ran] = [Infinity, 0];
    for (let round = 0; round < rounds; round += 1) {
      const start = performance.now();
      for (let count = 0; count < calls; count += 1) ran += (await call(rows[count % rows.length])).expertsRun;
      best = Math.min(best, (1000 * (performance.now() - start)) / calls);
    }
    found[mode] = {us: best, experts: ran / rounds / calls};
  }
  await moe.dispose();
  return found;
}"""


def measure(folder: Path) -> dict[str, Any]:
    """Visit the page in ``folder``.

    Returns:
        ``browser``; ``first_ms``: fastest first answer of a new visitor and of one who has been there, milliseconds
        from the page's script to the answer; ``models``: for each, ``dense`` and ``routed`` with ``us`` a row and mean
        ``experts`` run.

    Raises:
        MoeEdgeError: If Chromium or Playwright is missing.
    """
    require("playwright", extra="dev", purpose="measuring in a browser")
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise MoeEdgeError("expected chromium, got none; run: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with make_server(folder, 0) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        first: dict[str, list[int]] = {"new": [], "again": []}
        for _ in range(VISITS):
            context = browser.new_context()
            page = context.new_page()
            for visit in ("new", "again"):
                page.goto(address)
                page.wait_for_selector("html[data-offline]")
                first[visit].append(int(page.get_attribute("html", "data-first-answer-ms") or 0))
            context.close()
        page = browser.new_context().new_page()
        page.goto(address)
        page.wait_for_selector("html[data-offline]")
        models = {name: page.evaluate(_US, [f"models/{name}.tflite", ROUNDS, CALLS]) for name in MODELS}
        version = browser.version
        browser.close()
        server.shutdown()
    return {"browser": version, "first_ms": {visit: min(times) for visit, times in first.items()}, "models": models}


def download_bytes(folder: Path) -> dict[str, int]:
    """Bytes of a first visit with relaxed SIMD: as the files are, and from a host that compresses texts."""
    files = [
        path for path in folder.rglob("*") if path.is_file() and "compat" not in path.name and path.suffix != ".json"
    ]
    texts = {".js", ".css", ".html", ".svg", ".csv", ".json", ".webmanifest"}
    plain = {path: path.stat().st_size for path in files}
    packed = {path: len(gzip.compress(path.read_bytes())) if path.suffix in texts else plain[path] for path in files}
    return {"plain": sum(plain.values()), "compressed": sum(packed.values())}


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=DIST, help="what build.py wrote")
    folder = parser.parse_args().folder
    if not (folder / "index.html").is_file():
        print(f"expected a built page in {folder}, got none; run: python demos/web/build.py", file=sys.stderr)
        return 1
    try:
        found = measure(folder)
    except MoeEdgeError as error:
        print(error, file=sys.stderr)
        return 1
    table = Table("", "", title=f"Chromium {found['browser']}")
    table.add_row("first answer, new visitor", f"{found['first_ms']['new']} ms")
    table.add_row("first answer, offline copy", f"{found['first_ms']['again']} ms")
    for name, modes in found["models"].items():
        for mode, result in modes.items():
            table.add_row(f"{name}, {mode}, {result['experts']:.1f} experts a row", f"{result['us']:.0f} µs a row")
    size = download_bytes(folder)
    table.add_row("first visit, as the files are", f"{size['plain'] / 1e6:.2f} MB")
    table.add_row("first visit, host that compresses", f"{size['compressed'] / 1e6:.2f} MB")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
