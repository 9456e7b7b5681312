"""A crop of one line of writing becomes the field network's input: its ink at one height, from left to right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from watcher.plane import components, middle, odd, one_plane, polarity, resized, window
from watcher.printed import cells

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from watcher.normalise import Page
    from watcher.plane import Box, Labels, Mask, Plane

VERSION = 4
HEIGHT = 32  # pixels of the network's input
BODY = 24  # of those, the writing's height; the rest is margin
FINER = 2  # times as fine is the line that digits are cut from: those are resampled once more, which blurs
LONGEST = 768  # pixels of width at most: what is longer is squeezed
ASIDE = 0.3  # of the writing's height: the margin at its left and right

SEARCH = 64  # pixels: the height at which the writing is looked for
WIDEST = 1024  # pixels of width at most, there
STROKE = 0.3  # of the height: what is broader is paper, shadow or a bar
DARKEST = 160  # pixels at most that tell the ink's level: a share of a wide page may be more than is written on it
FEWEST = 15  # the same where that is less than a small number's
MIN_CONTRAST = 9.0  # grey levels between ink and paper
NOISE = 6.0  # times as far above the usual as a tenth of the paper lies below: that is no grain
SHARE = 0.38  # of the ink's level: where a stroke begins
LINE = 1.3  # of the height: what is straight for so long is ruled
RUNG = 0.4  # of the height: upright strokes as long, from one ruled line to the next, part the cells of a comb
SPAN = 0.94  # of the height: an upright stroke as long goes from edge to edge
TALL = 0.4  # of the tallest stroke: shorter strokes do not tell how high the writing is
SPECK = 0.08  # of the height: a smaller thing is a speck
LEAST, CLOSER = 0.04, 0.7  # of the height: lower is a speck even to a closer look; so much lower is its window
SHADED, BRIGHTER = 0.5, 3.0  # of the paper's brightness: where a shadow lies; so many times it is lit up, at most
SKEW = 0.05  # slope from which on a line is set straight
STEEPEST = 0.3
INKED = 0.45  # of the ink's level: where a digit's box has its edge
MIDDLE = slice(10, 23)  # rows of the input: the middle of the writing
STRUCK = 0.6  # of the writing's width: a line through its middle that is as long strikes it out
REACH = 0.6  # of the height: a digit is no broader to each side of its middle


@dataclass(frozen=True, slots=True)
class Line:
    """The line of writing found on a page."""

    image: NDArray[np.float32]  # (HEIGHT, width), 0 paper to 1 ink: the network's input
    box: Box  # what it shows of the page
    slope: float  # of the line on the page, downwards to the right
    finer: Callable[[], NDArray[np.float32]]  # cuts the same, (FINER * HEIGHT, FINER * width)

    def place(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Where a part of the image stands on the page."""
        x, y, w, h = self.box
        height, width = self.image.shape
        x0, x1 = x + left * w / width, x + right * w / width
        down = self.slope * ((x0 + x1) / 2 - x - w / 2)
        y0, y1 = y + top * h / height + down, y + bottom * h / height + down
        return round(x0), round(y0), max(1, round(x1 - x0)), max(1, round(y1 - y0))


def boxes(line: Line, steps: Sequence[tuple[float, float]]) -> list[Box]:
    """Where the digits stand on the page: the ink about the middle of each span, from and to as shares of the line.

    Neighbours are parted where there is the least ink between them.
    """
    width = line.image.shape[1]
    ink = line.image > INKED
    middles = [(first + last) / 2 * width for first, last in steps]
    columns = ink.sum(axis=0)
    cuts = [max(0.0, middles[0] - REACH * HEIGHT)] if middles else []
    for left, right in pairwise(middles):
        first, last = int(left) + 1, max(int(right), int(left) + 2)
        between = columns[first:last]
        aside = np.abs(np.arange(len(between)) - len(between) / 2) / (len(between) + 1)
        cuts.append(first + int((between + aside).argmin()) if len(between) else (left + right) / 2)
    cuts.append(min(float(width), middles[-1] + REACH * HEIGHT) if middles else width)
    found = []
    for centre, left, right in zip(middles, cuts, cuts[1:], strict=False):
        # Never nothing at all, of which OpenCV dies: digits may be told at one place.
        x0 = min(int(max(left, centre - REACH * HEIGHT)), width - 1)
        x1 = max(int(np.ceil(min(right, centre + REACH * HEIGHT))), x0 + 1)
        _, _, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(ink[:, x0:x1]).astype(np.uint8))
        near = np.abs(stats[1:, 0] + stats[1:, 2] / 2 + x0 - centre) < 0.35 * BODY
        real = stats[1:, cv2.CC_STAT_HEIGHT] >= 0.3 * BODY
        mine = np.flatnonzero(near & real) + 1
        if mine.size:
            part = stats[mine]
            left_, top = part[:, 0].min() + x0, part[:, 1].min()
            right_, bottom = (part[:, 0] + part[:, 2]).max() + x0, (part[:, 1] + part[:, 3]).max()
        else:
            left_, top, right_, bottom = x0, (HEIGHT - BODY) // 2, max(x1, x0 + 1), (HEIGHT + BODY) // 2
        found.append(line.place(float(left_), float(top), float(right_), float(bottom)))
    return found


