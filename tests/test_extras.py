"""What an extra brings is told by its packages: pyproject.toml is the only list."""

import shlex

import pytest

from moe_edge.errors import MissingDependencyError, require
from moe_edge.extras import install_command


@pytest.mark.parametrize(("extra", "package"), [("desktop", "tensorflow>=2.20"), ("bench", "onnxruntime>=1.18")])
def test_packages_are_named(extra, package):
    words = shlex.split(install_command(extra))
    assert words[:2] == ["pip", "install"] and package in words
    assert not any("moe" in word for word in words)


def test_from_sources_alone_the_checkout_is_installed(monkeypatch):
    from importlib import metadata

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert install_command("desktop") == "pip install -e '.[desktop]'"


def test_a_missing_package_says_what_to_type():
    with pytest.raises(MissingDependencyError, match=r"read stones needs no_such_module.*pip install 'onnx>=1.16'"):
        require("no_such_module", extra="bench", purpose="read stones")
