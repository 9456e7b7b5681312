"""A crop becomes the network's input the way MNIST itself was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from watcher.reading import Box

VERSION = 1
Page = NDArray[np.uint8]
"""A picture, (height, width) grey or (height, width, 3) RGB, paper and ink of any polarity."""
Plane = NDArray[np.float32]
"""One value a pixel at working size; of ink: 0 is paper, higher is more ink."""
Mask = NDArray[np.uint8]
"""Ink at working size: 1 where there is some, 0 elsewhere."""

# Every crop is brought to one area, so that each length below is a share of one size and holds for all.
WORK = 128  # pixels, the square root of the working area
WIDEST_STROKE = 0.25  # of WORK: what is broader is paper, shadow or a border
MIN_CONTRAST = 9.0  # grey levels between ink and paper
MIN_SIGNAL = 5.0  # of ink over the paper's noise
LOCAL_SHARE = 0.42  # of the ink level nearby: where the edge of a stroke is
GLOBAL_SHARE = 0.18  # of the crop's ink level: fainter than that is dirt beside real ink
MIN_HEIGHT = 0.10  # of WORK: a smaller thing is a speck
MIN_ZOOM = 0.45  # of WORK: a smaller find is looked at again, closer
LINE_LENGTH = 0.55  # of the crop's side: what is straight for so long is ruled
LINE_MINIMUM = 0.4  # of WORK: in a narrow crop a stroke is as long as the crop is wide
LINE_SLACK = 0.04  # of WORK: so far a line may stray
LINE_WIDTH = 0.10  # of WORK: what is thicker is no ruled line
RIM = 0.22  # of the crop's side: where a frame is
TIGHT = 0.04  # of the crop's side: what is so near its edge may have been cut at it
SPAN = 0.85  # of the crop's side: a line so long runs from edge to edge
REACH_UP, REACH_ASIDE = 0.3, 0.12  # of WORK: strokes of one digit lie so close together
SPECK = 0.03  # of the largest stroke's area
FRAME, INPUT = 20, 28  # MNIST's box for the ink, and its picture
FINE = 4  # the ink box is drawn this much finer before it is averaged down
THINNEST, THICKEST = 1.9, 3.6  # pixels of FRAME: MNIST's strokes


@dataclass(frozen=True, slots=True)
class Ink:
    """The writing found on a page."""

    image: NDArray[np.float32]  # (28, 28), 0 paper to 1 ink: the network's input
    box: Box  # the ink's bounding box on the page
    clipped: bool  # the ink runs over the edge of the crop


def normalise(page: Page) -> Ink | None:
    """Find the ink on `page` and centre it; None where nothing is written."""
    found = _find(page)
    if found is None:
        return None
    window = _around(found[1], page)
    if window is not None:
        x, y, w, h = window
        closer = _find(page[y : y + h, x : x + w])
        if closer is not None:
            found = closer[0], (closer[1][0] + x, closer[1][1] + y, *closer[1][2:])
    ink, box = found
    return Ink(_as_mnist(ink), box, _touches(box, page))


def _find(page: Page) -> tuple[Plane, Box] | None:
    """The writing alone, cut out at working size, 0 to 1, and its box on the page."""
    sketch = _at_working_size(page)
    grey = _grey(sketch)
    ink = _ink(grey)
    level = _level(ink)
    if level is None:
        return None
    mask = _written(_without_lines((ink > level).astype(np.uint8)))
    if mask is None:
        return None
    x, y, w, h = cv2.boundingRect(mask)
    soft = np.clip(ink / (2 * level), 0, 1) * cv2.dilate(mask, np.ones((3, 3), np.uint8))
    fx, fy = page.shape[1] / ink.shape[1], page.shape[0] / ink.shape[0]
    left, top = int(x * fx), int(y * fy)
    box = left, top, max(1, round((x + w) * fx) - left), max(1, round((y + h) * fy) - top)
    return soft[y : y + h, x : x + w].astype(np.float32), box


def _at_working_size(page: Page) -> Page:
    height, width = page.shape[:2]
    scale = WORK / (height * width) ** 0.5
    size = max(8, round(width * scale)), max(8, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(page, size, interpolation=how), dtype=np.uint8)


def _grey(page: Page) -> Plane:
    """One plane along the colour axis in which neighbouring pixels differ most, so that no pen vanishes."""
    if page.ndim == 2:
        return page.astype(np.float32)
    detail = page.astype(np.float32) - cv2.blur(page, (_odd(0.2), _odd(0.2)))
    some = detail[::2, ::2].reshape(-1, 3)
    axis = np.linalg.eigh(some.T @ some)[1][:, -1]
    axis *= np.sign(axis.sum()) / np.abs(axis).sum()
    return np.asarray(page.reshape(-1, 3) @ axis.astype(np.float32), dtype=np.float32).reshape(page.shape[:2])


def _ink(grey: Plane) -> Plane:
    """How much ink each pixel holds, on paper made flat, whether the ink is the dark or the bright."""
    grey = cv2.GaussianBlur(grey, (3, 3), 0).astype(np.float32)
    sign = _polarity(grey)
    # What closing fills is thin and dark; a shadow's edge it leaves, so it cancels out.
    small = cv2.resize(sign * grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    kernel = np.ones((_odd(WIDEST_STROKE / 2), _odd(WIDEST_STROKE / 2)), np.uint8)
    paper = cv2.morphologyEx(small, cv2.MORPH_CLOSE, kernel)
    paper = cv2.resize(paper, (grey.shape[1], grey.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(paper - sign * grey, dtype=np.float32)


def _polarity(grey: Plane) -> int:
    """1 where the ink is the dark, -1 where it is the bright."""
    # Strokes are few and far from the paper, paper is much and near its own mean: the long tail is the ink.
    small = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    detail = small - cv2.blur(small, (_odd(0.25), _odd(0.25)))
    return 1 if float((detail**3).sum()) <= 0 else -1


def _level(ink: Plane) -> Plane | None:
    """Where ink begins, at each pixel: a share of the ink nearby, but above the paper's noise; None if there is none."""
    some = np.sort(ink[::2, ::2], axis=None)  # a quarter of the pixels tells as much
    low, middle, high = (float(some[int(share * some.size)]) for share in (0.1, 0.3, 0.995))
    noise = (middle - low) / 0.86  # as of a normal distribution, three quarters of the crop being paper
    full = high - middle
    if full < max(MIN_CONTRAST, MIN_SIGNAL * noise):
        return None
    small = cv2.resize(ink, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    kernel = np.ones((_odd(0.2 / 4), _odd(0.2 / 4)), np.uint8)
    near = cv2.resize(cv2.blur(cv2.dilate(small, kernel), (5, 5)), (ink.shape[1], ink.shape[0]))
    floor = max(GLOBAL_SHARE * full, 3 * noise + middle, MIN_CONTRAST / 2)
    return np.asarray(np.maximum(LOCAL_SHARE * near, floor), dtype=np.float32)


def _without_lines(mask: Mask) -> Mask:
    """The mask less what is ruled or framed; strokes that cross a line stay whole."""
    across, down = _straight(mask), _straight(mask.T).T
    if not (across.any() or down.any()):
        return mask
    spanning = _spanning(across), _spanning(down.T).T
    rest = mask & ~(spanning[0] | spanning[1])
    ruled = _boxed(across | down)
    ruled |= _ruled(spanning[0], rest) | _ruled(spanning[1].T, rest.T).T
    rest = mask & ~ruled
    for lines, gap in ((across, (_odd(LINE_WIDTH), 1)), (down, (1, _odd(LINE_WIDTH)))):
        bridges = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones(gap, np.uint8))
        rest |= bridges & lines & ruled
    return rest


