"""Printed lines go, and strokes stay: frames, boxes and squared paper that the writing touches or crosses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from test_normalise import STROKES, found_at, paper, swung, write

from watcher.normalise import normalise
from watcher.printed import without_lines

if TYPE_CHECKING:
    from watcher.plane import Mask

SIDE = 128  # pixels: the working size


def plane() -> Mask:
    """Nothing on it yet."""
    return np.zeros((SIDE, SIDE), np.uint8)


def line(mask: Mask, start: tuple[int, int], end: tuple[int, int], thick: int = 3) -> None:
    """Draw a straight line."""
    cv2.line(mask, start, end, 1, thick)


def digit(mask: Mask, name: str) -> Mask:
    """Write a digit in the middle, and tell what was written."""
    written = plane()
    for stroke in STROKES[name]:
        points = swung(np.array([(44 + 60 * x, 34 + 60 * y) for x, y in stroke]))
        cv2.polylines(written, [np.round(points).astype(np.int32)], False, 1, 5)
    mask |= written
    return written


@pytest.mark.parametrize("tilt", [-5, -2, 0, 3, 6])
@pytest.mark.parametrize("step", [38, 52, 70])
def test_squared_paper_goes(step: int, tilt: int) -> None:
    """Squares of any size, askew or not: of what is left, all but a little was written, and the writing is left."""
    mask = plane()
    for at in range(11, SIDE + 20, step):
        line(mask, (0, at), (SIDE, at + tilt), 2)
        line(mask, (at, 0), (at - tilt, SIDE), 2)
    written = digit(mask, "2")
    left, _ = without_lines(mask)
    far = cv2.dilate(written, np.ones((5, 5), np.uint8)) == 0
    assert left[far].sum() < 0.02 * mask.sum()
    assert (left & written).sum() > 0.6 * written.sum()


@pytest.mark.parametrize("name", STROKES)
@pytest.mark.parametrize("gap", [2, 4, 9])
def test_a_box_that_the_digit_touches_goes(name: str, gap: int) -> None:
    """A closed box within the crop goes, whether the digit keeps clear of it or touches it."""
    mask = plane()
    written = digit(mask, name)
    x, y, w, h = cv2.boundingRect(written)
    cv2.rectangle(mask, (x - gap, y - gap), (x + w + gap, y + h + gap), 1, 2)
    left, _ = without_lines(mask)
    assert (left & written).sum() > 0.8 * written.sum()
    assert (left & ~written).sum() < 0.12 * (mask & ~written).sum()


def test_a_box_within_a_frame_goes_too() -> None:
    """What is ruled beside the lines of a frame goes with them."""
    mask = plane()
    for at in (4, SIDE - 5):
        line(mask, (0, at), (SIDE, at))
        line(mask, (at, 0), (at, SIDE))
    cv2.rectangle(mask, (22, 18), (SIDE - 22, SIDE - 18), 1, 2)
    written = digit(mask, "2")
    rest, strokes = without_lines(mask)
    assert np.array_equal(rest, written)
    assert len(strokes.stats) == 2


def test_lines_from_edge_to_edge_go_though_strokes_stand_on_them() -> None:
    """The corner of a frame: a line each way, the digit on both of them."""
    mask = plane()
    written = digit(mask, "5")
    x, y, _, h = cv2.boundingRect(written)
    line(mask, (0, y + h - 2), (SIDE, y + h))
    line(mask, (x + 1, 0), (x, SIDE))
    left, _ = without_lines(mask)
    outside = np.ones_like(mask)
    outside[y - 3 : y + h + 4, x - 3 :] = 0
    assert not (left & outside).any()
    assert (left & written).sum() > 0.75 * written.sum()


def test_a_stroke_that_crosses_a_line_stays_whole() -> None:
    """Upright or aslant, what a line cut is one piece again."""
    for end in (64, 30, 98):
        mask = plane()
        line(mask, (64, 20), (end, 108), 5)
        line(mask, (0, 64), (SIDE, 64))
        line(mask, (8, 0), (8, SIDE))
        pieces, _ = cv2.connectedComponents(without_lines(mask)[0])
        assert pieces == 2  # the paper and the stroke


def test_a_zero_drawn_like_a_box_stays() -> None:
    """What holds nothing is no box, however square."""
    mask = plane()
    cv2.rectangle(mask, (40, 30), (90, 100), 1, 5)
    assert (without_lines(mask)[0] == mask).all()


@pytest.mark.parametrize("name", ["1", "7"])
def test_a_digit_cut_at_its_ink_stays(name: str) -> None:
    """In a crop without margins strokes run from edge to edge, and are strokes all the same."""
    large = digit(plane(), name)
    x, y, w, h = cv2.boundingRect(large)
    tight = np.asarray(cv2.resize(large[y : y + h, x : x + w], None, fx=1.8, fy=1.8), np.uint8)
    assert without_lines(tight)[0].sum() > 0.9 * tight.sum()


def test_a_shadow_over_a_box_leaves_the_digit() -> None:
    """On a page: a box, a digit that leans on its foot, and a shadow's edge over both."""
    page = paper(160, 140)
    cv2.rectangle(page, (30, 26), (108, 132), 90, 2)
    box = write(page, "2", at=(44, 62, 50, 68))
    page[:, 80:] = (page[:, 80:] * 0.6).astype(np.uint8)
    found_at(normalise(page), box, slack=6)


def test_dark_writing_beside_bright_light_is_no_blank() -> None:
    """A bright corner is neither ink nor makes the paper ink."""
    page = paper(160, 140, level=110)
    box = write(page, "1", ink=30)
    page[:40] = np.clip(page[:40].astype(int) + 120, 0, 255).astype(np.uint8)
    found_at(normalise(page), box, slack=6)
