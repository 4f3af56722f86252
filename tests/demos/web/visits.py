"""Visits to the page, on the screens of a desktop and a phone."""

from __future__ import annotations

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
