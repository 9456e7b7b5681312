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
Labels = NDArray[np.integer]
"""The number of each pixel's component; 0: paper."""

# Every crop is brought to one area, so that each length is a share of one size and holds for all.
WORK = 128  # pixels, the square root of the working area
RIM = 0.22  # of the crop's side: where a frame is


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


def odd(share: float) -> int:
    """An odd kernel size that is about this share of WORK."""
    return 2 * int(share * WORK / 2) + 1


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
