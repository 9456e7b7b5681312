"""What people look at: an annotated picture of each page and the contact sheet of a batch.

Set and drawn on matplotlib's Agg renderer without pyplot or a Figure. Letters are rasterised once and kept: laying
out every line afresh would cost more than all the rest of the picture.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.ft2font import LoadFlags
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray

from watcher.png import to_png
from watcher.results import URGENCY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from watcher.line import Line
    from watcher.normalise import Ink, Page
    from watcher.reading import Box, Digit, Reading, Status

WIDTH: Final = 360
HEIGHT: Final = 180
TILE: Final = 96  # a tile's picture: its height, and its width where it is not a wide field

Colour = tuple[float, float, float]
Align = Literal["left", "centre", "right"]
_Pixels = NDArray[np.uint8]


def _colour(code: str) -> Colour:
    """`#rrggbb` as red, green and blue from 0 to 1."""
    red, green, blue = bytes.fromhex(code[1:])
    return red / 255, green / 255, blue / 255


# Told apart by the colour-blind too: the four differ in lightness as well as in hue, and each has its word.
STATUS_COLOUR: Final[dict[Status, Colour]] = {
    "accepted": _colour("#007a6c"),
    "review": _colour("#f0a202"),
    "blank": _colour("#8a929b"),
    "failed": _colour("#c22f1e"),
}
_ON_STATUS: Final[dict[Status, Colour]] = {  # text on the status's colour
    "accepted": _colour("#ffffff"),
    "review": _colour("#2b1d00"),
    "blank": _colour("#ffffff"),
    "failed": _colour("#ffffff"),
}
_REASON_COLOUR: Final[dict[Status, Colour]] = {  # amber itself is too light to read on white
    "accepted": _colour("#007a6c"),
    "review": _colour("#8a5a00"),
    "blank": _colour("#5f6770"),
    "failed": _colour("#b02a1a"),
}
_TEXT = _colour("#1c2126")
_QUIET = _colour("#68707a")
_LINE = _colour("#d3d8dd")
_PANEL = _colour("#eef0f2")
_WHITE = _colour("#ffffff")
_INK_BOX = _colour("#d0208f")  # neither a pen's colour nor a status's

_REASONS: Final = {
    "low_confidence": "not sure enough",
    "not_promised": "max_error cannot be promised",
    "not_digits": "may not be a digit",
    "audit": "taken at random for a check",
    "clipped": "runs over the edge",
    "wrong_length": "wrong number of digits",
    "unreadable": "cannot be decoded",
    "truncated": "the file is cut short",
    "empty": "the file is empty",
    "too_large": "too large",
    "unsupported": "not a known picture format",
    "crashed_decoder": "crashed the decoder",
    "timed_out": "took too long",
}

_IN_A_WORD: Final = {  # on a tile, of those that how sure a value is does not tell
    "not_promised": "max_error",
    "not_digits": "no digit?",
    "audit": "audit",
    "clipped": "edge",
    "wrong_length": "length",
    "rule": "rule",
}


def plain_reason(reason: str) -> str:
    """Say a reason's code in plain words; a code without any becomes its own words."""
    if reason.startswith("rule:"):
        return f"against the rule “{reason.removeprefix('rule:')}”"
    return _REASONS.get(reason, reason.replace("_", " "))


def percent(probability: float) -> str:
    """Write a probability as a percentage that never rounds to a certainty that is not there."""
    if probability > 0.999:
        return ">99.9%"
    if probability >= 0.99:
        return f"{int(probability * 1000) / 10:.1f}%"
    return f"{probability:.0%}" if probability >= 0.01 else "<1%"


def printable(text: str) -> str:
    """Make any string fit to be set in one line: control characters and lone surrogates escaped, no missing glyphs."""
    if text.isascii() and text.isprintable():
        return text
    covered = _covered()
    return "".join(_printable(letter, covered) for letter in unicodedata.normalize("NFC", text))


def page_mark(number: int) -> str:
    """Say which page of its scan one is, to stand behind the scan's name; nothing of the first: most have no other."""
    return f" · page {number}" if number > 1 else ""


