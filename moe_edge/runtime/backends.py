"""The TFLite runtimes, chosen by what really imports.

A wheel can be installed and still not load (a C library that is too old, NumPy 2 under tflite-runtime), so each
candidate is imported, and why it failed is kept and said.
Layer: device. Imports the standard library; a runtime only when one is asked for.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from threading import Lock
from typing import Any

from moe_edge.errors import BackendError, ModelFileError

AUTO = "auto"


@dataclass(frozen=True)
class Candidate:
    """A runtime that may be installed.

    Attributes:
        name: As in ``Predictor(backend=...)``.
        distribution: The package on the index.
        module: The module that holds ``Interpreter``.
        attribute: Dotted path from the module to the namespace with ``Interpreter``.
    """

    name: str
    distribution: str
    module: str
    attribute: str = ""


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("litert", "ai-edge-litert", "ai_edge_litert.interpreter"),
    Candidate("tflite-runtime", "tflite-runtime", "tflite_runtime.interpreter"),
    Candidate("tensorflow", "tensorflow", "tensorflow", "lite"),
)
"""In the order in which ``auto`` tries them."""
BACKEND_NAMES: tuple[str, ...] = (AUTO, *(candidate.name for candidate in CANDIDATES))

_loaded: dict[str, Backend | str] = {}
_lock = Lock()


class Backend:
    """One runtime that imported.

    Attributes:
        name: ``litert``, ``tflite-runtime`` or ``tensorflow``.
        distribution: The package that brought it.
    """

    def __init__(self, candidate: Candidate, namespace: Any) -> None:
        self.name = candidate.name
        self.distribution = candidate.distribution
        self._interpreter_class: Callable[..., Any] = namespace.Interpreter
        # Old runtimes keep the enumeration beside the interpreter, tf.lite under experimental.
        holder = namespace if hasattr(namespace, "OpResolverType") else namespace.experimental
        self._resolver_types = holder.OpResolverType

    @property
    def version(self) -> str:
        """The installed package's version."""
        from importlib import metadata  # slow to import, and rarely asked for

        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return "unknown"

    def interpreter(
        self, model: bytes | os.PathLike[str] | str, *, num_threads: int = 1, xnnpack: bool | None = None
    ) -> Any:
        """Make an interpreter, not yet allocated.

        Args:
            model: The file's bytes, or its path, which the runtime maps. Verify it with ``ModelFile`` first.
            num_threads: Threads that one call may use, at least 1.
            xnnpack: False turns the XNNPACK delegate off: weights stay memory-mapped, and large matrices are slower.
                None leaves the choice to the runtime, which turns it on.

        Raises:
            BackendError: If the runtime refuses the file, such as for an operator that it doesn't know.
        """
        options: dict[str, Any] = {"num_threads": num_threads}
        if isinstance(model, bytes):
            options["model_content"] = model
        else:
            options["model_path"] = os.fspath(model)
        if xnnpack is False:
            options["experimental_op_resolver_type"] = self._resolver_types.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tf.lite announces its own removal on every use
                return self._interpreter_class(**options)
        except (ValueError, RuntimeError) as error:
            raise BackendError(self.refusal(error)) from error

    def refusal(self, error: Exception) -> str:
        """Words for a file that this runtime won't run."""
        reason = " ".join(str(error).split())
        return f"{self.distribution} can't run this file: {reason}; try a newer runtime, moe-edge doctor names it"


def load_backend(name: str = AUTO) -> Backend:
    """Import a runtime.

    Args:
        name: ``litert``, ``tflite-runtime``, ``tensorflow``, or ``auto`` for the first of these that imports.

    Raises:
        BackendError: If the name is unknown or nothing imports; says why each failed.
    """
    if name not in BACKEND_NAMES:
        raise BackendError(f"expected backend among {', '.join(BACKEND_NAMES)}, got {name!r}")
    failures = []
    for candidate in CANDIDATES:
        if name in (AUTO, candidate.name):
            found = try_backend(candidate)
            if isinstance(found, Backend):
                return found
            failures.append(f"{candidate.distribution}: {found}")
    raise BackendError(f"no TFLite runtime imports here ({'; '.join(failures)}); run: moe-edge doctor")


def try_backend(candidate: Candidate) -> Backend | str:
    """Import one runtime, once; returns it, or why it didn't import."""
    with _lock:
        if candidate.name not in _loaded:
            _loaded[candidate.name] = _import(candidate)
        return _loaded[candidate.name]


def _import(candidate: Candidate) -> Backend | str:
    package = candidate.module.split(".")[0]
    try:
        namespace = import_module(candidate.module)
        for part in filter(None, candidate.attribute.split(".")):
            namespace = getattr(namespace, part)
        return Backend(candidate, namespace)
    except ModuleNotFoundError as error:
        if error.name == package:
            return "not installed"
        return f"needs the module {error.name}"
    except Exception as error:  # a native module may raise anything while it loads
        return _explain(candidate, error)


def _explain(candidate: Candidate, error: Exception) -> str:
    """Why an installed runtime doesn't import, in one line, with the remedy where it's known."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if "GLIBC" in reason:
        import platform

        return f"needs a newer C library than {' '.join(platform.libc_ver()) or 'this one'} ({reason})"
    if candidate.name == "tflite-runtime" and ("multiarray" in reason or "_ARRAY_API" in reason):
        return f"was built for NumPy 1; run: pip install 'numpy<2' ({reason})"
    return reason


def allocate(backend: Backend, interpreter: Any) -> None:
    """Allocate an interpreter's tensors.

    Raises:
        ModelFileError: If the runtime refuses the graph.
    """
    try:
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError, MemoryError) as error:
        raise ModelFileError(backend.refusal(error)) from error
