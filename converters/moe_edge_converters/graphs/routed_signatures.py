"""Derive the routed signatures from a fused graph that has its schemes: ``gate``, ``expert_0`` ..., ``combine``.

Quantize once, then derive: one set of ranges and weights, so that fused and routed answers are alike bit for bit.
Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from moe_edge_converters.file_writer import Alias
from moe_edge_converters.graphs.fused_graph import FusedLayout
from moe_edge_converters.graphs.graph import add_signature, operator_code
from moe_edge_converters.graphs.hierarchical_gate_graph import LOGITS
from moe_edge_converters.graphs.subgraph_cut import Subgraph, SubgraphCutter

GATE, COMBINE = "gate", "combine"


@dataclass(frozen=True, kw_only=True)
class RoutedParts:
    """What was added.

    Attributes:
        aliases: Buffers stored as slices of others.
        unaliased: Weights that had to be stored again (4-bit slices that start within a byte).
    """

    aliases: dict[int, Alias]
    unaliased: tuple[str, ...]


def branch_signature(node: int) -> str:
    """The name of one gate's signature in a hierarchy of gates."""
    return f"gate_{node}"


def expert_signature(index: int) -> str:
    """The name of an expert's signature."""
    return f"expert_{index}"


def add_routed_signatures(model: Any, layout: FusedLayout) -> RoutedParts:
    """Add a signature for each part, cut from subgraph 0.

    ``gate``: x -> routing_weights (1, E), the gate's side outputs, features. ``gate_n``, for hierarchical gates only:
    one gate of the tree. ``expert_i``: features -> output (1, values): logits where all experts end in a softmax, else
    the answer itself. ``combine``: routing_weights (1, E), outputs (1, E, values) -> what ``serving_default`` answers;
    it holds the softmax, because a runtime's softmax rounds by a row's position among others: fused and routed answers
    would differ in the last bit.

    Args:
        model: The fused model, quantized or not; changed in place.
        layout: Where its parts meet.
    """
    cutter = SubgraphCutter(model)
    graph = model.subgraphs[0]
    serving = model.signatureDefs[0]
    served = {_text(entry.name): entry.tensorIndex for entry in serving.outputs}
    x = graph.inputs[0]
    features, weights = cutter.tensor(layout.features), served["routing_weights"]
    sides = {name: served[name] for name in layout.gate_outputs if name != "routing_weights"}
    _add_gate(model, cutter, x, features, {"routing_weights": weights, **sides})
    if layout.tree is not None:
        _add_branches(model, cutter, x, features, len(layout.tree.nodes))
    answers = list(cutter.producer(cutter.tensor(layout.answers)).inputs)
    for index, answer in enumerate(answers):
        name = expert_signature(index)
        piece = cutter.cut(name, {"features": features}, {"output": answer})
        add_signature(
            model, name, piece.index, {"features": piece.subgraph.inputs[0]}, {"output": piece.subgraph.outputs[0]}
        )
    stacked = cutter.tensor(layout.stacked)
    outputs = {name: tensor for name, tensor in served.items() if name not in layout.gate_outputs}
    piece = cutter.cut(COMBINE, {"routing_weights": weights, "outputs": stacked}, outputs)
    add_signature(
        model,
        COMBINE,
        piece.index,
        {"routing_weights": piece.places[weights], "outputs": piece.places[stacked]},
        {name: piece.places[tensor] for name, tensor in outputs.items()},
    )
    return RoutedParts(aliases=cutter.aliases, unaliased=tuple(cutter.unaliased))


def _add_gate(model: Any, cutter: SubgraphCutter, x: int, features: int, given: dict[str, int]) -> None:
    """``gate``: x to what the gate gives and, last, the features."""
    if features != x:
        piece = cutter.cut(GATE, {"x": x}, {**given, "features": features})
    else:
        piece = cutter.cut(GATE, {"x": x}, given)
        _append_features(model, piece)
    outputs = dict(zip((*given, "features"), piece.subgraph.outputs, strict=True))
    add_signature(model, GATE, piece.index, {"x": piece.subgraph.inputs[0]}, outputs)


def _add_branches(model: Any, cutter: SubgraphCutter, x: int, features: int, num_gates: int) -> None:
    """``gate_n``, each gate of a hierarchy: features to branch_probabilities (1, branches of the widest gate).

    The root takes x instead, and hands the features on to the others and to the experts.
    """
    logits = cutter.tensor(LOGITS)
    for node in range(num_gates):
        name = branch_signature(node)
        if node == 0 and features != x:
            start, piece = {"x": x}, cutter.cut(name, {"x": x}, {"features": features})
            handed_on = piece.subgraph.outputs.pop()
        else:
            start = {"x" if node == 0 else "features": features}
            piece = cutter.cut(name, start, {})
        own = cutter.cut_slice(piece, logits, node, num_gates)
        probabilities = piece.add(piece.subgraph.tensors[own], name="branch_probabilities")
        operator = schema.OperatorT()
        operator.opcodeIndex = operator_code(model, "SOFTMAX")
        operator.inputs, operator.outputs = [own], [probabilities]
        operator.builtinOptions = schema.SoftmaxOptionsT()
        operator.builtinOptions.beta = 1.0
        operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
        piece.subgraph.operators.append(operator)
        piece.subgraph.outputs.append(probabilities)
        outputs = {"branch_probabilities": probabilities}
        if node == 0:
            if features != x:
                piece.subgraph.outputs.append(handed_on)
            else:
                _append_features(model, piece)
            outputs["features"] = piece.subgraph.outputs[-1]
        inputs = dict(zip(start, piece.subgraph.inputs, strict=True))
        add_signature(model, name, piece.index, inputs, outputs)


def _append_features(model: Any, piece: Subgraph) -> None:
    """Hand the row on as it is: without preprocessing, features are x. A graph's input can't be its output too."""
    source = piece.subgraph.tensors[piece.subgraph.inputs[0]]
    out = piece.add(source, name="features")
    target = np.array([-1, *list(source.shape)[1:]], dtype=np.int32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(target.tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    shape = schema.TensorT()
    shape.name, shape.shape, shape.type = "features/shape", [len(target)], schema.TensorType.INT32
    shape.buffer = len(model.buffers) - 1
    piece.subgraph.tensors.append(shape)
    options = schema.ReshapeOptionsT()
    options.newShape = target.tolist()
    operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, "RESHAPE")
    operator.inputs, operator.outputs = [piece.subgraph.inputs[0], len(piece.subgraph.tensors) - 1], [out]
    operator.builtinOptions, operator.builtinOptionsType = options, schema.BuiltinOptions.ReshapeOptions
    piece.subgraph.operators.append(operator)
    piece.subgraph.outputs.append(out)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
