"""Set TensorFlow's environment before anything imports it: a log that shows errors only, the TensorFlow back end.

``moe_edge.training`` imports this module first, so every path to Keras passes here. What the user set stays.
Layer: desktop (training). Imports the standard library only.
"""

from __future__ import annotations

import os

_DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    # oneDNN's notice on every start; its kernels also round differently from machine to machine.
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def prepare_environment() -> None:
    """Set each variable that the user left unset."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
