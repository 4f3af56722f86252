"""ONNX Runtime as its performance guide advises: all optimisations, sequential execution, fixed shapes, I/O binding.

Layer: desktop (converters). Imports onnxruntime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from moe_edge.runtime.benchmark.subjects import Answers, Call

Rows = npt.NDArray[np.float32]


class OnnxRuntimeSubject:
    """A model; one session for each batch size, its shapes fixed."""

    def __init__(self, *, model: str, num_threads: int = 1) -> None:
        """Open a session for one row.

        Args:
            model: Path of the .onnx, its batch a free dimension.
            num_threads: Threads within an operator.
        """
        self._model = model
        self._num_threads = num_threads
        self.backend = "onnxruntime"
        self._single = self.runner(1)

    @staticmethod
    def load(options: dict[str, Any]) -> None:
        """Import the libraries."""
        import onnxruntime

        onnxruntime.disable_telemetry_events()

    def runner(self, batch: int) -> Call:
        """A session with its input and output bound to memory of its own."""
        import onnxruntime

        from moe_edge_converters.peers.onnx_graph import BATCH

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = self._num_threads
        options.inter_op_num_threads = 1
        options.add_free_dimension_override_by_name(BATCH, batch)
        session = onnxruntime.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
        source = np.zeros([batch, *session.get_inputs()[0].shape[1:]], dtype=np.float32)
        target = np.zeros([batch, *session.get_outputs()[0].shape[1:]], dtype=np.float32)
        bound = onnxruntime.OrtValue.ortvalue_from_numpy(source)
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", bound)
        binding.bind_output(
            "prediction", "cpu", element_type=np.float32, shape=target.shape, buffer_ptr=target.ctypes.data
        )
        run = session.run_with_iobinding

        def call(rows: Rows) -> Rows:
            bound.update_inplace(rows)
            run(binding)
            answer: Rows = target.copy()
            return answer

        return call

    def answers(self, rows: Rows) -> Answers:
        """Answers, a row at a time."""
        return Answers(np.concatenate([self._single(rows[index : index + 1]) for index in range(len(rows))]))

    def parts(self, rows: Rows) -> dict[str, float]:
        """None."""
        return {}
