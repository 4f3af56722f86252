"""Look at a ``.keras`` file before Keras does: whole, a Keras archive, and no code inside.

Layer: desktop (training). Imports the standard library only.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from moe_edge.errors import ModelFileError

_NEEDED = ("config.json", "metadata.json", "model.weights.h5")
_TRUSTED = ("keras", "moe_edge", "builtins")
"""Packages whose classes a file may name; everything else must be registered by a module that the user names."""
_MAX_JSON_BYTES = 64 << 20


def check_archive(path: Path, *, unsafe: bool = False, custom: bool = False) -> None:
    """Refuse a file that isn't a whole ``.keras`` archive, or that carries code.

    Args:
        path: The file.
        unsafe: Let code pass.
        custom: Let classes of other packages pass, because the user named the modules that register them.

    Raises:
        ModelFileError: In one line: what was expected, what came, what to do.
    """
    if not path.is_file():
        raise ModelFileError(f"expected a .keras model, but there is no file {path}")
    if path.suffix == ".tflite":
        raise ModelFileError(f"expected a .keras model, got {path}; a .tflite is what moe-edge convert writes")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x89HDF"):
        raise ModelFileError(f"{path}: expected a .keras archive, got HDF5; load it and save it again as .keras")
    if not zipfile.is_zipfile(path):
        came = "a truncated one" if start.startswith(b"PK") else f"a file of {path.stat().st_size} bytes that is no zip"
        raise ModelFileError(f"{path}: expected a .keras archive, got {came}; copy it again, or train it again")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            config = _read_config(archive, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelFileError(
            f"{path}: expected a whole .keras archive, got a damaged one ({error}); copy it again"
        ) from error
    if not unsafe:
        _check_config(config, path, custom=custom)


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    for name in names:
        member = PurePosixPath(name.replace("\\", "/"))
        if member.is_absolute() or ".." in member.parts or ":" in name:
            raise ModelFileError(f"{path}: expected plain members, got {name!r}, which points outside the archive")
        if member.suffix in (".pkl", ".pickle", ".py", ".pyc"):
            raise ModelFileError(f"{path}: expected weights and configs, got {name!r}, which is code")
    if len(set(names)) != len(names):
        raise ModelFileError(f"{path}: expected each member once, got one twice; the file was tampered with")
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise ModelFileError(f"{path}: expected a .keras archive, got a zip without {missing[0]}; save it with Keras 3")
    damaged = archive.testzip()
    if damaged is not None:
        raise ModelFileError(f"{path}: expected a whole archive, got a damaged {damaged!r}; copy it again")


def _read_config(archive: zipfile.ZipFile, path: Path) -> Any:
    if archive.getinfo("config.json").file_size > _MAX_JSON_BYTES:
        raise ModelFileError(f"{path}: expected a config.json of at most {_MAX_JSON_BYTES >> 20} MiB")
    try:
        return json.loads(archive.read("config.json"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: expected JSON in config.json, got: {error}; save the model again") from error


def _check_config(config: Any, path: Path, *, custom: bool) -> None:
    for item in _objects(config):
        name = item.get("class_name")
        inner = item.get("config")
        if name in ("Lambda", "__lambda__"):
            layer = inner.get("name", "lambda") if isinstance(inner, dict) else "lambda"
            raise ModelFileError(
                f"{path}: the Lambda layer {layer!r} is code that would run on loading; to combine experts use "
                "StackExperts (stack the experts on axis 1) and WeightedSum, or use --unsafe-load if you wrote the file"
            )
        module = item.get("module")
        package = str(item.get("registered_name") or "").split(">")[0]
        if custom or not isinstance(module, str) or "class_name" not in item:
            continue
        if module.split(".")[0] not in _TRUSTED and package not in _TRUSTED:
            raise ModelFileError(
                f"{path}: the class {name!r} of {module!r} is not known here; "
                f"name the module that registers it with --import {module}"
            )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object inside, without recursion: a hostile file may nest deeply."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
