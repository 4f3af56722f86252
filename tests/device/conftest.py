"""Emulated boards, the project's wheel on them, and the files that they run."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from emulated_pi import BOARDS, EmulatedPi, install, must_run, set_up
from mixtures import make_files


@pytest.fixture(scope="session")
def boards(wheel, tmp_path_factory):
    """Name -> the board; skipped where it can't be made, but not in CI."""
    reason = set_up()
    if reason is not None:
        if must_run():
            pytest.fail(reason)
        pytest.skip(reason)
    site = tmp_path_factory.mktemp("board") / "site"
    install(wheel, site)
    return {name: EmulatedPi(board, site) for name, board in BOARDS.items()}


@pytest.fixture(scope="session")
def files(mixture_file, tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("device-files"), mixture_file)
