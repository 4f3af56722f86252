"""Mixture-of-Experts models on small devices: train in Keras, ship one .tflite, prove that both answer alike.

Light at import: names load on first use, and nothing here imports TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moe_edge._version import __version__

if TYPE_CHECKING:
    from moe_edge.errors import MoeEdgeError
    from moe_edge.runtime.predictor import Predictor

__all__ = ["MoeEdgeError", "Predictor", "__version__"]

_HOMES = {"MoeEdgeError": "moe_edge.errors", "Predictor": "moe_edge.runtime.predictor"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'moe_edge' has no attribute {name!r}")
