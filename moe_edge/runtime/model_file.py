"""Open a .tflite: map it, verify its structure and its digest, read its manifest; no interpreter sees it before.

Layer: device. Imports the standard library and ``moe_edge`` modules of the device side.
"""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from moe_edge.errors import ModelFileError
from moe_edge.manifest import HASH_NAME, MANIFEST_NAME, Manifest
from moe_edge.runtime.flatbuffer_verifier import FlatbufferError
from moe_edge.runtime.integrity import DIGEST_BYTES, HASH_BYTES, digest_head, digest_weights
from moe_edge.runtime.model_structure import ModelStructure, Signature, Subgraph, read_structure
from moe_edge.runtime.tflite_schema import FILE_IDENTIFIER

FileContent: TypeAlias = "bytes | mmap.mmap"

# First bytes of what people pass by mistake -> what it is, and what to do.
_FOREIGN_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive, perhaps a .keras model; make a .tflite of it: moe-edge convert"),
    (b"\x89HDF", "an HDF5 file, perhaps an .h5 model; load it in Keras, save as .keras, then: moe-edge convert"),
    (b"<", "a web page or XML; download the file itself, not its page"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file with: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x08", "perhaps an ONNX or a TensorFlow protobuf; a .tflite is needed"),
)


SMALL_WEIGHTS_BYTES = 4 << 20
"""Weights up to this size are checked on opening: a few milliseconds. Larger ones are checked when asked."""


@dataclass(frozen=True)
class ModelFile:
    """A .tflite whose structure has been verified.

    Use as a context manager, or call ``close``, to release the memory map.

    Attributes:
        content: The whole file: bytes, or a read-only memory map of ``path``.
        path: Where it came from, or None for bytes.
        structure: Its subgraphs, signatures and metadata.
        manifest: What moe-edge wrote about it, or None for a foreign .tflite.
    """

    content: FileContent
    path: Path | None
    structure: ModelStructure
    manifest: Manifest | None
    _digests_at: int | None = field(default=None, repr=False)
    _descriptor: _Descriptor | None = field(default=None, repr=False)

    @classmethod
    def open(cls, model: str | os.PathLike[str] | bytes) -> ModelFile:
        """Open and check a file.

        A path is mapped, never read whole: a file of a gigabyte opens at once. Checked are the structure and, in files
        written by moe-edge, the digest of everything before the weights, and that of the weights where they are few;
        ``verify_weights`` checks the weights of a larger file.

        Args:
            model: A path, or the file's bytes.

        Raises:
            ModelFileError: If it is missing, empty, truncated, damaged, or another kind of file.
        """
        path: Path | None = None
        descriptor: _Descriptor | None = None
        if isinstance(model, bytes):
            content: FileContent = model
        else:
            path = Path(model)
            content, descriptor = _map(path)
        source = "these bytes" if path is None else str(path)
        try:
            _check_start(content, source)
            try:
                structure = read_structure(content)
            except FlatbufferError as error:
                raise ModelFileError(
                    f"{source}: expected a whole .tflite, got one that is truncated or damaged ({error}); "
                    "copy or convert it again"
                ) from error
            digests_at = _check_head(content, structure, source)
            manifest = _read_manifest(content, structure, source)
            if manifest is not None and digests_at is None:
                raise ModelFileError(f"{source}: expected digests beside the manifest, got none; convert it again")
        except BaseException:
            if isinstance(content, mmap.mmap):
                content.close()
            raise
        file = cls(content, path, structure, manifest, digests_at, descriptor)
        if digests_at is not None and len(content) - structure.head <= SMALL_WEIGHTS_BYTES:
            try:
                file.verify_weights()
            except ModelFileError:
                file.close()
                raise
        return file

    @property
    def source(self) -> str:
        """The path, or words for bytes: how messages call the file."""
        return "these bytes" if self.path is None else str(self.path)

    @property
    def signatures(self) -> dict[str, Signature]:
        """The signatures by name."""
        return self.structure.signatures

    @property
    def subgraphs(self) -> tuple[Subgraph, ...]:
        """The subgraphs; the first is what a host without signatures runs."""
        return self.structure.subgraphs

    @property
    def loadable(self) -> bytes | str:
        """What to give an interpreter, now or later: these very bytes, even when ``path`` has been replaced since."""
        if self._descriptor is not None and self._descriptor.path is not None:
            return self._descriptor.path
        return bytes(self.content)

    def verify_weights(self) -> None:
        """Check the digest of the weights: reads the whole file.

        Raises:
            ModelFileError: If the weights aren't those that moe-edge wrote, or the file has no digest.
        """
        if self._digests_at is None:
            raise ModelFileError(f"{self.source}: expected the digests of a moe-edge file, got a foreign .tflite")
        middle = self._digests_at + DIGEST_BYTES
        expected = bytes(self.content[middle : middle + DIGEST_BYTES])
        if expected != digest_weights(self.content, head=self.structure.head):
            raise ModelFileError(f"{self.source}: the weights are damaged: digest differs; copy or convert it again")

    def close(self) -> None:
        """Release the memory map; a second call does nothing."""
        if isinstance(self.content, mmap.mmap):
            self.content.close()
        if self._descriptor is not None:
            self._descriptor.close()

    def __enter__(self) -> ModelFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Descriptor:
    """An open file, kept so that a runtime can map the same file by name; closed with its owner."""

    def __init__(self, number: int) -> None:
        self._number: int | None = number

    @property
    def path(self) -> str | None:
        """A path to the open file itself, where the system has one (Linux)."""
        path = f"/proc/self/fd/{self._number}"
        return path if self._number is not None and os.path.exists(path) else None  # noqa: PTH110 - pathlib is slower

    def close(self) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def __del__(self) -> None:
        self.close()


