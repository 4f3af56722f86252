"""Mend what the quantizer leaves float: pieces of a rounded tensor that nothing reads.

An LSTM's first step has no cell state to forget: nothing reads its forget gate, one of the four pieces of a SPLIT. The
quantizer (ai-edge-quantizer 0.10) gives types to tensors that are read, so that piece stays float32 beside rounded
siblings, and runtimes refuse the SPLIT or copy bytes of one type into another.
Layer: desktop (converters).
"""

from __future__ import annotations

import copy
from typing import Any

from ai_edge_litert import schema_py_generated as schema

_CUTTING = (schema.BuiltinOperator.SPLIT, schema.BuiltinOperator.SPLIT_V, schema.BuiltinOperator.UNPACK)
"""Operators that copy pieces of a tensor: all their outputs have one type, scale and zero point."""


def give_unused_outputs_types(model: Any) -> None:
    """Give unread pieces the type and the scale of what they were cut from; ``model`` is changed in place."""
    for graph in model.subgraphs:
        read = {int(index) for operator in graph.operators for index in operator.inputs} | {*map(int, graph.outputs)}
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode not in _CUTTING:
                continue
            siblings = [graph.tensors[index] for index in operator.outputs]
            used = [tensor for index, tensor in zip(operator.outputs, siblings, strict=True) if int(index) in read]
            for index, tensor in zip(operator.outputs, siblings, strict=True):
                if used and int(index) not in read and tensor.type != used[0].type:
                    tensor.type = used[0].type
                    tensor.quantization = copy.deepcopy(used[0].quantization)