class Painter:
    """Draws a worker's pictures on renderers that are made once."""

    def __init__(self) -> None:
        self._type = _Type()
        self._card = _Canvas(WIDTH, HEIGHT, self._type)
        self._tiles = [_Canvas(_tile_width(span), _TILE_HEIGHT, self._type) for span in _SPANS]
        self._ground = lru_cache(maxsize=16)(self._new_ground)

    def thumbnail(
        self, page: Page | None, ink: Ink | Line | None, reading: Reading, name: str, number: int = 1
    ) -> bytes:
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
        card.write(18, 170, _named(self._type, name, number, 10, 330), 10, _QUIET)
        return card.png()

    def tile(self, page: Page | None, reading: Reading, name: str, number: int = 1) -> bytes:
        """Draw a page's tile of the contact sheet, up to three places wide: its pixels, for `sheet` to put there."""
        picture = None if page is None else _fit(page, _picture_width(_span_of(page)), TILE)
        tile = self._tiles[_SPANS.index(1 if picture is None else _span(picture))]
        _draw_tile(tile, picture, reading)
        tile.write(5, tile.height - 6, _named(self._type, name, number, 8.5, tile.width - 10), 8.5, _QUIET)
        return tile.rgb().tobytes()

    def sheet(self, tiles: Sequence[bytes], counts: Mapping[Status, int], title: str) -> bytes:
        """Draw a batch at a glance as a PNG: its tiles as they come, and how many pages have each status."""
        pictures = [np.frombuffer(tile, np.uint8).reshape(_TILE_HEIGHT, -1, 3) for tile in tiles]
        places, columns, rows = _flow([_SPANS[_WIDTHS.index(picture.shape[1])] for picture in pictures])
        width = 2 * _MARGIN + columns * _PLACE - _GAP
        canvas = _Canvas(width, _HEAD + rows * (_TILE_HEIGHT + _GAP) + _MARGIN - _GAP, self._type)
        canvas.clear(_PANEL)
        _draw_head(canvas, title, counts, len(tiles))
        for picture, (column, row) in zip(pictures, places, strict=True):
            canvas.picture(_MARGIN + column * _PLACE, _HEAD + row * (_TILE_HEIGHT + _GAP), picture)
        return canvas.png()

    def _new_ground(self, status: Status, below: bool) -> _Pixels:
        """What the cards of a status have in common."""
        card = self._card
        card.clear(_WHITE)
        card.outline((0, 0, WIDTH, HEIGHT), _LINE)
        card.fill((0, 0, 6, HEIGHT), STATUS_COLOUR[status])
        card.fill(_BELOW if below else _BESIDE, _PANEL, radius=3)
        return card.kept()


# The thumbnail: a card with the crop at the left, or on top where it is wide, and the verdict beside it.


_BESIDE: Box = (18, 12, 138, 140)  # the panels that the crop stands on
_BELOW: Box = (18, 12, WIDTH - 30, 74)
_VIEW: Final = 58  # how high what the network saw is shown, at most


def _is_wide(page: Page, reading: Reading) -> bool:
    height, width = page.shape[:2]
    return width >= 2 * height or len(reading.value) > 4


def _draw_beside(card: _Canvas, page: Page | None, ink: Ink | Line | None, reading: Reading) -> None:
    """Draw crop left, verdict right: for single digits and the like."""
    left, right = 170, WIDTH - 12
    _draw_crop(card, _BESIDE, page, ink, reading)
    pill = _draw_status(card, left, 12, reading.status)
    space = right - left
    if ink is not None:
        wide, high = _draw_view(card, right, 12, space - pill - 8, ink)
        card.write(right - wide / 2, 23 + high, "as seen", 8.5, _QUIET, align="centre")
        space -= wide + 8
    if reading.value:
        value, size = card.type.fit(printable(reading.value), 62, space, bold=True)
        card.write(left - 3, 58 + round(size * 0.51), value, size, _TEXT, bold=True)
    _draw_confidence(card, left, 117, right - left, reading)
    words, size = card.type.fit(printable(_words(reading)), 12, right - left)
    baseline = 150 if reading.value else 54 if ink is None else 104
    card.write(left, baseline, words, size, _REASON_COLOUR[reading.status])


