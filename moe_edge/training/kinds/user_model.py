"""Experts of the user's own: any Keras model that a function of theirs builds.

Layer: desktop (training).
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from moe_edge.config import Combine
from moe_edge.training.kinds.kind import ExpertJob, NeuralExpert
from moe_edge.training.kinds.options import EXPERT_OPTIONS
from moe_edge.training.kinds.registry import with_defaults

_HANDED_OUT: weakref.WeakSet[Any] = weakref.WeakSet()
"""Models that are experts already: a function that returns one twice would tie two experts' weights."""

_PROBE_ROWS = 8


class UserExpert(NeuralExpert):
    """What the option ``build``, ``module:function``, returns.

    The function is called once for each expert, as ``function(input_shape, num_outputs)``, or with the ``ExpertJob``
    where its only parameter is called ``job``; the module may lie in the current folder. It answers with
    probabilities, or with ``2 * K`` values for Gaussian experts: ``num_outputs`` says how many.
    """

    name = "keras"
    options: ClassVar[Mapping[str, Any]] = EXPERT_OPTIONS["keras"]

    def build(self, job: ExpertJob) -> keras.Model:
        """Build (B, *input_shape) to (B, V)."""
        place = str(with_defaults(self, job.options)["build"])
        function = _find(place)
        try:
            by_job = list(inspect.signature(function).parameters) == ["job"]
        except (TypeError, ValueError):  # a callable that has no signature to read
            by_job = False
        try:
            model = function(job) if by_job else function(job.input_shape, job.num_values)
        except Exception as error:  # whatever the user's code raises
            raise ValueError(
                f"keras: {place} failed for rows of shape {job.input_shape} and {job.num_values} outputs: "
                f"{type(error).__name__}: {error}"
            ) from error
        _check(model, place, job)
        _HANDED_OUT.add(model)
        return model


def _find(place: str) -> Callable[..., Any]:
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ValueError(
            f"keras: expected option build of the form module:function, such as my_models:small_cnn, got {place!r}"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(f"keras: can't import {module_name!r} of build={place!r}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"keras: expected a function {name!r} in {module.__name__}, found none; see build={place!r}")
    return function  # type: ignore[no-any-return]


def _check(model: Any, place: str, job: ExpertJob) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(f"keras: expected a keras.Model from {place}, got {type(model).__name__}")
    if model in _HANDED_OUT:
        raise ValueError(f"keras: expected a new model from each call of {place}, got the same one; build it inside")
    rows = np.random.default_rng(0).normal(size=(_PROBE_ROWS, *job.input_shape)).astype(np.float32)
    try:
        answers = model(rows, training=False)
    except Exception as error:  # whatever its layers raise
        raise ValueError(
            f"keras: the model of {place} can't take rows of shape {job.input_shape}: {str(error).splitlines()[0]}"
        ) from error
    shape = getattr(answers, "shape", None)
    if shape is None or tuple(shape[1:]) != (job.num_values,):
        got = "several outputs" if shape is None else tuple(shape)
        raise ValueError(f"keras: expected outputs (rows, {job.num_values}) from the model of {place}, got {got}")
    if job.combine is Combine.PROBABILITIES:
        values = np.asarray(answers)
        if values.min() < 0 or np.abs(values.sum(axis=1) - 1).max() > 1e-3:
            raise ValueError(
                f"keras: expected probabilities that sum to 1 from the model of {place}, got sums from "
                f"{values.sum(axis=1).min():.3g} to {values.sum(axis=1).max():.3g}; end it in a softmax"
            )
