from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from moe_edge.errors import BackendError, ModelFileError
from moe_edge.runtime import backends
from moe_edge.runtime.backends import Backend, Candidate, allocate, load_backend, try_backend


@pytest.fixture
def fake_runtime(tmp_path, monkeypatch):
    """Puts a module on the path as an installed runtime; returns its candidate."""

    def make(name: str, code: str) -> Candidate:
        (tmp_path / f"{name}_module.py").write_text(code)
        return Candidate(name, f"{name}-package", f"{name}_module")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backends, "_loaded", {})
    return make


def test_auto_takes_the_first_that_imports():
    assert load_backend().name == load_backend("auto").name == "litert"
    assert load_backend("litert") is load_backend()
    assert load_backend().version[0].isdigit()


def test_a_wheel_that_does_not_load_is_passed_over_and_explained(fake_runtime, monkeypatch):
    old_libc = fake_runtime("oldlibc", 'raise ImportError("/lib/libc.so.6: version `GLIBC_2.34\' not found")')
    monkeypatch.setattr(backends, "CANDIDATES", (old_libc, *backends.CANDIDATES))
    monkeypatch.setattr(backends, "BACKEND_NAMES", ("auto", "oldlibc"))
    assert load_backend("auto").name == "litert"
    with pytest.raises(BackendError, match=r"oldlibc-package: needs a newer C library.*GLIBC_2.34.*moe-edge doctor"):
        load_backend("oldlibc")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module_at_all", "needs the module no_such_module_at_all"),
        ("raise SystemError('broken')", "SystemError: broken"),
        ("pass", "AttributeError"),
    ],
)
def test_why_a_runtime_does_not_import(fake_runtime, code, reason):
    found = try_backend(fake_runtime("broken", code))
    assert isinstance(found, str) and reason in found


def test_numpy_2_under_the_old_runtime_names_its_remedy(fake_runtime):
    candidate = fake_runtime("tflite-runtime", "raise ImportError('numpy.core.multiarray failed to import')")
    assert "pip install 'numpy<2'" in str(try_backend(candidate))


def test_what_is_not_there(monkeypatch):
    monkeypatch.setattr(backends, "_loaded", {})
    assert try_backend(Candidate("none", "none", "no_such_package_anywhere.interpreter")) == "not installed"
    monkeypatch.setattr(backends, "CANDIDATES", (Candidate("none", "none-package", "no_such_package_anywhere"),))
    with pytest.raises(BackendError, match="none-package: not installed"):
        load_backend()


def test_an_interpreter_with_and_without_xnnpack(foreign_model, tmp_path):
    backend = load_backend()
    (tmp_path / "m.tflite").write_bytes(foreign_model)
    x = np.asarray([[1, 2, 3, 4]], dtype=np.float32)
    for model in (foreign_model, tmp_path / "m.tflite", str(tmp_path / "m.tflite")):
        for xnnpack in (None, False, True):
            interpreter = backend.interpreter(model, num_threads=1, xnnpack=xnnpack)
            allocate(backend, interpreter)
            interpreter.set_tensor(0, x)
            interpreter.invoke()
            np.testing.assert_allclose(interpreter.get_tensor(2), [[20, 60]])


def test_a_graph_that_the_runtime_refuses(foreign_model):
    backend = load_backend()
    interpreter = backend.interpreter(foreign_model)
    interpreter.resize_tensor_input(0, [1, 3])
    with pytest.raises(ModelFileError, match="ai-edge-litert can't run this file"):
        allocate(backend, interpreter)
    with pytest.raises(BackendError, match="can't run this file"):
        backend.interpreter(b"no model at all")


def test_tensorflow_is_a_backend_too(mixture_file):
    code = (
        "import sys; from moe_edge import Predictor; p = Predictor(sys.argv[1], backend='tensorflow');"
        "print(p.backend, p.predict([0.0] * 64).shape)"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, mixture_file("plain")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["tensorflow", "(1,)"], result.stderr


def test_a_backend_knows_its_package():
    assert isinstance(try_backend(backends.CANDIDATES[0]), Backend)
    assert [candidate.name for candidate in backends.CANDIDATES] == ["litert", "tflite-runtime", "tensorflow"]