def _draw_below(card: _Canvas, page: Page, ink: Ink | Line | None, reading: Reading) -> None:
    """Draw crop on top, verdict below: for fields of several digits."""
    left, right = 18, WIDTH - 12
    _draw_crop(card, _BELOW, page, ink, reading)
    if ink is not None:
        right -= _draw_view(card, right, 94, 2 * _VIEW, ink)[0] + 10
    pill = _draw_status(card, right, 94, reading.status, align="right")
    words, size = card.type.fit(printable(_words(reading)), 10.5, right - left)
    card.write(right, 126, words, size, _REASON_COLOUR[reading.status], align="right")
    if reading.value:
        largest, middle = (26, 104) if words else (32, 107)  # the reason has the line below for itself
        value, size = card.type.fit(printable(reading.value), largest, right - left - pill - 12, bold=True)
        card.write(left, middle + round(size * 0.37), value, size, _TEXT, bold=True)
    _draw_confidence(card, left, 144, right - left, reading)


def _draw_crop(card: _Canvas, panel: Box, page: Page | None, ink: Ink | Line | None, reading: Reading) -> None:
    """Draw the page in the middle of `panel` with its ink outlined, each digit's where there are several."""
    left, top, width, height = panel
    if page is None:
        _draw_broken(card, left + width / 2, top + height / 2)
        return
    several = len(reading.digits) > 1 or (reading.kind == "field" and bool(reading.digits))
    caption = 16 if several else 0
    picture = _fit(page, width - 8, height - 8 - caption)
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
            colour = _REASON_COLOUR["review"] if digit is weakest else _INK_BOX
            card.outline(box, colour)
            if size >= 6:
                card.write(middle, y + high + 15, printable(digit.value), size, colour, bold=True, align="centre")
    elif ink is not None:
        card.outline(on_card(ink.box), _INK_BOX)
    elif reading.digits:
        card.outline(on_card(reading.digits[0].box), _INK_BOX)


def _weakest(reading: Reading) -> Digit | None:
    """Name the digit that a doubtful value's doubt comes from."""
    if reading.status != "review":
        return None
    return min(reading.digits, key=lambda digit: digit.confidence)


def _draw_broken(card: _Canvas, x: float, y: float) -> None:
    """Draw a torn sheet around (x, y): there is no picture to show."""
    upper = [(-24, 4), (-24, -34), (10, -34), (24, -20), (24, -4), (12, 5), (0, -5), (-12, 5)]
    lower = [(-24, 14), (-12, 15), (0, 5), (12, 15), (24, 6), (24, 34), (-24, 34)]
    for outline in (upper, lower):
        card.polygon([(x + dx, y + dy) for dx, dy in outline], face=_WHITE, edge=_colour("#a9b0b8"))
    card.polygon([(x + 10, y - 34), (x + 10, y - 20), (x + 24, y - 20)], face=_PANEL, edge=_colour("#a9b0b8"))


def _draw_status(card: _Canvas, x: int, y: int, status: Status, *, align: Align = "left") -> int:
    """Draw the status as a coloured pill with its word; returns its width."""
    width = round(card.type.width(status, 11, bold=True)) + 18
    left = x - width if align == "right" else x
    card.fill((left, y, width, 19), STATUS_COLOUR[status], radius=9.5)
    card.write(left + 9, y + 13.5, status, 11, _ON_STATUS[status], bold=True)
    return width


def _draw_view(card: _Canvas, right: int, y: int, width: int, ink: Ink | Line) -> tuple[int, int]:
    """Draw the network's input at the left of `right`, light on dark as the network has it; returns its width, height.

    A digit shows its square pixels; a line is fitted into `width`.
    """
    seen = (255 - 0.86 * 255 * (1 - np.clip(ink.image, 0, 1))).astype(np.uint8)
    high, wide = seen.shape
    scale = min(_VIEW / high, width / wide)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    how = cv2.INTER_NEAREST if high == wide else cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = cv2.resize(seen, size, interpolation=how)
    card.picture(right - size[0], y, _as_page(np.asarray(large, np.uint8)))
    return size


