"""See more of a mixture than its answer: routing weights, sigma, what each expert says.

Layer: desktop (training).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from moe_edge.errors import ModelFileError
from moe_edge.training.gates.gaussian_gate import GateLogDensity, GaussianGate
from moe_edge.training.layers import WeightedSum
from moe_edge.training.regression_layers import GaussianMixture


@dataclass(frozen=True, eq=False)
class MixtureTensors:
    """The symbolic tensors inside a mixture.

    Attributes:
        routing_weights: (B, E).
        expert_outputs: (B, E, K), or (B, E, 2K) for a gaussian mixture.
        prediction: (B, K).
        combined: (B, K), what the combining layer gives: for gaussian mixtures the mean.
        sigma: (B, K), or None where the mixture gives none.
    """

    routing_weights: Any
    expert_outputs: Any
    prediction: Any
    combined: Any
    sigma: Any = None


def mixture_tensors(model: keras.Model) -> MixtureTensors:
    """Find the combining layer of a functional mixture and the tensors around it.

    Raises:
        ModelFileError: If the model isn't functional, or has no or more than one combining layer.
    """
    layers = [layer for layer in getattr(model, "layers", []) if isinstance(layer, (WeightedSum, GaussianMixture))]
    if len(layers) != 1:
        raise ModelFileError(
            f"expected a model with one layer that combines experts (WeightedSum or GaussianMixture), "
            f"got {len(layers)} in {model.name!r}; build it with create_moe_model or build_mixture"
        )
    try:
        weights, answers = layers[0].input
        prediction = model.output
        combined = layers[0].output
    except (AttributeError, ValueError) as error:
        raise ModelFileError(
            f"expected a functional Keras model, got {type(model).__name__} {model.name!r}; "
            "build it with keras.Model(inputs, outputs)"
        ) from error
    if isinstance(prediction, (list, tuple, dict)):
        raise ModelFileError(f"expected a mixture with one output, got {len(prediction)} in {model.name!r}")
    if isinstance(layers[0], GaussianMixture):
        return MixtureTensors(weights, answers, prediction, *combined)
    return MixtureTensors(weights, answers, prediction, combined)


def gate_log_density(model: keras.Model) -> Any:
    """The log density (B, 1) of a Gaussian gate within a mixture, a symbolic tensor; None for any other gate.

    Raises:
        ModelFileError: If no combining layer is found.
    """
    tensor = mixture_tensors(model).routing_weights
    while True:
        operation, node_index, _ = tensor._keras_history
        sources = operation._inbound_nodes[node_index].input_tensors
        if isinstance(operation, GaussianGate):
            return GateLogDensity(operation)(sources[0])
        if isinstance(operation, keras.Model):
            gate = next((layer for layer in operation.layers if isinstance(layer, GaussianGate)), None)
            if gate is not None:
                inner = keras.Model(operation.inputs[0], GateLogDensity(gate)(gate.input))
                return inner(sources[0])
        if len(sources) != 1:
            return None
        tensor = sources[0]


def full_outputs(model: keras.Model) -> keras.Model:
    """Show a mixture's routing beside its answer; weights are shared, nothing is copied.

    Args:
        model: What ``create_moe_model`` or ``build_mixture`` gave, or a model loaded from a file.

    Returns:
        A model of the same inputs to a dict: ``prediction`` (B, K), ``routing_weights`` (B, E), for gaussian
        mixtures ``sigma`` (B, K), and for Gaussian gates ``gate_log_density`` (B, 1).

    Raises:
        ModelFileError: If no combining layer is found.
    """
    tensors = mixture_tensors(model)
    outputs = {"prediction": tensors.prediction, "routing_weights": tensors.routing_weights}
    if tensors.sigma is not None:
        outputs["sigma"] = tensors.sigma
    density = gate_log_density(model)
    if density is not None:
        outputs["gate_log_density"] = density
    return keras.Model(model.input, outputs, name=f"{model.name}_full")


def expert_outputs(model: keras.Model) -> keras.Model:
    """Show what each expert would answer by itself, in the user's units; weights are shared, nothing is copied.

    Returns:
        A model of the same inputs to a dict: ``prediction`` (B, K), ``routing_weights`` (B, E), ``expert_answers``
        (B, E, K): what the mixture would answer if the gate gave that expert everything; for gaussian mixtures
        ``expert_means`` (the same) and ``expert_sigmas`` (B, E, K).

    Raises:
        ModelFileError: If no combining layer is found.
    """
    tensors = mixture_tensors(model)
    outputs = {"prediction": tensors.prediction, "routing_weights": tensors.routing_weights}
    if tensors.sigma is not None:
        num_outputs = tensors.prediction.shape[-1]
        outputs["expert_means"] = tensors.expert_outputs[:, :, :num_outputs]
        outputs["expert_sigmas"] = tensors.expert_outputs[:, :, num_outputs:]
        outputs["expert_answers"] = outputs["expert_means"]
    else:
        answers = tensors.expert_outputs
        if tensors.prediction is not tensors.combined:
            # What follows the sum (a softmax, the target's unit) follows each expert's answer too.
            rest = keras.Model(tensors.combined, tensors.prediction)
            answers = keras.ops.stack([rest(answers[:, index]) for index in range(answers.shape[1])], axis=1)
        outputs["expert_answers"] = answers
    return keras.Model(model.input, outputs, name=f"{model.name}_experts")
