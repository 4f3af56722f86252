"""Keras mixtures to one ``.tflite``: extraction, fused graph, quantization, file writing, audit, inspection.

Names load on first use, so that ``Scheme`` and ``--help`` don't wait for TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moe_edge_converters.schemes.scheme import Scheme

if TYPE_CHECKING:
    from moe_edge_converters.conversion import ConversionResult, convert, convert_spec
    from moe_edge_converters.inspection import Inspection, inspect_file
    from moe_edge_converters.spec import MixtureSpec

__all__ = ["ConversionResult", "Inspection", "MixtureSpec", "Scheme", "convert", "convert_spec", "inspect_file"]

_HOMES = {
    "ConversionResult": "conversion",
    "convert": "conversion",
    "convert_spec": "conversion",
    "Inspection": "inspection",
    "inspect_file": "inspection",
    "MixtureSpec": "spec",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"moe_edge_converters.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'moe_edge_converters' has no attribute {name!r}")
