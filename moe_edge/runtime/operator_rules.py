"""What kernels take for granted about an operator: its options are its own kind, its inputs are there.

Kernels read their options' fields and their inputs without asking again; an operator with another's options, or with
an input left out that isn't optional, ends the process. Numbers are those of ``BuiltinOperator`` and of the union
``BuiltinOptions`` in the public TFLite schema.
Layer: device. Imports ``flatbuffer_verifier``.
"""

from __future__ import annotations

from moe_edge.runtime.flatbuffer_verifier import FlatbufferError, Row
from moe_edge.runtime.tflite_schema import CUSTOM_OPERATOR

_OPTIONS_OF: dict[int, int] = {
    # Arithmetic, matrices, convolutions, pools.
    **{0: 11, 18: 21, 41: 28, 42: 29, 9: 8, 126: 101, 11: 12, 13: 13, 150: 116, 98: 75, 128: 102},
    **{3: 1, 4: 2, 67: 49, 132: 106, 141: 106, 1: 5, 12: 5, 17: 5},
    # Shapes: concatenation, reshape, split, pack, slices, gathers, resizing.
    **{2: 10, 22: 17, 43: 30, 49: 35, 102: 79, 83: 59, 88: 64, 45: 32, 36: 23, 77: 55, 85: 61, 100: 77, 112: 87},
    **{5: 94, 26: 19, 23: 15, 97: 74, 68: 50, 103: 80},
    # Softmax, reductions, casts, quantization.
    **{25: 9, 40: 27, 74: 27, 81: 27, 82: 27, 89: 27, 91: 27, 140: 27, 56: 40, 79: 57, 53: 37, 80: 58, 147: 115},
    # Recurrent layers, embeddings.
    **{16: 14, 24: 7, 27: 6, 35: 31, 44: 71, 46: 70, 52: 69, 15: 4, 29: 3, 30: 18, 31: 16, 33: 20},
    # Control flow, variables, tables, random numbers.
    **{118: 92, 119: 93, 129: 103, 136: 107, 142: 111, 146: 114, 148: 114, 149: 114},
}
"""Operator -> the type of its options, for operators whose options have fields."""

_MAY_LACK_OPTIONS = frozenset({0, 18, 22, 41, 42, 53})
"""Operators whose kernels run on defaults: ADD, MUL, RESHAPE, SUB, DIV; and CAST, which goes by its tensors' types."""

_FIRST_OPTIONAL_INPUT: dict[int, int] = {
    **{9: 2, 3: 2, 4: 2, 67: 3, 132: 2, 141: 3},  # the bias
    **{16: 1, 24: 1, 27: 1, 35: 1, 44: 1, 46: 1, 52: 1},  # recurrent layers leave gates out
    CUSTOM_OPERATOR: 0,
}
_FEWEST_INPUTS: dict[int, int] = {
    **{0: 2, 18: 2, 41: 2, 42: 2, 9: 2, 126: 2, 3: 2, 4: 2, 67: 3, 55: 2, 57: 2},
    **{22: 1, 49: 2, 102: 3, 45: 4, 36: 2, 85: 4, 65: 3, 39: 2, 34: 2, 60: 3, 40: 2, 74: 2, 82: 2, 89: 2},
    **{25: 1, 1: 1, 17: 1, 118: 1, 64: 3, 123: 3, 69: 2, 130: 2, 14: 1, 47: 1, 53: 1, 59: 1, 61: 2},
}
_SPLIT, _SPLIT_V, _PACK, _UNPACK = 49, 102, 83, 88


def check_operator(code: int, row: Row, inputs: tuple[int, ...], num_outputs: int, where: str) -> None:
    """Check one operator.

    Args:
        code: Its ``BuiltinOperator``.
        row: Its table's values.
        inputs: Indices of its input tensors, -1 where one is left out.
        num_outputs: Tensors that it writes.
        where: For messages.

    Raises:
        FlatbufferError: If a kernel might take for granted what isn't so.
    """
    expected = _OPTIONS_OF.get(code)
    given = row[3] if row[4] is not None else 0
    if expected is not None and given != expected and not (given == 0 and code in _MAY_LACK_OPTIONS):
        raise FlatbufferError(f"{where} (kind {code}): expected options of type {expected}, got {given}")
    if len(inputs) < _FEWEST_INPUTS.get(code, 0) or (num_outputs == 0 and code in _FEWEST_INPUTS):
        raise FlatbufferError(f"{where} (kind {code}): too few inputs ({len(inputs)}) or outputs ({num_outputs})")
    if -1 in inputs[: _FIRST_OPTIONAL_INPUT.get(code, len(inputs))]:
        raise FlatbufferError(f"{where} (kind {code}): an input that it needs is left out")
    if given == 0:
        return
    options = row[4]
    counted = {_SPLIT: num_outputs, _SPLIT_V: num_outputs, _PACK: len(inputs), _UNPACK: num_outputs}.get(code)
    if counted is not None and options[0] != counted:
        raise FlatbufferError(f"{where} (kind {code}): its options count {options[0]} tensors, it has {counted}")