def _draw_confidence(card: _Canvas, x: int, baseline: int, width: int, reading: Reading) -> None:
    """Draw how sure the value is, in percent and as a bar, and what else it might be."""
    if not reading.value:
        return
    used = card.write(x, baseline, percent(reading.confidence), 15, _TEXT, bold=True)
    runners = _runners_up(reading)
    space = width - used - 10
    while len(runners) > 1 and card.type.width("  ".join(runners), 10.5) > space:
        runners.pop()
    text = card.type.shorten("  ".join(runners), 10.5, space)
    card.write(x + width, baseline, text, 10.5, _QUIET, align="right")
    card.fill((x, baseline + 7, width, 6), _PANEL, radius=3)
    filled = round(width * min(max(reading.confidence, 0.0), 1.0))
    card.fill((x, baseline + 7, max(filled, 6), 6), STATUS_COLOUR[reading.status], radius=3)


def _runners_up(reading: Reading) -> list[str]:
    """Say what else a value might be: one digit's alternatives with their share, a field's next best value."""
    if len(reading.digits) == 1 and reading.digits[0].alternatives:
        best = [pair for pair in reading.digits[0].alternatives[:2] if pair[1] >= 0.005]
        return [f"or {printable(value)} · {percent(share)}" for value, share in best]
    return [f"or {printable(reading.alternative)}"] if reading.alternative else []


def _words(reading: Reading) -> str:
    return "nothing is written here" if reading.status == "blank" else plain_reason(reading.reason)


def _named(type_: _Type, name: str, number: int, size: float, width: int) -> str:
    """Say in a line at most `width` wide which page of which scan it is; where there is no room, the name gives way."""
    mark = page_mark(number)
    return type_.shorten(printable(name), size, width - type_.width(mark, size)) + mark


# The contact sheet: a grid whose cells hold a tile, or a part of a wide one.

_MARGIN, _GAP, _HEAD = 16, 8, 64
_PLACE = TILE + 8 + _GAP
_TILE_HEIGHT = TILE + 48
_SPANS: Final = (1, 2, 3)  # places that a tile may take


def _picture_width(span: int) -> int:
    """How wide a picture may be on a tile that takes `span` places."""
    return TILE + (span - 1) * _PLACE


def _tile_width(span: int) -> int:
    return _picture_width(span) + 8


_WIDTHS: Final = [_tile_width(span) for span in _SPANS]


def _span_of(page: Page) -> int:
    """How many places a page may take."""
    height, width = page.shape[:2]
    return 1 if width < 2 * height else 2 if width < 4 * height else 3


def _span(picture: _Pixels) -> int:
    """How many places a picture takes."""
    return next((span for span in _SPANS if picture.shape[1] <= _picture_width(span)), 3)


def _flow(spans: Sequence[int]) -> tuple[list[tuple[int, int]], int, int]:
    """Set tiles in rows like words in lines: each one's column and row, then the columns and the rows."""
    # A little wider than high, and never too narrow for the title.
    columns = min(max(6, round((1.6 * sum(spans)) ** 0.5)), 18)
    places: list[tuple[int, int]] = []
    column = row = 0
    for span in spans:
        if column + span > columns:
            column, row = 0, row + 1
        places.append((column, row))
        column += span
    return places, columns, row + 1 if spans else 0


def _draw_head(canvas: _Canvas, title: str, counts: Mapping[Status, int], shown: int) -> None:
    """Write the batch's name and, doubtful first, how many pages have each status."""
    width = canvas.width - 2 * _MARGIN
    canvas.write(_MARGIN, 29, canvas.type.shorten(printable(title), 17, width, bold=True), 17, _TEXT, bold=True)
    x = float(_MARGIN)
    for status in URGENCY:
        if counts.get(status):
            canvas.fill((round(x), 41, 10, 10), STATUS_COLOUR[status], radius=5)
            x += 15 + canvas.write(x + 15, 50, f"{counts[status]:,} {status}", 12, _TEXT) + 16
    if (total := sum(counts.values())) > shown:
        canvas.write(x, 50, f"the first {shown:,} of {total:,} shown", 12, _QUIET)
    elif not shown:
        canvas.write(x, 50, "nothing was read", 12, _QUIET)


