"""``make c-host``: Python and C side by side."""

import subprocess
import sys

import numpy as np
import pytest
from c_host import SOURCES

COMPARE = SOURCES / "compare.py"


def compare(*arguments):
    words = [sys.executable, str(COMPARE), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_a_mixture_made_on_the_spot_gives_the_same_bits(host):
    result = compare()
    assert result.returncode == 0, result.stderr
    assert "whole: the same bits" in result.stdout and "routed: the same bits" in result.stdout
    assert "us a row" in result.stdout


def test_a_file_and_rows_of_ones_own(host, mixture_file, tmp_path):
    np.save(tmp_path / "rows.npy", np.random.default_rng(6).normal(size=(7, 6)))
    result = compare(mixture_file("regression"), tmp_path / "rows.npy", "--top-k", 2)
    assert result.returncode == 0, result.stderr
    assert "whole: the same bits in 7 rows" in result.stdout and "routed: the same bits in 7 rows" in result.stdout


@pytest.mark.parametrize(
    ("rows", "said"), [(np.zeros((2, 5)), "expected rows of shape (n, 6)"), (None, "No such file or directory")]
)
def test_what_is_wrong_is_said_in_one_line(host, mixture_file, tmp_path, rows, said):
    if rows is not None:
        np.save(tmp_path / "rows.npy", rows)
    result = compare(mixture_file("regression"), tmp_path / "rows.npy")
    assert result.returncode == 1 and said in result.stderr and "Traceback" not in result.stderr
