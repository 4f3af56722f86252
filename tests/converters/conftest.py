"""Mixtures as data with seeded weights, and what they must answer: a reference in NumPy, in float64.

The reference knows nothing of the graph builder: it is the oracle that every written graph is held against.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from moe_edge.config import Combine, Task
from moe_edge_converters.file_writer import pack
from moe_edge_converters.graphs.fused_graph import build_fused_graph
from moe_edge_converters.schemes import calibration, quantization
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import HeadSpec, MixtureSpec, PreprocessSpec, dense_stack

BATCHES = (1, 7, 64)


def make_network(rng, sizes, closing="linear", hidden="relu"):
    """A dense network through ``sizes``, its weights large enough for answers to differ from row to row."""
    activations = [hidden] * (len(sizes) - 2) + [closing]
    return dense_stack(
        [
            (rng.normal(size=(fan_in, units)) * 1.6 / np.sqrt(fan_in), rng.normal(size=units) * 0.2, activation)
            for fan_in, units, activation in zip(sizes, sizes[1:], activations, strict=False)
        ]
    )


def make_gate(rng, sizes):
    """A gate whose experts all win some rows: its last layer is centred on random features."""
    network = make_network(rng, sizes, "softmax")
    *hidden, last = network.layers
    probe = rng.normal(size=(200, sizes[0]))
    for layer in hidden:
        probe = ACTIVATIONS[layer.activation](probe @ layer.kernel + layer.bias)
    bias = -(probe @ last.kernel).mean(axis=0)
    return replace(network, layers=(*hidden, replace(last, bias=bias.astype(np.float32))))


def make_preprocess(rng, num_columns, categorical=(), *, ratio=1.0):
    """Preprocessing whose columns' spreads differ up to ``ratio``-fold; the other columns are numeric, shuffled."""
    taken = {column for column, _ in categorical}
    numeric = rng.permutation([column for column in range(num_columns) if column not in taken])
    spread = ratio ** rng.uniform(0, 1, len(numeric))
    if len(numeric) > 1:
        spread[:2] = 1.0, ratio
    mean = rng.normal(size=len(numeric)) * spread
    return PreprocessSpec(
        num_columns=num_columns,
        numeric=tuple(numeric.tolist()),
        fill=(mean + 0.3 * spread).astype(np.float32),
        mean=mean.astype(np.float32),
        inverse_scale=(1 / spread).astype(np.float32),
        low=np.full(len(numeric), -3, np.float32),
        high=np.full(len(numeric), 3, np.float32),
        categorical=tuple(categorical),
    )


def make_spec(
    *,
    num_experts=3,
    num_columns=6,
    num_outputs=4,
    combine=Combine.PROBABILITIES,
    hidden=(8, 5),
    gate_hidden=(7,),
    preprocess=None,
    seed=0,
):
    """A mixture of dense experts.

    Args:
        hidden: Units of each expert's hidden layers; a list gives one such tuple an expert.
        preprocess: A ``PreprocessSpec``, ``True`` for a seeded one over all columns, None for none.
    """
    rng = np.random.default_rng(seed)
    if preprocess is True:
        preprocess = make_preprocess(rng, num_columns)
    num_features = preprocess.num_features if preprocess else num_columns
    layers = hidden if isinstance(hidden, list) else [hidden] * num_experts
    width = 2 * num_outputs if combine is Combine.GAUSSIAN else num_outputs
    closing = "softmax" if combine is Combine.PROBABILITIES else "linear"
    regression = combine in (Combine.GAUSSIAN, Combine.MEAN)
    head = HeadSpec()
    if regression:
        head = HeadSpec(
            scale=np.linspace(5, 9, num_outputs, dtype=np.float32),
            shift=np.linspace(-2, 30, num_outputs, dtype=np.float32),
            min_sigma=0.2,
            max_sigma=2.0,
        )
    return MixtureSpec(
        task=Task.REGRESSION if regression else Task.CLASSIFICATION,
        combine=combine,
        input_shape=(num_columns,),
        preprocess=preprocess,
        gate=make_gate(rng, (num_features, *gate_hidden, num_experts)),
        experts=tuple(make_network(rng, (num_features, *units, width), closing) for units in layers),
        num_outputs=num_outputs,
        head=head,
    )


