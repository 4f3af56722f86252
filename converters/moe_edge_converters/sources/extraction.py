"""Read a mixture out of a Keras model: from the combining layer back to the gate, the experts and the features.

Layer: desktop (converters). Imports Keras only through the model that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe_edge.config import Combine, Task
from moe_edge.errors import ConversionError
from moe_edge_converters.sources.gate_networks import extract_gate
from moe_edge_converters.sources.keras_networks import convert_graph, extract_network
from moe_edge_converters.spec import (
    DenseLayer,
    DenseNetwork,
    GraphNetwork,
    HeadSpec,
    MixtureSpec,
    Network,
    PreprocessSpec,
)

TRUNK = "trunk"
"""What a mixture's shared trunk is called (``moe_edge.training.kinds.trunk``)."""


def extract_mixture(model: Any) -> MixtureSpec:
    """Turn a Keras mixture into a ``MixtureSpec``.

    Args:
        model: A functional ``keras.Model`` whose output comes from ``WeightedSum`` or ``GaussianMixture``, such as
            ``build_mixture`` and ``create_moe_model`` make.

    Raises:
        ConversionError: If it holds no such layer, or a part can't be converted.
    """
    from moe_edge_converters.sources.classical_trap import check_answers_rows

    check_answers_rows(model)
    if type(model).__name__ != "Functional" or len(model.inputs) != 1:
        raise _no_mixture(model)
    combine, combined, head = _find_combination(model)
    weights, stacked = _sources(combined)
    features, preprocess = _find_features(model)
    features, trunk = _find_trunk(model, features)
    gate, top_k = extract_gate(features, weights)
    experts = _extract_experts(features, stacked)
    num_outputs = int(model.outputs[0].shape[-1])
    return MixtureSpec(
        task=Task.CLASSIFICATION if combine in (Combine.PROBABILITIES, Combine.LOGITS) else Task.REGRESSION,
        combine=combine,
        input_shape=tuple(int(size) for size in model.inputs[0].shape[1:]),
        preprocess=preprocess,
        trunk=trunk,
        gate=gate,
        experts=tuple(experts),
        num_outputs=num_outputs,
        head=head,
        top_k=top_k,
    )


def is_own_mixture(model: Any) -> bool:
    """Whether a model's answer comes from our combining layers, so that ``extract_mixture`` reads it."""
    if type(model).__name__ != "Functional" or len(model.inputs) != 1 or len(model.outputs) != 1:
        return False
    # A user's own WeightedSum may be something else.
    names = ("WeightedSum", "GaussianMixture")
    if not any(
        type(layer).__name__ in names and type(layer).__module__.startswith("moe_edge.") for layer in model.layers
    ):
        return False
    try:
        _find_combination(model)
    except ConversionError:
        return False
    return True


def _no_mixture(model: Any) -> ConversionError:
    return ConversionError(
        f"expected a mixture of experts whose output comes from a WeightedSum or GaussianMixture layer, got "
        f"{type(model).__name__} {model.name!r}; build it with moe_edge.training.create_moe_model"
    )


def _producer(tensor: Any) -> Any:
    """The layer that wrote a Keras tensor."""
    return tensor._keras_history[0]


def _sources(tensor: Any) -> list[Any]:
    """The Keras tensors that a tensor was made from; its layer may have made others in other calls."""
    operation, node_index, _ = tensor._keras_history
    return list(operation._inbound_nodes[node_index].input_tensors)


def _find_combination(model: Any) -> tuple[Combine, Any, HeadSpec]:
    """How the model combines, the tensor that its combining layer gives, and what scales its answer."""
    answer = model.outputs[0]
    layer = _producer(answer)
    kind = type(layer).__name__
    if kind == "GaussianMixture":
        # The experts' own scaling to the target's units becomes the head's: the moments scale along.
        gaussian = _producer(_sources(answer)[1])
        return Combine.GAUSSIAN, answer, _gaussian_head(gaussian)
    if kind == "WeightedSum":
        return _classify_weighted_sum(answer), answer, HeadSpec()
    if kind in ("TargetScale", "Softmax", "Activation"):
        combined = _sources(answer)[0]
        if type(_producer(combined)).__name__ == "WeightedSum":
            if kind == "TargetScale":
                config = layer.get_config()
                head = HeadSpec(scale=_vector(config["scale"]), shift=_vector(config["shift"]))
                return Combine.MEAN, combined, head
            if kind == "Softmax" or layer.activation.__name__ == "softmax":
                return Combine.LOGITS, combined, HeadSpec()
    raise _no_mixture(model)


