"""Planes and masks of a crop at working size. Pure."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""One value a pixel at working size; of ink: 0 is paper, higher is more ink."""
Mask = NDArray[np.uint8]
"""Ink at working size: 1 where there is some, 0 elsewhere."""
Labels = NDArray[np.int32]

# Every crop is brought to one area, so that each length is a share of one size and holds for all.
WORK = 128  # pixels, the square root of the working area
RIM = 0.22  # of the crop's side: where a frame is


def components(mask: Mask) -> tuple[Labels, Labels, NDArray[np.float64]]:
    """Connected strokes: each pixel's number (0: paper), left, top, width, height, area of each, and its centre."""
    _, labels, stats, centres = cv2.connectedComponentsWithStatsWithAlgorithm(
        np.ascontiguousarray(mask), 8, cv2.CV_32S, cv2.CCL_BBDT
    )
    return np.asarray(labels, np.int32), np.asarray(stats, np.int32), np.asarray(centres, np.float64)


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
