"""Dense experts: stacks of fully connected layers, down to a single linear one.

Layer: desktop (training).
"""

from __future__ import annotations

import keras

from moe_edge.training.kinds.kind import ExpertJob, NeuralExpert


class DenseExpert(NeuralExpert):
    """Hidden layers of ``hidden`` units, then the output layer."""

    name = "dense"

    def build(self, job: ExpertJob) -> keras.Model:
        """Build (B, *input_shape) to (B, V)."""
        return dense_stack(job, job.hidden)


class LinearExpert(NeuralExpert):
    """One layer: a linear or softmax regression, trained by backpropagation."""

    name = "linear"

    def build(self, job: ExpertJob) -> keras.Model:
        """Build (B, *input_shape) to (B, V)."""
        return dense_stack(job, ())


def dense_stack(job: ExpertJob, hidden: tuple[int, ...]) -> keras.Model:
    """Build a stack of dense layers whose initial weights come from the job's seed."""
    layers: list[keras.layers.Layer] = [keras.Input(shape=job.input_shape)]
    if len(job.input_shape) > 1:
        layers.append(keras.layers.Flatten())
    sizes = [*hidden, job.num_values]
    activations = [job.activation] * len(hidden) + [job.output_activation]
    for index, (units, activation) in enumerate(zip(sizes, activations, strict=True)):
        start = keras.initializers.GlorotUniform(seed=job.seed * 1000 + index)
        layers.append(keras.layers.Dense(units, activation=activation, kernel_initializer=start))
    return keras.Sequential(layers)
