"""What tests of pictures share: pages and readings to draw, and a canvas that notes what is drawn on it."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from samples.draw import scan
from watcher.canvas import Canvas
from watcher.legend import STATUS_COLOUR
from watcher.line import Line
from watcher.results import Digit, Reading, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watcher.canvas import Colour
    from watcher.normalise import Page
    from watcher.plane import Box

NAMES = (
    "",
    " ",
    "a\nb\t\x00\x7f.png",
    "\udcff\udc80.png",
    "\ud83d.png",
    "invoice\u202egnp.exe",
    "$x^2$_{\\frac}.png",
    "日本語の書類.png",
    "😀 naïve Åé e\u0301 ﬁ.png",
    "\u05e9\u05dc\u05d5\u05dd \u0633\u0644\u0627\u0645.png",
    "\u0e01\u0e33 \u0915\u094d\u0937.png",
    "x" * 4096,
    "\u0301" * 300,
    "\U0010ffff\uffff\ufeff\u2028",
)
"""What a scan may be called."""
SHAPES = [(1, 1), (1, 2000), (2000, 1), (80, 900), (900, 80), (28, 28, 3), (3000, 4000), (4000, 3000, 3)]
"""Tiny, wide, tall and 12-megapixel pages, grey and colour."""


def decoded(png: bytes) -> NDArray[np.uint8]:
    """The RGB picture in a PNG."""
    assert png.startswith(b"\x89PNG")
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def colour(status: Status) -> NDArray[np.uint8]:
    """A status's colour as it stands in a picture."""
    return np.array([round(255 * part) for part in STATUS_COLOUR[status]], np.uint8)


def share(picture: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """How much of a picture has exactly this colour."""
    return float((picture == wanted).all(axis=2).mean())


def reading(status: Status, value: str = "7", confidence: float = 0.62, reason: str = "") -> Reading:
    """A single digit's reading, with a runner-up."""
    if status in ("blank", "failed"):
        return Reading(status, reason=reason)
    digit = Digit(value, confidence, (4, 4, 20, 20), (("1", 0.3), ("9", 0.05)))
    return Reading(status, value, confidence, (digit,), reason, "1")


def written() -> Page:
    """A crop as a form has it."""
    return scan(7, "box", np.random.default_rng(1))


def field(value: str, status: Status, reason: str) -> tuple[Page, Line, Reading]:
    """A page with room for a value, its line and its reading."""
    page = np.full((90, 60 * len(value) + 40), 245, np.uint8)
    digits = tuple(Digit(digit, 0.9, (25 + 60 * place, 20, 46, 55)) for place, digit in enumerate(value))
    image = np.ones((28, 28 * page.shape[1] // 90), np.float32)
    line = Line(image, (15, 15, page.shape[1] - 30, 65), 0.0, finer=lambda: image)
    return page, line, Reading(status, value, 0.9952, digits, reason, value[::-1], kind="field")


class Noted(Canvas):
    """A canvas that notes where each text and each box and picture comes to stand."""

    texts: tuple[Box, ...] = ()
    boxes: tuple[Box, ...] = ()

    def restore(self, kept: NDArray[np.uint8]) -> None:
        """Begin a card anew."""
        super().restore(kept)
        self.texts = self.boxes = ()

    def clear(self, colour: Colour) -> None:
        """Begin a tile anew."""
        super().clear(colour)
        self.texts = self.boxes = ()

    def write(self, *args: Any, **kwargs: Any) -> float:
        """Write, and note what pixels that changes."""
        before = self.rgb()
        width = super().write(*args, **kwargs)
        x, y, w, h = cv2.boundingRect((self.rgb() != before).any(axis=2).astype(np.uint8))
        self.texts += ((x, y, w, h),) if w else ()
        return width

    def fill(self, box: Box, colour: Colour, radius: float = 0) -> None:
        """Fill, and note where."""
        super().fill(box, colour, radius)
        self.boxes += (box,)

    def picture(self, left: int, top: int, page: Page) -> None:
        """Place a picture, and note where."""
        super().picture(left, top, page)
        self.boxes += ((left, top, page.shape[1], page.shape[0]),)

    def assert_legible(self) -> None:
        """No text touches another or a margin, and each stands wholly in a box or off it."""
        assert all(x >= 4 and x + w <= self.width - 4 for x, _, w, _ in self.texts)
        assert not any(common(one, other) for one, other in combinations(self.texts, 2))
        assert all(common(text, box) in {0, text[2] * text[3]} for text, box in product(self.texts, self.boxes))


def common(one: Box, other: Box) -> int:
    """How many pixels two boxes share."""
    sides = (min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    wide, high = (max(side, 0) for side in sides)
    return wide * high
