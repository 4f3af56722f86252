"""Train mixtures of experts in Keras: layers, model builders, data, split, the ``.keras`` archive.

Names load on first use: reading and checking a table imports no TensorFlow.
Layer: desktop.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from moe_edge.training.keras_setup import load_keras, prepare_environment

prepare_environment()

if TYPE_CHECKING:
    from moe_edge.tables.dataset import Dataset, dataset_from_arrays, encode_dataset, read_dataset
    from moe_edge.tables.table_files import Table, read_table
    from moe_edge.training.archive import LoadedModel, load_model, match_split, save_model
    from moe_edge.training.builders import create_expert_model, create_gating_network, create_moe_model
    from moe_edge.training.estimators.frozen_models import estimator_model
    from moe_edge.training.estimators.tree_layers import TreeEnsemble
    from moe_edge.training.fit import TrainingResult, train_mixture
    from moe_edge.training.layers import (
        LoadBalancing,
        Preprocess,
        StackedDense,
        StackExperts,
        TargetScale,
        WeightedSum,
    )
    from moe_edge.training.mixture import build_mixture
    from moe_edge.training.outputs import full_outputs
    from moe_edge.training.recipes import competitive_training
    from moe_edge.training.regression_layers import GaussianExperts, GaussianMixture
    from moe_edge.training.split import Split, split_dataset

_HOMES = {
    "moe_edge.training.archive": ("LoadedModel", "load_model", "match_split", "save_model"),
    "moe_edge.training.builders": ("create_expert_model", "create_gating_network", "create_moe_model"),
    "moe_edge.tables.dataset": ("Dataset", "dataset_from_arrays", "encode_dataset", "read_dataset"),
    "moe_edge.training.estimators.frozen_models": ("estimator_model",),
    "moe_edge.training.fit": ("TrainingResult", "train_mixture"),
    "moe_edge.training.layers": (
        "LoadBalancing",
        "Preprocess",
        "StackExperts",
        "StackedDense",
        "TargetScale",
        "WeightedSum",
    ),
    "moe_edge.training.mixture": ("build_mixture",),
    "moe_edge.training.outputs": ("full_outputs",),
    "moe_edge.training.recipes": ("competitive_training",),
    "moe_edge.training.regression_layers": ("GaussianExperts", "GaussianMixture"),
    "moe_edge.training.split": ("Split", "split_dataset"),
    "moe_edge.tables.table_files": ("Table", "read_table"),
    "moe_edge.training.estimators.tree_layers": ("TreeEnsemble",),
}
_WITHOUT_KERAS = {"moe_edge.tables.dataset", "moe_edge.tables.table_files", "moe_edge.training.split"}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Dataset",
    "GaussianExperts",
    "GaussianMixture",
    "LoadBalancing",
    "LoadedModel",
    "Preprocess",
    "Split",
    "StackExperts",
    "StackedDense",
    "Table",
    "TargetScale",
    "TrainingResult",
    "TreeEnsemble",
    "WeightedSum",
    "build_mixture",
    "competitive_training",
    "create_expert_model",
    "create_gating_network",
    "create_moe_model",
    "dataset_from_arrays",
    "encode_dataset",
    "estimator_model",
    "full_outputs",
    "load_model",
    "match_split",
    "read_dataset",
    "read_table",
    "save_model",
    "split_dataset",
    "train_mixture",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is not None:
        if module not in _WITHOUT_KERAS and "keras" not in sys.modules:
            load_keras()  # without the notices that TensorFlow prints on its way
        return getattr(import_module(module), name)
    raise AttributeError(f"module 'moe_edge.training' has no attribute {name!r}")