def _straight(mask: Mask) -> Mask:
    """What runs straight, and thin, from left to right for a good part of the crop."""
    mask = np.ascontiguousarray(mask)
    # A little slack up and down, for a line may be skew or rough.
    slack = cv2.dilate(mask, np.ones((_odd(LINE_SLACK), 1), np.uint8))
    run = int(max(LINE_LENGTH * mask.shape[1], LINE_MINIMUM * WORK))
    opened = cv2.morphologyEx(slack, cv2.MORPH_OPEN, np.ones((1, run), np.uint8))
    return np.asarray(opened & mask, dtype=np.uint8)


def _spanning(lines: Mask) -> Mask:
    """Those of the horizontal `lines` that run from edge to edge."""
    if not lines.any():
        return lines
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(lines))
    wide = stats[:, cv2.CC_STAT_WIDTH] >= SPAN * lines.shape[1]
    wide[0] = False
    return np.asarray(wide[labels], dtype=np.uint8)


def _ruled(lines: Mask, rest: Mask) -> Mask:
    """Those of the horizontal, spanning `lines` that are no stroke of the `rest`."""
    if not lines.any():
        return lines
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(lines))
    pieces, where, shapes, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(rest))
    height, width = lines.shape
    keep = np.zeros(count, np.uint8)
    for i in range(1, count):
        _, y, w, h, area = stats[i]
        near = cv2.dilate((labels == i).astype(np.uint8), np.ones((5, 5), np.uint8))
        if y < TIGHT * height or y + h > (1 - TIGHT) * height:
            # Where the crop was cut at the ink itself, the bar of a 7 runs along the rim too,
            # but there the stroke that hangs on it goes right to the other edge.
            edge = where[:3] if y > height / 2 else where[-3:]
            keep[i] = not set(where[near > 0].tolist()) & set(edge.ravel().tolist()) - {0}
        elif y + h < RIM * height or y > (1 - RIM) * height:
            keep[i] = True
        elif w >= width - 2 and pieces > 1:
            # Through the middle goes a ruled line only if it is thinner, or longer both ways, than the writing.
            x0, _, w0, _, _ = shapes[1 + int(shapes[1:, cv2.CC_STAT_AREA].argmax())]
            inside = x0 > TIGHT * width and x0 + w0 < (1 - TIGHT) * width
            keep[i] = area / w < (1.5 if inside else 0.7) * _stroke_width(rest)
    return np.asarray(keep[labels], dtype=np.uint8)


