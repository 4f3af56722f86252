"""Mend what the quantizer breaks: a channel whose weights are all 0, which answers with its bias alone.

A bias is stored in units of (input scale x weight scale). Weights that are all 0 get a tiny scale, in which an ordinary
bias has no room in 32 bits: the quantizer (ai-edge-quantizer 0.10) cuts it off, without a word. Gaussian experts with
one sigma for all rows (least squares, closed-form EM) have such channels. Zeros are zeros in any scale, so such a
channel gets one in which its bias fits: exact, and no other channel is touched.
Layer: desktop (converters).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_ROOM = 2**24
"""Units that a bias may take: a relative error of 2^-25, far from the 2^31 at which it is cut off."""


def rescale_constant_channels(model: Any, float_model: Any) -> None:
    """Store biases of channels without weights anew; ``model`` is changed in place.

    Args:
        model: The quantized model, the schema's object form.
        float_model: What it was quantized from, with the same names of tensors.
    """
    originals = {_name(tensor): tensor for tensor in float_model.subgraphs[0].tensors}
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            if code == schema.BuiltinOperator.FULLY_CONNECTED and len(operator.inputs) == 3 and operator.inputs[2] >= 0:
                x, weights, bias = (graph.tensors[index] for index in operator.inputs)
                original = originals.get(_name(bias))
                if bias.type in _INTEGERS and weights.type == schema.TensorType.INT8 and original is not None:
                    values = _data(float_model, original, np.float32)
                    _rescale(model, x, weights, bias, values)


_INTEGERS = {schema.TensorType.INT32: np.int32, schema.TensorType.INT64: np.int64}


def _rescale(model: Any, x: Any, weights: Any, bias: Any, values: Any) -> None:
    """Rescale the idle channels of one layer whose float biases are ``values``."""
    scales = np.array(weights.quantization.scale, dtype=np.float32)
    kernel = _data(model, weights, np.int8).reshape(len(values), -1)
    idle = ~kernel.any(axis=1)
    if len(scales) == 1:
        # One scale for all channels: only a layer without any weight has no scale of its own.
        idle &= idle.all()
    if not idle.any():
        return
    unit = float(x.quantization.scale[0])
    needed = np.abs(values[idle]).max() / (unit * _ROOM)
    if len(scales) == 1:
        scales[:] = max(float(scales[0]), float(needed))
    else:
        scales[idle] = np.maximum(scales[idle], needed)
    units = np.broadcast_to(scales * np.float32(unit), values.shape)
    dtype = _INTEGERS[bias.type]
    stored = _data(model, bias, dtype).copy()
    stored[idle] = np.round(values[idle].astype(np.float64) / units[idle]).astype(dtype)
    weights.quantization.scale = scales
    bias.quantization.scale = (scales * np.float32(unit)).astype(np.float32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(stored.tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    bias.buffer = len(model.buffers) - 1


def _data(model: Any, tensor: Any, dtype: Any) -> Any:
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype=dtype)


def _name(tensor: Any) -> str:
    return tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)
