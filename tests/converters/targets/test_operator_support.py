"""The tables say what the runtimes themselves say, wherever these are here."""

from __future__ import annotations

import json
import subprocess

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema

from moe_edge.errors import ConversionError
from moe_edge_converters.targets.operator_support import (
    MICRO_OPERATORS,
    TFLITE_RUNTIME_VERSIONS,
    PlacedOperator,
    check_micro,
    check_tflite_runtime,
)

ASK = """
import base64, json, sys
from tflite_runtime.interpreter import Interpreter
answers = {}
for name, content in json.load(open(sys.argv[1])).items():
    try:
        Interpreter(model_content=base64.b64decode(content))
        answers[name] = True
    except ValueError as error:
        answers[name] = False
print(json.dumps(answers))
"""


def model_that_lists(operator: str, version: int) -> bytes:
    """A file whose table of operator codes has one entry, and whose graph is empty: loading looks the entry up."""
    model = schema.ModelT()
    model.version = 3
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = "x", [1, 4], 0
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
    model.operatorCodes, model.buffers, model.subgraphs = [code], [schema.BufferT()], [graph]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_the_versions_are_those_that_tflite_runtime_knows(old_runtime_python, tmp_path):
    import base64

    asked = {}
    for name, newest in TFLITE_RUNTIME_VERSIONS.items():
        for version in (newest, newest + 1):
            asked[f"{name} {version}"] = base64.b64encode(model_that_lists(name, version)).decode()
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    command = [str(old_runtime_python), "-c", ASK, str(tmp_path / "asked.json")]
    answers = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    wrong = [
        key
        for key, loads in answers.items()
        if loads != (TFLITE_RUNTIME_VERSIONS[key.split()[0]] == int(key.split()[1]))
    ]
    assert not wrong


def placed(name, version=1, inputs=("float32", "float32", "float32"), outputs=("float32",)):
    return PlacedOperator(subgraph=0, name=name, version=version, layer="expert_0/x", inputs=inputs, outputs=outputs)


def test_the_first_unknown_operator_is_named():
    check_tflite_runtime([placed("FULLY_CONNECTED", 10), placed("ADD", 5)])
    with pytest.raises(ConversionError, match=r"versions up to 10: layer expert_0/x \(FULLY_CONNECTED version 12\)"):
        check_tflite_runtime([placed("ADD"), placed("FULLY_CONNECTED", 12), placed("NO_SUCH")])
    with pytest.raises(ConversionError, match="doesn't know it"):
        check_tflite_runtime([placed("STABLEHLO_ADD")])


def test_micro_computes_float_with_float_and_int8_with_int8():
    check_micro([placed("FULLY_CONNECTED"), placed("FULLY_CONNECTED", inputs=("int8", "int8", "int32"))])
    with pytest.raises(ConversionError, match="float32 with int8"):
        check_micro([placed("FULLY_CONNECTED", inputs=("float32", "int8", "float32"))])
    with pytest.raises(ConversionError, match="float16 with float32: layer expert_0/x"):
        check_micro([placed("DEQUANTIZE", inputs=("float16",))])
    with pytest.raises(ConversionError, match=r"no such operator: layer expert_0/x .TOPK_V2"):
        check_micro([placed("TOPK_V2")])


def test_every_name_is_an_operator():
    known = set(vars(schema.BuiltinOperator))
    assert set(TFLITE_RUNTIME_VERSIONS) <= known and known >= MICRO_OPERATORS
