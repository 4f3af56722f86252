"""Keep the notices of native libraries off standard error: "INFO: Created TensorFlow Lite XNNPACK delegate" and such.

They are written straight to file descriptor 2, where no Python setting reaches them.
Layer: command line. Imports the standard library.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_NOTICES = (b"INFO: ", b"WARNING: All log messages before absl", b"I0000 ", b"W0000 ")
"""Starts of lines that tell users nothing; every other line is passed on."""


@contextmanager
def hide_native_notices() -> Iterator[None]:
    """Hold back what native code writes to standard error, and pass on what isn't a mere notice."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no standard error to keep clean
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            lines = [line for line in held.read().splitlines(keepends=True) if not line.startswith(_NOTICES)]
            if lines:
                os.write(2, b"".join(lines))
