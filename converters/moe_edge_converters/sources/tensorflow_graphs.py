"""Write a traced TensorFlow function as TFLite operators, with the converter's chatter off the user's screen.

Layer: desktop (converters).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

from moe_edge.errors import ConversionError
from moe_edge_converters.file_writer import read_model


def write_graph(function: Any, *, subject: str) -> bytes:
    """Convert one function, builtin operators only, its variables frozen.

    Args:
        function: A ``tf.ConcreteFunction``.
        subject: What it is, for messages: ``"the gate"``.

    Returns:
        The bytes of a float32 .tflite of one subgraph.

    Raises:
        ConversionError: With the converter's first complaint, or if the graph holds control flow.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(function)])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content = bytes(converter.convert())
    except Exception as error:  # The converter raises bare Exceptions of many kinds.
        lines = [line.strip() for line in str(error).splitlines() if "error:" in line] or str(error).splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise ConversionError(
            f"{subject} can't be written with TFLite's builtin operators: {reason[:300]}; use layers that TFLite knows"
        ) from error
    if len(read_model(content).subgraphs) != 1:
        raise ConversionError(
            f"{subject} holds control flow (a loop or a branch), which doesn't run well on devices; "
            "unroll recurrent layers with unroll=True"
        )
    return content


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keep the converter's chatter off the user's screen; its errors are exceptions."""
    import tensorflow as tf

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet_stderr():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Silence file descriptor 2: the converter's C++ part writes there directly."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:  # noqa: PTH123 - the null device is no path to build
            os.dup2(sink.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
    finally:
        os.close(saved)
