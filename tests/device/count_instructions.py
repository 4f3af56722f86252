"""On the board, under QEMU's plugin: mark the start and the end of each call; first of empty ones, then of one row."""

import ctypes
import sys

import numpy as np

from moe_edge import Predictor
from moe_edge.runtime.backends import load_backend
from moe_edge.runtime.verification import golden_rows

CALLS, MARK = 40, 9999

model, mode = sys.argv[1:]
mark = ctypes.CDLL(None).syscall

with Predictor(model, mode="routed" if mode == "routed" else "dense") as predictor:
    row = golden_rows(predictor.manifest, model)[:1]
    if mode in ("invoke", "plain"):
        # "plain" is without XNNPACK, as Predictor(xnnpack=False) and files above 64 MiB run.
        interpreter = load_backend().interpreter(model, xnnpack=None if mode == "invoke" else False)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(row))
        call = interpreter.invoke
    else:

        def call() -> None:
            """Answer one row."""
            predictor.predict_raw(row)

    for work in (lambda: None, call):
        for number in range(CALLS):
            mark(MARK, 2 * number)
            work()
            mark(MARK, 2 * number + 1)
