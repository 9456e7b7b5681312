"""Annotated pictures, drawn for real and decoded again."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from pictures import NAMES, SHAPES, Noted, colour, decoded, field, reading, share, written

from watcher.legend import REASONS, STATUS_COLOUR
from watcher.lettering import Type
from watcher.normalise import Ink, normalise
from watcher.results import Digit, Reading, Status
from watcher.thumbnail import HEIGHT, WIDTH, Thumbnails

THUMBNAILS = Thumbnails()


@pytest.mark.parametrize("reason", ["", *REASONS, "rule:amount", "rule:customer_reference", "rule:" + 90 * "x"])
def test_nothing_on_a_thumbnail_overlaps(reason: str) -> None:
    """Whatever the reason, and however long the value and close its digits: each text has a place of its own."""
    thumbnails = Thumbnails()
    card = thumbnails._card = Noted(WIDTH, HEIGHT, Type())
    name = "a/" + 300 * "name" + ".png"
    statuses: tuple[Status, ...] = ("review",) if reason else ("accepted", "review")
    for length, status in product([*range(1, 13), 20, 60, 99], statuses):
        page, line, read = field(("0125" + 24 * "4896")[:length], status, reason)
        square = np.full((page.shape[1], page.shape[1]), 245, np.uint8)
        for shown in (page, square) if length <= 4 else (page,):
            thumbnails.draw(shown, line, read, name)
            card.assert_legible()
            thumbnails.draw(shown, line, Reading(status, reason=reason, kind="field", alternative="7"), name)
            card.assert_legible()


@pytest.mark.parametrize("status", ["accepted", "review", "blank", "failed"])
def test_a_thumbnail_has_its_size_and_its_status_colour(status: Status) -> None:
    """Each status shows as its colour down the left edge, and no other status's colour is on the card."""
    page = written()
    picture = decoded(THUMBNAILS.draw(page, normalise(page), reading(status), "7.png"))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert (picture[8:-8, 1:5] == colour(status)).all()
    for other in STATUS_COLOUR:
        assert (share(picture, colour(other)) > 0) == (other == status)


def test_the_crop_keeps_its_colour() -> None:
    """A crop on yellow paper is yellow on its card, and not blue: channels are not swapped."""
    page = np.empty((80, 60, 3), np.uint8)
    page[:] = (250, 210, 60)
    picture = decoded(THUMBNAILS.draw(page, None, reading("blank"), "yellow.png"))
    assert share(picture, page[0, 0]) > 0.1
    assert share(picture, page[0, 0, ::-1]) == 0


def test_the_ink_is_outlined_and_what_the_network_saw_is_shown() -> None:
    """With ink there is an outline on the crop and the network's input beside the value; without, neither."""
    page = np.full((140, 130), 255, np.uint8)
    image = np.zeros((28, 28), np.float32)
    image[4:24, 12:16] = 1
    empty = decoded(THUMBNAILS.draw(page, None, Reading("review", "1", 0.5), "1.png"))
    shown = decoded(THUMBNAILS.draw(page, Ink(image, (30, 20, 60, 100), False), Reading("review", "1", 0.5), "1.png"))
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
        share(decoded(THUMBNAILS.draw(page, None, reading("review", confidence=sure), "7.png")), colour("review"))
        for sure in (0.0, 0.25, 0.5, 1.0)
    ]
    assert amounts == sorted(amounts)
    assert len(set(amounts)) == len(amounts)


def test_a_digit_that_may_be_a_number_says_which() -> None:
    """Its next best value is drawn, not only the digits that it might be instead."""
    digit = Digit("6", 0.4, (20, 20, 40, 60), (("8", 0.3), ("5", 0.1)))
    cards = [
        THUMBNAILS.draw(written(), None, Reading("review", "6", 0.4, (digit,), alternative=other), "6.png")
        for other in ("", "8", "61", "67")
    ]
    assert cards[0] == cards[1]
    assert len(set(cards)) == 3


