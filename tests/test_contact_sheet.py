"""Contact sheets and their tiles, drawn for real and decoded again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from pictures import NAMES, SHAPES, Noted, colour, decoded, field, reading, share, written

from watcher.contact_sheet import TILE, ContactSheets
from watcher.legend import REASONS, STATUS_COLOUR
from watcher.results import Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watcher.normalise import Page
    from watcher.results import Status

SHEETS = ContactSheets()


def tile_of(page: Page | None, status: Status = "review", value: str = "7") -> NDArray[np.uint8]:
    """The RGB picture of a tile."""
    tile = np.frombuffer(SHEETS.tile(page, reading(status, value), "a.png"), np.uint8)
    return tile.reshape(TILE + 48, -1, 3)


def crop_on(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What of a tile shows the page: the rest is white there."""
    part = tile[8 : 8 + TILE]
    x, y, w, h = cv2.boundingRect((part != 255).any(axis=2).astype(np.uint8))
    return part[y : y + h, x : x + w]


def sheet(tiles: dict[str, Status], page: Page | None = None) -> NDArray[np.uint8]:
    """A contact sheet of some names with their status, decoded."""
    drawn = [SHEETS.tile(page, reading(status), name) for name, status in tiles.items()]
    return decoded(SHEETS.sheet(drawn, Counter(tiles.values()), "20261122T153255Z-000123-7f3a"))


@pytest.mark.parametrize("reason", ["", *REASONS, "rule:amount"])
def test_nothing_on_a_tile_overlaps(reason: str) -> None:
    """However long the value, how sure it is or why it is for review stands beside it, the page's number under it."""
    sheets = ContactSheets()
    sheets._tiles[:] = tiles = [Noted(tile.width, tile.height, tile.type) for tile in sheets._tiles]
    for length in (1, 2, 3, 4, 5, 8, 12, 20, 60, 99):
        page, _, read = field(("0125" + 24 * "4896")[:length], "review" if reason else "accepted", reason)
        for read_or_not in (read, Reading("review", reason=reason)):
            sheets.tile(page, read_or_not, "scans/five_pages.tiff", 12)
            for tile in tiles:
                tile.assert_legible()


def test_a_tile_says_why_a_sure_value_is_for_review() -> None:
    """A rule or an audit stands there instead of how sure the value is; of one not sure enough that says it all."""

    def tile(reason: str, confidence: float) -> bytes:
        return SHEETS.tile(written(), reading("review", "9", confidence, reason), "9.png")

    reasons = ("rule:amount", "audit", "wrong_length", "clipped", "not_digits", "not_promised")
    assert len({tile(reason, 0.9995) for reason in (*reasons, "low_confidence")}) == 7
    assert all(tile(reason, 0.62) == tile(reason, 0.9995) for reason in reasons)
    assert tile("low_confidence", 0.62) != tile("low_confidence", 0.9995)


def test_a_tile_says_why_a_file_failed() -> None:
    """Each reason of a failure has a word of its own beside the status."""
    reasons = ("unreadable", "truncated", "empty", "too_large", "unsupported", "crashed_decoder", "timed_out")
    assert len({SHEETS.tile(None, reading("failed", reason=reason), "9.png") for reason in reasons}) == len(reasons)


@pytest.mark.parametrize("shape", SHAPES)
def test_pages_of_any_shape_fit(shape: tuple[int, ...]) -> None:
    """Tiny, wide, tall and 12-megapixel pages, grey and colour, become a tile of its usual height."""
    assert tile_of(np.full(shape, 200, np.uint8)).shape[0] == TILE + 48


def test_a_large_page_is_averaged_and_not_thinned_out() -> None:
    """Lines of six pixels on a 12-megapixel page become their mean grey and no moiré."""
    page = np.zeros((3000, 4000), np.uint8)
    page[np.arange(3000) // 6 % 2 == 0] = 255
    tile = crop_on(tile_of(page))
    assert tile.shape[1] == TILE
    assert abs(float(tile.mean()) - 127) < 12
    assert float(tile.std()) < 24


def test_a_small_page_is_enlarged() -> None:
    """A 28×28 crop fills most of the space that a larger one has."""
    assert crop_on(tile_of(np.full((28, 28), 120, np.uint8))).shape == (TILE, TILE, 3)


def test_no_page_is_a_torn_one() -> None:
    """A file that could not be decoded has a torn sheet on its tile."""
    assert 0 < share(tile_of(None, "failed")[8 : 8 + TILE], np.array([169, 176, 184], np.uint8)) < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_drawn(name: str) -> None:
    """Control characters, lone surrogates, missing glyphs, maths signs and long names neither fail nor warn."""
    tile = SHEETS.tile(written(), reading("review"), name)
    assert decoded(SHEETS.sheet([tile], {"review": 1}, name)).shape[2] == 3


@pytest.mark.parametrize("name", ["five_pages.tiff", "x" * 4096])
def test_pages_of_a_scan_are_told_apart(name: str) -> None:
    """Each page but the first has its number on its tile, however long the scan's name is."""
    page, numbers = written(), (1, 2, 3, 12, 13, 1234)
    tiles = [SHEETS.tile(page, reading("accepted"), name, number) for number in numbers]
    assert len(set(tiles)) == len(numbers)
    assert SHEETS.tile(page, reading("accepted"), name) == tiles[0]


@pytest.mark.parametrize("count", [0, 1, 7, 400])
def test_a_sheet_of_any_number_of_tiles(count: int) -> None:
    """A sheet grows with its tiles."""
    kinds: tuple[Status, ...] = ("accepted", "review", "blank", "failed")
    picture = sheet({f"{n}.png": kinds[n % 4] for n in range(count)}, written())
    assert count * TILE * TILE <= picture.shape[0] * picture.shape[1]
    assert picture.shape[1] <= 2400
    for status in kinds[:count]:
        assert share(picture, colour(status)) > 0


def test_a_sheet_says_what_it_leaves_out() -> None:
    """Where a batch has more pages than its sheet has tiles, the head says so."""
    tile = SHEETS.tile(written(), reading("review"), "a.png")
    some, all_ = (decoded(SHEETS.sheet([tile] * 9, {"review": count}, "x")) for count in (9, 10))
    assert some.shape == all_.shape
    assert (some[36:56, 100:] != all_[36:56, 100:]).any()
    assert (some[64:] == all_[64:]).all()


def test_tiles_stand_as_they_come() -> None:
    """Each tile's edge has its status's colour, from left to right."""
    kinds: tuple[Status, ...] = ("failed", "review", "blank", "accepted")
    row = sheet({kind: kind for kind in kinds}, written())[65]
    edges = [next((s for s in STATUS_COLOUR if (pixel == colour(s)).all()), None) for pixel in row]
    seen = [edge for edge, before in zip(edges, [None, *edges], strict=False) if edge and edge != before]
    assert seen == list(kinds)


def test_a_wide_field_takes_more_than_one_place() -> None:
    """A field of twelve digits stays legible: its tile is up to three wide, and the sheet has room for it."""
    page = np.full((80, 900), 180, np.uint8)
    wide = crop_on(tile_of(page, value="123456789012"))
    assert TILE < wide.shape[1] <= 3 * TILE + 32
    tile = SHEETS.tile(page, reading("review", "123456789012"), "w")
    picture = decoded(SHEETS.sheet([tile] * 5, {"review": 5}, "x"))
    assert share(picture, np.array([180, 180, 180], np.uint8)) * picture.size / 3 >= 5 * wide.size / 3
