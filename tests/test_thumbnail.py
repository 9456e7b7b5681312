"""Annotated pictures, drawn for real and decoded again."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from samples.draw import scan
from watcher.line import Line
from watcher.normalise import Ink, normalise
from watcher.reading import Digit, Reading, Status
from watcher.thumbnail import (
    _REASONS,
    HEIGHT,
    STATUS_COLOUR,
    TILE,
    WIDTH,
    Painter,
    _Canvas,
    _Type,
    percent,
    plain_reason,
    printable,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watcher.normalise import Page
    from watcher.reading import Box
    from watcher.thumbnail import Colour

PAINTER = Painter()


def decoded(png: bytes) -> NDArray[np.uint8]:
    """The RGB picture in a PNG."""
    assert png.startswith(b"\x89PNG")
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def tile_of(page: Page | None, status: Status = "review", value: str = "7") -> NDArray[np.uint8]:
    """The RGB picture of a tile."""
    tile = np.frombuffer(PAINTER.tile(page, reading(status, value), "a.png"), np.uint8)
    return tile.reshape(TILE + 48, -1, 3)


def crop_on(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What of a tile shows the page: the rest is white there."""
    part = tile[8 : 8 + TILE]
    x, y, w, h = cv2.boundingRect((part != 255).any(axis=2).astype(np.uint8))
    return part[y : y + h, x : x + w]