def _map(path: Path) -> tuple[mmap.mmap, _Descriptor]:
    """Map a file read-only; what can't be mapped, such as a pipe, is refused."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        descriptor = _Descriptor(number)
        status = os.fstat(number)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"expected a .tflite file, got {path}, which is no regular file; give a file")
        if status.st_size == 0:
            raise ModelFileError(f"{path}: expected a .tflite, got an empty file; copy or convert it again")
        return mmap.mmap(number, 0, access=mmap.ACCESS_READ), descriptor
    except FileNotFoundError as error:
        raise ModelFileError(f"there is no file {path}; expected a .tflite written by moe-edge convert") from error
    except IsADirectoryError as error:
        raise ModelFileError(f"expected a .tflite file, got the folder {path}; give the file inside") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"can't read {path}: {reason}") from error


def _check_start(content: FileContent, source: str) -> None:
    """Name another kind of file before the verifier calls it damaged."""
    if len(content) == 0:
        raise ModelFileError(f"{source}: expected a .tflite, got nothing; copy or convert it again")
    if bytes(content[4:8]) == FILE_IDENTIFIER:
        return
    start = bytes(content[:64]).lstrip(b"\xef\xbb\xbf \t\r\n")
    for prefix, meaning in _FOREIGN_STARTS:
        if start.startswith(prefix):
            raise ModelFileError(f"{source}: expected a .tflite, got {meaning}")
    raise ModelFileError(
        f"{source}: expected a .tflite (TFL3 at byte 4), got another kind of file; "
        "give the file that moe-edge convert wrote, or copy it again"
    )


def _check_head(content: FileContent, structure: ModelStructure, source: str) -> int | None:
    """Compare digest A; returns where the digests stand, or None when the file has none."""
    place = structure.metadata.get(HASH_NAME)
    if place is None:
        return None
    at, size = place
    if size != HASH_BYTES or at + size > structure.head:
        raise ModelFileError(f"{source}: expected {HASH_BYTES} bytes of digests before the weights, got {size}")
    computed = digest_head(content, head=structure.head, hash_at=at)
    if bytes(content[at : at + DIGEST_BYTES]) != computed:
        raise ModelFileError(f"{source}: the file is damaged: its digest differs; copy or convert it again")
    return at


def _read_manifest(content: FileContent, structure: ModelStructure, source: str) -> Manifest | None:
    place = structure.metadata.get(MANIFEST_NAME)
    if place is None:
        return None
    at, size = place
    return Manifest.from_json(bytes(content[at : at + size]), source=source)
