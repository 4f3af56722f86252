"""Shared parts: small mixtures as real .tflite files, and a Python with the predecessor of ai-edge-litert."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shared.old_runtime import make_python
from shared.seeded_mixtures import write_mixture
from shared.wheel import build_wheel

ROOT = Path(__file__).parent.parent
MixtureFile = Callable[..., Path]


@pytest.fixture(scope="session")
def old_runtime_python() -> Path:
    """A Python that has tflite-runtime 2.14 and NumPy 1 and no TensorFlow; made once in ``.venvs``.

    Run scripts with PYTHONPATH set to the checkout. In CI it must be there; elsewhere tests are skipped without it.
    """
    try:
        return make_python(ROOT / ".venvs")
    except OSError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


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
    """The project's wheel."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def mixture_file(tmp_path_factory: pytest.TempPathFactory) -> MixtureFile:
    """Makes a mixture with seeded random weights: ``mixture_file("plain", scheme="w8a8")`` gives the path of the file.

    See ``shared.seeded_mixtures.write_mixture``.
    """
    return partial(write_mixture, tmp_path_factory.mktemp("mixtures"))


@pytest.fixture(scope="session")
def motion_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``demos/motion/train.py --smoke`` writes: a model of windows, its drift profile, recordings held out."""
    folder = tmp_path_factory.mktemp("motion")
    command = [sys.executable, str(ROOT / "demos" / "motion" / "train.py"), "-o", str(folder), "--smoke"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    return folder


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