def is_struck(image: NDArray[np.float32]) -> bool:
    """Whether a level line runs through the middle of the writing of an input: the lines of a form are not there."""
    ink = (image > INKED).astype(np.uint8)
    columns = np.flatnonzero(ink.any(axis=0))
    width = int(np.ptp(columns)) + 1 if columns.size else 0
    run = int(min(1.5 * HEIGHT, 0.75 * width))
    if run < HEIGHT / 2:
        return False
    slack = cv2.dilate(ink, np.ones((3, 1), np.uint8))  # for what is a little skew
    lines = np.asarray(cv2.morphologyEx(slack, cv2.MORPH_OPEN, np.ones((1, run), np.uint8)))[MIDDLE]
    return bool(np.count_nonzero(lines.any(axis=0)) > STRUCK * width)


def normalise_line(page: Page) -> Line | None:
    """Find the line of writing on `page`, set it straight and bring it to one height; None where nothing is written."""
    height, width = page.shape[:2]
    part = window(page)
    if part is not None:
        return _within(page, part)
    ink, sign = _search(page)
    mask = _mask(ink)
    if _are_bare(ink, mask):
        return None
    found = _extent(mask)
    if found is None:
        part = _closer(mask, width, height)
        return None if part is None else _within(page, part)
    (x0, y0, x1, y1), slope = found
    fx, fy = width / mask.shape[1], height / mask.shape[0]
    slope *= fy / fx
    tall = (y1 - y0) * fy
    side, above = ASIDE * tall, tall * (HEIGHT / BODY - 1) / 2
    left, right = max(0.0, x0 * fx - side), min(float(width), x1 * fx + side)
    top, bottom = y0 * fy - above, y1 * fy + above
    box = round(left), round(top), max(1, round(right) - round(left)), max(1, round(bottom) - round(top))
    cut = partial(_cut, page, box, slope, sign)
    return Line(cut(), box, slope, finer=partial(cut, FINER))


def has_only_cells(page: Page) -> bool:
    """Whether nothing stands on `page` but printed cells that nobody wrote in."""
    ink, _ = _search(page)
    return _are_bare(ink, _mask(ink))


def _search(page: Page) -> tuple[Plane, int]:
    """The ink of a page, at SEARCH pixels of height, and whether it is the dark or the bright."""
    height, width = page.shape[:2]
    scale = min(SEARCH / height, WIDEST / width)
    grey = _grey(resized(page, max(8, round(width * scale)), max(8, round(height * scale))))
    sign = polarity(grey, odd(1, grey.shape[0]))
    return _ink(grey, sign, grey.shape[0]), sign


