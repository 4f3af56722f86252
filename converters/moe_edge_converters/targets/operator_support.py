"""Which operators a target knows, for the files that can't be run on it here.

A table says that a file loads, not that it answers rightly: where the target can run here, its answers decide.
Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from moe_edge.errors import ConversionError
from moe_edge_converters.schemes.audit import OPERATOR_NAMES, TYPE_NAMES, tensor_name

_NEWEST_VERSIONS: dict[int, str] = {
    1: "ADD_N ASSIGN_VARIABLE ATAN2 BITCAST BITWISE_XOR BROADCAST_ARGS BUCKETIZE CALL_ONCE CEIL COMPLEX_ABS "
    "CONV_3D CONV_3D_TRANSPOSE COS CUMSUM DENSIFY DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP_SPARSE "
    "EXPAND_DIMS FLOOR HARD_SWISH HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE "
    "IF IMAG L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LSH_PROJECTION "
    "MATRIX_DIAG MATRIX_SET_DIAG MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 ONE_HOT POW "
    "PRELU RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY RELU_0_TO_1 "
    "RELU_N1_TO_1 RESHAPE REVERSE_SEQUENCE RFFT2D RIGHT_SHIFT ROUND SCATTER_ND SEGMENT_SUM SHAPE SIN "
    "SKIP_GRAM SQRT SQUARE UNIQUE UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD "
    "UNSORTED_SEGMENT_SUM VAR_HANDLE WHILE ZEROS_LIKE ",
    2: "DEPTH_TO_SPACE DIV EXP FAKE_QUANT FLOOR_MOD GELU GREATER L2_NORMALIZATION LEAKY_RELU LESS_EQUAL "
    "LOG_SOFTMAX RANGE REDUCE_PROD RSQRT SELECT_V2 SIGN SPACE_TO_DEPTH SPLIT_V SQUARED_DIFFERENCE SQUEEZE SUM "
    "WHERE ",
    3: "ARG_MAX ARG_MIN AVERAGE_POOL_2D BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN BROADCAST_TO "
    "EMBEDDING_LOOKUP FLOOR_DIV GREATER_EQUAL LESS LOGISTIC MAX_POOL_2D MEAN MIRROR_PAD NOT_EQUAL QUANTIZE "
    "REDUCE_MAX REDUCE_MIN RELU RELU6 REVERSE_V2 RNN SOFTMAX SPARSE_TO_DENSE TANH TILE TOPK_V2 "
    "UNIDIRECTIONAL_SEQUENCE_RNN ",
    4: "BATCH_MATMUL BATCH_TO_SPACE_ND CONCATENATION EQUAL FILL GATHER_ND LSTM MAXIMUM MINIMUM PACK PAD PADV2 "
    "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SELECT SPACE_TO_BATCH_ND SPLIT SVDF TRANSPOSE_CONV "
    "UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK ",
    5: "ABS ADD CAST DEQUANTIZE SUB ",
    6: "GATHER SLICE TRANSPOSE ",
    7: "CONV_2D DEPTHWISE_CONV_2D MUL ",
    8: "STRIDED_SLICE ",
    10: "FULLY_CONNECTED ",
}
"""Newest version -> operators. Found by giving tflite-runtime 2.14.0 (Linux x86-64) an operator code of every kind in
the versions 1 to 15, and noting which it refused."""

TFLITE_RUNTIME_VERSIONS: dict[str, int] = {
    name: version for version, names in _NEWEST_VERSIONS.items() for name in names.split()
}
"""Operator -> the newest version that tflite-runtime 2.14 knows; what is missing it doesn't know."""

_MICRO_NAMES = (
    "ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND "
    "BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE "
    "DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD "
    "FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D "
    "LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAX_POOL_2D "
    "MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_MAX "
    "RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX "
    "SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB "
    "SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE "
)
MICRO_OPERATORS = frozenset(_MICRO_NAMES.split())
"""What TFLite Micro can register, by the methods of its ``MicroMutableOpResolver``."""

_MICRO_DTYPES: dict[str, frozenset[tuple[str, str]]] = {
    "FULLY_CONNECTED": frozenset({("float32", "float32"), ("int8", "int8"), ("int16", "int8")}),
    "CONV_2D": frozenset({("float32", "float32"), ("int8", "int8"), ("int16", "int8")}),
    "DEPTHWISE_CONV_2D": frozenset({("float32", "float32"), ("int8", "int8"), ("int16", "int8")}),
    "DEQUANTIZE": frozenset({("int8", "float32"), ("int16", "float32"), ("uint8", "float32")}),
}
"""Operator -> pairs of (input, weights), or (input, output) for DEQUANTIZE, that TFLite Micro computes with: it knows
neither weights that are rounded on the fly nor float16."""


@dataclass(frozen=True, kw_only=True)
class PlacedOperator:
    """One operator, where it stands.

    Attributes:
        subgraph: Index of its subgraph.
        name: Such as ``FULLY_CONNECTED``.
        version: Its version.
        layer: Name of the first tensor that it writes.
        inputs: dtypes of its inputs; ``none`` where one is left out.
        outputs: dtypes of its outputs.
    """

    subgraph: int
    name: str
    version: int
    layer: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def place(self) -> str:
        """For messages: which layer, which operator."""
        return f"{self.layer} ({self.name} version {self.version})"


def list_operators(model: Any) -> list[PlacedOperator]:
    """Every operator of a parsed model, in the file's order."""
    found = []
    for number, graph in enumerate(model.subgraphs):
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            kind = max(code.builtinCode, code.deprecatedBuiltinCode)
            tensors = [None if index < 0 else graph.tensors[index] for index in operator.inputs]
            written = [graph.tensors[index] for index in operator.outputs]
            found.append(
                PlacedOperator(
                    subgraph=number,
                    name=OPERATOR_NAMES.get(kind, str(kind)),
                    version=int(code.version),
                    layer=tensor_name(written[0]) if written else f"operator of subgraph {number}",
                    inputs=tuple("none" if tensor is None else TYPE_NAMES[tensor.type] for tensor in tensors),
                    outputs=tuple(TYPE_NAMES[tensor.type] for tensor in written),
                )
            )
    return found


def check_tflite_runtime(operators: Iterable[PlacedOperator]) -> None:
    """Find the first operator that tflite-runtime 2.14 refuses.

    Raises:
        ConversionError: Naming its layer.
    """
    for operator in operators:
        newest = TFLITE_RUNTIME_VERSIONS.get(operator.name)
        if newest is None or operator.version > newest:
            known = "doesn't know it" if newest is None else f"knows versions up to {newest}"
            raise ConversionError(f"tflite-runtime 2.14 {known}: layer {operator.place}; choose another scheme")


def check_micro(operators: Iterable[PlacedOperator]) -> None:
    """Find the first operator, or mix of dtypes, that TFLite Micro refuses.

    Raises:
        ConversionError: Naming its layer.
    """
    for operator in operators:
        if operator.name not in MICRO_OPERATORS:
            raise ConversionError(f"TFLite Micro has no such operator: layer {operator.place}")
        allowed = _MICRO_DTYPES.get(operator.name)
        second = operator.outputs if operator.name == "DEQUANTIZE" else operator.inputs[1:]
        if allowed is not None and (operator.inputs[0], second[0]) not in allowed:
            raise ConversionError(
                f"TFLite Micro can't compute {operator.inputs[0]} with {second[0]}: layer {operator.place}; "
                "choose --scheme w8a8 or float32"
            )