def test_several_digits_each_have_their_box_and_the_weakest_stands_out() -> None:
    """A field under review marks the digit in doubt in another colour than the rest."""
    page = np.full((80, 900), 245, np.uint8)
    digits = tuple(Digit(str(n % 10), 0.4 if n == 5 else 0.99, (20 + 73 * n, 15, 45, 55)) for n in range(12))
    value = "".join(digit.value for digit in digits)
    accepted, doubtful = (
        decoded(THUMBNAILS.draw(page, None, Reading(status, value, 0.4, digits), "meter.tif"))
        for status in ("accepted", "review")
    )
    box = accepted[30]
    assert (box != box[0]).any(axis=1).sum() > 24
    assert (accepted[12:86, 18:348] != doubtful[12:86, 18:348]).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_pages_of_any_shape_fit(shape: tuple[int, ...]) -> None:
    """Tiny, wide, tall and 12-megapixel pages, grey and colour, become a card of its usual size."""
    page = np.full(shape, 200, np.uint8)
    ink = Ink(np.ones((28, 28), np.float32), (0, 0, shape[1], shape[0]), True)
    assert decoded(THUMBNAILS.draw(page, ink, reading("review"), "x.png")).shape == (HEIGHT, WIDTH, 3)


def test_a_page_in_any_memory_order_is_drawn_alike() -> None:
    """A view with strides of its own gives the same card as its copy."""
    page = np.random.default_rng(2).integers(0, 255, (90, 70, 3), np.uint8)
    turned = np.rot90(page)
    assert THUMBNAILS.draw(turned, None, reading("review"), "a") == THUMBNAILS.draw(
        np.ascontiguousarray(turned), None, reading("review"), "a"
    )


def test_no_page_is_a_placeholder() -> None:
    """A file that could not be decoded has a card that differs by its reason."""
    cards = {THUMBNAILS.draw(None, None, reading("failed", reason=why), "x") for why in ("truncated", "too_large")}
    assert len(cards) == 2


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_drawn(name: str) -> None:
    """Control characters, lone surrogates, missing glyphs, maths signs and long names neither fail nor warn."""
    assert decoded(THUMBNAILS.draw(written(), None, reading("review"), name)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", ["five_pages.tiff", "x" * 4096])
def test_pages_of_a_scan_are_told_apart(name: str) -> None:
    """Each page but the first has its number on its card, however long the scan's name is."""
    page, numbers = written(), (1, 2, 3, 12, 13, 1234)
    cards = [THUMBNAILS.draw(page, None, reading("accepted"), name, number) for number in numbers]
    assert len(set(cards)) == len(numbers)
    assert THUMBNAILS.draw(page, None, reading("accepted"), name) == cards[0]


def test_characters_of_every_script_can_be_drawn() -> None:
    """No block of the basic plane, a seventh of it drawn, fails or warns."""
    for start in range(0, 0x10000, 7 * 40):
        THUMBNAILS.draw(None, None, reading("failed"), "".join(map(chr, range(start, min(start + 280, 0x10000), 7))))


def test_values_reasons_and_alternatives_are_set_like_names() -> None:
    """Whatever a reading holds, a rule's name or a long value among it, is drawn."""
    odd = Reading("review", "12\n3\udc80日本" * 20, 2.0, (), "rule:\udcff%s", "-\x00")
    for page in (written(), np.full((20, 400), 255, np.uint8)):
        assert decoded(THUMBNAILS.draw(page, None, odd, "x")).shape == (HEIGHT, WIDTH, 3)


def test_nothing_stays_from_the_last_picture() -> None:
    """It draws the same card again after others: its renderer is clean each time."""
    page = written()
    first = THUMBNAILS.draw(page, normalise(page), reading("accepted"), "7.png")
    THUMBNAILS.draw(None, None, reading("failed", reason="truncated"), "a much longer name than the other.png")
    THUMBNAILS.draw(np.full((20, 400), 9, np.uint8), None, reading("review", "12345678"), "wide.png")
    assert THUMBNAILS.draw(page, normalise(page), reading("accepted"), "7.png") == first
    assert Thumbnails().draw(page, normalise(page), reading("accepted"), "7.png") == first
