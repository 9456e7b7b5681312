"""An annotated picture of each page: the crop, what was read, how sure, and why not."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from watcher.canvas import Canvas, as_page, fitted
from watcher.legend import (
    INK_BOX,
    LINE,
    ON_STATUS,
    PANEL,
    QUIET,
    REASON_COLOUR,
    STATUS_COLOUR,
    TEXT,
    WHITE,
    draw_torn,
    named,
    percent,
    plain_reason,
)
from watcher.lettering import Type, printable

if TYPE_CHECKING:
    from watcher.canvas import Align
    from watcher.lettering import Pixels
    from watcher.line import Line
    from watcher.normalise import Ink, Page
    from watcher.plane import Box
    from watcher.results import Digit, Reading, Status

WIDTH: Final = 360
HEIGHT: Final = 180

_BESIDE: Box = (18, 12, 138, 140)  # the panels that the crop stands on
_BELOW: Box = (18, 12, WIDTH - 30, 74)
_VIEW: Final = 58  # how high what the network saw is shown, at most


class Thumbnails:
    """Draws thumbnails, on a renderer that is made once."""

    def __init__(self) -> None:
        self._card = Canvas(WIDTH, HEIGHT, Type())
        self._ground = lru_cache(maxsize=16)(self._new_ground)

    def draw(self, page: Page | None, ink: Ink | Line | None, reading: Reading, name: str, number: int = 1) -> bytes:
        """Draw a page, what the network saw of it and what was read, as a PNG of 360×180 pixels.

        `page` None is a file that could not be decoded; `ink` None a page with nothing written on it. `name` may
        hold any characters; `number` is the page's in its scan.
        """
        card = self._card
        below = page is not None and _is_wide(page, reading)
        card.restore(self._ground(reading.status, below))
        if page is not None and below:
            _draw_below(card, page, ink, reading)
        else:
            _draw_beside(card, page, ink, reading)
        card.write(18, 170, named(card.type, name, number, 10, 330), 10, QUIET)
        return card.png()

    def _new_ground(self, status: Status, below: bool) -> Pixels:
        """What the cards of a status have in common."""
        card = self._card
        card.clear(WHITE)
        card.outline((0, 0, WIDTH, HEIGHT), LINE)
        card.fill((0, 0, 6, HEIGHT), STATUS_COLOUR[status])
        card.fill(_BELOW if below else _BESIDE, PANEL, radius=3)
        return card.kept()


def _is_wide(page: Page, reading: Reading) -> bool:
    height, width = page.shape[:2]
    return width >= 2 * height or len(reading.value) > 4


def _draw_beside(card: Canvas, page: Page | None, ink: Ink | Line | None, reading: Reading) -> None:
    """Draw crop left, verdict right: for single digits and the like."""
    left, right = 170, WIDTH - 12
    _draw_crop(card, _BESIDE, page, ink, reading)
    pill = _draw_status(card, left, 12, reading.status)
    space = right - left
    if ink is not None:
        wide, high = _draw_view(card, right, 12, space - pill - 8, ink)
        card.write(right - wide / 2, 23 + high, "as seen", 8.5, QUIET, align="centre")
        space -= wide + 8
    if reading.value:
        value, size = card.type.fit(printable(reading.value), 62, space, bold=True)
        card.write(left - 3, 58 + round(size * 0.51), value, size, TEXT, bold=True)
    _draw_confidence(card, left, 117, right - left, reading)
    words, size = card.type.fit(printable(_words(reading)), 12, right - left)
    baseline = 150 if reading.value else 54 if ink is None else 104
    card.write(left, baseline, words, size, REASON_COLOUR[reading.status])


def _draw_below(card: Canvas, page: Page, ink: Ink | Line | None, reading: Reading) -> None:
    """Draw crop on top, verdict below: for fields of several digits."""
    left, right = 18, WIDTH - 12
    _draw_crop(card, _BELOW, page, ink, reading)
    if ink is not None:
        right -= _draw_view(card, right, 94, 2 * _VIEW, ink)[0] + 10
    pill = _draw_status(card, right, 94, reading.status, align="right")
    words, size = card.type.fit(printable(_words(reading)), 10.5, right - left)
    card.write(right, 126, words, size, REASON_COLOUR[reading.status], align="right")
    if reading.value:
        largest, middle = (26, 104) if words else (32, 107)  # the reason has the line below for itself
        value, size = card.type.fit(printable(reading.value), largest, right - left - pill - 12, bold=True)
        card.write(left, middle + round(size * 0.37), value, size, TEXT, bold=True)
    _draw_confidence(card, left, 144, right - left, reading)


def _draw_crop(card: Canvas, panel: Box, page: Page | None, ink: Ink | Line | None, reading: Reading) -> None:
    """Draw the page in the middle of `panel` with its ink outlined, each digit's where there are several."""
    left, top, width, height = panel
    if page is None:
        draw_torn(card, left + width / 2, top + height / 2)
        return
    several = len(reading.digits) > 1 or (reading.kind == "field" and bool(reading.digits))
    caption = 16 if several else 0
    picture = fitted(page, width - 8, height - 8 - caption)
    high, wide = picture.shape[:2]
    x, y = left + (width - wide) // 2, top + (height - caption - high) // 2
    card.picture(x, y, picture)
    scale_x, scale_y = wide / page.shape[1], high / page.shape[0]

    def on_card(box: Box) -> Box:
        # Half a pen's width of air, and never outside the panel.
        x0, y0 = x + round(box[0] * scale_x) - 2, y + round(box[1] * scale_y) - 2
        x1, y1 = x + round((box[0] + box[2]) * scale_x) + 2, y + round((box[1] + box[3]) * scale_y) + 2
        x0, y0 = max(x0, left + 1), max(y0, top + 1)
        return x0, y0, min(x1, left + width - 1) - x0, min(y1, top + height - 1) - y0

    if several:
        weakest = _weakest(reading)
        places = [on_card(digit.box) for digit in reading.digits]
        middles = [box[0] + box[2] / 2 for box in places]
        closest = min((after - before for before, after in pairwise(middles)), default=width)
        size = min(12.0, int(2.6 * closest) / 2)  # no digit touches the next, and what is too small to read is left out
        for digit, box, middle in zip(reading.digits, places, middles, strict=True):
            colour = REASON_COLOUR["review"] if digit is weakest else INK_BOX
            card.outline(box, colour)
            if size >= 6:
                card.write(middle, y + high + 15, printable(digit.value), size, colour, bold=True, align="centre")
    elif ink is not None:
        card.outline(on_card(ink.box), INK_BOX)
    elif reading.digits:
        card.outline(on_card(reading.digits[0].box), INK_BOX)


