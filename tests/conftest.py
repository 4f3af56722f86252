"""Shared parts: small mixtures as real .tflite files, and a Python with the predecessor of ai-edge-litert."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
OLD_RUNTIME = ("tflite-runtime==2.14.0", "numpy<2", "click", "rich", "flatbuffers")
"""What a device installs where ai-edge-litert has no wheel."""

MixtureFile = Callable[..., Path]


@pytest.fixture(scope="session")
def old_runtime_python() -> Path:
    """A Python that has tflite-runtime 2.14 and NumPy 1 and no TensorFlow; made once in ``.venvs``.

    Run scripts with PYTHONPATH set to the checkout. In CI it must be there; elsewhere tests are skipped without it.
    """
    key = hashlib.sha256("\n".join((*OLD_RUNTIME, sys.version.split()[0])).encode()).hexdigest()[:12]
    folder = ROOT / ".venvs" / f"tflite-runtime-{key}"
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        steps = (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *OLD_RUNTIME],
        )
        for step in steps:
            result = subprocess.run(step, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                reason = f"can't make a Python with tflite-runtime: {result.stderr.strip()[-500:]}"
                if os.environ.get("CI"):
                    pytest.fail(reason)
                pytest.skip(reason)
        done.touch()
    return python


@pytest.fixture(scope="session")
def rows_at_thresholds():
    """Rows that try every branch of a ``TreeEnsemble``: at each threshold, and one float32 above and below it."""

    def make(layer, num_features: int, rng: np.random.Generator, limit: int = 1000) -> np.ndarray:
        feature, threshold = np.asarray(layer.feature), np.asarray(layer.threshold)
        inner = rng.permutation(np.flatnonzero(np.isfinite(threshold)))[: limit // 3]
        rows = rng.normal(size=(3, len(inner), num_features)).astype(np.float32)
        # A column after the last is one of -x.
        at = np.where(feature[inner] < num_features, threshold[inner], -threshold[inner])
        for place, value in enumerate((at, *(np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf)))):
            rows[place, np.arange(len(inner)), feature[inner] % num_features] = value
        return rows.reshape(-1, num_features)

    return make


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy: a build leaves folders behind, and stale ones would end up in it."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "tree"
    copy.mkdir()
    for name in ("moe_edge", "converters", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(copy)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob("*.whl")
    return built


def _stack(rng: np.random.Generator, sizes: list[int], last: str):
    from moe_edge_converters.spec import dense_stack

    return dense_stack(
        [
            (
                rng.normal(size=(inputs, units)) / np.sqrt(inputs) * 1.5,
                rng.normal(size=units) * 0.1,
                last if index == len(sizes) - 2 else "relu",
            )
            for index, (inputs, units) in enumerate(pairwise(sizes))
        ]
    )


def _plain_spec(rng: np.random.Generator):
    """64 features, 3 classes, 4 experts."""
    from moe_edge.config import Combine, Task
    from moe_edge_converters.spec import MixtureSpec

    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(64,),
        gate=_stack(rng, [64, 16, 4], "softmax"),
        experts=tuple(_stack(rng, [64, 32, 3], "softmax") for _ in range(4)),
        num_outputs=3,
    ), None


def _table_spec(rng: np.random.Generator):
    """Two numeric columns of very different range, one categorical; string labels; missing values."""
    from moe_edge.config import Combine, Task
    from moe_edge.schema import Column, ColumnKind, FeatureSchema
    from moe_edge_converters.spec import MixtureSpec, PreprocessSpec

    schema = FeatureSchema(
        columns=(
            Column(name="height"),
            Column(name="colour", kind=ColumnKind.CATEGORICAL, categories=("blue", "green", "red")),
            Column(name="price"),
        ),
        target="kind",
        task=Task.CLASSIFICATION,
        labels=("bad", "good"),
    )
    as_floats = lambda *values: np.asarray(values, dtype=np.float32)  # noqa: E731
    preprocess = PreprocessSpec(
        num_columns=3,
        numeric=(0, 2),
        fill=as_floats(1.7, 5000.0),
        mean=as_floats(1.7, 5000.0),
        inverse_scale=as_floats(5.0, 1e-3),
        low=as_floats(-4, -4),
        high=as_floats(4, 4),
        categorical=((1, 3),),
    )
    return MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(3,),
        preprocess=preprocess,
        gate=_stack(rng, [5, 8, 3], "softmax"),
        experts=tuple(_stack(rng, [5, 16, 2], "softmax") for _ in range(3)),
        num_outputs=2,
    ), schema


def _regression_spec(rng: np.random.Generator):
    """6 features, one number, 3 Gaussian experts."""
    from moe_edge.config import Combine, Task
    from moe_edge_converters.spec import MixtureSpec

    return MixtureSpec(
        task=Task.REGRESSION,
        combine=Combine.GAUSSIAN,
        input_shape=(6,),
        gate=_stack(rng, [6, 8, 3], "softmax"),
        experts=tuple(_stack(rng, [6, 16, 2], "linear") for _ in range(3)),
        num_outputs=1,
    ), None


_SPECS = {"plain": _plain_spec, "table": _table_spec, "regression": _regression_spec}


@pytest.fixture(scope="session")
def mixture_file(tmp_path_factory: pytest.TempPathFactory) -> MixtureFile:
    """Makes a mixture with seeded random weights: ``mixture_file("plain", scheme="w8a8")`` gives the path of the file.

    Kinds: ``plain`` (64 features, 3 classes, 4 experts), ``table`` (columns height, colour, price; labels bad, good;
    3 experts), ``regression`` (6 features, 1 number, 3 Gaussian experts).
    """
    folder = tmp_path_factory.mktemp("mixtures")

    def make(kind: str = "plain", *, scheme: str = "float32", per_tensor: bool = False) -> Path:
        path = folder / f"{kind}-{scheme}-{per_tensor}.tflite"
        if not path.exists():
            from moe_edge_converters.conversion import ConversionOptions, convert_spec
            from moe_edge_converters.given_rows import probe_rows
            from moe_edge_converters.schemes.scheme import Scheme

            spec, schema = _SPECS[kind](np.random.default_rng(7))
            options = ConversionOptions(scheme=Scheme(scheme), per_tensor=per_tensor)
            convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=options, schema=schema)
        return path

    return make


@pytest.fixture(scope="session")
def rewrite_manifest() -> Callable[[Path, Callable[[str], str]], bytes]:
    """Gives a file with a changed manifest, not longer than it was, and a digest that agrees with it."""
    from moe_edge.manifest import HASH_NAME, MANIFEST_NAME
    from moe_edge.runtime.integrity import DIGEST_BYTES, digest_head
    from moe_edge.runtime.model_file import ModelFile

    def rewrite(path: Path, change: Callable[[str], str]) -> bytes:
        with ModelFile.open(path) as file:
            (at, size), (digests, _) = file.structure.metadata[MANIFEST_NAME], file.structure.metadata[HASH_NAME]
            head = file.structure.head
        content = bytearray(path.read_bytes())
        changed = change(content[at : at + size].decode()).encode()
        assert len(changed) <= size
        content[at : at + size] = changed.ljust(size)  # JSON may end in blanks
        content[digests : digests + DIGEST_BYTES] = digest_head(content, head=head, hash_at=digests)
        return bytes(content)

    return rewrite
