"""moe.h, called as a program of one's own would: through a shared library, and from threads."""

import ctypes
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from c_host import SOURCES, library

from moe_edge import Predictor

SIZE = 512


class Settings(ctypes.Structure):
    """``moe_settings``."""

    _fields_ = [("library", ctypes.c_char_p), ("skip_digests", ctypes.c_bool), ("mixing", ctypes.c_int)]


class Shape(ctypes.Structure):
    """``moe_shape``."""

    _fields_ = [
        ("num_features", ctypes.c_size_t),
        ("num_outputs", ctypes.c_size_t),
        ("num_experts", ctypes.c_size_t),
        ("not_routed", ctypes.c_char_p),
        ("mixing", ctypes.c_int),
    ]


class Choice(ctypes.Structure):
    """``moe_choice``."""

    _fields_ = [("top_k", ctypes.c_size_t), ("mass", ctypes.c_double)]


@pytest.fixture(scope="module")
def moe(host, tmp_path_factory):
    path = tmp_path_factory.mktemp("moe") / "libmoe.so"
    names = ("litert_api", "model_file", "signature", "expert_choice", "expert_mixing", "moe")
    parts = [str(SOURCES / f"{name}.c") for name in names]
    words = ["gcc", "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-shared", "-fPIC", "-O2", "-o", str(path), *parts, "-lm"]
    subprocess.run(words, check=True)
    c = ctypes.CDLL(str(path))
    c.moe_open.restype = ctypes.c_void_p
    c.moe_describe.restype = Shape
    c.moe_describe.argtypes = [ctypes.c_void_p]
    c.moe_route.argtypes = [ctypes.c_void_p, ctypes.c_void_p, Choice]
    c.moe_predict.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    c.moe_output.restype = ctypes.POINTER(ctypes.c_float)
    c.moe_output.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    c.moe_error.restype = ctypes.c_char_p
    c.moe_error.argtypes = [ctypes.c_void_p]
    c.moe_close.argtypes = [ctypes.c_void_p]
    return c


def opened(c, model, **settings):
    error = ctypes.create_string_buffer(SIZE)
    asked = Settings(str(library()).encode(), **settings)
    mixture = c.moe_open(str(model).encode(), ctypes.byref(asked), error)
    assert mixture, error.value
    return mixture


def output(c, mixture, name):
    count = ctypes.c_size_t()
    values = c.moe_output(mixture, name, ctypes.byref(count))
    return np.array(values[: count.value], dtype=np.float32) if values else None


def test_it_says_what_the_file_takes_and_gives(moe, mixture_file):
    mixture = opened(moe, mixture_file("plain"))
    shape = moe.moe_describe(mixture)
    assert (shape.num_features, shape.num_outputs, shape.num_experts, shape.not_routed) == (64, 3, 4, None)
    moe.moe_close(mixture)
    moe.moe_close(None)


def test_a_file_that_mixes_otherwise_keeps_its_own_mixing(moe, mixture_file):
    for kind, mixing in (("plain", 1), ("regression", 0)):
        mixture = opened(moe, mixture_file(kind), mixing=1)
        assert moe.moe_describe(mixture).mixing == mixing, kind
        moe.moe_close(mixture)


def test_whole_and_routed_answers_by_turns(moe, mixture_file):
    """Neither leaves anything behind for the other, nor a row for the next."""
    rows = np.random.default_rng(1).normal(size=(20, 64)).astype(np.float32)
    with Predictor(mixture_file("plain")) as whole, Predictor(mixture_file("plain"), top_k=1) as one:
        expected = [(whole.predict_proba(row)[0], one.predict_proba(row)[0]) for row in rows]
    mixture = opened(moe, mixture_file("plain"))
    for row, (dense, routed) in zip(rows, expected, strict=True):
        at = row.ctypes.data_as(ctypes.c_void_p)
        assert moe.moe_predict(mixture, at) == 0
        assert output(moe, mixture, b"prediction").tolist() == dense.tolist()
        assert moe.moe_route(mixture, at, Choice(1, 0)) == 0
        assert output(moe, mixture, b"prediction").tolist() == routed.tolist()
        assert sorted(output(moe, mixture, b"routing_weights").tolist()) == [0, 0, 0, 1]
        assert output(moe, mixture, b"colour") is None
    moe.moe_close(mixture)


def test_after_a_row_without_an_answer_the_next_has_one(moe, mixture_file):
    rows = np.random.default_rng(2).normal(size=(2, 64)).astype(np.float32)
    rows[0, 3] = np.nan
    mixture = opened(moe, mixture_file("plain"))
    assert moe.moe_route(mixture, rows[0].ctypes.data_as(ctypes.c_void_p), Choice(2, 0)) == -1
    assert b"the gate gave no weights" in moe.moe_error(mixture)
    assert moe.moe_route(mixture, rows[1].ctypes.data_as(ctypes.c_void_p), Choice(2, 0)) == 0
    with Predictor(mixture_file("plain"), top_k=2) as predictor:
        assert output(moe, mixture, b"prediction").tolist() == predictor.predict_proba(rows[1])[0].tolist()
    moe.moe_close(mixture)


def test_threads_with_a_mixture_each(moe, mixture_file):
    rows = np.random.default_rng(3).normal(size=(300, 64)).astype(np.float32)
    with Predictor(mixture_file("plain"), top_k=2) as predictor:
        expected = [predictor.predict_proba(row)[0].tolist() for row in rows]

    def work(_):
        mixture = opened(moe, mixture_file("plain"))
        found = []
        for row in rows:
            assert moe.moe_route(mixture, row.ctypes.data_as(ctypes.c_void_p), Choice(2, 0)) == 0
            found.append(output(moe, mixture, b"prediction").tolist())
        moe.moe_close(mixture)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(work, range(8)))
