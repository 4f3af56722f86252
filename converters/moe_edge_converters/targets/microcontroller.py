"""A file as C sources for TFLite Micro: the array, its length, and the operators that its resolver needs.

The array holds the model without moe-edge's manifest: a microcontroller reads no JSON, and flash is scarce.
Layer: desktop (converters).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from moe_edge.atomic import write_atomically
from moe_edge.manifest import HASH_NAME, MANIFEST_NAME
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.targets.operator_support import list_operators

ALIGNMENT = 16
"""As TFLite Micro demands of a model in memory."""

_BYTES_PER_LINE = 16

# Methods of MicroMutableOpResolver whose names aren't the operator's words in camel case.
_METHODS = {
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul",
    "CONV_2D": "AddConv2D",
    "CUMSUM": "AddCumSum",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "L2_POOL_2D": "AddL2Pool2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}


@dataclass(frozen=True, kw_only=True)
class CSources:
    """Text of the two files.

    Attributes:
        header: Of ``<name>.h``.
        source: Of ``<name>.cc``.
    """

    header: str
    source: str


def strip_metadata(content: bytes) -> bytes:
    """The model alone, with its weights inside the flatbuffer: what goes into the array.

    Args:
        content: A file with ``serving_default`` only.
    """
    model = read_model(content)
    ours = (HASH_NAME, MANIFEST_NAME)
    dropped = set()
    kept = []
    for entry in model.metadata or []:
        name = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
        if name in ours:
            dropped.add(entry.buffer)
        else:
            kept.append(entry)
    model.metadata = kept
    for index in dropped:
        model.buffers[index].data = None
    # Their buffers were the last ones; those in between stay, for the indices of the others.
    while model.buffers and len(model.buffers) - 1 in dropped:
        model.buffers.pop()
    return pack(model)


def resolver_operators(content: bytes) -> tuple[str, ...]:
    """The operators that a resolver must be given, sorted."""
    return tuple(sorted({operator.name for operator in list_operators(read_model(content))}))


def resolver_method(operator: str) -> str:
    """The method of ``MicroMutableOpResolver`` that adds an operator: ``FULLY_CONNECTED`` to ``AddFullyConnected``."""
    return _METHODS.get(operator) or "Add" + "".join(word.capitalize() for word in operator.split("_"))


def build_sources(content: bytes, name: str, *, arena_bytes: int | None) -> CSources:
    """Write a model as C++ sources.

    Args:
        content: The model, from ``strip_metadata``.
        name: Stem of the files, from which the C name comes.
        arena_bytes: The tensor arena that it needs, where it was measured.
    """
    symbol = c_name(name)
    guard = f"{symbol.upper()}_H_"
    operators = resolver_operators(content)
    calls = "\n".join(f"//   resolver.{resolver_method(operator)}();" for operator in operators)
    digest = hashlib.sha256(content).hexdigest()
    arena = (
        ""
        if arena_bytes is None
        else (
            "\n// Smallest tensor arena that worked with 64-bit pointers; measure again on the device.\n"
            f"constexpr unsigned int {symbol}_arena_bytes = {arena_bytes};\n"
        )
    )
    header = f"""// Written by moe-edge convert --target microcontroller.
// SHA-256 of the array: {digest}
#ifndef {guard}
#define {guard}

extern const unsigned char {symbol}[];
constexpr unsigned int {symbol}_len = {len(content)};
{arena}
// The operators of this model:
//   tflite::MicroMutableOpResolver<{symbol}_num_operators> resolver;
{calls}
constexpr unsigned int {symbol}_num_operators = {len(operators)};

#endif  // {guard}
"""
    lines = [
        "    " + " ".join(f"0x{value:02x}," for value in content[start : start + _BYTES_PER_LINE])
        for start in range(0, len(content), _BYTES_PER_LINE)
    ]
    body = "\n".join(lines)
    source = f"""// Written by moe-edge convert --target microcontroller.
#include "{name}.h"

alignas({ALIGNMENT}) const unsigned char {symbol}[] = {{
{body}
}};
static_assert(sizeof({symbol}) == {symbol}_len, "the array and its length differ");
"""
    return CSources(header=header, source=source)


def write_sources(output: Path, content: bytes, *, arena_bytes: int | None) -> tuple[Path, Path]:
    """Write ``<name>.h`` and ``<name>.cc`` beside the ``.tflite``.

    Args:
        output: The ``.tflite``.
        content: Its bytes.
        arena_bytes: The tensor arena that it needs, where it was measured.

    Returns:
        The two paths.
    """
    sources = build_sources(strip_metadata(content), output.stem, arena_bytes=arena_bytes)
    header, source = output.with_suffix(".h"), output.with_suffix(".cc")
    write_atomically(source, sources.source.encode())
    write_atomically(header, sources.header.encode())
    return header, source


def c_name(stem: str) -> str:
    """A C identifier from a file's name: ``my-model.v2`` to ``my_model_v2``."""
    symbol = re.sub(r"\W", "_", stem, flags=re.ASCII) or "model"
    return f"model_{symbol}" if symbol[0].isdigit() else symbol