def _weakest(reading: Reading) -> Digit | None:
    """Name the digit that a doubtful value's doubt comes from."""
    if reading.status != "review":
        return None
    return min(reading.digits, key=lambda digit: digit.confidence)


def _draw_status(card: Canvas, x: int, y: int, status: Status, *, align: Align = "left") -> int:
    """Draw the status as a coloured pill with its word; returns its width."""
    width = round(card.type.width(status, 11, bold=True)) + 18
    left = x - width if align == "right" else x
    card.fill((left, y, width, 19), STATUS_COLOUR[status], radius=9.5)
    card.write(left + 9, y + 13.5, status, 11, ON_STATUS[status], bold=True)
    return width


def _draw_view(card: Canvas, right: int, y: int, width: int, ink: Ink | Line) -> tuple[int, int]:
    """Draw the network's input at the left of `right`, light on dark as the network has it; returns its width, height.

    A digit shows its square pixels; a line is fitted into `width`.
    """
    seen = (255 - 0.86 * 255 * (1 - np.clip(ink.image, 0, 1))).astype(np.uint8)
    high, wide = seen.shape
    scale = min(_VIEW / high, width / wide)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    how = cv2.INTER_NEAREST if high == wide else cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = cv2.resize(seen, size, interpolation=how)
    card.picture(right - size[0], y, as_page(np.asarray(large, np.uint8)))
    return size


def _draw_confidence(card: Canvas, x: int, baseline: int, width: int, reading: Reading) -> None:
    """Draw how sure the value is, in percent and as a bar, and what else it might be."""
    if not reading.value:
        return
    used = card.write(x, baseline, percent(reading.confidence), 15, TEXT, bold=True)
    runners = _runners_up(reading)
    space = width - used - 10
    while len(runners) > 1 and card.type.width("  ".join(runners), 10.5) > space:
        runners.pop()
    text = card.type.shorten("  ".join(runners), 10.5, space)
    card.write(x + width, baseline, text, 10.5, QUIET, align="right")
    card.fill((x, baseline + 7, width, 6), PANEL, radius=3)
    filled = round(width * min(max(reading.confidence, 0.0), 1.0))
    card.fill((x, baseline + 7, max(filled, 6), 6), STATUS_COLOUR[reading.status], radius=3)


def _runners_up(reading: Reading) -> list[str]:
    """Say what else a value might be: one digit's alternatives with their share, else the next best value."""
    alternatives = reading.digits[0].alternatives if len(reading.digits) == 1 else ()
    if alternatives and reading.alternative in {"", alternatives[0][0]}:
        return [f"or {printable(value)} · {percent(share)}" for value, share in alternatives[:2] if share >= 0.005]
    return [f"or {printable(reading.alternative)}"] if reading.alternative else []


def _words(reading: Reading) -> str:
    return "nothing is written here" if reading.status == "blank" else plain_reason(reading.reason)
