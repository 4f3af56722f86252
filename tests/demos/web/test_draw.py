"""Drawing a digit: strokes by mouse, finger and keyboard are recognised, and the page says who spoke."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_digits import digit_image
from strokes import HANDS, variations

SAME_IMAGE = 1.5
"""Of 16, on average over the pixels: Python counts covered points, the canvas rounds its curves."""

both = pytest.mark.parametrize("visit", ["desktop", "phone"], indirect=True)


def test_drawn_digits_are_recognised(visit):
    """Two hands, each digit as it is and three times otherwise, drawn by mouse."""
    random = np.random.default_rng(1)
    said = {}
    for hand, digits in HANDS.items():
        for digit, strokes in digits.items():
            for drawing in (strokes, *variations(strokes, random, 3)):
                visit.draw(drawing)
                said.setdefault((hand, digit), []).append(visit.label)
                visit.page.click("#clear")
                visit.page.wait_for_selector("#pad-hint")
    right = {key: [label == str(key[1]) for label in labels] for key, labels in said.items()}
    assert np.mean(sum(right.values(), [])) >= 0.9, said
    for digit in range(10):
        assert np.mean(right["round", digit] + right["plain", digit]) >= 0.5, said


@both
def test_a_drawing_says_label_probabilities_experts_and_times(visit):
    page = visit.page
    visit.draw(HANDS["plain"][0])
    page.wait_for_selector("html[data-us]")
    assert visit.label == "0" and page.inner_text("#draw-confidence").endswith("% sure")
    shares = [page.eval_on_selector_all("#draw-bars i", "all => all.map(x => Number(x.style.getPropertyValue('--share')))")]
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
    from conftest import PHONE, Visit

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


def test_the_page_and_the_training_see_a_drawing_alike(visit):
    """What the model was taught to take for a drawing is what the page makes of one."""
    differences = []
    for digits in HANDS.values():
        for strokes in digits.values():
            visit.draw(strokes)
            seen = visit.page.eval_on_selector_all(
                "#draw-mixture .dot", "all => all.map(dot => 16 * Number(dot.style.fillOpacity))"
            )
            taught = digit_image([np.asarray(stroke) for stroke in strokes]).reshape(-1)
            differences.append(np.abs(np.array(seen) - taught).mean())
            visit.page.click("#clear")
            visit.page.wait_for_selector("#pad-hint")
    assert max(differences) <= SAME_IMAGE, differences
