"""Lines of text as pixels: set in DejaVu Sans by matplotlib's Agg renderer.

Letters are rasterised once and kept: laying out every line afresh would cost more than all the rest of a picture.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.ft2font import LoadFlags
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Pixels = NDArray[np.uint8]
DPI = 72  # so that a point is a pixel
_FACES = {bold: f"{mpl.get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf" for bold in (False, True)}


def printable(text: str) -> str:
    """Make any string fit to be set in one line: control characters and lone surrogates escaped, no missing glyphs."""
    if text.isascii() and text.isprintable():
        return text
    covered = _covered()
    return "".join(_printable(letter, covered) for letter in unicodedata.normalize("NFC", text))


class Letters(NamedTuple):
    """Letters as they are set: their coverage from 0 to 255, with air around, and how far they move the pen."""

    mask: Pixels  # baseline at `Type.ascent` rows from the top, pen at `Type.air` columns from the left
    advance: float


class Type:
    """Sets lines in DejaVu Sans, the face that matplotlib brings along, so that each machine draws the same."""

    def __init__(self) -> None:
        self._letters = lru_cache(maxsize=4096)(self._rasterise)  # some 100 letters in a dozen sizes
        self.line = lru_cache(maxsize=1024)(self._set)  # the words for a status, percentages, values come again
        self.width = lru_cache(maxsize=1024)(self._measure)

    def _set(self, text: str, size: float, bold: bool = False) -> tuple[Pixels, float]:
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

    def _rasterise(self, text: str, size: float, bold: bool) -> Letters:
        face = _FACES[bold]
        font = get_font(face)
        font.set_size(size, DPI)
        advance = sum(font.load_char(ord(c), flags=LoadFlags.NO_HINTING).linearHoriAdvance for c in text) / 65536
        air, ascent = self.air(size), self.ascent(size)
        renderer = RendererAgg(int(advance) + 2 * air + 1, ascent + 2 * air, DPI)
        # Hinting thins a bold face's horizontal strokes until it looks like one with serifs.
        with mpl.rc_context({"text.hinting": "no_hinting"}):
            renderer.draw_text(renderer.new_gc(), air, ascent, text, FontProperties(fname=face, size=size), 0)
        return Letters(np.asarray(renderer.buffer_rgba())[..., 3].copy(), advance)


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
