"""A crop of a number field becomes a line at one height, whatever is around it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from watcher.line import BODY, FINER, HEIGHT, LONGEST, Line, boxes, normalise_line

Page = NDArray[np.uint8]
PLACES = (60, 120, 180, 240)  # pixels: the left of each figure


def drawn(paper: int = 235, ink: int = 40, top: int = 40, tall: int = 60, slope: float = 0.0) -> Page:
    """Four figures like a 0, a 7, a 4 and a 0, in pen strokes."""
    page = np.full((2 * top + tall, 340), paper, np.uint8)
    shapes: tuple[list[tuple[float, float]], ...] = (
        [(0.5, 0), (0.1, 0.3), (0.1, 0.7), (0.5, 1), (0.9, 0.7), (0.9, 0.3), (0.5, 0)],
        [(0, 0), (1, 0), (0.4, 1)],
        [(0.5, 0), (0, 0.6), (1, 0.6), (0.8, 0.3), (0.8, 1)],
        [(0.5, 0), (0.1, 0.3), (0.1, 0.7), (0.5, 1), (0.9, 0.7), (0.9, 0.3), (0.5, 0)],
    )
    for left, shape in zip(PLACES, shapes, strict=True):
        points = [(left + 36 * x, top + tall * y + slope * (left - 170)) for x, y in shape]
        cv2.polylines(page, [np.array(points, np.int32)], isClosed=False, color=ink, thickness=5, lineType=cv2.LINE_AA)
    return page


def line(page: Page) -> Line:
    """The line found on a page."""
    found = normalise_line(page)
    assert found is not None
    return found


def image(page: Page) -> NDArray[np.float32]:
    """What the network sees of it."""
    return line(page).image


def extent(plane: NDArray[np.float32]) -> tuple[int, int]:
    """First and last row with ink."""
    rows = np.flatnonzero((plane > 0.5).any(axis=1))
    return int(rows[0]), int(rows[-1])


def alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How much two lines correlate, brought to one width."""
    wide = np.asarray(cv2.resize(other, (one.shape[1], one.shape[0])))
    return float(np.corrcoef(one.ravel(), wide.ravel())[0, 1])


@pytest.mark.parametrize("wide", [1, 8])
def test_the_line_to_cut_digits_from_is_the_same_line(wide: int) -> None:
    """It is as many times as fine, and averages to what the network sees: slanting, on a form, or squeezed."""
    form = np.full((240, 440), 60, np.uint8)
    form[60:180, 50:390] = drawn(top=30)
    for page in (drawn(top=70, slope=0.15), form, np.hstack([drawn()] * wide)):
        found = line(page)
        finer = found.finer()
        height, width = found.image.shape
        assert finer.shape == (FINER * height, FINER * width)
        averaged = cv2.resize(finer, (width, height), interpolation=cv2.INTER_AREA)
        assert np.abs(averaged - found.image).mean() < 0.02


def test_the_writing_has_one_height() -> None:
    """Large or small, in much paper or little, the writing fills the same rows."""
    for page in (drawn(), drawn(top=15), cv2.resize(drawn(), None, fx=0.4, fy=0.4), drawn(top=90, tall=70)):
        plane = image(np.asarray(page, np.uint8))
        first, last = extent(plane)
        assert plane.shape[0] == HEIGHT
        assert first == pytest.approx((HEIGHT - BODY) / 2, abs=2)
        assert last == pytest.approx((HEIGHT + BODY) / 2, abs=2)
        assert plane.min() >= 0
        assert plane.max() <= 1


def test_bright_ink_is_ink() -> None:
    """Chalk on a board gives the same line as a pen on paper, and so does colour."""
    plain = image(drawn())
    assert alike(plain, image(255 - drawn())) > 0.98
    blue = np.stack([drawn(ink=60), drawn(ink=90), drawn(ink=200)], axis=-1)
    assert alike(plain, image(blue)) > 0.95


def test_uneven_light_is_flattened() -> None:
    """A shadow over half of the crop changes little."""
    light = np.linspace(0.5, 1, 340) * np.where(np.arange(340) > 150, 1, 0.7)
    assert alike(image(drawn()), image((drawn() * light).astype(np.uint8))) > 0.88


def test_a_form_does_not_change_the_height() -> None:
    """A line under the writing, a frame around it, a comb of cells: the figures keep their size."""
    under, framed, comb = drawn(), drawn(), drawn()
    cv2.line(under, (0, 112), (339, 112), 60, 2)
    cv2.rectangle(framed, (20, 15), (320, 125), 30, 3)
    cv2.rectangle(comb, (48, 20), (290, 118), 30, 2)
    for x in (109, 170, 230):
        cv2.line(comb, (x, 20), (x, 118), 30, 2)
    wanted = normalise_line(drawn())
    assert wanted is not None
    for page in (under, framed, comb):
        found = normalise_line(page)
        assert found is not None
        assert found.box[1] == pytest.approx(wanted.box[1], abs=4)
        assert found.box[3] == pytest.approx(wanted.box[3], abs=6)


