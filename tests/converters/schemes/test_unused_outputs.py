import numpy as np
from ai_edge_litert import schema_py_generated as schema

from moe_edge_converters.graphs.graph import GraphBuilder, new_model
from moe_edge_converters.schemes.unused_outputs import give_unused_outputs_types


def split_model(*, read):
    """A SPLIT in four whose pieces in ``read`` are int8 and summed up; the others were left float32."""
    model = new_model("test")
    builder = GraphBuilder(model, "main")
    pieces = builder.split(builder.input("x", (8,)), 4, names=[f"piece_{index}" for index in range(4)])
    for index in read:
        tensor = builder.subgraph.tensors[pieces[index]]
        tensor.type = schema.TensorType.INT8
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5], [3]
    builder.output("answer", builder.concatenate([pieces[index] for index in read], name="joined"))
    return model, [builder.subgraph.tensors[index] for index in pieces]


def test_an_unread_piece_gets_its_siblings_type_and_scale():
    model, pieces = split_model(read=(0, 2, 3))
    give_unused_outputs_types(model)
    assert {piece.type for piece in pieces} == {schema.TensorType.INT8}
    assert pieces[1].quantization.scale == [0.5] and pieces[1].quantization.zeroPoint == [3]
    assert pieces[1].quantization is not pieces[0].quantization


def test_float_graphs_stay_as_they_are():
    model = new_model("test")
    builder = GraphBuilder(model, "main")
    pieces = builder.split(builder.input("x", (8,)), 4, names=list("abcd"))
    builder.output("answer", pieces[0])
    give_unused_outputs_types(model)
    assert {builder.subgraph.tensors[index].type for index in pieces} == {schema.TensorType.FLOAT32}
    assert np.all([builder.subgraph.tensors[index].quantization is None for index in pieces])
