"""The commands that install what an extra of moe-edge brings.

Its packages by name: they are the same wherever moe-edge itself was installed from, a wheel, a checkout or an index.
Layer: shared, device-safe. Imports the standard library.
"""

from __future__ import annotations

import re
import shlex

_OF_EXTRA = re.compile(r"""^(?P<package>[^;]+?)\s*;.*\bextra\s*==\s*['"](?P<extra>[^'"]+)['"]""")


def install_command(extra: str) -> str:
    """What to type, such as ``pip install 'onnx>=1.16' 'onnxruntime>=1.18'``.

    Args:
        extra: ``desktop``, ``bench``, ``targets``, ...
    """
    from importlib import metadata  # slow to import, and only asked for on the way to an error

    try:
        requirements = metadata.requires("moe-edge") or []
    except metadata.PackageNotFoundError:
        # Run from a folder of sources.
        requirements = []
    found = [match["package"] for text in requirements if (match := _OF_EXTRA.match(text)) and match["extra"] == extra]
    return "pip install " + (" ".join(map(shlex.quote, found)) if found else f"-e '.[{extra}]'")
