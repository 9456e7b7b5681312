"""The normaliser on paper drawn in the test: the digit found, the box, what is blank, and the network's input."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from watcher.normalise import Ink, Page, _stroke_width, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watcher.plane import Box

STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "1": [[(0.3, 0.25), (0.6, 0.0), (0.5, 1.0)]],
    "2": [[(0.0, 0.2), (0.3, 0.0), (0.75, 0.1), (0.7, 0.4), (0.0, 1.0), (0.8, 0.95)]],
    "4": [[(0.35, 0.0), (0.0, 0.6), (0.8, 0.6)], [(0.6, 0.2), (0.6, 1.0)]],
    "5": [[(0.7, 0.0), (0.1, 0.0), (0.05, 0.45), (0.6, 0.5), (0.65, 0.85), (0.3, 1.0), (0.0, 0.9)]],
    "7": [[(0.0, 0.0), (0.75, 0.02), (0.3, 1.0)]],
}
"""Digits as strokes in a box one high, x to the right and y down."""


def paper(height: int, width: int, level: int = 235, noise: float = 3.0) -> Page:
    """Grey paper with a little grain, the same each time."""
    grain = np.random.default_rng(1).normal(0, noise, (height, width))
    return np.clip(level + grain, 0, 255).astype(np.uint8)


def write(
    page: Page, digit: str = "2", ink: int | tuple[int, int, int] = 40, *, at: Box | None = None, pen: int = 5
) -> Box:
    """Write `digit` on `page`, in its middle unless `at` says where, and tell the box of its ink."""
    height, width = page.shape[:2]
    x, y, w, h = at or (int(0.35 * width), int(0.25 * height), int(0.3 * width), int(0.5 * height))
    scale = min(h, w / 0.8)
    before = page.copy()
    for stroke in STROKES[digit]:
        points = swung(np.array([(x + scale * a, y + scale * b) for a, b in stroke]))
        cv2.polylines(page, [np.round(points * 16).astype(np.int32)], False, ink, pen, cv2.LINE_AA, 4)
    changed = np.abs(page.astype(int) - before) > 30
    found = np.asarray(changed.any(axis=2) if page.ndim == 3 else changed, np.uint8)
    left, top, wide, high = cv2.boundingRect(found)
    return left, top, wide, high


def swung(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The way through `points` as a hand goes it, in slight bows."""
    ways = []
    for start, end in pairwise(points):
        t = np.linspace(0, 1, 12)[:, None]
        aside = np.array([start[1] - end[1], end[0] - start[0]])
        ways.append(start + t * (end - start) + 0.04 * np.sin(np.pi * t) * aside)
    return np.concatenate(ways)


def found_at(ink: Ink | None, box: Box, slack: float = 3.0) -> Ink:
    """Check that ink was found within `slack` pixels of `box`, and that its picture is as MNIST's are."""
    assert ink is not None
    ours = np.array([ink.box[0], ink.box[1], ink.box[0] + ink.box[2], ink.box[1] + ink.box[3]])
    drawn = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    assert np.abs(ours - drawn).max() <= slack, (ink.box, box)
    looks_like_mnist(ink.image)
    return ink


def looks_like_mnist(image: NDArray[np.float32]) -> None:
    """Check size, range, the 20 pixels of the longer side and the centre of mass."""
    assert image.shape == (28, 28)
    assert image.dtype == np.float32
    assert image.min() == 0
    assert 0.8 < image.max() <= 1
    _, _, width, height = cv2.boundingRect((image > 0.02).astype(np.uint8))
    assert 18 <= max(width, height) <= 20
    ys, xs = np.indices(image.shape)
    centre = (xs * image).sum() / image.sum(), (ys * image).sum() / image.sum()
    assert np.abs(np.array(centre) - 13.5).max() <= 0.51


