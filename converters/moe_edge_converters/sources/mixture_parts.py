"""Take a traced graph apart around a supposed gate: the weighted sum, the experts, the features, the trunk.

Layer: desktop (converters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_edge_converters.sources.float_graph import Array, FloatGraph, GraphRunner, Node
from moe_edge_converters.sources.graph_slices import NetworkCutter
from moe_edge_converters.sources.linear_forms import LINEAR, MOVING, Form, FormPuller, WeightUse
from moe_edge_converters.sources.network_slices import dense_network, is_identity
from moe_edge_converters.spec import GraphNetwork, Network

_SUM_TOLERANCE = 1e-4


class MissingStepError(Exception):
    """A step of the mixture's pattern isn't there; ``stage`` counts how many are."""

    def __init__(self, stage: int, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureParts:
    """A mixture's parts.

    Attributes:
        trunk: From the raw row to the features; None where they are the row.
        gate: From features to E weights.
        experts: From features to K values each.
        num_outputs: K.
        closing_softmax: Whether a softmax follows the weighted sum.
        probabilities: Whether every expert answers with probabilities: values that sum to one for every row, or
            sigmoids.
    """

    trunk: GraphNetwork | None
    gate: Network
    experts: tuple[Network, ...]
    num_outputs: int
    closing_softmax: bool
    probabilities: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answer:
    """One expert's answer.

    Attributes:
        form: The model's answer (before a closing softmax) with all weight on this expert.
        places: (tensor, flat index) of the values that the weighted sum takes, in order.
    """

    form: Form
    places: tuple[tuple[int, int], ...]


def read_parts(graph: FloatGraph, gate: int, values: Sequence[dict[int, Array]]) -> MixtureParts:
    """Take the graph apart.

    Args:
        graph: The traced graph.
        gate: The tensor with the E weights.
        values: Every tensor's value, for each of several rows.

    Raises:
        MissingStepError: If the gate's values don't weigh E networks of their own, or not in a sum.
    """
    weighed = graph.descendants(gate)
    varying = graph.descendants(graph.x)
    fixed = {**graph.constants}
    fixed |= {tensor: value for tensor, value in values[0].items() if tensor not in varying}
    top, closing_softmax = _before_softmax(graph, weighed)
    answers = _read_answers(graph, gate, weighed, fixed, top)
    sources = [tensor for answer in answers for tensor in answer.form.parts]
    if not graph.ancestors([gate]).isdisjoint(sources):
        raise MissingStepError(
            2, f"the softmax over {graph.size(gate)} values is computed from the values that it weighs, as in attention"
        )
    puller = FormPuller(graph, fixed)
    features = _find_features(graph, gate, sources, puller)
    experts, uses = [], []
    shared = _shared_tensors(answers)
    for answer in answers:
        use = WeightUse()
        whole = shared.isdisjoint(answer.form.parts)
        experts.append(_read_network(puller, answer.form, features, use, whole=whole))
        uses.append(use)
    _check_own_weights(uses, graph.size(gate))
    gate_network = _read_network(puller, puller.identity(gate), features, WeightUse(), whole=True)
    trunk = None
    if features != graph.x:
        trunk = NetworkCutter(puller, graph.x, WeightUse(), whole=True).cut_tensor(features)
    return MixtureParts(
        trunk=trunk,
        gate=gate_network,
        experts=tuple(experts),
        num_outputs=graph.size(top),
        closing_softmax=closing_softmax,
        probabilities=all(_is_probability(graph, answer.form, values) for answer in answers),
    )


def _before_softmax(graph: FloatGraph, weighed: set[int]) -> tuple[int, bool]:
    """The tensor that the experts' answers sum up to: the output, or what a closing softmax is given."""
    tensor = graph.output
    while tensor in weighed and graph.producers[tensor].kind in MOVING:
        tensor = graph.producers[tensor].inputs[0]
    node = graph.producers.get(tensor)
    if node is None or node.kind != "SOFTMAX" or node.inputs[0] not in weighed:
        return graph.output, False
    if graph.shapes[tensor][-1] != graph.size(tensor):
        return graph.output, False
    return node.inputs[0], True


