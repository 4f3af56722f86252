"""The ``.keras`` file: a plain Keras model, plus the schema, the config and the split as extra members of the zip.

Keras ignores the extra members; a file from elsewhere has none.
Layer: desktop (training).
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from moe_edge.atomic import atomic_path, check_writable
from moe_edge.config import MixtureConfig, TrainingConfig
from moe_edge.errors import DataError, ModelFileError
from moe_edge.job_config import DataConfig
from moe_edge.schema import FeatureSchema
from moe_edge.strict import from_dict, to_dict
from moe_edge.tables.dataset import Dataset

# Imported so that their classes are registered when Keras meets them in a file.
from moe_edge.training import layers, losses, regression_layers  # noqa: F401
from moe_edge.training.archive_check import check_archive
from moe_edge.training.estimators import tree_layers  # noqa: F401
from moe_edge.training.foreign_objects import foreign_objects
from moe_edge.training.gates import gate_layers, gaussian_gate, hierarchical_gate  # noqa: F401
from moe_edge.training.split import Split

T = TypeVar("T")

SUFFIX = ".keras"
_FOLDER = "moe_edge/"
_SCHEMA, _CONFIG, _SPLIT = _FOLDER + "schema.json", _FOLDER + "config.json", _FOLDER + "split.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """What a ``.keras`` file held; what a plain Keras file lacks is None.

    Attributes:
        model: The Keras model.
        schema: Columns and labels.
        config: The mixture's config.
        training: How it was trained.
        data: Which columns of the table were what.
        split: Which rows were training, validation and test.
        path: Where it was read from.
    """

    model: keras.Model
    schema: FeatureSchema | None = None
    config: MixtureConfig | None = None
    training: TrainingConfig | None = None
    data: DataConfig | None = None
    split: Split | None = None
    path: Path | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What the model was trained with, compact, for files made of it: values other than the defaults."""
        parts = {"data": self.data, "mixture": self.config, "training": self.training}
        compact = {name: to_dict(part, omit_defaults=True) for name, part in parts.items() if part is not None}
        return {name: part for name, part in compact.items() if part}


def save_model(
    model: keras.Model,
    path: Path | str,
    *,
    schema: FeatureSchema,
    mixture_config: MixtureConfig | None = None,
    training_config: TrainingConfig | None = None,
    data_config: DataConfig | None = None,
    split: Split | None = None,
) -> None:
    """Write the model and what belongs to it, whole or not at all.

    Args:
        model: The trained model.
        path: Where to, ending in ``.keras``.
        schema: Columns and labels.
        mixture_config: The mixture's config; None for a model of your own.
        training_config: How it was trained.
        data_config: Which columns of the table were what.
        split: Which rows were training, validation and test.

    Raises:
        MoeEdgeError: If the file can't be written.
    """
    path = Path(path)
    check_writable(path, suffix=SUFFIX)
    config = {"mixture": to_dict(mixture_config), "training": to_dict(training_config), "data": to_dict(data_config)}
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_SCHEMA, json.dumps(to_dict(schema), indent=1, ensure_ascii=False))
            archive.writestr(_CONFIG, json.dumps(config, indent=1))
            if split is not None:
                buffer = io.BytesIO()
                np.savez_compressed(
                    buffer,
                    train=split.train,
                    validation=split.validation,
                    test=split.test,
                    fingerprint=np.array(split.fingerprint),
                )
                archive.writestr(_SPLIT, buffer.getvalue())


def load_model(path: Path | str, *, unsafe: bool = False, custom_modules: Sequence[str] = ()) -> LoadedModel:
    """Load a ``.keras`` file, in Keras' safe mode.

    Args:
        path: The file.
        unsafe: Trust the file: it may run code of its own (Lambda layers).
        custom_modules: Modules to import first because they define the model's own classes.

    Raises:
        ModelFileError: If the file is missing, truncated, foreign or unsafe, or Keras can't build it.
    """
    path = Path(path)
    with foreign_objects(custom_modules, unsafe=unsafe) as objects:
        check_archive(path, unsafe=unsafe, custom=bool(custom_modules))
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            schema = _read(FeatureSchema, archive, _SCHEMA, path) if _SCHEMA in members else None
            config, training, data = _read_configs(archive, path) if _CONFIG in members else (None, None, None)
            split = _read_split(archive, path) if _SPLIT in members else None
        try:
            with warnings.catch_warnings():
                # A model saved before its first fit has no optimizer state; that is no news to anyone.
                warnings.filterwarnings("ignore", message=r"(?s).*Skipping variable loading for optimizer")
                model = keras.saving.load_model(path, custom_objects=objects, safe_mode=not unsafe)
        except Exception as error:  # Keras raises whatever its layers raise
            text = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelFileError(f"{path}: Keras {keras.__version__} can't load it: {text}") from error
    if schema is not None:
        _check_fit(model, schema, path)
    return LoadedModel(model=model, schema=schema, config=config, training=training, data=data, split=split, path=path)


def match_split(loaded: LoadedModel, dataset: Dataset) -> Split:
    """The split that travels with a model, if ``dataset`` is the table it was made on.

    Raises:
        DataError: If the model carries no split, or the table is another one.
    """
    name = loaded.path or "the model"
    if loaded.split is None:
        raise DataError(
            f"{name} remembers no split of its rows; use --all-rows to take the rows of {dataset.source} as given"
        )
    if loaded.split.fingerprint != dataset.fingerprint:
        raise DataError(
            f"{dataset.source} isn't the table that {name} was trained on (rows, their order or values differ), "
            "so held-out rows are unknown; give the training table, or use --all-rows to take all rows as given"
        )
    return loaded.split


def _check_fit(model: keras.Model, schema: FeatureSchema, path: Path) -> None:
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and shape[1] not in (None, len(schema.columns)):
        raise ModelFileError(
            f"{path}: expected a model of {len(schema.columns)} columns as its schema says, got one of {shape[1]}; "
            "train it again"
        )


def _read(cls: type[T], archive: zipfile.ZipFile, member: str, path: Path) -> T:
    try:
        return from_dict(cls, json.loads(archive.read(member)), where=member)
    except (ValueError, KeyError) as error:
        raise _bad_member(path, error) from error


def _read_configs(
    archive: zipfile.ZipFile, path: Path
) -> tuple[MixtureConfig | None, TrainingConfig | None, DataConfig | None]:
    try:
        content: Any = json.loads(archive.read(_CONFIG))
        if not isinstance(content, dict) or not {"mixture", "training"} <= set(content) <= {
            "mixture",
            "training",
            "data",
        }:
            raise ValueError(f"{_CONFIG}: expected the keys mixture and training")
        # Files of the first versions have no data.
        mixture, training, data = content["mixture"], content["training"], content.get("data")
        return (
            None if mixture is None else from_dict(MixtureConfig, mixture, where=_CONFIG),
            None if training is None else from_dict(TrainingConfig, training, where=_CONFIG),
            None if data is None else from_dict(DataConfig, data, where=_CONFIG),
        )
    except ValueError as error:
        raise _bad_member(path, error) from error


def _read_split(archive: zipfile.ZipFile, path: Path) -> Split:
    try:
        with np.load(io.BytesIO(archive.read(_SPLIT)), allow_pickle=False) as content:
            return Split(
                train=content["train"],
                validation=content["validation"],
                test=content["test"],
                fingerprint=str(content["fingerprint"]),
            )
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise _bad_member(path, error) from error


def _bad_member(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"{path}: its moe-edge part is damaged or newer than this version: {error}; train it again")