def sheet(tiles: dict[str, Status], page: Page | None = None) -> NDArray[np.uint8]:
    """A contact sheet of some names with their status, decoded."""
    drawn = [PAINTER.tile(page, reading(status), name) for name, status in tiles.items()]
    return decoded(PAINTER.sheet(drawn, Counter(tiles.values()), "20261122T153255Z-000123-7f3a"))


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
    line = Line(np.ones((28, 28 * page.shape[1] // 90), np.float32), (15, 15, page.shape[1] - 30, 65), 0.0)
    return page, line, Reading(status, value, 0.9952, digits, reason, value[::-1], kind="field")


class Noted(_Canvas):
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


@pytest.mark.parametrize("reason", ["", *_REASONS, "rule:amount", "rule:customer_reference", "rule:" + 90 * "x"])
def test_nothing_on_a_thumbnail_overlaps(reason: str) -> None:
    """Whatever the reason, and however long the value and close its digits: each text has a place of its own."""
    painter = Painter()
    card = painter._card = Noted(WIDTH, HEIGHT, _Type())
    name = "a/" + 300 * "name" + ".png"
    statuses: tuple[Status, ...] = ("review",) if reason else ("accepted", "review")
    for length, status in product([*range(1, 13), 20, 60, 99], statuses):
        page, line, read = field(("0125" + 24 * "4896")[:length], status, reason)
        square = np.full((page.shape[1], page.shape[1]), 245, np.uint8)
        for shown in (page, square) if length <= 4 else (page,):
            painter.thumbnail(shown, line, read, name)
            card.assert_legible()
            painter.thumbnail(shown, line, Reading(status, reason=reason, kind="field", alternative="7"), name)
            card.assert_legible()


@pytest.mark.parametrize("reason", ["", *_REASONS, "rule:amount"])
def test_nothing_on_a_tile_overlaps(reason: str) -> None:
    """However long the value, how sure it is or why it is for review stands beside it, the page's number under it."""
    painter = Painter()
    painter._tiles[:] = tiles = [Noted(tile.width, tile.height, tile.type) for tile in painter._tiles]
    for length in (1, 2, 3, 4, 5, 8, 12, 20, 60, 99):
        page, _, read = field(("0125" + 24 * "4896")[:length], "review" if reason else "accepted", reason)
        for read_or_not in (read, Reading("review", reason=reason)):
            painter.tile(page, read_or_not, "scans/five_pages.tiff", 12)
            for tile in tiles:
                tile.assert_legible()


def test_a_tile_says_why_a_sure_value_is_for_review() -> None:
    """A rule or an audit stands there instead of how sure the value is; of one not sure enough that says it all."""

    def tile(reason: str, confidence: float) -> bytes:
        return PAINTER.tile(written(), reading("review", "9", confidence, reason), "9.png")

    reasons = ("rule:amount", "audit", "wrong_length", "clipped", "not_digits", "not_promised")
    assert len({tile(reason, 0.9995) for reason in (*reasons, "low_confidence")}) == 7
    assert all(tile(reason, 0.62) == tile(reason, 0.9995) for reason in reasons)
    assert tile("low_confidence", 0.62) != tile("low_confidence", 0.9995)


@pytest.mark.parametrize("status", ["accepted", "review", "blank", "failed"])
def test_a_thumbnail_has_its_size_and_its_status_colour(status: Status) -> None:
    """Each status shows as its colour down the left edge, and no other status's colour is on the card."""
    page = written()
    picture = decoded(PAINTER.thumbnail(page, normalise(page), reading(status), "7.png"))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert (picture[8:-8, 1:5] == colour(status)).all()
    for other in STATUS_COLOUR:
        assert (share(picture, colour(other)) > 0) == (other == status)


def test_the_crop_keeps_its_colour() -> None:
    """A crop on yellow paper is yellow on its card, and not blue: channels are not swapped."""
    page = np.empty((80, 60, 3), np.uint8)
    page[:] = (250, 210, 60)
    picture = decoded(PAINTER.thumbnail(page, None, reading("blank"), "yellow.png"))
    assert share(picture, page[0, 0]) > 0.1
    assert share(picture, page[0, 0, ::-1]) == 0


def test_the_ink_is_outlined_and_what_the_network_saw_is_shown() -> None:
    """With ink there is an outline on the crop and the network's input beside the value; without, neither."""
    page = np.full((140, 130), 255, np.uint8)
    image = np.zeros((28, 28), np.float32)
    image[4:24, 12:16] = 1
    empty = decoded(PAINTER.thumbnail(page, None, Reading("review", "1", 0.5), "1.png"))
    shown = decoded(PAINTER.thumbnail(page, Ink(image, (30, 20, 60, 100), False), Reading("review", "1", 0.5), "1.png"))
    changed = (empty != shown).any(axis=2)
    view = shown[12:70, WIDTH - 70 : WIDTH - 12]
    assert changed[14:150, 20:156].any()
    assert view.min() < 60
    assert view.max() == 255
    # The outline is a line: the ink inside it stays as it was.
    assert not changed[60:100, 80:90].any()


def test_the_bar_is_as_long_as_the_confidence() -> None:
    """More confidence is more of the status's colour, all else the same."""
    page = written()
    amounts = [
        share(decoded(PAINTER.thumbnail(page, None, reading("review", confidence=sure), "7.png")), colour("review"))
        for sure in (0.0, 0.25, 0.5, 1.0)
    ]
    assert amounts == sorted(amounts)
    assert len(set(amounts)) == len(amounts)


def test_several_digits_each_have_their_box_and_the_weakest_stands_out() -> None:
    """A field under review marks the digit in doubt in another colour than the rest."""
    page = np.full((80, 900), 245, np.uint8)
    digits = tuple(Digit(str(n % 10), 0.4 if n == 5 else 0.99, (20 + 73 * n, 15, 45, 55)) for n in range(12))
    value = "".join(digit.value for digit in digits)
    accepted, doubtful = (
        decoded(PAINTER.thumbnail(page, None, Reading(status, value, 0.4, digits), "meter.tif"))
        for status in ("accepted", "review")
    )
    box = accepted[30]
    assert (box != box[0]).any(axis=1).sum() > 24
    assert (accepted[12:86, 18:348] != doubtful[12:86, 18:348]).any()


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2000), (2000, 1), (80, 900), (900, 80), (28, 28, 3), (3000, 4000), (4000, 3000, 3)]
)
def test_pages_of_any_shape_fit(shape: tuple[int, ...]) -> None:
    """Tiny, wide, tall and 12-megapixel pages, grey and colour, become a card and a tile of their usual size."""
    page = np.full(shape, 200, np.uint8)
    ink = Ink(np.ones((28, 28), np.float32), (0, 0, shape[1], shape[0]), True)
    assert decoded(PAINTER.thumbnail(page, ink, reading("review"), "x.png")).shape == (HEIGHT, WIDTH, 3)
    assert tile_of(page).shape[0] == TILE + 48


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


def test_a_page_in_any_memory_order_is_drawn_alike() -> None:
    """A view with strides of its own gives the same card as its copy."""
    page = np.random.default_rng(2).integers(0, 255, (90, 70, 3), np.uint8)
    turned = np.rot90(page)
    assert PAINTER.thumbnail(turned, None, reading("review"), "a") == PAINTER.thumbnail(
        np.ascontiguousarray(turned), None, reading("review"), "a"
    )