def test_the_lines_above_and_below_stay_outside() -> None:
    """Ends of other lines at the edges do not count as the writing's height."""
    page = drawn(top=50)
    page[:8, 60:200:12] = 40
    page[-8:, 100:300:12] = 40
    wanted, found = normalise_line(drawn(top=50)), normalise_line(page)
    assert wanted is not None
    assert found is not None
    assert found.box[3] == pytest.approx(wanted.box[3], abs=4)


def test_a_skew_line_is_set_straight() -> None:
    """A line that falls or rises fills the same rows as a level one."""
    for slope in (-0.15, 0.15):
        plane = image(drawn(top=70, slope=slope))
        left, right = np.array_split(plane, 2, axis=1)
        assert abs(extent(left)[0] - extent(right)[0]) <= 3
        assert abs(extent(left)[1] - extent(right)[1]) <= 3


def test_a_digit_is_found_on_the_page() -> None:
    """The box of each figure is where it was drawn, also where the line is skew."""
    for slope in (0.0, 0.12):
        found = normalise_line(drawn(top=70, slope=slope))
        assert found is not None
        x, _, width, _ = found.box
        middles = [(left + 18 - x) / width for left in PLACES]
        for box, left in zip(boxes(found, [(m - 0.02, m + 0.02) for m in middles]), PLACES, strict=True):
            assert box[0] == pytest.approx(left, abs=6)
            assert box[0] + box[2] == pytest.approx(left + 36, abs=8)
            assert box[1] == pytest.approx(70 + slope * (left - 170), abs=10)
            assert box[3] == pytest.approx(60, abs=14)


def test_digits_at_one_place_each_have_a_box() -> None:
    """Whatever steps are told, at the very end of a line and all the same too, each has a box on the page."""
    found = normalise_line(drawn())
    assert found is not None
    places = boxes(found, [(0.99, 1.0), (0.99, 1.0), (1.0, 1.0), (1.0, 1.0)])
    assert all(width > 0 and height > 0 for _, _, width, height in places)
    assert len(places) == 4


def test_nothing_written_is_no_line() -> None:
    """Blank paper, noise and a lone ruled line hold no writing."""
    rng = np.random.default_rng(0)
    blank = np.full((60, 200), 240, np.uint8)
    ruled = blank.copy()
    ruled[40:42] = 60
    noisy = (240 + rng.normal(0, 2, blank.shape)).clip(0, 255).astype(np.uint8)
    assert [normalise_line(page) for page in (blank, ruled, noisy)] == [None, None, None]


def test_little_writing_on_a_wide_page_is_found() -> None:
    """The same line of writing, however much empty paper is beside it."""
    page = drawn()
    wide = np.full((page.shape[0], 4000), 235, np.uint8)
    wide[:, 900 : 900 + page.shape[1]] = page
    found, alone = normalise_line(wide), image(page)
    assert found is not None
    assert alike(found.image, alone) > 0.9
    assert found.box[0] == pytest.approx(900 + PLACES[0], abs=40)


@pytest.mark.parametrize("share", [0.12, 0.25])
def test_a_small_line_on_a_large_page_is_found(share: float) -> None:
    """The same line of writing, however much empty paper is around it."""
    line = cv2.resize(drawn(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    page = np.full((round(30 / share), 600), 235, np.uint8)
    top = page.shape[0] // 3 - 20
    page[top : top + line.shape[0], 200 : 200 + line.shape[1]] = line
    found = normalise_line(page)
    assert found is not None
    assert alike(found.image, image(drawn())) > 0.85
    assert found.box[0] == pytest.approx(200 + PLACES[0] / 2, abs=20)
    assert found.box[1] + found.box[3] / 2 == pytest.approx(top + line.shape[0] / 2, abs=5)


def test_a_hard_shadow_takes_nothing_away() -> None:
    """Digits in the shadow belong to the line, as dark as those in the light."""
    light = 0.675 - 0.325 * np.tanh((np.arange(drawn().shape[1]) - 200) / 12)  # from 1 to 0.35
    page = (drawn() * light).astype(np.uint8)
    found, alone = normalise_line(page), normalise_line(drawn())
    assert found is not None
    assert alone is not None
    assert found.box[0] + found.box[2] == pytest.approx(alone.box[0] + alone.box[2], abs=16)
    assert alike(found.image, alone.image) > 0.8


def test_a_white_box_on_a_dark_form_is_the_page() -> None:
    """What is around the paper makes no ink of it."""
    page = drawn()
    form = np.full((page.shape[0] + 40, page.shape[1] + 60), 80, np.uint8)
    form[22 : 22 + page.shape[0], 25 : 25 + page.shape[1]] = page
    found = normalise_line(form)
    assert found is not None
    assert alike(found.image, image(page)) > 0.9
    assert found.box[0] == pytest.approx(25 + PLACES[0], abs=25)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (8, 2000), (2000, 8), (3, 3)])
def test_any_shape_is_survived(size: tuple[int, int]) -> None:
    """Crops of any shape give a line or none, never an error."""
    page = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    found = normalise_line(page)
    assert found is None or found.image.shape[1] <= LONGEST
