"""The tables of the TFLite file format, field by field, as far as an interpreter follows them.

Each table is one line, its fields in slot order:

    1 2 4 8    a scalar of that many bytes        s      a string
    [1] ... [8]  a vector of such scalars         <U     a union, its type is the field before it
    [T]        a vector of tables T               g      an int32 index of a subgraph, [g] a vector of them
    T          a table T                          -      a slot that readers skip

Source: the public schema of TensorFlow Lite, file identifier TFL3, schema version 3. The types refer to each other
without a cycle, so a walk along them is never deeper than a handful of steps.
Layer: device. Imports nothing.
"""

from __future__ import annotations

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

TABLES: dict[str, str] = {
    "Model": "4 [OperatorCode] [SubGraph] s [Buffer] [4] [Metadata] [SignatureDef] [ExternalBufferGroup] "
    "[ExternalBuffer]",
    "OperatorCode": "1 s 4 4",
    "SubGraph": "[Tensor] [4] [4] [Operator] s 4",
    "Tensor": "[4] 1 4 s QuantizationParameters 1 SparsityParameters [4] 1 [VariantSubType] 4",
    "Operator": "4 [4] [4] 1 <BuiltinOptions [1] 1 [1] [4] 8 8 1 <BuiltinOptions2 4",
    "Buffer": "[1] 8 8",
    "ExternalBufferGroup": "s",
    "ExternalBuffer": "4 4 8 8 s",
    "Metadata": "s 4",
    "SignatureDef": "[TensorMap] [TensorMap] s - 4",
    "TensorMap": "s 4",
    "QuantizationParameters": "[4] [4] [4] [8] 1 <QuantizationDetails 4",
    "CustomQuantization": "[1]",
    "BlockwiseQuantization": "4 4 4 [4]",
    "MultiAxisQuantization": "4 4 4 [4]",
    "SparsityParameters": "[4] [4] [DimensionMetadata]",
    "DimensionMetadata": "1 4 1 <SparseIndexVector 1 <SparseIndexVector",
    "Int32Vector": "[4]",
    "Uint16Vector": "[2]",
    "Uint8Vector": "[1]",
    "VariantSubType": "[4] 1 1",
}

# Options of operators have no names here: union type -> fields.
_OPTIONS: dict[str, tuple[int, ...]] = {
    "": (
        *(22, 24, 25, 26, 33, 34, 36, 38, 39, *range(41, 49), 51, 52, 53, 54, 56, 60, 62, 63, 65, 66, 67, 68, 72, 73),
        *(76, 78, *range(81, 87), 88, 89, 90, 91, *range(95, 101), 104, 105, 108, 109, 110, 112, 113),
        *range(117, 127),
    ),
    "1": (4, 12, 20, 21, 27, 29, 40, 50, 55, 57, 77, 80, 116),
    "1 1": (7, 11, 28, 37, 74, 102),
    "1 1 1": (31, 101),
    "1 1 1 1": (70,),
    "1 1 1 1 1 [1]": (8,),
    "1 4 4 1 1": (14, 49),
    "1 4 4 1 1 1": (69, 71),
    "1 4 4 1 4 4 1": (1,),
    "1 4 4 4 1 4 4": (2,),
    "1 4 4 4 1 4 4 4": (106,),
    "1 4 4 4 4 1": (5,),
    "4": (9, 19, 35, 61, 75, 79, 94),
    "4 1": (10,),
    "4 1 1": (6, 107),
    "4 4": (23, 59, 64, 87),
    "4 4 1": (18,),
    "4 4 4 1": (58,),
    "4 4 4 4": (13,),
    "4 4 4 4 4 1": (32,),
    "4 [4] [4]": (3,),
    "8 8": (114,),
    "[4]": (17, 30, 115),
    "- - 1 1": (15,),
    "s s": (111,),
    "g": (16, 103),
    "g g": (92, 93),
}
_OPTIONS_2: dict[str, tuple[int, ...]] = {
    "": (18, 22),
    "1": (19,),
    "1 [8] [8] [8] 8 1 g": (7,),
    "4": (20,),
    "4 4": (8,),
    "8": (1, 11),
    "8 1 g": (14,),
    "[8]": (2, 9, 17),
    "[8] g": (6,),
    "[8] [8] [8]": (3, 10),
    "[8] [8] [8] 8 [8] 1": (16,),
    "[8] [8] [8] [8] [4]": (12,),
    "[8] [8] [8] [8] [8] g": (13,),
    "[8] [8] [8] [8] [1] 8 8 [8] 8 8 [8] 8 8 [8] 8 8 [4]": (4,),
    "[g]": (23,),
    "g g": (15,),
    "s 1 s 4 [g] [1]": (5,),
    "s g [1] 1 4": (21,),
}


def _by_type(groups: dict[str, tuple[int, ...]]) -> dict[int, str]:
    return {code: fields for fields, codes in groups.items() for code in codes}


UNIONS: dict[str, dict[int, str]] = {
    "BuiltinOptions": _by_type(_OPTIONS),
    "BuiltinOptions2": _by_type(_OPTIONS_2),
    "QuantizationDetails": {
        1: TABLES["CustomQuantization"],
        2: TABLES["BlockwiseQuantization"],
        3: TABLES["MultiAxisQuantization"],
    },
    "SparseIndexVector": {1: TABLES["Int32Vector"], 2: TABLES["Uint16Vector"], 3: TABLES["Uint8Vector"]},
}
"""Union name -> union type -> the fields of its table."""

# TensorType -> (name, bits of one element); strings, resources and variants have no fixed size: 0 bits.
TENSOR_TYPES: dict[int, tuple[str, int]] = {
    0: ("float32", 32),
    1: ("float16", 16),
    2: ("int32", 32),
    3: ("uint8", 8),
    4: ("int64", 64),
    5: ("string", 0),
    6: ("bool", 8),
    7: ("int16", 16),
    8: ("complex64", 64),
    9: ("int8", 8),
    10: ("float64", 64),
    11: ("complex128", 128),
    12: ("uint64", 64),
    13: ("resource", 0),
    14: ("variant", 0),
    15: ("uint32", 32),
    16: ("uint16", 16),
    17: ("int4", 4),
    18: ("bfloat16", 16),
    19: ("int2", 2),
    20: ("uint4", 4),
    21: ("float8_e4m3fn", 8),
    22: ("float8_e5m2", 8),
}
CUSTOM_OPERATOR = 32
"""``BuiltinOperator`` of an operator that a host has to bring itself."""
