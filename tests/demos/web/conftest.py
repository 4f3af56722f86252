"""The built page in Debian's Chromium, on a desktop's and a phone's screen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from chromium_answers import chromium_options, served, set_up

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
    "color_scheme": "dark",
}
SCREENS = {"desktop": DESKTOP, "phone": PHONE}
LITERT_LOG = ("INFO", "WARNING", "No available adapters", "Failed to create default WebGPU device")
"""What LiteRT.js writes to the console where nothing is wrong: its log, and that there is no GPU."""


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
    from build import build

    folder = tmp_path_factory.mktemp("web") / "dist"
    build(folder, smoke=True)
    return folder


@pytest.fixture(scope="session")
def address(dist):
    with served(dist) as found:
        yield found


class Visit:
    """One visit to the page, and what was noticed on it."""

    def __init__(self, context, address: str) -> None:
        self.context, self.address = context, address
        self.requests: list[str] = []
        self.complaints: list[str] = []
        context.on("request", lambda request: self.requests.append(request.url))
        self.page = context.new_page()
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.open()

    def open(self, hash_: str = "") -> None:
        self.page.goto(self.address + hash_)
        self.page.wait_for_selector("html[data-ready]")

    def _listen(self, message) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(LITERT_LOG):
            self.complaints.append(message.text)

    def draw(self, strokes) -> None:
        """By mouse, then wait for the answer."""
        box = self.page.locator("#pad").bounding_box()
        for stroke in strokes:
            points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            self.page.mouse.move(*points[0])
            self.page.mouse.down()
            for point in points[1:]:
                self.page.mouse.move(*point)
            self.page.mouse.up()
        self.page.wait_for_selector("#pad-hint", state="hidden")

    @property
    def label(self) -> str:
        return self.page.inner_text("#draw-label")


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
