"""The built page in Debian's Chromium, on a desktop's and a phone's screen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from chromium_answers import ENVIRONMENT, WEB, chromium_options, served, set_up
from visits import SCREENS, Visit


@pytest.fixture(scope="session")
def browser():
    """Chromium; where it can't be had the tests are skipped, but not in CI."""
    reason = set_up()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**chromium_options())
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def dist(browser, tmp_path_factory) -> Path:
    """The page, built with models of a few epochs."""
    folder = tmp_path_factory.mktemp("web") / "dist"
    command = [sys.executable, str(WEB / "build.py"), "-o", str(folder), "--smoke"]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def address(dist):
    with served(dist) as found:
        yield found


@pytest.fixture
def visit(browser, address, request):
    """A visit to the page; parametrize it with a name of ``SCREENS``. Nothing may be complained about in the console."""
    screen = getattr(request, "param", "desktop")
    context = browser.new_context(**SCREENS[screen])
    found = Visit(context, address)
    yield found
    context.close()
    assert found.complaints == []


@pytest.fixture(scope="session")
def library(browser, address):
    """A page that runs models by moe.js alone: ``library(script, argument)``; ``moe`` is the module."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    yield lambda script, argument=None: page.evaluate(
        f"async (argument) => {{ const moe = await import('./moe.js'); {script} }}", argument
    )
    context.close()


@pytest.fixture(scope="session")
def held_out(dist):
    """The digits of digits-rows.csv, (40, 64) and their labels."""
    table = np.genfromtxt(dist / "models" / "digits-rows.csv", delimiter=",", skip_header=1, dtype=np.float32)
    return table[:, :-1], table[:, -1].astype(int).astype(str)