def thickness(image: NDArray[np.float32]) -> float:
    """How wide the strokes are, roughly: ink over the length of its outline, twice."""
    mask = (cv2.resize(image, None, fx=8, fy=8) > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return 2 * float(mask.sum()) / sum(len(outline) for outline in outlines) / 8


@pytest.mark.parametrize("digit", STROKES)
def test_digit_on_paper(digit: str) -> None:
    """A digit on plain paper is boxed where it stands and comes out as MNIST's do."""
    page = paper(160, 140)
    box = write(page, digit)
    ink = found_at(normalise(page), box)
    assert not ink.clipped


def test_is_pure() -> None:
    """The page is left as it was, and the same page gives the same picture."""
    page = paper(160, 140)
    write(page)
    before = page.copy()
    first, second = normalise(page), normalise(page)
    assert first is not None
    assert second is not None
    assert (page == before).all()
    assert (first.image == second.image).all()


@pytest.mark.parametrize("shape", [(20, 18), (28, 28), (64, 40), (60, 200), (500, 400), (4000, 3000)])
def test_any_size(shape: tuple[int, int]) -> None:
    """From twenty pixels to twelve megapixels the digit is found."""
    height, width = shape
    page = paper(height, width)
    size = int(0.6 * height)
    box = write(page, at=(width // 2 - size * 2 // 5, height // 5, size, size), pen=max(1, height // 22))
    found_at(normalise(page), box, slack=1.5 + 0.02 * max(shape))


def test_small_digit_on_a_large_photo() -> None:
    """A digit that fills a tenth of a large photo, in a thin pen, is looked at closely."""
    page = paper(3000, 4000)
    box = write(page, "5", at=(1800, 1300, 320, 400), pen=12)
    ink = found_at(normalise(page), box, slack=20)
    assert thickness(ink.image) > 1.5


def test_light_on_dark() -> None:
    """White on black gives the same picture as black on white."""
    page = paper(160, 140, noise=0)
    box = write(page)
    dark, light = found_at(normalise(page), box), found_at(normalise(255 - page), box)
    assert np.abs(dark.image - light.image).max() < 0.02


def test_light_on_dark_with_a_white_rim() -> None:
    """What the rim is made of does not decide which is the ink."""
    page = paper(160, 140, level=30)
    box = write(page, ink=230)
    page[:6], page[-6:], page[:, :6], page[:, -6:] = 250, 250, 250, 250
    found_at(normalise(page), box)


def test_mnist_itself() -> None:
    """A picture that is MNIST's already, white on black, comes back almost as it was."""
    page = paper(160, 140)
    write(page)
    first = normalise(page)
    assert first is not None
    again = normalise((first.image * 255).astype(np.uint8))
    assert again is not None
    looks_like_mnist(again.image)
    assert float(np.corrcoef(first.image.ravel(), again.image.ravel())[0, 1]) > 0.93


@pytest.mark.parametrize(
    ("background", "pen"),
    [
        ((255, 250, 160), (60, 70, 190)),  # blue on yellow
        ((120, 190, 120), (190, 60, 50)),  # red on green of nearly the same grey
        ((250, 250, 250), (150, 190, 250)),  # light blue on white
        ((250, 190, 200), (90, 160, 110)),  # green on pink
        ((40, 60, 120), (240, 240, 200)),  # chalk on blue
    ],
)
def test_coloured_pens_and_paper(background: tuple[int, int, int], pen: tuple[int, int, int]) -> None:
    """A pen shows against its paper by colour where it does not by brightness."""
    page = np.empty((160, 140, 3), np.uint8)
    page[:] = background
    page = np.clip(page + np.random.default_rng(2).normal(0, 2, page.shape), 0, 255).astype(np.uint8)
    box = write(page, ink=pen)
    found_at(normalise(page), box)


def test_shadow_and_vignette() -> None:
    """A shadow across the paper and dark corners are no ink."""
    page = paper(300, 300, noise=2)
    box = write(page, "5", ink=90, pen=8)
    ys, xs = np.indices(page.shape)
    vignette = 0.25 * ((xs - 150) ** 2 + (ys - 150) ** 2) / 45000
    shadow = 0.25 / (1 + np.exp((60 + ys - xs) / 12))
    light = 1 - vignette - shadow
    found_at(normalise((page * light.clip(0.1, 1)).astype(np.uint8)), box, slack=5)


def test_faint_pencil() -> None:
    """Ink only thirty grey levels from its paper is still ink, and as bright in the picture as any."""
    page = paper(160, 140, noise=2)
    box = write(page, "5", ink=190)
    found_at(normalise(page), box)


def test_hardly_any_contrast() -> None:
    """On clean paper a few grey levels are ink."""
    page = paper(160, 140, noise=0)
    box = write(page, "5")
    found_at(normalise(np.maximum(page, 227)), box)


@pytest.mark.parametrize("turn", [0.0, 1.5])
def test_form_box(turn: float) -> None:
    """A printed box around the digit is dropped, square or a little skew."""
    page = paper(160, 200)
    cv2.rectangle(page, (8, 10), (190, 148), 20, 3)
    cv2.line(page, (0, 10), (199, 10), 20, 3)
    matrix = cv2.getRotationMatrix2D((100, 80), turn, 1)
    page = np.asarray(cv2.warpAffine(page, matrix, (200, 160), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    box = write(page, ink=80)
    found_at(normalise(page), box)


def test_stroke_across_the_frame() -> None:
    """A stroke that crosses the line of a box keeps what lies within."""
    page = paper(160, 140)
    cv2.line(page, (0, 135), (139, 135), 20, 3)
    box = write(page, "7", at=(35, 30, 95, 118), pen=6)
    ink = normalise(page)
    assert ink is not None
    assert ink.box[1] == pytest.approx(box[1], abs=3)
    assert ink.box[2] == pytest.approx(box[2], abs=4)
    assert ink.box[1] + ink.box[3] >= 130


def test_squared_paper() -> None:
    """Thin printed squares through the whole crop are dropped, the digit's own straight strokes are not."""
    page = paper(200, 200)
    for at in range(15, 200, 42):
        cv2.line(page, (at, 0), (at, 199), 170, 1)
        cv2.line(page, (0, at), (199, at), 170, 1)
    box = write(page, "4", pen=6)
    found_at(normalise(page), box, slack=4)


@pytest.mark.parametrize("digit", ["1", "4", "7"])
def test_tight_crop(digit: str) -> None:
    """A crop cut at the ink itself keeps strokes that run from edge to edge, and says that they may be cut."""
    page = paper(160, 140)
    x, y, w, h = write(page, digit)
    tight = page[y : y + h, x : x + w]
    ink = found_at(normalise(tight), (0, 0, w, h))
    assert ink.clipped


def test_neighbours_are_left_out() -> None:
    """Parts of the digits to the left and right stay out of the picture."""
    page = paper(120, 160)
    write(page, "4", at=(-38, 25, 60, 70))
    write(page, "7", at=(145, 25, 60, 70))
    box = write(page, "5", at=(55, 25, 55, 70))
    ink = found_at(normalise(page), box)
    assert not ink.clipped
    assert not ink.alone


@pytest.mark.parametrize(
    ("height", "bottom", "alone", "paired"),
    [
        (0, 100, True, False),
        (8, 100, True, False),
        (30, 100, False, False),
        (60, 100, False, True),
        (80, 100, False, True),
        (80, 119, False, False),  # the edge cuts it: a neighbour
    ],
)
def test_what_stands_beside(height: int, bottom: int, alone: bool, paired: bool) -> None:
    """A digit with something of size at its side is not alone; with a speck, a comma or nothing it is."""
    page = paper(120, 160)
    box = write(page, "5", at=(40, 20, 55, 80))
    cv2.line(page, (125, bottom - height), (125, bottom), 235 if height == 0 else 40, 5)
    ink = found_at(normalise(page), box)
    assert (ink.alone, ink.paired) == (alone, paired)


def test_specks_are_left_out() -> None:
    """Dust far from the digit and a frame's crumbs do not widen its box."""
    page = paper(160, 140)
    box = write(page)
    for x, y in ((12, 20), (125, 140), (120, 15), (20, 130)):
        cv2.circle(page, (x, y), 2, 40, -1)
    found_at(normalise(page), box)


def test_broken_strokes_stay_together() -> None:
    """A digit whose pen skipped is one digit."""
    page = paper(160, 140)
    box = write(page, "5")
    page[78:82] = 235
    found_at(normalise(page), box)


@pytest.mark.parametrize("pen", [1, 2, 5, 10, 12])
def test_any_pen(pen: int) -> None:
    """A fine liner and a marker give strokes about as thick as MNIST's."""
    page = paper(160, 140)
    box = write(page, "2", pen=pen)
    ink = found_at(normalise(page), box)
    assert 1.5 < thickness(ink.image) < 5.0


def blank_paper() -> Page:
    """Nothing but grain."""
    return paper(160, 140)


def uniform() -> Page:
    """One grey level."""
    return np.full((160, 140), 200, np.uint8)


def rough_paper() -> Page:
    """Strong noise."""
    return paper(160, 140, level=150, noise=25)


def frame_only() -> Page:
    """An empty printed box."""
    page = paper(160, 140)
    cv2.rectangle(page, (8, 8), (130, 150), 20, 3)
    return page


def comb_only() -> Page:
    """An empty comb: a base line and two ticks."""
    page = paper(100, 80)
    cv2.line(page, (0, 90), (79, 90), 40, 2)
    for x in (3, 76):
        cv2.line(page, (x, 60), (x, 90), 40, 2)
    return page


def shadow_edge() -> Page:
    """The edge of a shadow across blank paper."""
    page = paper(160, 140).astype(np.float32)
    page[:, 60:] *= 0.7
    return np.asarray(cv2.GaussianBlur(page, (0, 0), 2), dtype=np.uint8)


def dusty() -> Page:
    """A few specks."""
    page = paper(160, 140)
    for x, y in ((70, 80), (30, 40), (100, 120)):
        cv2.circle(page, (x, y), 2, 60, -1)
    return page


def tiny_blank() -> Page:
    """Blank, and too small to hold anything."""
    return paper(3, 2)


@pytest.mark.parametrize(
    "page", [blank_paper, uniform, rough_paper, frame_only, comb_only, shadow_edge, dusty, tiny_blank]
)
def test_blank(page: object) -> None:
    """Where nothing is written there is no ink, in grey, in colour and inverted."""
    assert callable(page)
    picture = page()
    assert normalise(picture) is None
    assert normalise(255 - picture) is None
    assert normalise(np.repeat(picture[:, :, None], 3, axis=2)) is None


def test_large_blank() -> None:
    """A blank page of twelve megapixels is blank."""
    assert normalise(paper(4000, 3000)) is None


def test_a_crop_that_is_all_ink_has_a_pen_width() -> None:
    """Ink without an edge has no distance to one: its pen is as wide as the narrower side, not infinitely so."""
    assert _stroke_width(np.ones((10, 20), np.uint8)) == 10


@pytest.mark.parametrize("corner", [(24, 20), (236, 20), (24, 220), (236, 220)])
@pytest.mark.parametrize("digit", ["1", "2"])
def test_a_digit_in_a_corner_of_much_paper(digit: str, corner: tuple[int, int]) -> None:
    """What stands clear of all edges and is as large as writing is no rest of a frame, wherever it stands."""
    page = paper(300, 300)
    box = write(page, digit, at=(*corner, 40, 60))
    found_at(normalise(page), box)


@pytest.mark.parametrize("digit", STROKES)
@pytest.mark.parametrize("shape", ["circle", "open circle", "rounded box"])
def test_a_ring_around_a_digit_goes(digit: str, shape: str) -> None:
    """A number in a printed circle, one circled by hand that leaves it open a little, or one in a rounded box."""
    page = paper(200, 200)
    box = write(page, digit, at=(76, 66, 48, 68))
    if shape == "rounded box":
        turn = np.linspace(0, 2 * np.pi, 80)
        way = np.stack([np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.5, np.sin(turn)], axis=1)
        points = [np.round(np.array([100, 100]) + way * np.array([80, 72])).astype(np.int32)]
        cv2.polylines(page, points, isClosed=True, color=40, thickness=4, lineType=cv2.LINE_AA)
    else:
        cv2.ellipse(page, (100, 100), (78, 74), 30, 0, 355 if shape == "open circle" else 360, 40, 4, cv2.LINE_AA)
    found_at(normalise(page), box, slack=5)


@pytest.mark.parametrize("around", [70, (60, 110, 70), (90, 60, 140)])
def test_a_white_box_on_a_dark_form(around: int | tuple[int, int, int]) -> None:
    """Paper on a surface of another brightness is the page: what is around it makes no ink of it."""
    form = np.full((160, 150, 3), around, np.uint8)
    page = np.repeat(paper(120, 100)[..., np.newaxis], 3, axis=2)
    x, y, w, h = write(page, "2", ink=(40, 40, 40))
    form[18:138, 26:126] = page
    found_at(normalise(form), (x + 26, y + 18, w, h))
