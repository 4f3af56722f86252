"""The two digests in a .tflite written by moe-edge: one over what describes the model, one over the weights behind it.

A file is one flatbuffer followed by the weights. The 64 bytes of the metadata entry ``moe_edge_sha256`` lie inside
the flatbuffer and hold ``A + B``: A is the SHA-256 of the bytes ``[0, head)`` with these 64 bytes taken as zero, B
that of ``[head, end)``. Opening a file checks A, so that a file of a gigabyte opens at once; verifying checks both.
The digests find damage, not forgery: whoever rewrites a file can write its digests too.
Layer: device. Imports the standard library.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable
from typing import TypeAlias

Content: TypeAlias = "bytes | bytearray | memoryview | mmap.mmap"

DIGEST_BYTES = 32
HASH_BYTES = 2 * DIGEST_BYTES
"""Size of the metadata buffer that holds both digests."""


def find_head(external_offsets: Iterable[int], *, total_bytes: int) -> int:
    """Where the flatbuffer ends and the weights begin.

    Args:
        external_offsets: ``Buffer.offset`` of every buffer; 0 and 1 mean "inside the flatbuffer".
        total_bytes: The file's length.

    Returns:
        The smallest offset above 1, or the file's length when no buffer lies outside the flatbuffer.
    """
    return min((offset for offset in external_offsets if offset > 1), default=total_bytes)


def digest_head(content: Content, *, head: int, hash_at: int) -> bytes:
    """Digest A: SHA-256 over ``[0, head)`` with the digests' own bytes taken as zero.

    Args:
        content: The whole file.
        head: Where the weights begin, from ``find_head``.
        hash_at: Position of the 64 bytes that hold the digests.

    Raises:
        ValueError: If the digests' bytes don't lie inside ``[0, head)``.
    """
    if not 0 <= hash_at <= head - HASH_BYTES or head > len(content):
        raise ValueError(
            f"expected the {HASH_BYTES} bytes of the digests inside [0, {head}) of {len(content)} bytes, got {hash_at}"
        )
    view = memoryview(content)
    digest = hashlib.sha256(view[:hash_at])
    digest.update(bytes(HASH_BYTES))
    digest.update(view[hash_at + HASH_BYTES : head])
    return digest.digest()


def digest_weights(content: Content, *, head: int) -> bytes:
    """Digest B: SHA-256 over ``[head, end)``."""
    return hashlib.sha256(memoryview(content)[head:]).digest()


def compute_digests(content: Content, *, head: int, hash_at: int) -> bytes:
    """Both digests, as they stand in the file.

    Args:
        content: The whole file; what its 64 digest bytes hold doesn't matter.
        head: Where the weights begin, from ``find_head``.
        hash_at: Position of the 64 bytes that hold the digests.

    Returns:
        64 bytes, A + B.

    Raises:
        ValueError: If the digests' bytes don't lie inside ``[0, head)``.
    """
    return digest_head(content, head=head, hash_at=hash_at) + digest_weights(content, head=head)
