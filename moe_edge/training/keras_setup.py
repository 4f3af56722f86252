"""Set TensorFlow's environment before anything imports it: a log that shows errors only, the TensorFlow back end.

``moe_edge.training`` imports this module first, so every path to Keras passes here. What the user set stays.
Layer: desktop (training). Imports the standard library only.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import import_module

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


def load_keras() -> None:
    """Import Keras and TensorFlow and find their devices without the notices that they print on the way.

    Some are written before any log level counts, straight to the process's standard error. When the import fails they
    are shown after all.
    """
    prepare_environment()
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no standard error to keep clean
        _import_keras()
        return
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            _import_keras()
        except Exception:
            notices.seek(0)
            os.write(kept, notices.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def _import_keras() -> None:
    keras = import_module("keras")
    if keras.backend.backend() == "tensorflow":
        import_module("tensorflow").config.list_physical_devices()
