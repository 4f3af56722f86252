"""The C host, built for this machine and for an emulated Raspberry Pi, and the files that it runs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from c_host import CannotBuildError, build, library
from emulated_pi import must_run
from mixtures import make_files


def _ready(make):
    try:
        return make()
    except CannotBuildError as error:
        if must_run():
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def host():
    """The folder of the sanitized program and of the plain one are there."""
    return _ready(lambda: (build(), build(sanitize=True)))


@pytest.fixture(scope="session")
def arm64(host):
    """The board's name; the cross-compiled program and the emulated Pi are there."""
    _ready(lambda: (build("arm64"), library("arm64")))
    return "arm64"


@pytest.fixture(scope="session")
def files(mixture_file, tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("c-files"), mixture_file)
