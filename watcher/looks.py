"""Looks at one line of writing: as it is and, while it stays doubtful, digit by digit, wider and narrower.

The networks are handed in; else this is pure.
"""

from __future__ import annotations

import math
from itertools import repeat
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from watcher.decoding import Candidate, candidates, penalised
from watcher.line import BODY, FINER, HEIGHT, INKED
from watcher.normalise import as_mnist
from watcher.plane import components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watcher.line import Line
    from watcher.model import LineReader, Network
    from watcher.plane import Labels, Mask

WAYS: Final = (1.18, -0.18), (0.85, 0.18)
"""Times its own width, and slope of what is upright: a reading that a little of that changes is not to be relied on."""
SURE = 0.95  # of the likeliest value among all that were found, for no look more
SEVERAL = 0.05  # of the first look's probability, to go on where there may be one digit only
MISCUT = 0.1  # how often digits that seem to stand alone are none, or not all
# The same where there are enough for the likeliest value, so that none seem to touch, and they say, with a probability
# of at least SAID, a value that is no longer: of slashes they make ones.
WELL_CUT, SAID = 0.005, 0.8
TALL, WRITING = FINER * HEIGHT, FINER * BODY  # pixels: the height of the line that digits are cut from, of its writing
DIGIT = 0.28  # of WRITING: what stands alone and is lower is no digit
PART = 0.2  # of WRITING: what is smaller is not even part of one
END = 0.3  # of TALL: what is lower and comes from above or below is the end of another line's writing
RULED = 1.6  # of WRITING: what runs level for so long is printed
RUNG = 0.25  # of TALL: what is narrower and stands between such lines, or edges, parts cells
OVER = 0.5  # of the narrower one's width: parts of one digit overlap so much, from above
FAINT, AROUND = 0.25, 0.17  # of the ink's level, of WRITING: so faint, and so far from a digit, a stroke is still its


def look(
    line: Line, read_line: LineReader, read_digits: Network, *, least: int = 0
) -> tuple[NDArray[np.float32], list[Candidate]]:
    """Read a line with the field network and, if need be, digit by digit.

    Where the first look hardly finds as many as `least` digits, it is left at that, and no value found.

    Returns the first network's (steps, CLASSES) probabilities at the line's own width, and the values found, the
    likeliest first.
    """
    # With a penalty two digits would be made of one with a foot, where there may be one only.
    heard = (lambda said: said) if least else penalised
    said = heard(read_line(line.image))
    readings = [candidates(steps) for steps in said]

    def look_otherwise(way: tuple[float, float]) -> None:
        readings.extend(candidates(steps) for steps in heard(read_line(_otherwise(line.image, *way))))

    ways = [*WAYS]
    if least:
        several = [math.exp(one.score) for found in readings for one in found if len(one.value) >= least]
        if sum(several) < SEVERAL * len(readings):
            return said[0], []
        look_otherwise(ways.pop(0))  # for these one look is not enough
    digits: NDArray[np.float32] | None = None
    while True:
        found = agreed(readings)
        # Where no other value is as near, the digits cannot make it the likelier one.
        if len(found) > 1 and found[1].score > found[0].score + math.log(WELL_CUT):
            if digits is None:
                digits = read_digits(standing_alone(line.finer()))
            found = checked(found, digits)
        if not ways or _share_of_first(found) > SURE:
            return said[0], found
        look_otherwise(ways.pop(0))


def agreed(readings: Sequence[list[Candidate]]) -> list[Candidate]:
    """What several readings of one line agree on: the mean of their log-probabilities, the likeliest value first.

    A value that one of them did not find counts there as its least likely one.
    """
    scores = [{one.value: one.score for one in found} for found in readings]
    values = dict.fromkeys(value for found in scores for value in found)
    least = [min(found.values()) for found in scores]
    total = {value: sum(map(dict.get, scores, repeat(value), least)) for value in values}
    mean = [Candidate(value, score / len(scores)) for value, score in total.items()]
    return sorted(mean, key=lambda one: -one.score)


def checked(found: Sequence[Candidate], digits: NDArray[np.float32]) -> list[Candidate]:
    """Weigh values by (n, 11) probabilities of what stands alone on the line: ten digits and none.

    The line was cut right but for a share of MISCUT, or WELL_CUT, else the digits say nothing; where no other value is
    as near as that, nothing changes, nor where nothing stands alone.
    """
    if not len(digits):
        return [*found]
    said = [likelihood(digits, one.value) for one in found]
    length = len(found[int(np.argmax(said))].value)
    miscut = WELL_CUT if max(said) > SAID and length <= len(found[0].value) <= len(digits) else MISCUT
    if found[1].score <= found[0].score + math.log(miscut):
        return [*found]
    weighed = [
        Candidate(one.value, one.score + math.log((1 - miscut) * likely + miscut))
        for one, likely in zip(found, said, strict=True)
    ]
    return sorted(weighed, key=lambda one: -one.score)