def _read_answers(graph: FloatGraph, gate: int, weighed: set[int], fixed: dict[int, Array], top: int) -> list[_Answer]:
    """Each expert's answer, by giving it all the weight."""
    count = graph.size(gate)
    alone = weighed - _mixed(graph, gate)
    _check_products(graph, gate, alone, weighed)
    runner = GraphRunner(graph, (gate,)) if alone - {gate} else None
    x = np.zeros(graph.shapes[graph.x], dtype=np.float32)
    chain = _sum_candidates(graph, weighed, top)
    chosen: int | None = None
    moves: dict[int, Array] = {}
    answers: list[_Answer] = []
    taken: set[tuple[int, int]] = set()
    for expert in range(count):
        weights = np.zeros(graph.shapes[gate], dtype=np.float32)
        weights.reshape(-1)[expert] = 1
        known = {**fixed, gate: weights}
        if runner is not None:
            run = runner.run(x, {gate: weights}, wanted=alone)
            known |= {tensor: run[tensor] for tensor in alone if tensor in run}
        puller = FormPuller(graph, known, moves=moves)

        def through(node: Node) -> bool:
            return node.kind in LINEAR and (node.kind in MOVING or not weighed.isdisjoint(node.outputs))

        found = None
        for tensor in chain if chosen is None else [chosen]:
            form = puller.pull(puller.identity(tensor), through)
            found = _selection(form, weighed)
            if found is not None:
                chosen = tensor
                break
        if found is None or chosen is None:
            raise MissingStepError(
                1,
                f"the softmax over {count} values isn't followed by a weighted sum of {count} answers, one a value, "
                "or isn't a gate at all",
            )
        if not taken.isdisjoint(found):
            raise MissingStepError(2, f"the softmax over {count} values weighs values that aren't {count} answers")
        taken.update(found)
        form = form if chosen == top else puller.pull(puller.identity(top), through)
        blocked = [tensor for tensor in form.parts if tensor in weighed]
        if blocked:
            kind = graph.producers[blocked[0]].kind
            raise MissingStepError(
                3, f"the weighted sum of {count} answers doesn't reach the output: {kind} comes between them"
            )
        answers.append(_Answer(form=form, places=found))
    return answers


def _check_products(graph: FloatGraph, gate: int, alone: set[int], weighed: set[int]) -> None:
    """Whatever the answer is made of is multiplied by the weights on its way; quick, for there may be many suspects.

    Raises:
        MissingStepError: If nothing is, or something reaches the output past them.
    """
    varying = graph.descendants(graph.x)
    products = {
        node.outputs[0]
        for node in graph.nodes
        if node.kind in ("MUL", "BATCH_MATMUL", "FULLY_CONNECTED")
        and not alone.isdisjoint(node.inputs)
        and any(tensor in varying and tensor not in weighed for tensor in node.inputs)
    }
    if not products:
        raise MissingStepError(0, "there is no gate: no softmax computed from the input weighs answers")
    found: set[int] = set()
    waiting = [graph.output]
    while waiting:
        tensor = waiting.pop()
        if tensor in found or tensor in products or tensor in alone:
            continue
        found.add(tensor)
        if tensor in graph.producers:
            waiting.extend(graph.producers[tensor].inputs)
    if graph.x in found:
        raise MissingStepError(
            1, f"the softmax over {graph.size(gate)} values is no gate: answers reach the output without its weights"
        )


def _is_probability(graph: FloatGraph, form: Form, values: Sequence[dict[int, Array]]) -> bool:
    """Whether an answer's values sum to one for every row, or each of them is a sigmoid."""
    producers = [graph.producers.get(tensor) for tensor in form.parts]
    if len(producers) == 1 and producers[0] is not None and producers[0].kind == "LOGISTIC":
        return not form.offset.any() and bool((next(iter(form.parts.values())).sum(axis=1) == 1).all())
    if len(form.offset) < 2 or any(graph.is_virtual(tensor) for tensor in form.parts):
        return False
    for row in values:
        answer = form.offset + sum(matrix @ row[tensor].reshape(-1) for tensor, matrix in form.parts.items())
        if answer.min() < -_SUM_TOLERANCE or abs(float(answer.sum()) - 1) > _SUM_TOLERANCE:
            return False
    return True


def _mixed(graph: FloatGraph, gate: int) -> set[int]:
    """Tensors that depend on the input in another way than through the gate."""
    found = {graph.x}
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.update(tensor for tensor in node.outputs if tensor != gate)
    return found


