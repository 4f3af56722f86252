"""Drawing a digit: strokes by mouse, finger and keyboard are recognised, and the page says who spoke."""

from __future__ import annotations

import numpy as np
import pytest
from chromium_answers import WEB
from drawn_digits import digit_image
from npm_packages import bundle
from strokes import HANDS, variations
from visits import PHONE, Visit

pytestmark = pytest.mark.slow

SAME_IMAGE = 0.6
"""Of 16, on average over the pixels: Python counts covered points, the canvas rounds its curves."""


def thin(stroke):
    """Fewer points: each is a call of its own to the browser."""
    return [*stroke[:-1:2], stroke[-1]] if len(stroke) > 8 else stroke


both = pytest.mark.parametrize("visit", ["desktop", "phone"], indirect=True)


def test_digits_drawn_by_mouse_are_recognised(visit):
    said = {}
    for hand, digits in HANDS.items():
        for digit, strokes in digits.items():
            visit.draw([thin(stroke) for stroke in strokes])
            said[hand, digit] = visit.label
            visit.page.click("#clear")
            visit.page.wait_for_selector("#pad-hint")
    assert np.mean([label == str(digit) for (_, digit), label in said.items()]) >= 0.9, said
    assert all(str(digit) in (said["round", digit], said["plain", digit]) for digit in range(10)), said


@pytest.fixture(scope="module")
def scaled(browser, dist, address):
    """Drawings through the page's own scaling and model: each one's label, and the 64 pixels."""
    bundle(WEB / "src" / "page" / "digit_image.js", dist / "digit_image.js")
    script = """async drawings => {
      const [{loadMoe}, {digitImage}] = await Promise.all([import('./moe.js'), import('./digit_image.js')]);
      const moe = await loadMoe(await (await fetch('models/digits.tflite')).arrayBuffer());
      const found = [];
      for (const strokes of drawings) {
        const image = digitImage(strokes.map((stroke) => stroke.map(([x, y]) => ({x, y}))));
        found.push([(await moe.predict(image)).label, [...image]]);
      }
      await moe.dispose();
      return found;
    }"""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    yield lambda drawings: page.evaluate(script, drawings)
    context.close()
    (dist / "digit_image.js").unlink()


def test_drawings_of_any_size_slant_and_place_are_recognised(scaled):
    """Twelve of each digit by each hand."""
    random = np.random.default_rng(1)
    cases = [
        (str(digit), drawing)
        for digits in HANDS.values()
        for digit, strokes in digits.items()
        for drawing in variations(strokes, random, 12)
    ]
    found = scaled([drawing for _, drawing in cases])
    right = np.array([label == digit for (label, _), (digit, _) in zip(found, cases, strict=True)])
    by_digit = {digit: right[[case[0] == digit for case in cases]].mean() for digit in map(str, range(10))}
    assert right.mean() >= 0.92, by_digit
    assert min(by_digit.values()) >= 0.6, by_digit


def test_the_page_and_the_training_see_a_drawing_alike(scaled):
    """What the model was taught to take for a drawing is what the page makes of one."""
    drawings = [[filled(stroke) for stroke in strokes] for digits in HANDS.values() for strokes in digits.values()]
    for strokes, (_, seen) in zip(drawings, scaled(drawings), strict=True):
        taught = digit_image([np.asarray(stroke) for stroke in strokes]).reshape(-1)
        assert np.abs(np.array(seen) - taught).mean() <= SAME_IMAGE


def filled(stroke):
    """The same line with many points, whose corners no curve rounds."""
    points = np.asarray(stroke)
    places = np.linspace(0, len(points) - 1, 12 * (len(points) - 1) + 1)
    return np.stack([np.interp(places, np.arange(len(points)), axis) for axis in points.T], axis=1).tolist()


@both
def test_a_drawing_says_label_probabilities_experts_and_times(visit):
    page = visit.page
    visit.draw(HANDS["plain"][0])
    page.wait_for_selector("html[data-us]")
    assert visit.label == "0" and page.inner_text("#draw-confidence").endswith("% sure")
    shares = [
        page.eval_on_selector_all("#draw-bars i", "all => all.map(x => Number(x.style.getPropertyValue('--share')))")
    ]
    assert sum(shares[0]) == pytest.approx(1, abs=0.05) and np.argmax(shares[0]) == 0
    assert "expert" in page.inner_text("#draw-mixture") and page.inner_text("#draw-live").startswith("0, ")
    rows = page.eval_on_selector_all("#draw-modes tbody tr", "all => all.map(x => [...x.cells].map(y => y.innerText))")
    assert [row[2] for row in rows] != ["–", "–"] and rows[0][2] == "5 of 5"
    assert all(float(row[3]) > 0 for row in rows)
    assert "Measured here" in page.inner_text("#draw-modes")
    page.check("#draw-modes [value=routed]")
    page.wait_for_selector("#draw-modes tr.on:has([value=routed])")
    assert page.inner_text("#draw-mixture").count("of 5 ran") == 1
    assert visit.label == "0"


def test_touch_draws_and_changes_the_answer(browser, address):
    context = browser.new_context(**PHONE)
    try:
        visit = Visit(context, address)
        client = context.new_cdp_session(visit.page)
        box = visit.page.locator("#pad").bounding_box()

        def touch(stroke):
            points = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in stroke]
            client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points[:1]})
            for point in points[1:]:
                client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
            # A finger that lifts at full speed flings, and Chromium swallows the tap that follows.
            visit.page.wait_for_timeout(150)
            client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points[-1:]})
            client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        for digit in (3, 0):
            for stroke in HANDS["plain"][digit]:
                touch(stroke)
            visit.page.wait_for_selector(f"#draw-label:text-is('{digit}')")
            visit.page.tap("#clear")
            visit.page.wait_for_selector("#draw-label:text-is('–')")
        assert visit.page.evaluate("scrollY") == 0  # drawing doesn't scroll
        visit.page.tap("#pad")
        visit.page.wait_for_selector("#pad-hint", state="hidden")
        assert visit.label != "–"
        assert visit.complaints == []
    finally:
        context.close()


def test_the_keyboard_draws_too(visit):
    page = visit.page
    page.focus("#pad")
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(18):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.wait_for_selector("#draw-label:text-is('1')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#draw-label:text-is('–')")


def test_undo_and_a_digit_of_the_table(visit, held_out):
    page = visit.page
    first, second = HANDS["plain"][0][0], HANDS["plain"][1][0]
    visit.draw([first])
    alone = page.inner_text("#draw-confidence")
    visit.draw([second])
    page.click("#undo")
    page.wait_for_selector(f"#draw-confidence:text-is('{alone}')")
    labels = []
    for _ in range(10):
        page.click("#sample")
        page.wait_for_timeout(60)
        labels.append(visit.label)
    assert np.mean(np.array(labels) == held_out[1][:10]) >= 0.8
