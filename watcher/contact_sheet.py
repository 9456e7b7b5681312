"""The contact sheet of a batch: a grid whose cells hold a page's tile each, or a part of a wide one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from watcher.canvas import Canvas, fitted
from watcher.legend import (
    IN_A_WORD,
    PANEL,
    QUIET,
    REASON_COLOUR,
    STATUS_COLOUR,
    TEXT,
    WHITE,
    draw_torn,
    named,
    percent,
)
from watcher.lettering import Type, printable
from watcher.results import URGENCY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from watcher.lettering import Pixels
    from watcher.normalise import Page
    from watcher.results import Reading, Status

TILE: Final = 96  # a tile's picture: its height, and its width where it is not a wide field
_MARGIN, _GAP, _HEAD = 16, 8, 64
_PLACE = TILE + 8 + _GAP
_TILE_HEIGHT = TILE + 48
_SPANS: Final = (1, 2, 3)  # places that a tile may take


class ContactSheets:
    """Draws contact sheets, and their tiles one by one as pages are read."""

    def __init__(self) -> None:
        self._type = Type()
        self._tiles = [Canvas(_tile_width(span), _TILE_HEIGHT, self._type) for span in _SPANS]

    def tile(self, page: Page | None, reading: Reading, name: str, number: int = 1) -> bytes:
        """Draw a page's tile of the contact sheet, up to three places wide: its pixels, for `sheet` to put there."""
        picture = None if page is None else fitted(page, _picture_width(_span_of(page)), TILE)
        tile = self._tiles[_SPANS.index(1 if picture is None else _span(picture))]
        _draw_tile(tile, picture, reading)
        tile.write(5, tile.height - 6, named(tile.type, name, number, 8.5, tile.width - 10), 8.5, QUIET)
        return tile.rgb().tobytes()

    def sheet(self, tiles: Sequence[bytes], counts: Mapping[Status, int], title: str) -> bytes:
        """Draw a batch at a glance as a PNG: its tiles as they come, and how many pages have each status."""
        pictures = [np.frombuffer(tile, np.uint8).reshape(_TILE_HEIGHT, -1, 3) for tile in tiles]
        spans = {_tile_width(span): span for span in _SPANS}
        places, columns, rows = _flow([spans[picture.shape[1]] for picture in pictures])
        width = 2 * _MARGIN + columns * _PLACE - _GAP
        canvas = Canvas(width, _HEAD + rows * (_TILE_HEIGHT + _GAP) + _MARGIN - _GAP, self._type)
        canvas.clear(PANEL)
        _draw_head(canvas, title, counts, len(tiles))
        for picture, (column, row) in zip(pictures, places, strict=True):
            canvas.picture(_MARGIN + column * _PLACE, _HEAD + row * (_TILE_HEIGHT + _GAP), picture)
        return canvas.png()


def _picture_width(span: int) -> int:
    """How wide a picture may be on a tile that takes `span` places."""
    return TILE + (span - 1) * _PLACE


def _tile_width(span: int) -> int:
    return _picture_width(span) + 8


def _span_of(page: Page) -> int:
    """How many places a page may take."""
    height, width = page.shape[:2]
    return 1 if width < 2 * height else 2 if width < 4 * height else 3


def _span(picture: Pixels) -> int:
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


def _draw_head(canvas: Canvas, title: str, counts: Mapping[Status, int], shown: int) -> None:
    """Write the batch's name and, doubtful first, how many pages have each status."""
    width = canvas.width - 2 * _MARGIN
    canvas.write(_MARGIN, 29, canvas.type.shorten(printable(title), 17, width, bold=True), 17, TEXT, bold=True)
    x = float(_MARGIN)
    for status in URGENCY:
        if counts.get(status):
            canvas.fill((round(x), 41, 10, 10), STATUS_COLOUR[status], radius=5)
            x += 15 + canvas.write(x + 15, 50, f"{counts[status]:,} {status}", 12, TEXT) + 16
    if (total := sum(counts.values())) > shown:
        canvas.write(x, 50, f"the first {shown:,} of {total:,} shown", 12, QUIET)
    elif not shown:
        canvas.write(x, 50, "nothing was read", 12, QUIET)


def _draw_tile(tile: Canvas, picture: Pixels | None, reading: Reading) -> None:
    """Draw one tile: the picture, what was read, how sure or why it is in doubt; the status as the edge."""
    width, middle, line = tile.width, 8 + TILE // 2, TILE + 28
    tile.clear(WHITE)
    tile.fill((0, 0, width, 4), STATUS_COLOUR[reading.status])
    if picture is None:
        draw_torn(tile, width / 2, middle)
    else:
        high, wide = picture.shape[:2]
        tile.picture((width - wide) // 2, middle - high // 2, picture)
    colour = TEXT if reading.status == "accepted" else REASON_COLOUR[reading.status]
    doubt = IN_A_WORD.get(reading.reason.partition(":")[0], "")
    note = doubt or (percent(reading.confidence) if reading.value else "")
    value = printable(reading.value) + ("?" if reading.status == "review" else "")
    said, largest = (value, 17) if reading.value else (reading.status, 12)
    said, size = tile.type.fit(said, largest, width - tile.type.width(note, 10) - 14, bold=True)
    tile.write(5, line, said, size, colour, bold=True)
    tile.write(width - 5, line, note, 10, colour if doubt else QUIET, align="right")