def _sum_candidates(graph: FloatGraph, weighed: set[int], top: int) -> list[int]:
    """Tensors that everything weighed must pass on its way to the answer, the answer first."""
    chain = [top]
    while chain[-1] in graph.producers:
        inputs = {tensor for tensor in graph.producers[chain[-1]].inputs if tensor in weighed}
        if len(inputs) != 1:
            break
        chain.append(inputs.pop())
    return [tensor for tensor in chain if tensor in weighed]


def _selection(form: Form, weighed: set[int]) -> tuple[tuple[int, int], ...] | None:
    """The values that a form picks, each once and all with one factor; None where it does anything else."""
    if not form.parts or form.offset.any() or not weighed.isdisjoint(form.parts):
        return None
    num_outputs = len(form.offset)
    rows: list[int] = []
    places: list[tuple[int, int]] = []
    factors: list[float] = []
    for tensor, matrix in form.parts.items():
        at_row, at_column = np.nonzero(matrix)
        rows.extend(at_row.tolist())
        places.extend((tensor, int(column)) for column in at_column)
        factors.extend(matrix[at_row, at_column].tolist())
    if sorted(rows) != list(range(num_outputs)) or len(set(places)) != num_outputs:
        return None
    if not np.allclose(factors, factors[0], rtol=1e-6) or factors[0] <= 0:
        return None
    return tuple(places)


def _find_features(graph: FloatGraph, gate: int, sources: Sequence[int], puller: FormPuller) -> int:
    """The last tensor that gate and experts both start from; the row itself where they share nothing else."""
    targets = {gate, *sources}
    candidates = sorted(
        (
            tensor
            for tensor in graph.ancestors([gate])
            if tensor in graph.producers
            and not graph.is_virtual(tensor)
            and graph.is_float(tensor)
            and tensor not in targets
            and graph.shapes[tensor][:1] == (1,)
            and len(graph.shapes[tensor]) >= 2
        ),
        key=lambda tensor: -graph.producers[tensor].position,
    )
    for tensor in candidates:
        before = graph.ancestors(targets, stop=tensor)
        if tensor in before and graph.x not in before:
            return graph.x if _is_row(puller, tensor) else tensor
    return graph.x


def _is_row(puller: FormPuller, tensor: int) -> bool:
    """Whether a tensor is the row itself, reshaped at most."""
    graph = puller.graph
    if graph.size(tensor) != graph.size(graph.x):
        return False
    current = tensor
    while current != graph.x:
        node = graph.producers[current]
        if node.kind not in ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"):
            return False
        current = node.inputs[0]
    return True


def _shared_tensors(answers: Sequence[_Answer]) -> set[int]:
    """Tensors that hold answers of several experts side by side."""
    seen: set[int] = set()
    shared: set[int] = set()
    for answer in answers:
        shared |= seen & set(answer.form.parts)
        seen |= set(answer.form.parts)
    return shared


def _read_network(puller: FormPuller, form: Form, features: int, use: WeightUse, *, whole: bool) -> Network:
    """Dense layers if it is a chain of them, else the graph as it stands."""
    own = WeightUse()
    network = dense_network(puller, form, features, whole=whole, use=own)
    if network is not None:
        use.masks.update(own.masks)
        return network
    cutter = NetworkCutter(puller, features, use, whole=whole)
    if whole and len(form.parts) == 1 and not form.offset.any():
        tensor, matrix = next(iter(form.parts.items()))
        if is_identity(matrix):
            return cutter.cut_tensor(tensor)
    return cutter.cut_form(form)


def _check_own_weights(uses: Sequence[WeightUse], count: int) -> None:
    """Every expert has weights that no other one uses."""
    totals: dict[int, Array] = {}
    for use in uses:
        for tensor, mask in use.masks.items():
            totals[tensor] = totals.get(tensor, np.zeros(mask.shape, dtype=np.int32)) + mask
    for expert, use in enumerate(uses):
        if not any(bool((mask & (totals[tensor] == 1)).any()) for tensor, mask in use.masks.items()):
            cause = "shares all its weights with the others, as in attention" if use.masks else "has no weights"
            raise MissingStepError(
                2, f"the {count} values that the softmax weighs aren't {count} experts: number {expert} {cause}"
            )
