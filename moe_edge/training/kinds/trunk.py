"""The shared trunk: a network of any neural kind before gate and experts.

Layer: desktop (training).
"""

from __future__ import annotations

import keras

from moe_edge.config import Combine, Task, TrunkConfig
from moe_edge.training.kinds.kind import ExpertJob, NeuralExpert
from moe_edge.training.kinds.registry import NEURAL_EXPERTS, expert_kind

NAME = "trunk"
"""What the mixture's sub-model is called; the converters go by it."""


def build_trunk(config: TrunkConfig, input_shape: tuple[int, ...], *, seed: int = 0) -> keras.Model:
    """Build an untrained trunk.

    Args:
        config: What it is.
        input_shape: Shape of one row of features, without the batch.
        seed: Of its initial weights.

    Returns:
        A model called ``trunk``, (B, *input_shape) to (B, units).

    Raises:
        ValueError: If the kind isn't neural, or its options don't fit the rows.
    """
    kind = expert_kind(config.kind)
    if not isinstance(kind, NeuralExpert):
        raise ValueError(
            f"expected a trunk of a neural kind, which learns together with gate and experts, got {config.kind!r}; "
            f"take one of {', '.join(NEURAL_EXPERTS)}"
        )
    job = ExpertJob(
        input_shape=input_shape,
        num_outputs=config.units,
        # Its answers are plain numbers, whatever the mixture's.
        task=Task.REGRESSION,
        combine=Combine.MEAN,
        hidden=config.hidden,
        activation=config.activation,
        options=config.options,
        seed=seed,
    )
    network = kind.build(job)
    if config.activation == "linear":
        return keras.Model(network.inputs[0], network.outputs[0], name=NAME)
    features = keras.layers.Activation(config.activation)(network.outputs[0])
    return keras.Model(network.inputs[0], features, name=NAME)