def likelihood(digits: NDArray[np.float32], value: str) -> float:
    """How likely what stands alone, each a digit or none, says `value`."""
    so_far = [1.0] + [0.0] * len(value)  # for each beginning of the value; so few numbers take NumPy longer
    places = [int(digit) for digit in value]
    for row in digits.tolist():
        none = row[-1]
        for length in range(len(value), 0, -1):
            so_far[length] = so_far[length] * none + so_far[length - 1] * row[places[length - 1]]
        so_far[0] *= none
    return so_far[-1]


def standing_alone(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The (n, 28, 28) inputs of the digit network for all that stands alone on a (TALL, width) line and may be a digit.

    Strokes are told apart by their dark ink; what is faint around them is theirs all the same.
    """
    mask = (image > INKED).astype(np.uint8)
    slack = cv2.dilate(mask, np.ones((2 * FINER + 1, 1), np.uint8))
    ruled = np.asarray(cv2.morphologyEx(slack, cv2.MORPH_OPEN, np.ones((1, int(RULED * WRITING)), np.uint8)), np.uint8)
    labels, stats, _ = components(mask & ~ruled)
    x, y, w, h = stats[:, :4].T
    ends = ruled.copy()
    ends[[0, -1]] = 1
    from_above, from_below = (_any(ends, x, w, rows) for rows in (y - 2 * FINER, y + h - FINER))
    rung = from_above & from_below & (w < RUNG * TALL)
    end = (from_above | from_below) & (h < END * TALL)
    written = (np.maximum(w, h) >= PART * WRITING) & ~rung & ~end
    written[0] = False
    left, top, right, bottom = (side.tolist() for side in (x, y, x + w, y + h))  # NumPy's numbers are slow one by one
    groups: list[list[int]] = []
    for i in sorted(np.flatnonzero(written).tolist(), key=left.__getitem__):
        for group in groups:
            first, last = min(left[j] for j in group), max(right[j] for j in group)
            if min(last, right[i]) - left[i] > OVER * min(last - first, right[i] - left[i]):
                group.append(i)
                break
        else:
            groups.append([i])
    owner = np.zeros(len(stats), np.int32)
    high = [one for one in groups if max(bottom[j] for j in one) - min(top[j] for j in one) >= DIGIT * WRITING]
    for number, group in enumerate(high, start=1):
        owner[group] = number
    owned = _with_faint(np.take(owner, labels), (image > FAINT) & (labels == 0) & (ruled == 0))
    ink = np.minimum(image * 1.25, 1)
    found = []
    for number in range(1, len(high) + 1):
        mine = (owned == number).astype(np.uint8)
        x0, y0, width, height = cv2.boundingRect(mine)
        part = slice(y0, y0 + height), slice(x0, x0 + width)
        found.append(as_mnist(ink[part] * mine[part]))
    return np.array(found, np.float32).reshape(-1, 28, 28)


def _share_of_first(found: Sequence[Candidate]) -> float:
    """How much of what all values have together the likeliest has."""
    return 1 / sum(math.exp(one.score - found[0].score) for one in found)


def _with_faint(owned: Labels, faint: NDArray[np.bool_]) -> Labels:
    """The digit that each pixel belongs to, 0 where none: `owned` tells it and, of what is `faint`, the nearest."""
    distance, nearest = cv2.distanceTransformWithLabels(
        (owned == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    number = np.zeros(int(nearest.max()) + 1, np.int32)
    number[nearest[owned > 0]] = owned[owned > 0]
    near = faint & (distance <= AROUND * WRITING)
    return np.where(near, np.take(number, nearest), owned)


def _any(mask: Mask, x: Labels, w: Labels, y: Labels) -> NDArray[np.bool_]:
    """Whether there is any of the mask in each of the windows from x, w wide, and from y, 3 * FINER high."""
    windows = zip(x.tolist(), (x + w).tolist(), y.tolist(), strict=True)
    return np.array([mask[max(0, top) : top + 3 * FINER, left:right].any() for left, right, top in windows], np.bool_)


def _otherwise(image: NDArray[np.float32], share: float, slant: float) -> NDArray[np.float32]:
    """The line with `share` of its width, its lower end moved to the right by `slant` of its height."""
    aside = abs(slant) * HEIGHT
    width = max(8, round(image.shape[1] * share + aside))
    matrix = np.array([[share, slant, max(0, -slant) * (HEIGHT - 1)], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(image, matrix, (width, HEIGHT), flags=cv2.INTER_LINEAR), np.float32)