def _draw_tile(tile: _Canvas, picture: _Pixels | None, reading: Reading) -> None:
    """Draw one tile: the picture, what was read, how sure or why it is in doubt; the status as the edge."""
    width, middle, line = tile.width, 8 + TILE // 2, TILE + 28
    tile.clear(_WHITE)
    tile.fill((0, 0, width, 4), STATUS_COLOUR[reading.status])
    if picture is None:
        _draw_broken(tile, width / 2, middle)
    else:
        high, wide = picture.shape[:2]
        tile.picture((width - wide) // 2, middle - high // 2, picture)
    colour = _TEXT if reading.status == "accepted" else _REASON_COLOUR[reading.status]
    doubt = _IN_A_WORD.get(reading.reason.partition(":")[0], "")
    note = doubt or (percent(reading.confidence) if reading.value else "")
    value = printable(reading.value) + ("?" if reading.status == "review" else "")
    said, largest = (value, 17) if reading.value else (reading.status, 12)
    said, size = tile.type.fit(said, largest, width - tile.type.width(note, 10) - 14, bold=True)
    tile.write(5, line, said, size, colour, bold=True)
    tile.write(width - 5, line, note, 10, colour if doubt else _QUIET, align="right")


# Setting type.


class _Letters(NamedTuple):
    """Letters as they are set: their coverage from 0 to 255, with air around, and how far they move the pen."""

    mask: _Pixels  # baseline at `_Type.ascent` rows from the top, pen at `_Type.air` columns from the left
    advance: float


class _Type:
    """Sets lines in DejaVu Sans, the face that matplotlib brings along, so that each machine draws the same."""

    def __init__(self) -> None:
        self._letters = lru_cache(maxsize=4096)(self._rasterise)  # some 100 letters in a dozen sizes
        self.line = lru_cache(maxsize=1024)(self._set)  # the words for a status, percentages, values come again
        self.width = lru_cache(maxsize=1024)(self._measure)

    def _set(self, text: str, size: float, bold: bool = False) -> tuple[_Pixels, float]:
        """Set `text` (as `printable` gives it): its coverage, the pen's start at (air, ascent), and its width."""
        set_letters = [self._letters(part, size, bold) for part in _parts(text)]
        width = sum(letters.advance for letters in set_letters)
        air = self.air(size)
        mask = np.zeros((self.ascent(size) + self.air(size) * 2, int(width) + 2 * air + 2), np.uint8)
        pen = 0.0
        for letters in set_letters:
            start = round(pen)
            target = mask[:, start : start + letters.mask.shape[1]]
            np.maximum(target, letters.mask[:, : target.shape[1]], out=target)
            pen += letters.advance
        return mask, width

    def _measure(self, text: str, size: float, bold: bool = False) -> float:
        """How wide a line is, in pixels."""
        return sum(self._letters(part, size, bold).advance for part in _parts(text))

    def fit(self, text: str, size: float, width: float, *, bold: bool = False) -> tuple[str, float]:
        """Make `text` at most `width` wide: set smaller where it can still be read, else shortened; with its size."""
        needed = self.width(text, size, bold=bold)
        if needed > width:
            size = max(8.0, int(2 * size * width / needed) / 2)
            text = self.shorten(text, size, width, bold=bold)
        return text, size

    def shorten(self, text: str, size: float, width: float, *, bold: bool = False) -> str:
        """Take letters out of the middle until `text` is at most `width` wide; names differ at their ends."""
        if len(text) <= 2 * width and self.width(text, size, bold=bold) <= width:
            return text
        for kept in range(min(len(text) - 1, int(width / size * 3)), 0, -1):
            short = text[: kept // 2] + "…" + text[len(text) - (kept + 1) // 2 :]
            if self.width(short, size, bold=bold) <= width:
                return short
        return "…"

    @staticmethod
    def ascent(size: float) -> int:
        """Rows above the baseline."""
        return int(1.25 * size) + 1

    @staticmethod
    def air(size: float) -> int:
        """Columns on each side of letters, and half the rows under the baseline."""
        return int(0.3 * size) + 1

    def _rasterise(self, text: str, size: float, bold: bool) -> _Letters:
        face = _FACES[bold]
        font = get_font(face)
        font.set_size(size, _DPI)
        advance = sum(font.load_char(ord(c), flags=LoadFlags.NO_HINTING).linearHoriAdvance for c in text) / 65536
        air, ascent = self.air(size), self.ascent(size)
        renderer = RendererAgg(int(advance) + 2 * air + 1, ascent + 2 * air, _DPI)
        # Hinting thins a bold face's horizontal strokes until it looks like one with serifs.
        with mpl.rc_context({"text.hinting": "no_hinting"}):
            renderer.draw_text(renderer.new_gc(), air, ascent, text, FontProperties(fname=face, size=size), 0)
        return _Letters(np.asarray(renderer.buffer_rgba())[..., 3].copy(), advance)


_DPI = 72  # so that a point is a pixel
_FACES = {bold: f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf" for bold in (False, True)}


def _parts(text: str) -> Sequence[str]:
    """Cut a line into what can be set by itself: its letters, or all of it where letters shape each other."""
    if text.isascii():
        return text
    shaped = any(unicodedata.combining(c) or unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)
    return (text,) if shaped else text


@lru_cache(maxsize=1)
def _covered() -> frozenset[int]:
    """Characters that both faces have."""
    return frozenset(get_font(_FACES[False]).get_charmap()) & frozenset(get_font(_FACES[True]).get_charmap())


def _printable(letter: str, covered: frozenset[int]) -> str:
    if unicodedata.category(letter)[0] == "C" or letter in "\u2028\u2029":
        # Among them what would turn a line around (U+202E) and so show another name than the file's.
        return letter.encode("unicode_escape").decode("ascii")
    return letter if ord(letter) in covered else "□"


# Drawing.


class _Canvas:
    """A picture being drawn; everything is in pixels from the top left."""

    def __init__(self, width: int, height: int, type_: _Type) -> None:
        self.width, self.height, self.type = width, height, type_
        self._renderer = RendererAgg(width, height, _DPI)
        self._rgba = np.asarray(self._renderer.buffer_rgba())  # the renderer's own memory, to draw boxes right into
        self._pixels = self._rgba.view(np.uint32)[..., 0]
        self._pen = self._renderer.new_gc()

    def clear(self, colour: Colour) -> None:
        """Take everything off and leave the ground."""
        self._pixels.fill(_packed(colour))

    def kept(self) -> _Pixels:
        """What was drawn so far, to be restored."""
        return self._rgba.copy()

    def restore(self, kept: _Pixels) -> None:
        """Go back to what was drawn then."""
        np.copyto(self._rgba, kept)

    def fill(self, box: Box, colour: Colour, radius: float = 0) -> None:
        """Fill a box, with round corners where it has a radius."""
        left, top, width, height = box
        if radius:
            self._path(_rounded(left, top, width, height, min(radius, width / 2)), face=colour)
        else:
            self._pixels[max(top, 0) : top + height, max(left, 0) : left + width] = _packed(colour)

    def outline(self, box: Box, colour: Colour) -> None:
        """Draw a line of one pixel just inside a box."""
        left, top, width, height = box
        for side in (
            (left, top, width, 1),
            (left, top + height - 1, width, 1),
            (left, top, 1, height),
            (left + width - 1, top, 1, height),
        ):
            self.fill(side, colour)

    def polygon(self, points: Sequence[tuple[float, float]], face: Colour, edge: Colour) -> None:
        """Draw a closed polygon with a thin edge."""
        self._path([(*point, _TO) for point in points], face=face, edge=edge)

    def picture(self, left: int, top: int, page: Page) -> None:
        """Place an RGB picture that lies within the canvas."""
        height, width = page.shape[:2]
        self._rgba[top : top + height, left : left + width] = cv2.cvtColor(page, cv2.COLOR_RGB2RGBA)

    def write(
        self,
        x: float,
        baseline: float,
        text: str,
        size: float,
        colour: Colour,
        *,
        bold: bool = False,
        align: Align = "left",
    ) -> float:
        """Write one line of printable text at its left end, middle or right end; returns its width."""
        if not text:
            return 0.0
        mask, width = self.type.line(text, size, bold=bold)
        left = round(x - {"left": 0.0, "centre": width / 2, "right": width}[align]) - self.type.air(size)
        ink = np.full(mask.shape, _packed(colour), np.uint32).view(np.uint8).reshape(*mask.shape, 4)
        ink[..., 3] = mask
        bottom = round(baseline) - self.type.ascent(size) + mask.shape[0]
        # The renderer counts an image's place from the bottom left, with the first row lowest.
        self._renderer.draw_image(self._pen, left, self.height - bottom, ink[::-1].copy())
        return width

    def rgb(self) -> _Pixels:
        """Give what was drawn as an RGB picture."""
        return np.asarray(cv2.cvtColor(self._rgba, cv2.COLOR_RGBA2RGB), np.uint8)

    def png(self) -> bytes:
        """Give what was drawn as a PNG."""
        return to_png(self.rgb())

    def _path(self, steps: Sequence[tuple[float, float, int]], face: Colour, edge: Colour | None = None) -> None:
        self._pen.set_linewidth(1.2 if edge else 0)
        self._pen.set_foreground(edge or face, isRGBA=True)
        self._renderer.draw_path(self._pen, _closed(tuple(steps), self.height), _AS_IT_IS, face)


_AS_IT_IS = IdentityTransform()
_START, _TO, _AROUND, _BACK = (int(code) for code in (Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CLOSEPOLY))


@lru_cache(maxsize=64)
def _packed(colour: Colour) -> int:
    """An opaque colour as one number, as a pixel lies in the renderer's memory: faster to fill with than four."""
    return int(np.array([*(round(255 * part) for part in colour), 255], np.uint8).view(np.uint32)[0])


@lru_cache(maxsize=1024)
def _closed(steps: tuple[tuple[float, float, int], ...], height: int) -> Path:
    """The outline that goes through points from the top left, as the renderer counts them: from the bottom left."""
    points = [(x, height - y) for x, y, _ in steps]
    return Path([*points, points[0]], [_START, *(code for _, _, code in steps[1:]), _BACK])


@lru_cache(maxsize=1024)
def _rounded(
    left: float, top: float, width: float, height: float, radius: float
) -> tuple[tuple[float, float, int], ...]:
    """Go around a box with round corners: points with how each is reached."""
    right, bottom = left + width, top + height
    steps = [(left + radius, top, _TO)]
    for corner, before, after in (
        ((right, top), (right - radius, top), (right, top + radius)),
        ((right, bottom), (right, bottom - radius), (right - radius, bottom)),
        ((left, bottom), (left + radius, bottom), (left, bottom - radius)),
        ((left, top), (left, top + radius), (left + radius, top)),
    ):
        steps += [(*before, _TO), (*corner, _AROUND), (*after, _AROUND)]
    return tuple(steps)


# Pictures.


def _as_page(picture: Page) -> Page:
    """Give grey its three channels."""
    return picture if picture.ndim == 3 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)


def _fit(page: Page, width: int, height: int) -> Page:
    """Scale a page to fit into width × height, as RGB; small ones enlarge, up to eight times."""
    high, wide = page.shape[:2]
    scale = min(width / wide, height / high, 8.0)
    size = (min(max(1, round(wide * scale)), width), min(max(1, round(high * scale)), height))
    if scale >= 1:
        return _as_page(np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_CUBIC), np.uint8))
    # The average of all that a pixel covers takes up to ten times as long as that of a whole number of samples, each
    # between its four neighbours, and looks the same.
    samples = 2 if scale >= 1 / 4 else 4 if scale >= 1 / 8 else 8
    page = np.asarray(
        cv2.resize(page, (samples * size[0], samples * size[1]), interpolation=cv2.INTER_LINEAR), np.uint8
    )
    return _as_page(np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_AREA), np.uint8))