def _mask(ink: Plane) -> Mask:
    """Where ink is, by the level that so many pixels of it reach."""
    some = np.sort(ink, axis=None)
    high = float(some[-min(int(0.01 * some.size) + 1, DARKEST)])
    if high < MIN_CONTRAST:  # nothing is written, or a small number on much paper
        high, usual, low = (float(some[-count]) for count in (FEWEST, some.size // 2, some.size * 9 // 10))
        high = high if high - usual >= max(MIN_CONTRAST, NOISE * (usual - low)) else np.inf
    return (ink > SHARE * high).astype(np.uint8)


def _are_bare(ink: Plane, mask: Mask) -> bool:
    """Whether there are printed cells and nothing else, not even writing much fainter than their walls."""
    inside = cells(mask)
    if inside is None or not inside.any():
        return False
    some = np.sort(ink[inside > 0])
    low, usual, darkest = (float(some[int(share * (some.size - 1))]) for share in (0.1, 0.5, 0.998))
    return darkest - usual < max(MIN_CONTRAST, NOISE * (usual - low))


def _within(page: Page, part: Box) -> Line | None:
    """The line of writing on a part of the page."""
    left, top, width, height = part
    line = normalise_line(page[top : top + height, left : left + width])
    return line and replace(line, box=(line.box[0] + left, line.box[1] + top, *line.box[2:]))


def _closer(mask: Mask, width: int, height: int) -> Box | None:
    """The part of the page for a closer look, where what is written is too low to be found on all of it; else None."""
    _, stats, _ = components(mask)
    tops, bottoms = stats[:, 1], stats[:, 1] + stats[:, 3]
    real = stats[(stats[:, 3] >= LEAST * mask.shape[0]) & (tops > 0) & (bottoms < mask.shape[0])]
    if not len(real):
        return None
    fx, fy = width / mask.shape[1], height / mask.shape[0]
    margin = float(real[:, 3].max()) * fy
    left, top = (max(0, int(low - margin)) for low in (real[:, 0].min() * fx, real[:, 1].min() * fy))
    right = min(width, round((real[:, 0] + real[:, 2]).max() * fx + margin))
    bottom = min(height, round((real[:, 1] + real[:, 3]).max() * fy + margin))
    return (left, top, right - left, bottom - top) if bottom - top < CLOSER * height else None


def _cut(page: Page, box: Box, slope: float, sign: int, finer: int = 1) -> NDArray[np.float32]:
    """What of the page is in the box, set straight, `finer` times as high as the input; beyond the page there is none.

    Of ink from 0 to 1: 1 is more than what the strokes usually hold.
    """
    x, y, w, h = box
    reach = int(abs(slope) * w / 2) + 1 if slope else 0
    top, bottom = max(0, y - reach), min(page.shape[0], y + h + reach)
    width = finer * min(LONGEST, max(8, round(w * (HEIGHT / h))))
    height = finer * HEIGHT
    scale = height / h
    part = resized(page[top:bottom, x : x + w], width, max(1, round((bottom - top) * scale)))
    ink = _ink(_grey(part), sign, height)
    tilt = slope * (w / h) * (height / width)  # in pixels of what is cut, which may be squeezed
    matrix = np.array([[1, 0, 0], [tilt, 1, (y - top) * scale - tilt * width / 2]], np.float32)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return _levelled(np.asarray(cv2.warpAffine(ink, matrix, (width, height), flags=how), np.float32), finer)


def _grey(page: Page) -> Plane:
    return one_plane(page, odd(1, page.shape[0]))


def _ink(grey: Plane, sign: int, height: int) -> Plane:
    """How much ink each pixel holds, on paper made flat: what closing fills is thin and dark."""
    grey = sign * grey
    side = odd(STROKE, height)
    closed = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    paper = np.asarray(cv2.blur(closed, (5, 5)), np.float32)
    ink = paper - grey
    ink *= _lit(paper)
    return ink


def _lit(paper: Plane) -> Plane | float:
    """How many times as much ink a pixel in the shadow shows in full light: there it is as much less dark as its paper.

    1 where no shadow lies: what is somewhat darker is the fall of the light, which the networks know.
    """
    some = paper[::4, ::4].ravel()
    low, high = int(0.05 * some.size), int(0.95 * some.size)
    some.partition((low, high))
    dark, light = float(some[low]), float(some[high])
    if not 0.1 * light < dark < SHADED * light:
        return 1.0
    return np.asarray(np.clip(light / np.maximum(paper, 1), 1, BRIGHTER), np.float32)


def _levelled(ink: Plane, finer: int) -> NDArray[np.float32]:
    """Ink from 0 to 1: 1 is what the strokes usually hold; a finer line's is told by no more pixels."""
    some = np.sort(ink[::finer, ::finer], axis=None)
    strokes = some[some > 0.4 * some[int(0.985 * some.size)]]
    level = max(middle(strokes) if strokes.size else 0.0, MIN_CONTRAST)
    return np.asarray(np.clip(ink / level, 0, 1.25) / 1.25, np.float32)


def _extent(mask: Mask) -> tuple[tuple[int, int, int, int], float] | None:
    """Left, top, right and bottom of the writing, once it is straight, and the slope it has now."""
    height, width = mask.shape
    clean = _without_lines(mask)
    labels, stats, _ = components(clean)
    keep = _strokes(stats, height)
    if not keep.any():  # a 1 that fills the crop may look ruled
        labels, stats, _ = components(mask)
        keep = _strokes(stats, height)
        if not keep.any():
            return None
    tall = keep & (stats[:, 3] >= TALL * stats[keep, 3].max())
    slope = _slope(np.take(tall, labels))
    centre = (stats[:, 0] + stats[:, 2] / 2 - width / 2) * slope
    top, bottom = stats[:, 1] - centre, stats[:, 1] + stats[:, 3] - centre
    first, last = stats[keep, 0].min(), (stats[keep, 0] + stats[keep, 2]).max()
    down = ((first + last) / 2 - width / 2) * slope  # the cut is straightened about its own middle
    return (
        int(first),
        int(top[tall].min() + down),
        int(last),
        int(np.ceil(bottom[tall].max() + down)),
    ), slope


def _strokes(stats: Labels, height: int) -> NDArray[np.bool_]:
    """Which components are writing: no specks, no end of a line above or below."""
    tops, bottoms = stats[:, 1], stats[:, 1] + stats[:, 3]
    peeks = ((tops == 0) | (bottoms == height)) & (stats[:, 3] < 0.3 * height)
    keep = ~peeks & (np.maximum(stats[:, 2], stats[:, 3]) >= SPECK * height)
    keep[0] = False
    if keep.any():
        tallest = int(stats[keep, 3].max())
        keep &= np.maximum(stats[:, 2], stats[:, 3]) >= 0.12 * tallest
        if tallest < 2 * SPECK * height:
            keep[:] = False
    return np.asarray(keep, np.bool_)


def _slope(writing: NDArray[np.bool_]) -> float:
    """The slope of a line of writing, 0 where it is about level or too short to tell."""
    rows = np.arange(writing.shape[0], dtype=np.float64)
    mass = writing.sum(axis=0).astype(np.float64)
    total = mass.sum()
    x = np.arange(len(mass), dtype=np.float64) - (mass @ np.arange(len(mass))) / max(total, 1)
    spread = float(mass @ (x * x))
    if total == 0 or (12 * spread / total) ** 0.5 < 2.2 * float(np.ptp(np.flatnonzero(writing.any(axis=1))) + 1):
        return 0.0
    slope = float((rows @ writing) @ x) / spread
    return slope if SKEW < abs(slope) < STEEPEST else 0.0


def _without_lines(mask: Mask) -> Mask:
    """The mask less what is ruled: long level lines, and the uprights between them or from edge to edge."""
    height, width = mask.shape
    run = int(min(LINE * height, 0.8 * width))
    slack = cv2.dilate(mask, np.ones((3, 1), np.uint8))
    across = cv2.morphologyEx(slack, cv2.MORPH_OPEN, np.ones((1, run), np.uint8))
    across = np.asarray(cv2.dilate(across, np.ones((3, 3), np.uint8)), np.uint8) & mask
    slack = cv2.dilate(mask, np.ones((1, 3), np.uint8))
    down = cv2.morphologyEx(slack, cv2.MORPH_OPEN, np.ones((int(RUNG * height), 1), np.uint8))
    down = np.asarray(down, np.uint8) & mask
    ruled = across.copy()
    if down.any():
        labels, stats, _ = components(down)
        bounds = cv2.dilate(across, np.ones((9, 5), np.uint8))
        bounds[:2], bounds[-2:] = 1, 1
        for i in range(1, len(stats)):
            x, y, w, h, _ = stats[i]
            between = bounds[max(0, y - 1) : y + 3, x : x + w].any() and bounds[y + h - 3 : y + h + 1, x : x + w].any()
            if w < 0.2 * height and (h >= SPAN * height or (between and across.any())):
                ruled |= (labels == i).astype(np.uint8)
    return mask & ~ruled