def _boxed(lines: Mask) -> Mask:
    """Those of the lines that make a box around the middle of the crop."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(lines))
    height, width = lines.shape
    keep = np.zeros(count, np.uint8)
    for i in range(1, count):
        x, y, w, h, area = stats[i]
        inner = labels[y + h // 5 : y + h - h // 5, x + w // 5 : x + w - w // 5] == i
        keep[i] = w > LINE_LENGTH * width and h > LINE_LENGTH * height and not inner.any()
    return keep[labels]


def _stroke_width(mask: Mask) -> float:
    """The usual width of the strokes, in pixels: over a stroke the mean distance to its edge is a quarter of it."""
    distance = cv2.distanceTransform(np.ascontiguousarray(mask), cv2.DIST_L2, 3)
    return float(4 * distance[mask > 0].mean()) if mask.any() else 0.0


def _written(mask: Mask) -> Mask | None:
    """The one group of strokes that is the digit: the most central of size, without specks and neighbours."""
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return None
    size = np.array(mask.shape[::-1])
    area, first, last = stats[:, 4].astype(float), stats[:, :2], stats[:, :2] + stats[:, 2:4]
    cut = ((first == 0) | (last == size)).any(axis=1)
    area[0], cut[0] = 0, False  # the paper
    # Strokes that lie close, above all one above the other, are one digit; what the crop's edge cuts is a
    # neighbour's until shown otherwise.
    reach = np.ones((_odd(REACH_UP), _odd(REACH_ASIDE)), np.uint8)
    _, groups = cv2.connectedComponents(cv2.dilate((~cut)[labels].astype(np.uint8) * mask, reach))
    group = np.zeros(count, np.intp)
    group[labels.ravel()] = groups.ravel()
    group[cut] = groups.max() + np.arange(1, cut.sum() + 1)
    group[0] = 0
    total = np.maximum(np.bincount(group, area), 1)
    centre = np.stack([np.bincount(group, area * c) for c in centres.T], axis=1) / total[:, None] / size
    away = np.abs(centre - 0.5).max(axis=1)
    score = total * np.clip(1 - 1.8 * away, 0.02, 1)
    score[group[cut]] *= 0.4
    score[0] = 0
    main = group == int(score.argmax())
    keep = main & (area > SPECK * area[main].max())
    low, high = first[keep].min(axis=0), last[keep].max(axis=0)
    near = np.bincount(labels[cv2.dilate(keep[labels].astype(np.uint8), reach) > 0], minlength=count) > 0
    shared = np.minimum(last[:, 0], high[0]) - np.maximum(first[:, 0], low[0])
    above = shared > 0.6 * (last[:, 0] - first[:, 0])
    beside = ((first[:, 0] == 0) & (low[0] > 0)) | ((last[:, 0] == size[0]) & (high[0] < size[0]))
    rim = (last[:, 1] < RIM * size[1]) | (first[:, 1] > (1 - RIM) * size[1])
    keep |= near & above & ~beside & ~rim & (area > SPECK * area[main].max())
    low, high = first[keep].min(axis=0), last[keep].max(axis=0)
    if (high - low).max() < MIN_HEIGHT * WORK or (high < RIM * size).any() or (low > (1 - RIM) * size).any():
        return None
    return keep[labels].astype(np.uint8)


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


def _as_mnist(ink: Plane) -> NDArray[np.float32]:
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
    x, y, w, h = box
    return x <= 0 or y <= 0 or x + w >= page.shape[1] or y + h >= page.shape[0]


def _odd(share: float) -> int:
    """An odd kernel size that is about this share of WORK."""
    return 2 * int(share * WORK / 2) + 1