def make_rows(spec, count, *, seed=1, missing=0.0):
    """Raw float32 rows in the range of the mixture's training data; categories as codes."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, *spec.input_shape)).astype(np.float32)
    if spec.preprocess is not None:
        columns = list(spec.preprocess.numeric)
        rows[:, columns] = rows[:, columns] / spec.preprocess.inverse_scale + spec.preprocess.mean
        for column, categories in spec.preprocess.categorical:
            rows[:, column] = rng.integers(0, categories, count)
        rows[rng.random(rows.shape) < missing] = np.nan
    return rows


@dataclass(frozen=True)
class Reference:
    """What a mixture must answer; float64."""

    prediction: np.ndarray
    routing_weights: np.ndarray
    sigma: np.ndarray | None = None
    expert_means: np.ndarray | None = None
    expert_sigmas: np.ndarray | None = None


def softmax(values):
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softmax": softmax,
}


def run_network(network, features):
    for layer in network.layers:
        features = ACTIVATIONS[layer.activation](features @ layer.kernel.astype(np.float64) + layer.bias)
    return features


def reference(spec, rows):
    """The mixture in NumPy: preprocessing, gate, every expert, combination, head."""
    features = np.asarray(rows if spec.preprocess is None else spec.preprocess.apply(rows), np.float64)
    gate = run_network(spec.gate, features)
    answers = np.stack([run_network(expert, features) for expert in spec.experts], axis=1)
    weight = gate[:, :, None]
    scale = 1.0 if spec.head.scale is None else spec.head.scale.astype(np.float64)
    shift = 0.0 if spec.head.shift is None else spec.head.shift.astype(np.float64)
    if spec.combine is Combine.GAUSSIAN:
        means, log_sigmas = np.split(answers, 2, axis=2)
        sigmas = np.clip(np.exp(log_sigmas), spec.head.min_sigma, spec.head.max_sigma)
        mean = (weight * means).sum(axis=1)
        # Second moment minus the square of the mean: another formula than the graph's.
        variance = (weight * (sigmas**2 + means**2)).sum(axis=1) - mean**2
        own = means * scale + shift, sigmas * scale
        return Reference(mean * scale + shift, gate, np.sqrt(variance) * scale, *own)
    mixed = (weight * answers).sum(axis=1)
    if spec.combine is Combine.LOGITS:
        mixed = softmax(mixed)
    return Reference(mixed * scale + shift, gate)


def run_by_position(content, rows, *, delegate=True):
    """Run subgraph 0 as a host that knows nothing of signatures does; returns its outputs in order."""
    from ai_edge_litert.interpreter import OpResolverType

    resolver = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    if rows.shape != tuple(interpreter.get_input_details()[0]["shape"]):
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rows)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def fuse(spec, schemes=None):
    """The float32 graph of a mixture: its model, and its banks."""
    model, layout = build_fused_graph(spec, schemes or ["float32"] * spec.num_experts)
    return model, getattr(layout, "banks", layout)


def quantize_spec(spec, schemes, rows, *, gate="float32", per_tensor=False, skip=()):
    """Quantize a mixture part by part; parts in ``skip`` get no rule, so they stay float32.

    Returns:
        The quantized bytes, and part to the scheme that was asked for.
    """
    schemes = [schemes] * spec.num_experts if isinstance(schemes, str) else list(schemes)
    model, banks = fuse(spec, schemes)
    content = pack(model)
    asked = {"gate": Scheme(gate), **{bank.name: Scheme(bank.scheme) for bank in banks}}
    asked |= {f"expert_{index}": Scheme(scheme) for index, scheme in enumerate(schemes)}
    rules = [quantization.PartRule(prefix=f"{part}/", scheme=asked[part]) for part in asked if part not in skip]
    ranges = None
    if any(scheme.needs_calibration for scheme in asked.values()):
        ranges, _ = calibration.measure_ranges(content, rows)
    return quantization.quantize(content, rules, ranges, per_tensor=per_tensor), asked


def tensors_of(model, subgraph=0):
    """Tensor name to tensor of a parsed model."""
    graph = model.subgraphs[subgraph]
    return {
        (tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name): tensor for tensor in graph.tensors
    }


@pytest.fixture(scope="session")
def mixtures():
    """The factories of this module: ``mixtures.make_spec(...)``, ``mixtures.reference(spec, rows)``, ..."""
    return SimpleNamespace(
        BATCHES=BATCHES,
        make_network=make_network,
        make_preprocess=make_preprocess,
        make_spec=make_spec,
        make_rows=make_rows,
        reference=reference,
        run_network=run_network,
        run_by_position=run_by_position,
        fuse=fuse,
        quantize_spec=quantize_spec,
        tensors_of=tensors_of,
        replace=replace,
    )
