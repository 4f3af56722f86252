"""Objects that a ``.keras`` file from elsewhere names: classes of the user's modules, and trusted Lambda layers.

Layer: desktop (training).
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import keras
import numpy as np

from moe_edge.errors import ModelFileError


@contextlib.contextmanager
def foreign_objects(custom_modules: Sequence[str], *, unsafe: bool) -> Iterator[dict[str, Any]]:
    """What Keras is told of while it loads a file.

    Args:
        custom_modules: Modules to import; their classes and functions count by name, registered with Keras or not.
        unsafe: Whether Lambda layers may run; their code then finds the usual names (``tf``, ``keras``, ``ops``,
            ``np``) and those of the custom modules, because a file holds the code without the names around it.

    Yields:
        Name to class or function.

    Raises:
        ModelFileError: If a module can't be imported.
    """
    found: dict[str, Any] = {}
    for name in custom_modules:
        try:
            module = import_module(name)
        except ImportError as error:
            raise ModelFileError(f"can't import the custom module {name!r}: {error}") from error
        found |= _own_objects(module)
    with _lambda_names(found) if unsafe else contextlib.nullcontext():
        yield found


def _own_objects(module: ModuleType) -> dict[str, Any]:
    """Classes and functions that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
    }


@contextlib.contextmanager
def _lambda_names(names: Mapping[str, Any]) -> Iterator[None]:
    """Let functions that Keras rebuilds from a file's code find names; Keras itself gives them none of the author's."""
    import tensorflow as tf
    from keras.src.utils import python_utils

    known = {
        **{"tf": tf, "tensorflow": tf, "keras": keras, "ops": keras.ops, "layers": keras.layers, "K": keras.ops},
        **{"np": np, "numpy": np, **names, "__builtins__": builtins},
    }
    original = python_utils.func_load
    python_utils.func_load = functools.partial(original, globs=known)
    try:
        yield
    finally:
        python_utils.func_load = original
