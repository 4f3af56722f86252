"""The motion demo: recordings of people that training never saw, and a phone's sensor by synthetic events."""

from __future__ import annotations

import json

import numpy as np
import pytest

from moe_edge import Predictor

pytestmark = pytest.mark.slow

GRAVITY = 9.80665


@pytest.fixture(scope="module")
def recordings(dist):
    about = json.loads((dist / "models" / "motion-recordings.json").read_text())
    samples = np.fromfile(dist / "models" / "motion-recordings.bin", dtype="<f4").reshape(-1, 6)
    return about, [samples[each["start"] : each["start"] + each["length"]] for each in about["recordings"]]


@pytest.fixture
def motion(visit):
    visit.page.click("#tab-motion")
    visit.page.wait_for_selector("html[data-motion]")
    return visit.page


def test_every_exercise_of_each_held_out_person_is_there(dist, recordings):
    about, samples = recordings
    with Predictor(dist / "models" / "motion.tflite") as predictor:
        labels = predictor.labels
    people = {each["subject"] for each in about["recordings"]}
    assert len(people) >= 2 and len(labels) == 7
    found = sorted((each["subject"], each["label"]) for each in about["recordings"])
    assert found == sorted((person, label) for person in people for label in labels)
    assert sum(map(len, samples)) == sum(each["length"] for each in about["recordings"])


@pytest.mark.parametrize("visit", ["desktop", "phone"], indirect=True)
def test_a_recording_is_answered_as_it_plays(motion):
    page = motion
    before = int(page.get_attribute("#motion-note", "data-windows"))
    assert before > 10 and page.inner_text("#motion-label") != "–"
    page.select_option("#recording", "3")
    page.wait_for_timeout(1200)
    page.click("#play")  # it was playing
    assert page.inner_text("#play") == "Play"
    assert int(page.get_attribute("#motion-note", "data-windows")) > before + 3
    assert "windows right" in page.inner_text("#motion-note")
    assert page.inner_text("#motion-live").startswith(page.inner_text("#motion-label"))
    assert page.eval_on_selector(
        "#trace", "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)"
    )
    page.wait_for_selector("#motion-modes tr:nth-child(2) td:nth-child(4):not(:text-is('–'))")


def test_the_replay_answers_as_the_predictor_does(motion, dist, recordings):
    """What the page shows before anybody presses play is the answer to the first recording's window number 4 * 100."""
    with Predictor(dist / "models" / "motion.tflite", mode="dense") as predictor:
        expected = predictor.explain(recordings[1][0][300:400].reshape(1, -1))
    assert motion.inner_text("#motion-label") == expected.labels[0]
    assert motion.inner_text("#motion-confidence") == f"{round(100 * float(expected.confidence[0]))}\u00a0% sure"


PHONE_EVENTS = """
([samples, stepMs]) => {
  samples.forEach(([x, y, z, beta, gamma, alpha], index) => {
    const event = new DeviceMotionEvent('devicemotion', {
      accelerationIncludingGravity: {x, y, z}, rotationRate: {alpha, beta, gamma}, interval: stepMs,
    });
    Object.defineProperty(event, 'timeStamp', {value: 1000 + index * stepMs});
    dispatchEvent(event);
  });
}"""


def test_a_phones_events_are_converted_and_resampled(motion, dist, recordings):
    """A recording, as a phone that measures 60 times a second in its own units would have reported it."""
    page = motion
    about, samples = recordings
    recording = samples[4][:500]
    assert about["rateHz"] == 50 and about["units"] == {"acceleration": "g", "rotation": "rad/s", "gravitySign": -1}
    times, phone_times = np.arange(len(recording)) / 50, np.arange(0, 9.9, 1 / 60)
    phone = np.stack([np.interp(phone_times, times, channel) for channel in recording.T], axis=1)
    phone[:, :3] *= -GRAVITY  # Chromium on Linux is no device of Apple's
    phone[:, 3:] = np.degrees(phone[:, 3:])
    page.click("#sensor")
    page.wait_for_selector("#sensor:text-is('Stop the sensor')")
    page.evaluate(PHONE_EVENTS, [phone.tolist(), 1000 / 60])
    page.wait_for_timeout(400)
    with Predictor(dist / "models" / "motion.tflite", mode="dense") as predictor:
        # The newest window ends within a fifth of a second of the end.
        ends = range(len(recording) - 20, len(recording) - 4)
        windows = np.stack([recording[end - 100 : end].reshape(-1) for end in ends])
        answers = predictor.explain(windows)
    assert page.inner_text("#motion-label") in set(answers.labels)
    shown = float(page.inner_text("#motion-confidence").split("\u00a0")[0]) / 100
    assert answers.confidence.min() - 0.06 <= shown <= answers.confidence.max() + 0.06
    page.click("#sensor")
    assert page.inner_text("#sensor") == "This phone's sensor"


def test_without_a_sensor_the_page_says_so(motion):
    motion.click("#sensor")
    motion.wait_for_selector("#motion-note:has-text('no sample came from a motion sensor')", timeout=8000)
    assert motion.inner_text("#sensor") == "This phone's sensor"
    motion.click("#play")
    assert motion.inner_text("#play") == "Pause"


def test_a_permission_that_is_denied_is_told(motion):
    """iOS asks; so does this stand-in for its function."""
    motion.evaluate("() => { DeviceMotionEvent.requestPermission = async () => 'denied'; }")
    motion.click("#sensor")
    motion.wait_for_selector("#motion-note:has-text('was not allowed')")
