"""Emit the preprocessing: one raw row in, features out, always in float32.

Layer: desktop (converters).
"""

from __future__ import annotations

import numpy as np

from moe_edge_converters.graphs.graph import GraphBuilder, TensorIndex
from moe_edge_converters.spec import PreprocessSpec


def add_preprocess(builder: GraphBuilder, x: TensorIndex, spec: PreprocessSpec) -> TensorIndex:
    """Impute, normalise, clip and one-hot encode (1, d) into (1, F).

    The clip is never left out: without an operator between the normalisation and the first layer the quantizer would
    take the raw columns, whose ranges differ a thousandfold, for that layer's input.
    """
    parts = []
    if spec.numeric:
        parts.append(_add_numeric(builder, _columns(builder, x, spec.numeric, name="preprocess/numeric"), spec))
    if spec.categorical:
        parts.append(_add_one_hot(builder, x, spec))
    return builder.concatenate(parts, name="preprocess/features")


def _columns(builder: GraphBuilder, x: TensorIndex, columns: tuple[int, ...], *, name: str) -> TensorIndex:
    """Pick columns, unless they are all there in their order."""
    if columns == tuple(range(builder.shape(x)[1])):
        return x
    return builder.gather_columns(x, columns, name=name)


def _add_numeric(builder: GraphBuilder, x: TensorIndex, spec: PreprocessSpec) -> TensorIndex:
    def constant(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> TensorIndex:
        # One row, (1, n): broadcasting then needs no rank change on any runtime.
        return builder.constant(f"preprocess/{name}", values.reshape(1, -1), np.float32)

    # NaN is the only value that differs from itself.
    missing = builder.binary("NOT_EQUAL", x, x, name="preprocess/missing")
    known = builder.select(missing, constant("fill", spec.fill), x, name="preprocess/imputed")
    centred = builder.binary("SUB", known, constant("mean", spec.mean), name="preprocess/centred")
    scaled = builder.binary("MUL", centred, constant("inverse_scale", spec.inverse_scale), name="preprocess/scaled")
    floored = builder.binary("MAXIMUM", scaled, constant("low", spec.low), name="preprocess/floored")
    return builder.binary("MINIMUM", floored, constant("high", spec.high), name="preprocess/clipped")


def _add_one_hot(builder: GraphBuilder, x: TensorIndex, spec: PreprocessSpec) -> TensorIndex:
    """All categorical columns at once: repeat each column for its categories and compare with the codes."""
    repeated = [column for column, count in spec.categorical for _ in range(count)]
    codes = np.concatenate([np.arange(count, dtype=np.float32) for _, count in spec.categorical])
    values = builder.gather_columns(x, repeated, name="preprocess/categorical")
    # NaN equals nothing: a missing category becomes all zeros.
    equal = builder.binary(
        "EQUAL", values, builder.constant("preprocess/codes", codes.reshape(1, -1)), name="preprocess/is_category"
    )
    return builder.to_float(equal, name="preprocess/one_hot")