def test_no_page_is_a_placeholder() -> None:
    """A file that could not be decoded has a card that differs by its reason, and a torn sheet on its tile."""
    cards = {PAINTER.thumbnail(None, None, reading("failed", reason=why), "x") for why in ("truncated", "too_large")}
    assert len(cards) == 2
    assert 0 < share(tile_of(None, "failed")[8 : 8 + TILE], np.array([169, 176, 184], np.uint8)) < 0.2


@pytest.mark.parametrize(
    "name",
    [
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
    ],
)
def test_any_name_can_be_drawn(name: str) -> None:
    """Control characters, lone surrogates, missing glyphs, maths signs and long names neither fail nor warn."""
    page = written()
    assert decoded(PAINTER.thumbnail(page, None, reading("review"), name)).shape == (HEIGHT, WIDTH, 3)
    tile = PAINTER.tile(page, reading("review"), name)
    assert decoded(PAINTER.sheet([tile], {"review": 1}, name)).shape[2] == 3


@pytest.mark.parametrize("name", ["five_pages.tiff", "x" * 4096])
def test_pages_of_a_scan_are_told_apart(name: str) -> None:
    """Each page but the first has its number, on a thumbnail and on a tile, however long the scan's name is."""
    page, numbers = written(), (1, 2, 3, 12, 13, 1234)
    cards = {PAINTER.thumbnail(page, None, reading("accepted"), name, number) for number in numbers}
    tiles = {PAINTER.tile(page, reading("accepted"), name, number) for number in numbers}
    assert len(cards) == len(tiles) == len(numbers)
    assert PAINTER.tile(page, reading("accepted"), name) in tiles


def test_characters_of_every_script_can_be_drawn() -> None:
    """No block of the basic plane, a seventh of it drawn, fails or warns."""
    for start in range(0, 0x10000, 7 * 40):
        PAINTER.thumbnail(None, None, reading("failed"), "".join(map(chr, range(start, min(start + 280, 0x10000), 7))))


def test_values_reasons_and_alternatives_are_set_like_names() -> None:
    """Whatever a reading holds, a rule's name or a long value among it, is drawn."""
    odd = Reading("review", "12\n3\udc80日本" * 20, 2.0, (), "rule:\udcff%s", "-\x00")
    for page in (written(), np.full((20, 400), 255, np.uint8)):
        assert decoded(PAINTER.thumbnail(page, None, odd, "x")).shape == (HEIGHT, WIDTH, 3)


def test_nothing_stays_from_the_last_picture() -> None:
    """A painter draws the same card again after others: its renderer is clean each time."""
    page = written()
    first = PAINTER.thumbnail(page, normalise(page), reading("accepted"), "7.png")
    PAINTER.thumbnail(None, None, reading("failed", reason="truncated"), "a much longer name than the other.png")
    PAINTER.thumbnail(np.full((20, 400), 9, np.uint8), None, reading("review", "12345678"), "wide.png")
    assert PAINTER.thumbnail(page, normalise(page), reading("accepted"), "7.png") == first
    assert Painter().thumbnail(page, normalise(page), reading("accepted"), "7.png") == first


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
    tile = PAINTER.tile(written(), reading("review"), "a.png")
    some, all_ = (decoded(PAINTER.sheet([tile] * 9, {"review": count}, "x")) for count in (9, 10))
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
    tile = PAINTER.tile(page, reading("review", "123456789012"), "w")
    picture = decoded(PAINTER.sheet([tile] * 5, {"review": 5}, "x"))
    assert share(picture, np.array([180, 180, 180], np.uint8)) * picture.size / 3 >= 5 * wide.size / 3


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (1.0, ">99.9%"),
        (0.9995, ">99.9%"),
        (0.9989, "99.8%"),
        (0.987, "99%"),
        (0.5, "50%"),
        (0.02, "2%"),
        (0.001, "<1%"),
    ],
)
def test_percent(probability: float, text: str) -> None:
    """A percentage never claims a certainty that is not there."""
    assert percent(probability) == text


def test_reasons_in_plain_words() -> None:
    """A known code has its words, a rule its name, and a code to come reads as it is written."""
    assert plain_reason("low_confidence") == "not sure enough"
    assert "check_digit" in plain_reason("rule:check_digit")
    assert plain_reason("something_new") == "something new"
    assert plain_reason("") == ""


def test_printable_shows_what_it_cannot_print() -> None:
    """Escapes stand for control characters and surrogates, a box for what the face lacks; the rest stays."""
    assert printable("a\nb\udcff\u202e é·ß") == r"a\nb\udcff\u202e é·ß"
    assert printable("日.png") == "□.png"
