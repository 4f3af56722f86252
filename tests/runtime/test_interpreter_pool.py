from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.errors import BackendError
from moe_edge.runtime.interpreter_pool import InterpreterPool


def test_no_engine_is_lent_twice_and_no_more_are_made_than_allowed():
    made, in_use, wrong = [], set(), []

    def make():
        made.append(object())
        return made[-1]

    pool = InterpreterPool(make, limit=3)

    def work():
        for _ in range(400):
            engine = pool.take()
            if engine in in_use:
                wrong.append(engine)
            in_use.add(engine)
            in_use.discard(engine)
            pool.give(engine)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong and 1 <= len(made) <= 3


def test_an_engine_that_can_not_be_made_gives_its_place_back():
    calls = []

    def make():
        calls.append(1)
        if len(calls) == 2:
            raise BackendError("no memory")
        return object()

    pool = InterpreterPool(make, limit=2)
    pool.take()
    with pytest.raises(BackendError, match="no memory"):
        pool.take()
    assert pool.take() is not None


def test_closing_wakes_who_waits():
    pool = InterpreterPool(object, limit=1)
    engine = pool.take()
    said = []

    def wait():
        with pytest.raises(BackendError, match="closed") as error:
            pool.take()
        said.append(str(error.value))

    thread = threading.Thread(target=wait)
    thread.start()
    assert pool.close()
    thread.join(timeout=30)
    assert said and not pool.close()
    pool.give(engine)


@pytest.mark.parametrize("options", [{"mode": "dense"}, {"top_k": 2}, {"mass": 0.8}])
def test_eight_threads_get_the_serial_answers_bit_for_bit(mixture_file, options):
    with Predictor(mixture_file("plain"), **options) as predictor:
        x = np.random.default_rng(3).normal(size=(300, 64)).astype(np.float32)
        expected = [predictor.predict_raw(row)["prediction"] for row in x]
        labels, batch = predictor.predict(x), predictor.predict_raw(x)["prediction"]
        wrong = []

        def work(offset: int) -> None:
            for step in range(150):
                at = (37 * offset + step) % 300
                same = np.array_equal(predictor.predict_raw(x[at])["prediction"], expected[at])
                same &= predictor.predict(x[at])[0] == labels[at]
                if step % 25 == offset:
                    same &= np.array_equal(predictor.predict_raw(x)["prediction"], batch)
                if not same:
                    wrong.append((offset, at))

        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_closing_while_others_predict_ends_in_answers_or_in_words(mixture_file):
    predictor = Predictor(mixture_file("plain"), mode="routed", top_k=2)
    x = np.zeros((5, 64), dtype=np.float32)
    expected, wrong, started = predictor.predict_raw(x)["prediction"], [], threading.Barrier(5)

    def work() -> None:
        started.wait()
        while True:
            try:
                if not np.array_equal(predictor.predict_raw(x)["prediction"], expected):
                    wrong.append("answer")
            except BackendError as error:
                if "closed" not in str(error):
                    wrong.append(str(error))
                return
            except Exception as error:
                wrong.append(repr(error))
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    predictor.close()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


FORKS = """
import os, sys
from moe_edge import Predictor
from moe_edge.errors import BackendError
predictor = Predictor(sys.argv[1])
predictor.predict([0.0] * 64)
child = os.fork()
if child == 0:
    try:
        predictor.predict([0.0] * 64)
    except BackendError as error:
        predictor.close()
        with Predictor(sys.argv[1]) as own:
            own.predict([0.0] * 64)
        os._exit(7 if "before a fork" in str(error) else 8)
    os._exit(9)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
predictor.predict([0.0] * 64)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_predictor_from_before_a_fork_says_so(mixture_file):
    result = subprocess.run(
        [sys.executable, "-c", FORKS, mixture_file("plain")], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
