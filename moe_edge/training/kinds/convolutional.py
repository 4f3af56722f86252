"""Convolutional experts: windows of a sensor, images; separable ones for few weights (MobileNet, arXiv 1704.04861).

Layer: desktop (training).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras

from moe_edge.training.kinds.kind import ExpertJob, NeuralExpert
from moe_edge.training.kinds.options import EXPERT_OPTIONS
from moe_edge.training.kinds.registry import with_defaults
from moe_edge.training.kinds.row_shape import dense_head, seeded, shaped_input
from moe_edge.training.kinds.row_sizes import AXES


class Conv1dExpert(NeuralExpert):
    """Convolutions over time, then ``hidden`` dense layers; ``shape`` is [timesteps, channels]."""

    name = "conv1d"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["conv1d"]

    def build(self, job: ExpertJob) -> keras.Model:
        """Build (B, *input_shape) to (B, V)."""
        return _build(self, job)


class Conv2dExpert(NeuralExpert):
    """Convolutions over an image, then ``hidden`` dense layers; ``shape`` is [height, width, channels]."""

    name = "conv2d"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["conv2d"]

    def build(self, job: ExpertJob) -> keras.Model:
        """Build (B, *input_shape) to (B, V)."""
        return _build(self, job)


def _build(kind: NeuralExpert, job: ExpertJob) -> keras.Model:
    options = with_defaults(kind, job.options)
    _check(kind.name, options)
    axes = AXES[kind.name]
    row, x = shaped_input(kind.name, job, options["shape"])
    flat = len(axes) == 2
    layers = keras.layers
    pooling = layers.MaxPooling1D if flat else layers.MaxPooling2D
    averaging = layers.GlobalAveragePooling1D if flat else layers.GlobalAveragePooling2D
    for index, filters in enumerate(options["filters"]):
        _check_room(kind.name, x, options, axes)
        x = _convolution(job, options, filters, index, flat=flat)(x)
        if options["pool"] > 1:
            _check_pool(kind.name, x, options, axes)
            x = pooling(options["pool"])(x)
    x = averaging()(x) if options["summary"] == "average" else layers.Flatten()(x)
    return keras.Model(row, dense_head(job, x, first_seed=2 * len(options["filters"])))


def _convolution(job: ExpertJob, options: Mapping[str, Any], filters: int, index: int, *, flat: bool) -> Any:
    common = {
        "kernel_size": options["kernel_size"],
        "strides": options["strides"],
        "dilation_rate": options["dilation"],
        "padding": options["padding"],
        "activation": job.activation,
    }
    layers = keras.layers
    if options["depthwise"]:
        kind = layers.SeparableConv1D if flat else layers.SeparableConv2D
        starts = {
            "depthwise_initializer": seeded(job, 2 * index),
            "pointwise_initializer": seeded(job, 2 * index + 1),
        }
        return kind(filters, **starts, **common)
    kind = layers.Conv1D if flat else layers.Conv2D
    return kind(filters, kernel_initializer=seeded(job, 2 * index), **common)


def _check(name: str, options: Mapping[str, Any]) -> None:
    filters = options["filters"]
    if not filters or not all(isinstance(count, int) and count >= 1 for count in filters):
        raise ValueError(f"{name}: expected filters of at least one convolution, each at least 1, got {filters}")
    for option in ("kernel_size", "strides", "dilation", "pool"):
        if options[option] < 1:
            raise ValueError(f"{name}: expected {option} >= 1, got {options[option]}")
    if options["strides"] > 1 and options["dilation"] > 1:
        raise ValueError(f"{name}: expected strides or dilation above 1, not both; set one of them to 1")
    for option, choices in (("padding", ("same", "valid")), ("summary", ("flatten", "average"))):
        if options[option] not in choices:
            raise ValueError(f"{name}: expected {option} {' or '.join(choices)}, got {options[option]!r}")


def _check_room(name: str, x: Any, options: Mapping[str, Any], axes: Sequence[str]) -> None:
    """Without padding, a kernel must fit into what is left."""
    reach = (options["kernel_size"] - 1) * options["dilation"] + 1
    if options["padding"] == "valid" and min(x.shape[1:-1]) < reach:
        raise ValueError(
            f"{name}: a kernel that reaches over {reach} doesn't fit into {_sizes(x, axes)}; "
            "use padding same, fewer filters, or a smaller kernel_size"
        )


def _check_pool(name: str, x: Any, options: Mapping[str, Any], axes: Sequence[str]) -> None:
    if min(x.shape[1:-1]) < options["pool"]:
        raise ValueError(
            f"{name}: pooling over {options['pool']} doesn't fit into {_sizes(x, axes)}; use pool=1 or fewer filters"
        )


def _sizes(x: Any, axes: Sequence[str]) -> str:
    return ", ".join(f"{axis} {size}" for axis, size in zip(axes, x.shape[1:-1], strict=False))
