"""Operators of a walk through trees: wrong ones are refused, and what is accepted doesn't end an interpreter's process."""

import subprocess
import sys

import numpy as np
import pytest

from moe_edge.runtime.flatbuffer_verifier import FlatbufferError
from moe_edge.runtime.model_structure import read_structure
from moe_edge.runtime.operator_rules import check_operator
from moe_edge_converters.file_writer import pack, read_model
from moe_edge_converters.graphs.tree_graph import tree_network
from moe_edge_converters.graphs.tree_walk import TreeTables

GATHER, CAST, GREATER, LOGISTIC, PAD = 36, 53, 61, 14, 34

# Opens and runs each file in a child: a child that is ended by a signal is named.
RUN = """
import os, sys
from pathlib import Path
import numpy as np
try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter
for path in sorted(Path(sys.argv[1]).iterdir()):
    pid = os.fork()
    if pid == 0:
        try:
            interpreter = Interpreter(model_path=str(path))
            place = interpreter.get_input_details()[0]["index"]
            for batch in (1, 7):
                interpreter.resize_tensor_input(place, [batch, 3])
                interpreter.allocate_tensors()
                interpreter.set_tensor(place, np.ones((batch, 3), np.float32))
                interpreter.invoke()
        except Exception:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print(path.name, "signal" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
"""


def network():
    """Two trees of depth 2 that look at -x too, and a sigmoid of chosen sums: every operator that trees use."""
    return tree_network(
        TreeTables(
            feature=np.array([0, 4, 0, 2, 0, 0], np.int32),
            threshold=np.array([0, 0.5, np.inf, 2, np.inf, np.inf], np.float32),
            first_child=np.array([2, 4, 2, 6, 4, 5], np.int32),
            roots=np.array([0, 1], np.int32),
            values=np.arange(8, dtype=np.float32).reshape(-1, 1),
            columns=np.array([0, 0, 0], np.int32),
            scale=np.array([-1, 1, 0], np.float32),
            offset=np.array([-0.5, 0.5, -9], np.float32),
            first_leaf=0,
            depth=2,
            num_groups=1,
            negated=True,
            link="sigmoid",
        ),
        3,
    )


def variants():
    """(Name, model) with one thing wrong: options, inputs, outputs, contents of tables."""
    content = network().model
    graph = read_model(content).subgraphs[0]

    def changed(change):
        model = read_model(content)
        change(model, model.subgraphs[0])
        return pack(model)

    for number, operator in enumerate(graph.operators):
        if hasattr(operator.builtinOptions, "batchDims"):
            for name in ("axis", "batchDims"):
                for value in (-(2**31), -3, -1, 1, 2, 9, 2**31 - 1):
                    yield (
                        f"{number}-{name}-{value}",
                        changed(lambda _, g, n=number, k=name, v=value: setattr(g.operators[n].builtinOptions, k, v)),
                    )
        for place in range(len(operator.inputs)):
            kept = [index for other, index in enumerate(operator.inputs) if other != place]
            yield (
                f"{number}-without-{place}",
                changed(lambda _, g, n=number, k=kept: setattr(g.operators[n], "inputs", k)),
            )
        yield f"{number}-no-output", changed(lambda _, g, n=number: setattr(g.operators[n], "outputs", []))
        yield f"{number}-no-options", changed(lambda _, g, n=number: _drop_options(g.operators[n]))
    for index, tensor in enumerate(graph.tensors):
        for kind in (0, 2, 4, 6, 9):
            yield f"type-{index}-{kind}", changed(lambda _, g, i=index, k=kind: setattr(g.tensors[i], "type", k))
        if read_model(content).buffers[tensor.buffer].data is not None:
            for value in (0x7F, 0x80, 0xFF):
                yield (
                    f"filled-{index}-{value}",
                    changed(lambda m, g, i=index, v=value: _fill(m.buffers[g.tensors[i].buffer], v)),
                )


def _drop_options(operator):
    operator.builtinOptions, operator.builtinOptionsType = None, 0


def _fill(buffer, value):
    buffer.data = np.full(len(buffer.data), value, np.uint8)


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"])
def test_what_is_accepted_never_ends_a_process(runtime, request, tmp_path):
    python = sys.executable if runtime == "litert" else request.getfixturevalue("old_runtime_python")
    (tmp_path / "unchanged").write_bytes(network().model)
    refused = 0
    for name, content in variants():
        try:
            read_structure(content)
        except FlatbufferError:
            refused += 1
        else:
            (tmp_path / name).write_bytes(content)
    done = subprocess.run([str(python), "-c", RUN, str(tmp_path)], check=True, capture_output=True, text=True).stdout
    ends = dict(line.split() for line in done.splitlines())
    assert ends["unchanged"] == "0"
    assert refused > 50
    assert len(ends) > 100
    assert [name for name, end in ends.items() if end == "signal"] == []


@pytest.mark.parametrize(
    ("code", "options", "inputs", "outputs", "message"),
    [
        (GATHER, 0, (0, 1), 1, "expected options of type 23"),
        (GATHER, 23, (0,), 1, "too few inputs"),
        (GREATER, 45, (0,), 1, "too few inputs"),
        (GREATER, 45, (0, -1), 1, "left out"),
        (CAST, 37, (), 1, "too few inputs"),
        (CAST, 23, (0,), 1, "expected options of type 37"),
        (LOGISTIC, 0, (0,), 0, r"outputs \(0\)"),
        (PAD, 22, (0,), 1, "too few inputs"),
    ],
)
def test_wrong_operators_are_refused(code, options, inputs, outputs, message):
    row = [0, None, None, options, [0] if options else None]
    with pytest.raises(FlatbufferError, match=message):
        check_operator(code, row, inputs, outputs, "here")


def test_a_cast_may_go_without_options():
    """TensorFlow's converter writes none: the kernel goes by the tensors' types."""
    check_operator(CAST, [0, None, None, 0, None], (0,), 1, "here")
