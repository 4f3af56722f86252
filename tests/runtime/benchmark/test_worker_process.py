"""Subjects in processes of their own: what they answer, and what is said when they fail."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import pytest

from moe_edge.runtime.benchmark.campaign import Entrant, run_campaign
from moe_edge.runtime.benchmark.model_benchmark import BARE, PREDICTOR, stored_rows
from moe_edge.runtime.benchmark.points import list_points
from moe_edge.runtime.benchmark.process_memory import read_memory_use
from moe_edge.runtime.benchmark.worker_process import SubjectRefusedError, WorkerProcess
from moe_edge.runtime.model_file import ModelFile


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.random.default_rng(0).normal(size=(7, 64)).astype(np.float32))
    return path


def test_answers_are_the_files_own(mixture_file, table, tmp_path):
    options = {"model": str(mixture_file("plain"))}
    with (
        WorkerProcess("routed", PREDICTOR, {**options, "mode": "routed", "top_k": 4}, table) as routed,
        WorkerProcess("bare", BARE, options, table) as bare,
    ):
        one, experts = routed.answers(tmp_path / "a.npy")
        other, none = bare.answers(tmp_path / "b.npy")
        assert len(routed.time(3, budget_ms=1, min_calls=4)) >= 4
        # A block longer than the table repeats it.
        assert len(bare.time(20, budget_ms=1)) >= 3
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert experts == 4 and none is None


def test_a_refused_file_is_told_in_one_line(table, tmp_path):
    damaged = tmp_path / "m.tflite"
    damaged.write_bytes(b"nothing")
    with pytest.raises(SubjectRefusedError, match=r"subject: .*expected a \.tflite"):
        WorkerProcess("subject", PREDICTOR, {"model": str(damaged)}, table)


def test_a_process_that_dies_is_told(mixture_file, table):
    with WorkerProcess("subject", PREDICTOR, {"model": str(mixture_file("plain"))}, table) as worker:
        worker._process.kill()
        with pytest.raises(SubjectRefusedError, match="ended without an answer"):
            worker.time(1, budget_ms=1)


def test_one_refusal_leaves_the_others_measured(mixture_file):
    rows = np.zeros((2, 64), dtype=np.float32)
    entrants = [
        Entrant(name="wrong", factory=BARE, options={"model": "/nowhere.tflite"}),
        Entrant(name="right", factory=BARE, options={"model": str(mixture_file("plain"))}),
    ]
    results, refused = run_campaign(entrants, rows, rounds=2, budget_ms=1)
    assert [result.name for result in results] == ["right"] and list(refused) == ["wrong"]
    assert len(results[0].at(1).round_us) == 2


def test_memory_is_the_kernels(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmRSS:\t  2000 kB\nRssAnon:\t  500 kB\n")
    missing = tmp_path / "absent"
    sources = ((missing, "Rss:", "Anonymous:"), (status, "VmRSS:", "RssAnon:"))
    assert read_memory_use(sources) == (2_048_000, 512_000)
    assert read_memory_use(sources[:1]) is None
    status.write_text("VmRSS:\n")
    assert read_memory_use(sources) is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells on Linux only")
def test_memory_of_this_process_grows_with_it():
    before = read_memory_use()
    # Pages of its own: an array might be given memory that earlier tests have freed.
    with mmap.mmap(-1, 40_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        after = read_memory_use()
    assert before is not None and after is not None
    assert 35e6 < after.anonymous_bytes - before.anonymous_bytes < 80e6


def test_points_of_a_file(mixture_file):
    with ModelFile.open(mixture_file("plain")) as file:
        manifest, signatures = file.manifest, tuple(file.signatures)
    names = [point.name for point in list_points(manifest, signatures)]
    assert names[0] == "dense" and len(set(names)) == len(names)
    assert {"routed top-1", "routed top-2", "routed mass 0.99"} <= set(names)
    assert all(point.name.startswith("dense") for point in list_points(manifest, ("serving_default",)))
    assert json.dumps([point.options for point in list_points(manifest, signatures)])
    assert stored_rows(manifest).shape[1:] == (64,)
