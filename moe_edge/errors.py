"""Errors that are the user's to mend: what was expected, what came, what to do.

Layer: shared. Imports nothing but the standard library.
"""

from __future__ import annotations

from importlib import util

from moe_edge.extras import install_command


class MoeEdgeError(Exception):
    """Base of every error that the command line shows as one line, with exit code 1."""


class DataError(MoeEdgeError):
    """A table, a row or a value is not what the model or the command needs."""


class ModelFileError(MoeEdgeError):
    """A model file is missing, truncated, foreign or not what its manifest says."""


class ConversionError(MoeEdgeError):
    """A model can't be written as a .tflite that answers like it."""


class BackendError(MoeEdgeError):
    """No TFLite runtime imports here, or the one asked for can't run this file correctly."""


class MissingDependencyError(MoeEdgeError):
    """A package of an extra is not installed."""


def require(module: str, *, extra: str, purpose: str) -> None:
    """Say which extra to install when ``module`` can't be found.

    Only looks the module up; a broken installation still shows its own error on import.

    Args:
        module: Top-level name of the package.
        extra: The extra of moe-edge that brings it.
        purpose: What it is needed for, as in "train" or "read Parquet".

    Raises:
        MissingDependencyError: If the module isn't installed.
    """
    if util.find_spec(module) is None:
        raise MissingDependencyError(f"{purpose} needs {module}, which is not installed; run: {install_command(extra)}")
