"""The files of the page: bundled scripts, packed runtime, and a service worker that knows them all."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path

from npm_packages import HERE, RUNTIME, bundle
from serve import CONTENT_SECURITY_POLICY

SOURCE = HERE / "src"
COPIED = ("icon.svg", "icon-maskable.svg", "manifest.webmanifest")
VARIANTS = ("litert_wasm_internal", "litert_wasm_compat_internal")
"""With and without relaxed SIMD; a browser takes one of them."""


def write_page(folder: Path) -> None:
    """Write all but the models and the service worker into ``folder``.

    Raises:
        MoeEdgeError: If a script can't be bundled.
    """
    (folder / "page").mkdir(parents=True)
    (folder / "wasm").mkdir()
    bundle(SOURCE / "moe.js", folder / "moe.js")
    # The page uses the library as any other page would: by its file.
    bundle(SOURCE / "page" / "app.js", folder / "page" / "app.js", external=("../moe.js",))
    shutil.copy(SOURCE / "page" / "style.css", folder / "page" / "style.css")
    for name in COPIED:
        shutil.copy(SOURCE / name, folder / name)
    index = (SOURCE / "index.html").read_text(encoding="utf-8").replace("@CSP@", CONTENT_SECURITY_POLICY)
    (folder / "index.html").write_text(index, encoding="utf-8")
    for name in VARIANTS:
        shutil.copyfile(RUNTIME / f"{name}.js", folder / "wasm" / f"{name}.js")
        # ".bin" keeps hosts from declaring it as an encoding of something else.
        packed = gzip.compress((RUNTIME / f"{name}.wasm").read_bytes(), 9, mtime=0)
        (folder / "wasm" / f"{name}.wasm.gz.bin").write_bytes(packed)


def write_service_worker(folder: Path) -> str:
    """Write ``sw.js``, once all else is there; returns the version, a hash over every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "sw.js")
    digest = hashlib.sha256((SOURCE / "sw.js").read_bytes())
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    version = f"moe-edge-{digest.hexdigest()[:16]}"
    names = [path.relative_to(folder).as_posix() for path in files]
    kept = ["./", *(name for name in names if not name.startswith("wasm/") and name != "index.html")]
    worker = (SOURCE / "sw.js").read_text(encoding="utf-8")
    worker = worker.replace("@VERSION@", version).replace("@FILES@", json.dumps(kept))
    (folder / "sw.js").write_text(worker, encoding="utf-8")
    return version
