"""Planes and masks of a crop at working size. Pure."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""One value a pixel at working size; of ink: 0 is paper, higher is more ink."""
Mask = NDArray[np.uint8]
"""Ink at working size: 1 where there is some, 0 elsewhere."""
Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the page."""
Labels = NDArray[np.integer]
"""The number of each pixel's component; 0: paper."""

# Every crop is brought to one area, so that each length is a share of one size and holds for all.
WORK = 128  # pixels, the square root of the working area
RIM = 0.22  # of the crop's side: where a frame is
RIM_SAY = 0.3  # of the rim in which of paper and ink is the brighter: a shadow at the rim is no ink
EVEN, OTHER = 25, 50  # grey levels: a surface varies by less; paper differs from what is around it by more
WINDOW, FILLED = 0.2, 0.65  # of the page: a field of paper is larger; of that: so much is paper, and not writing
SAMPLES = 32  # rows and columns of a page that tell whether there may be one
ABOUT = 0.7  # of what is filled: so much is by these few, at least
COARSE = 3  # times: from which on a picture is halved first


class Strokes(NamedTuple):
    """What is connected in a mask; at index 0 the paper."""

    labels: Labels
    stats: NDArray[np.int32]  # left, top, width, height, area of each
    centres: NDArray[np.float64]


def components(mask: Mask) -> Strokes:
    """Find the connected strokes of a mask."""
    # Labels of 16 bits take half the time of those of 32; a stroke has no more neighbours than there are pixels for.
    kind = cv2.CV_16U if mask.size < 4 * 0xFFFF else cv2.CV_32S
    _, labels, stats, centres = cv2.connectedComponentsWithStatsWithAlgorithm(
        np.ascontiguousarray(mask), 8, kind, cv2.CCL_SPAGHETTI
    )
    return Strokes(np.asarray(labels), np.asarray(stats, np.int32), np.asarray(centres, np.float64))


def only(chosen: NDArray[np.bool_], labels: Labels) -> Mask:
    """The mask of the chosen components alone."""
    return np.take(chosen.astype(np.uint8), labels)


def resized(page: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """A picture (height, width, …) at another size, averaged down or interpolated up."""
    if height >= page.shape[0]:
        return np.asarray(cv2.resize(page, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    # Over two by two pixels OpenCV averages ten times as fast as over any other number.
    while page.shape[0] >= COARSE * height and page.shape[1] >= COARSE * width:
        half = page.shape[1] // 2, page.shape[0] // 2
        page = np.asarray(cv2.resize(page[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(page, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def one_plane(page: NDArray[np.uint8], side: int) -> Plane:
    """The colour axis along which pixels differ most from those `side` pixels around them, so that no pen vanishes."""
    if page.ndim == 2:
        return page.astype(np.float32)
    detail = page.astype(np.float32) - cv2.blur(page, (side, side))
    some = detail[::2, ::2].reshape(-1, 3)
    axis = np.linalg.eigh(some.T @ some)[1][:, -1]
    axis *= (1 if axis.sum() >= 0 else -1) / np.abs(axis).sum()  # the brighter stays the brighter
    return np.asarray(page.reshape(-1, 3) @ axis.astype(np.float32), dtype=np.float32).reshape(page.shape[:2])


def window(page: NDArray[np.uint8]) -> Box | None:
    """The one field of paper on an even surface of other brightness; None where none is.

    White boxes on a dark form are cut with some of the form around: beside that all their paper would be ink.
    """
    height, width = page.shape[:2]
    if height * width < (WORK / 2) ** 2:  # so small a page is hardly larger than a thick digit's corners are round
        return None
    some = _brightness(np.asarray(cv2.resize(page, (SAMPLES, SAMPLES), interpolation=cv2.INTER_NEAREST), np.uint8))
    edges = np.concatenate([some[0], some[-1], some[:, 0], some[:, -1]])
    # Seldom does so much of a page differ from its rim, or fill a part of it, and a quick look tells: writing is less.
    other = (np.abs(some - middle(edges)) > OTHER).astype(np.uint8)
    _, _, w, h = cv2.boundingRect(other)
    if np.count_nonzero(other) <= FILLED * max(WINDOW * other.size, ABOUT * w * h):
        return None
    scale = min(1.0, WORK / (height * width) ** 0.5)
    grey = _brightness(resized(page, max(8, round(width * scale)), max(8, round(height * scale))))
    rim = _rim(grey)
    around = middle(rim)
    if np.count_nonzero(np.abs(rim - around) < EVEN) < 0.95 * rim.size:
        return None
    other = (np.abs(grey - around) > OTHER).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(other)
    inner = other[y + 2 : y + h - 2, x + 2 : x + w - 2]
    if min(w, h) < 12 or w * h < WINDOW * other.size or np.count_nonzero(inner) < FILLED * inner.size:
        return None
    if min(np.count_nonzero(side) / side.size for side in (inner[0], inner[-1], inner[:, 0], inner[:, -1])) < 0.9:
        return None
    fx, fy = width / grey.shape[1], height / grey.shape[0]
    left, top = int(np.ceil((x + 2) * fx)), int(np.ceil((y + 2) * fy))
    return left, top, int((x + w - 2) * fx) - left, int((y + h - 2) * fy) - top


def _brightness(page: NDArray[np.uint8]) -> Plane:
    return np.asarray(page if page.ndim == 2 else cv2.cvtColor(page, cv2.COLOR_RGB2GRAY), np.float32)


def _rim(grey: Plane) -> Plane:
    """The pixels along the edges."""
    return np.concatenate([grey[:2].ravel(), grey[-2:].ravel(), grey[:, :2].ravel(), grey[:, -2:].ravel()])


def polarity(grey: Plane, side: int) -> int:
    """1 where the ink is the dark, -1 where it is the bright, beside what is `side` pixels around."""
    # Strokes are few and far from the paper, paper is much and near its own mean: the long tail is the ink.
    detail = grey - cv2.blur(grey, (side, side))
    square = detail * detail
    skew = float(mean(square * detail)) / (float(mean(square)) ** 1.5 + 1e-6)
    # In a tight crop of a thick pen neither is few, but most of the rim is paper still.
    rim = _rim(grey)
    apart = grey - mean(grey)
    above = float(middle(rim) - mean(grey)) / (float(np.sqrt(mean(apart * apart))) + 1e-6)
    return 1 if skew <= RIM_SAY * min(max(above, -1), 1) else -1


def odd(share: float, of: int = WORK) -> int:
    """An odd kernel size that is about this share of so many pixels."""
    return 2 * int(share * of / 2) + 1


def median(values: NDArray[np.generic]) -> float:
    """The middle of some values, of two the upper: a tenth of the time of `np.median`, which looks for NaNs."""
    middle = values.size // 2
    return float(np.partition(values, middle)[middle])


def middle(values: NDArray[np.float32]) -> float:
    """The median of some values, of two their mean: as `np.median`, which looks for NaNs."""
    half = values.size // 2
    if values.size % 2:
        return float(np.partition(values, half)[half])
    parted = np.partition(values, (half - 1, half))
    return float((parted[half - 1] + parted[half]) / 2)


def mean(values: NDArray[np.float32]) -> np.float32:
    """The mean of some values, as `np.mean` at a third of its cost for few of them."""
    total: np.float32 = np.add.reduce(values, axis=None)
    return total / np.float32(values.size)
