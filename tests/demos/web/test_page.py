"""The page as an app: it stays on its host, works offline after one visit, and can be used without a mouse."""

from __future__ import annotations

import json
import urllib.request

import pytest
from chromium_answers import served
from strokes import HANDS
from visits import PHONE, SCREENS, Visit

pytestmark = pytest.mark.slow

both = pytest.mark.parametrize("visit", ["desktop", "phone"], indirect=True)


@both
def test_no_other_host_is_asked(visit, address):
    page = visit.page
    visit.draw(HANDS["plain"][8])
    page.click("#tab-motion")
    page.wait_for_selector("html[data-motion]")
    page.click("#tab-table")
    page.click("#example")
    page.wait_for_selector("#answers-card")
    page.wait_for_selector("html[data-offline]")
    assert len(visit.requests) > 10
    assert [url for url in visit.requests if not url.startswith((address, f"blob:{address}"))] == []


@pytest.mark.parametrize("screen", SCREENS)
def test_offline_after_one_visit(browser, dist, screen):
    context = browser.new_context(**SCREENS[screen])
    try:
        with served(dist) as address:
            visit = Visit(context, address)
            visit.page.wait_for_selector("html[data-offline]")
        # The server is gone.
        visit.requests.clear()
        visit.open()
        visit.draw(HANDS["round"][3])
        assert visit.label == "3"
        visit.page.click("#tab-motion")
        visit.page.wait_for_selector("html[data-motion]")
        assert visit.page.inner_text("#motion-label") != "–"
        visit.page.click("#tab-table")
        visit.page.click("#example")
        visit.page.wait_for_selector("#self-test.passed")
        another = context.new_page()
        another.goto(address + "index.html#table")
        another.wait_for_selector("html[data-table]")
        assert visit.complaints == []
    finally:
        context.close()


def test_a_new_version_waits_for_a_click(browser, dist, tmp_path):
    import shutil

    from page_files import write_service_worker

    copy = tmp_path / "dist"
    shutil.copytree(dist, copy)
    context = browser.new_context()
    try:
        with served(copy) as address:
            visit = Visit(context, address)
            visit.page.wait_for_selector("html[data-offline]")
            index = copy / "index.html"
            index.write_text(index.read_text().replace("<h1>moe-edge</h1>", "<h1>moe-edge two</h1>"))
            write_service_worker(copy)
            visit.open()
            assert visit.page.inner_text("h1") == "moe-edge"
            visit.page.wait_for_selector("#update", state="visible")
            visit.page.click("#update-now")
            visit.page.wait_for_selector("h1:text-is('moe-edge two')")
            visit.page.wait_for_selector("html[data-offline]")
        visit.page.reload()  # offline again, in the new version
        visit.page.wait_for_selector("html[data-ready]")
        assert visit.page.inner_text("h1") == "moe-edge two"
    finally:
        context.close()


@both
def test_nothing_sticks_out_sideways(visit):
    for tab in ("draw", "motion", "table"):
        visit.page.click(f"#tab-{tab}")
        visit.page.wait_for_selector(f"html[data-{tab}]")
        if tab == "table":
            visit.page.click("#example")
            visit.page.wait_for_selector("#answers-card")
        # Not innerWidth: a phone's grows with what sticks out.
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= visit.page.viewport_size["width"], tab


def test_tabs_by_keyboard_and_by_address(visit):
    page = visit.page
    page.focus("#tab-draw")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#panel-motion", state="visible")
    assert page.evaluate("document.activeElement.id") == "tab-motion" and page.url.endswith("#motion")
    page.keyboard.press("End")
    page.wait_for_selector("#panel-table", state="visible")
    assert page.get_attribute("#tab-table", "aria-selected") == "true" and not page.is_visible("#panel-draw")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#panel-draw", state="visible")


def test_every_control_has_a_name(visit):
    """What a screen reader would say of each control isn't empty."""
    visit.page.click("#tab-motion")
    visit.page.wait_for_selector("html[data-motion]")
    for tab in ("draw", "motion", "table"):
        visit.page.click(f"#tab-{tab}")
        nameless = visit.page.eval_on_selector_all(
            "button, select, input, canvas, [role=tab]",
            """all => all.filter(x => x.checkVisibility()).filter(x => !(x.getAttribute('aria-label') ?? '').trim()
              && !x.innerText?.trim() && !(x.labels?.[0]?.innerText ?? '').trim()).map(x => x.outerHTML)""",
        )
        assert nameless == []


def test_text_has_contrast_in_both_themes(browser, address):
    """At least 4.5 to 1 (WCAG AA) between each text colour and what it stands on."""
    pairs = [("--ink", "--paper"), ("--ink", "--card"), ("--muted", "--paper"), ("--muted", "--card")]
    pairs += [("--bad", "--card"), ("--good", "--paper"), ("--accent", "--card"), ("--muted", "--line")]
    pairs += [("--on-expert", f"--expert-{index}") for index in range(8)]
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(address)
        colours = page.evaluate(
            "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue(name).trim())",
            [name for pair in pairs for name in pair],
        )
        context.close()
        for pair, front, back in zip(pairs, colours[::2], colours[1::2], strict=True):
            light, dark = sorted((luminance(front), luminance(back)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, pair)


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_it_can_be_installed(visit, address):
    with urllib.request.urlopen(address + "manifest.webmanifest") as answer:
        assert answer.headers["Content-Type"] == "application/manifest+json"
        manifest = json.load(answer)
    assert manifest["start_url"] == manifest["scope"] == "./" and manifest["display"] == "standalone"
    for icon in manifest["icons"]:
        with urllib.request.urlopen(address + icon["src"]) as answer:
            assert answer.headers["Content-Type"] == "image/svg+xml"
    visit.page.wait_for_selector("html[data-offline]")
    errors = visit.context.new_cdp_session(visit.page).send("Page.getInstallabilityErrors")["installabilityErrors"]
    # A test's context is a private window, where nothing is installed.
    assert {error["errorId"] for error in errors} <= {"in-incognito"}


def test_scripts_of_others_are_kept_out(visit):
    visit.page.evaluate(
        """() => { const script = document.createElement('script'); script.textContent = 'window.intruder = 1';
          document.body.append(script); }"""
    )
    assert visit.page.evaluate("window.intruder") is None
    visit.complaints[:] = [text for text in visit.complaints if "Content Security Policy" not in text]


def test_a_runtime_that_is_missing_is_told(browser, dist, tmp_path):
    import shutil

    copy = tmp_path / "dist"
    shutil.copytree(dist, copy)
    for path in (copy / "wasm").glob("*.bin"):
        path.unlink()
    context = browser.new_context(**PHONE)
    try:
        with served(copy) as address:
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("#problem", state="visible")
            assert "can't fetch the runtime" in page.inner_text("#problem") and "404" in page.inner_text("#problem")
            assert page.inner_text("#state") == "Not ready"
    finally:
        context.close()
