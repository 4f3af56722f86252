"""Write files whole or not at all: a temporary file beside the target, then a rename.

Layer: shared. Imports the standard library and ``moe_edge.errors``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moe_edge.errors import MoeEdgeError


def check_writable(path: Path, *, suffix: str | None = None) -> None:
    """Refuse an output path that can't be written, before any slow work.

    Args:
        path: The file to be written later.
        suffix: The ending that the file must have, such as ``.tflite``.

    Raises:
        MoeEdgeError: If the ending is wrong, the folder is missing or read-only, or ``path`` is no plain file.
    """
    if suffix is not None and path.suffix != suffix:
        raise MoeEdgeError(f"expected an output file that ends in {suffix}, got {path}; try {path.with_suffix(suffix)}")
    if path.is_dir():
        raise MoeEdgeError(f"expected a file to write, got the folder {path}; add a file name")
    if path.exists() and not path.is_file():
        # The rename would put a plain file in the place of a device or a pipe.
        raise MoeEdgeError(f"expected a plain file to write, got {path}, a device or a pipe; write to standard output")
    folder = path.parent
    if not folder.is_dir():
        raise MoeEdgeError(f"can't write {path}: there is no folder {folder}; create it first")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise MoeEdgeError(f"can't write {path}: permission denied; choose another place with -o")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` when the block succeeds.

    On any exception, Ctrl-C included, the temporary file is removed and an older ``path`` stays as it was.

    Raises:
        MoeEdgeError: If the file can't be written (folder missing, permission, disk full).
    """
    check_writable(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files private; give the result the mode that open() would have given it.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _cannot_write(path: Path, error: OSError) -> MoeEdgeError:
    return MoeEdgeError(f"can't write {path}: {error.strerror or error}; choose another place with -o")