def _classify_weighted_sum(combined: Any) -> Combine:
    """Whether the experts answer with probabilities (a mixture) or with numbers (a mean, dense only)."""
    stacked = _sources(combined)[1]
    tensors = _sources(stacked) if type(_producer(stacked)).__name__ == "StackExperts" else [stacked]
    return Combine.PROBABILITIES if all(_is_softmax(tensor) for tensor in tensors) else Combine.MEAN


def _is_softmax(tensor: Any) -> bool:
    layer = _producer(tensor)
    if type(layer).__name__ in ("Sequential", "Functional"):
        return _is_softmax(layer.outputs[0])
    if type(layer).__name__ == "Softmax" or getattr(layer, "gives_probabilities", False) is True:
        return True
    return getattr(getattr(layer, "activation", None), "__name__", getattr(layer, "activation", "")) == "softmax"


def _gaussian_head(layer: Any) -> HeadSpec:
    config = layer.get_config()
    return HeadSpec(
        scale=_vector(config["target_scale"]),
        shift=_vector(config["target_mean"]),
        min_sigma=float(config["min_sigma"]),
        max_sigma=float(config["max_sigma"]),
    )


def _find_features(model: Any) -> tuple[Any, PreprocessSpec | None]:
    """The tensor that gate and experts take, and the preprocessing before it."""
    for layer in model.layers:
        if type(layer).__name__ == "Preprocess":
            for node in layer._inbound_nodes:
                if node.input_tensors[0] is model.inputs[0]:
                    return node.outputs[0], _preprocess_spec(layer, int(model.inputs[0].shape[-1]))
    return model.inputs[0], None


def _find_trunk(model: Any, features: Any) -> tuple[Any, GraphNetwork | None]:
    """The tensor that gate and experts take after the sub-model called ``trunk``, where there is one."""
    for layer in model.layers:
        if layer.name != TRUNK:
            continue
        for node in layer._inbound_nodes:
            if len(node.input_tensors) == 1 and node.input_tensors[0] is features:
                return node.outputs[0], convert_graph(features, node.outputs[0], role="the trunk")
    return features, None


def _preprocess_spec(layer: Any, num_columns: int) -> PreprocessSpec:
    config = layer.get_config()
    return PreprocessSpec(
        num_columns=num_columns,
        numeric=tuple(int(index) for index in config["numeric_indices"]),
        fill=_vector(config["fill"]),
        mean=_vector(config["mean"]),
        inverse_scale=_vector(config["inverse_scale"]),
        low=_vector(config["low"]),
        high=_vector(config["high"]),
        categorical=tuple((int(column), int(count)) for column, count in config["categorical"]),
    )


def _vector(values: Sequence[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(values, dtype=np.float32).reshape(-1)


def _extract_experts(features: Any, stacked: Any) -> list[Network]:
    """The experts behind the stacked answers: sub-models joined by ``StackExperts``, or stacked layers."""
    if type(_producer(stacked)).__name__ == "GaussianExperts":
        # Its arithmetic is part of the graph's tail.
        stacked = _sources(stacked)[0]
    if type(_producer(stacked)).__name__ == "StackExperts":
        return [
            extract_network(features, tensor, role=f"expert_{index}") for index, tensor in enumerate(_sources(stacked))
        ]
    chain = []
    tensor = stacked
    while tensor is not features:
        layer = _producer(tensor)
        if type(layer).__name__ != "StackedDense":
            raise ConversionError(
                f"expected stacked experts made of StackedDense layers, got {type(layer).__name__} {layer.name!r}; "
                "pass experts as sub-models to create_moe_model"
            )
        chain.append(layer)
        tensor = _sources(tensor)[0]
    kernels = [(np.asarray(layer.kernel), np.asarray(layer.bias), layer.activation) for layer in reversed(chain)]
    return [
        DenseNetwork(
            layers=tuple(
                DenseLayer(kernel=kernel[expert], bias=bias[expert], activation=_name(activation))
                for kernel, bias, activation in kernels
            )
        )
        for expert in range(kernels[0][0].shape[0])
    ]


def _name(activation: Any) -> str:
    return str(activation if isinstance(activation, str) else activation.__name__)
