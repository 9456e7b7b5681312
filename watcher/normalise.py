"""A crop becomes the network's input the way MNIST itself was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from watcher.plane import RIM, WORK, mean, middle, odd, one_plane, only, polarity, resized, window
from watcher.printed import NEAR, without_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.plane import Box, Mask, Plane, Strokes

VERSION = 4
Page = NDArray[np.uint8]
"""A picture, (height, width) grey or (height, width, 3) RGB, paper and ink of any polarity."""
WIDEST_STROKE = 0.25  # of WORK: what is broader is paper, shadow or a border
MIN_CONTRAST = 5.0  # grey levels between ink and paper
MIN_SIGNAL = 5.0  # of ink over the paper's noise
EDGE = 4.5  # grey levels: no stroke begins below
LOCAL_SHARE = 0.42  # of the ink level nearby: where the edge of a stroke is
GLOBAL_SHARE = 0.14  # of the crop's ink level: fainter than that is dirt beside real ink
MIN_HEIGHT = 0.10  # of WORK: a smaller thing is a speck
MIN_ZOOM = 0.33  # of WORK: a smaller find is looked at again, closer
REACH_UP, REACH_ASIDE = 0.22, 0.06  # of WORK: strokes of one digit lie so close together
THIN, ALONE = 0.05, 0.15  # of WORK: what is left of a frame is thinner, or shorter, than writing at a rim
SPECK = 0.03  # of the largest stroke's area
BESIDE = 0.2  # of the digit's height: what stands at its side and is higher may be another
PAIRED = 0.6  # of its height: what stands whole at its side, beside so much of it, hardly is anything else
FRAME, INPUT = 20, 28  # MNIST's box for the ink, and its picture
FINE = 4  # the ink box is drawn this much finer before it is averaged down
THINNEST = 2.6  # pixels of FRAME: one in four of MNIST's digits has thinner strokes


@dataclass(frozen=True, slots=True)
class Ink:
    """The writing found on a page."""

    image: NDArray[np.float32]  # (28, 28), 0 paper to 1 ink: the network's input
    box: Box  # the ink's bounding box on the page
    clipped: bool  # the ink runs over the edge of the crop
    alone: bool = False  # nothing else of size stands at its sides
    paired: bool = False  # something about as high does


class Look(NamedTuple):
    """One look at a page or a part of it: what each step made of it, at working size."""

    part: Box  # of the page
    grey: Plane
    ink: Plane
    level: Plane  # of ink, from which on it counts
    dark: Mask  # what counts
    unruled: Mask  # less what was printed
    written: Mask | None  # the one group of strokes that is the digit; None where nothing is written
    alone: bool  # nothing else of size stands at its sides
    paired: bool  # something about as high does

    @property
    def box(self) -> Box:
        """Where the writing is on the page."""
        assert self.written is not None
        left, top, width, height = self.part
        x, y, w, h = cv2.boundingRect(self.written)
        fx, fy = width / self.written.shape[1], height / self.written.shape[0]
        x0, y0 = int(x * fx), int(y * fy)
        return left + x0, top + y0, max(1, round((x + w) * fx) - x0), max(1, round((y + h) * fy) - y0)


def normalise(page: Page) -> Ink | None:
    """Find the ink on `page` and centre it; None where nothing is written."""
    found = [look for look in looks(page) if look.written is not None]
    if not found:
        return None
    image, box = as_mnist(_cut_out(found[-1])), found[-1].box
    alone, paired = all(look.alone for look in found), any(look.paired for look in found)
    return Ink(image, box, _touches(box, page), alone, paired)


def looks(page: Page) -> Iterator[Look]:
    """Look at `page` for the writing and, where that is small, once more and closer."""
    height, width = page.shape[:2]
    first = _look(page, window(page) or (0, 0, width, height))
    yield first
    closer = _around(first.box, page) if first.written is not None else None
    if closer is not None:
        yield _look(page, closer)


def _look(page: Page, part: Box) -> Look:
    x, y, w, h = part
    grey = one_plane(_at_working_size(page[y : y + h, x : x + w]), odd(0.2))
    ink = _ink(grey)
    level, least = _level(ink)
    dark = (ink > level).astype(np.uint8)
    unruled, strokes = without_lines(dark)
    written, alone, paired = _written(strokes)
    if written is not None and middle(ink[written > 0]) < least:
        written = None
    return Look(part, grey, ink, level, dark, unruled, written, alone, paired)


def _cut_out(look: Look) -> Plane:
    """The writing alone, cut to its box at working size, 0 to 1."""
    assert look.written is not None
    x, y, w, h = cv2.boundingRect(look.written)
    soft = np.clip(look.ink / (2 * look.level), 0, 1) * cv2.dilate(look.written, np.ones((3, 3), np.uint8))
    return np.asarray(soft[y : y + h, x : x + w], dtype=np.float32)


def _at_working_size(page: Page) -> Page:
    """The page at the one area that every length here is a share of, its aspect kept."""
    height, width = page.shape[:2]
    scale = WORK / (height * width) ** 0.5
    return resized(page, max(8, round(width * scale)), max(8, round(height * scale)))


def _ink(grey: Plane) -> Plane:
    """How much ink each pixel holds, on paper made flat, whether the ink is the dark or the bright."""
    grey = cv2.GaussianBlur(grey, (3, 3), 0).astype(np.float32)
    small = np.asarray(cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)
    sign = polarity(small, odd(0.25))
    # What closing fills is thin and dark; a shadow's edge it leaves, so it cancels out.
    kernel = np.ones((odd(WIDEST_STROKE / 2), odd(WIDEST_STROKE / 2)), np.uint8)
    paper = cv2.morphologyEx(sign * small, cv2.MORPH_CLOSE, kernel)
    paper = cv2.resize(paper, (grey.shape[1], grey.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(paper - sign * grey, dtype=np.float32)


def _level(ink: Plane) -> tuple[Plane, float]:
    """Where ink begins, at each pixel, and what real ink must come to.

    It begins at a share of the ink nearby, so that a faint stroke counts beside a dark frame, but above the
    paper's noise and above a small share of all the crop's ink, so that dirt beside real ink does not.
    """
    some = np.sort(ink[::2, ::2], axis=None)  # a quarter of the pixels tells as much
    low, usual, high = (float(some[int(share * some.size)]) for share in (0.1, 0.3, 0.995))
    noise = (usual - low) / 0.86  # as of a normal distribution, three quarters of the crop being paper
    small = cv2.resize(ink, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    kernel = np.ones((odd(0.2 / 4), odd(0.2 / 4)), np.uint8)
    near = cv2.resize(cv2.blur(cv2.dilate(small, kernel), (5, 5)), (ink.shape[1], ink.shape[0]))
    floor = max(GLOBAL_SHARE * (high - usual), 3 * noise + usual, EDGE)
    return np.asarray(np.maximum(LOCAL_SHARE * near, floor), np.float32), max(MIN_CONTRAST, MIN_SIGNAL * noise)


def _stroke_width(mask: Mask) -> float:
    """The usual width of the strokes, in pixels: over a stroke the mean distance to its edge is a quarter of it."""
    inked = np.count_nonzero(mask)
    if inked == mask.size:  # no edge to measure from
        return float(min(mask.shape))
    if not inked:
        return 0.0
    distance = np.asarray(cv2.distanceTransform(np.ascontiguousarray(mask), cv2.DIST_L2, 3), np.float32)
    return float(4 * mean(distance[mask > 0]))


def _written(strokes: Strokes) -> tuple[Mask | None, bool, bool]:
    """The one group of strokes that is the digit; whether it is `alone`, and whether it is `paired` (see `Ink`)."""
    labels, stats, _ = strokes
    if len(stats) < 2:
        return None, True, False
    if len(stats) == 2:
        keep, mask = np.array([False, True]), labels.astype(np.uint8)
    else:
        keep = _chosen(strokes)
        mask = only(keep, labels)
    first, last = stats[:, :2], stats[:, :2] + stats[:, 2:4]
    low, high = first[keep].min(axis=0).tolist(), last[keep].max(axis=0).tolist()
    if not _is_written(mask, (*low, *high), int(stats[keep, 2:4].max())):
        return None, True, False
    tall = high[1] - low[1]
    centre = (first[:, 0] + last[:, 0]) / 2
    beside = ~keep & ((centre < low[0]) | (centre > high[0])) & (stats[:, 3] > BESIDE * tall)
    beside[0] = False
    if not beside.any():
        return mask, True, False
    whole = ((first > 0) & (last < labels.shape[::-1])).all(axis=1)
    shared = np.minimum(last[:, 1], high[1]) - np.maximum(first[:, 1], low[1])
    return mask, False, bool((beside & whole & (shared > PAIRED * tall)).any())


def _chosen(strokes: Strokes) -> NDArray[np.bool_]:
    """Which strokes are the digit: the most central of size, without specks and neighbours."""
    labels, stats, centres = strokes
    count = len(stats)
    size = np.array(labels.shape[::-1])
    area, first, last = stats[:, 4].astype(float), stats[:, :2], stats[:, :2] + stats[:, 2:4]
    cut = ((first == 0) | (last == size)).any(axis=1)
    whole = ~cut
    area[0], whole[0] = 0, False  # the paper
    if whole.any():
        whole &= area > SPECK * area[whole].max()
    # Strokes that lie close, above all one above the other, are one digit; what the crop's edge cuts is a
    # neighbour's until shown otherwise.
    reach = np.ones((odd(REACH_UP), odd(REACH_ASIDE)), np.uint8)
    group = np.arange(count)
    if whole.sum() > 1:
        _, joined = cv2.connectedComponents(cv2.dilate(only(whole, labels), reach))
        for i in np.flatnonzero(whole):
            x, y, w = stats[i, :3]
            group[i] = count + joined[y, x + int((labels[y, x : x + w] == i).argmax())]
    total = np.maximum(np.bincount(group, area), 1)
    centre = np.stack([np.bincount(group, area * c) for c in centres.T], axis=1) / total[:, None] / size
    score = total * np.clip(1 - 1.8 * np.abs(centre - 0.5).max(axis=1), 0.02, 1)
    score[group[cut]] *= 0.4
    main = group == group[int((score[group] * (area > 0)).argmax())]
    least = SPECK * area[main].max()
    keep = np.asarray(main & (area > least), np.bool_)
    low, high = first[keep].min(axis=0), last[keep].max(axis=0)
    # Then come the parts that an edge cuts, if they stand in the digit's own columns. A digit that runs over
    # two edges fills a crop cut at the ink: there all is the digit's.
    tight = int((low == 0).sum() + (high == size).sum()) >= 2
    shared = np.minimum(last[:, 0], high[0]) - np.maximum(first[:, 0], low[0])
    above = shared > 0.6 * (last[:, 0] - first[:, 0])
    beside = ((first[:, 0] == 0) & (low[0] > 0)) | ((last[:, 0] == size[0]) & (high[0] < size[0]))
    rim = (last[:, 1] < RIM * size[1]) | (first[:, 1] > (1 - RIM) * size[1])
    more = (tight | above & ~beside & ~rim) & (area > least) & ~keep
    if more.any():
        near = cv2.dilate(only(keep, labels), reach, iterations=4 if tight else 2) > 0
        keep |= more & (np.bincount(labels[near], minlength=count) > 0)
    return keep


def _is_written(mask: Mask, edges: tuple[int, int, int, int], longest: int) -> bool:
    """Whether the chosen strokes are large enough for writing, and more than what is left of a frame."""
    height, width = mask.shape
    x0, y0, x1, y1 = edges
    if max(x1 - x0, y1 - y0) < MIN_HEIGHT * WORK or longest < MIN_HEIGHT / 2 * WORK:
        return False
    apart = min(x0, y0, width - x1, height - y1) > NEAR
    if apart and min(x1 - x0, y1 - y0) > THIN * WORK and longest >= ALONE * WORK:
        return True  # what is left of a frame is thin, small, or reaches an edge
    if x1 < RIM * width or y1 < RIM * height or x0 > (1 - RIM) * width or y0 > (1 - RIM) * height:
        return False
    top, left = int(RIM / 2 * height), int(RIM / 2 * width)
    return bool(np.count_nonzero(mask[top:-top, left:-left]) > 0.1 * np.count_nonzero(mask))


def _around(box: Box, page: Page) -> Box | None:
    """The window for a closer look, where the find is small on its page; else None."""
    x, y, w, h = box
    height, width = page.shape[:2]
    side = max(w, h)
    if side > MIN_ZOOM * (height * width) ** 0.5:
        return None
    margin = side // 2
    left, top = max(0, x - margin), max(0, y - margin)
    return left, top, min(width, x + w + margin) - left, min(height, y + h + margin) - top


def as_mnist(ink: Plane) -> NDArray[np.float32]:
    """Ink cut to its box → (28, 28): fitted into 20×20 by area average, its centre of mass in the middle."""
    height, width = ink.shape
    scale = FRAME * FINE / max(height, width)
    fine = cv2.resize(ink, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    # A thin pen would fade to a ghost in the average, so it is widened first to the strokes MNIST has.
    width_now = _stroke_width((fine > 0.5).astype(np.uint8)) / FINE
    grow = round((THINNEST - width_now) * FINE / 2)
    if grow > 0:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
        fine = cv2.dilate(cv2.copyMakeBorder(fine, grow, grow, grow, grow, cv2.BORDER_CONSTANT), kernel)
    height, width = fine.shape
    scale = FRAME / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
    ys, xs = np.indices(small.shape)
    total = max(float(small.sum()), 1e-6)
    left = round((INPUT - 1) / 2 - float((xs * small).sum()) / total)
    top = round((INPUT - 1) / 2 - float((ys * small).sum()) / total)
    left, top = min(max(left, 0), INPUT - size[0]), min(max(top, 0), INPUT - size[1])
    image = np.zeros((INPUT, INPUT), np.float32)
    image[top : top + size[1], left : left + size[0]] = np.clip(small, 0, 1)
    return image


def _touches(box: Box, page: Page) -> bool:
    """Whether the box reaches the edge of the page."""
    x, y, w, h = box
    return x <= 0 or y <= 0 or x + w >= page.shape[1] or y + h >= page.shape[0]
