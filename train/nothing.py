"""What is written and is no digit: letters, signs, scribbles, struck-out, doubled and halved digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from train import hands
from train.render import TALL, drawn, tight, written

if TYPE_CHECKING:
    from train.mnist import Images, Labels
    from train.render import Ink

KINDS: Final = {
    "letter": 0.42,
    "sign": 0.12,
    "scribble": 0.09,
    "struck": 0.11,
    "pair": 0.14,
    "half": 0.07,
    "print": 0.05,
}
"""What there is, and which share of the samples it makes."""


def nothing(images: Images, labels: Labels, rng: np.random.Generator, kind: str) -> Ink:
    """Write something of a kind that is no digit; digits in it are taken from `images`.

    What is made of digits may by chance look like one still: that is for a network to say.
    """

    def a_digit() -> Ink:
        index = int(rng.integers(len(images)))
        return written(images[index], int(labels[index]), rng)

    match kind:
        case "letter":
            names = list(hands.LETTERS)
            return drawn(hands.figure(hands.LETTERS[names[rng.integers(len(names))]], rng), rng)
        case "sign":
            return drawn(hands.figure(hands.SIGNS, rng), rng)
        case "scribble":
            return drawn(hands.scribble(rng), rng)
        case "struck":
            return over(a_digit(), drawn(hands.zigzag(rng), rng), rng)
        case "pair":
            return beside(a_digit(), a_digit(), rng)
        case "half":
            return half(a_digit(), rng)
        case "print":
            return remnant(rng)
    raise ValueError(f"{kind} is none of {', '.join(KINDS)}")


def over(below: Ink, above: Ink, rng: np.random.Generator) -> Ink:
    """One figure over another, their middles nearly on each other."""
    height, width = np.maximum(below.shape, above.shape) + TALL // 5
    both = np.zeros((height, width), np.float32)
    for ink in (below, above):
        y, x = (np.array([height, width]) - ink.shape) // 2 + rng.integers(-TALL // 10, TALL // 10 + 1, 2)
        part = both[y : y + ink.shape[0], x : x + ink.shape[1]]
        np.maximum(part, ink, out=part)
    return tight(both)


def beside(left: Ink, right: Ink, rng: np.random.Generator) -> Ink:
    """Two figures side by side, close enough to be taken for one."""
    gap = round(rng.uniform(-0.12, 0.04) * TALL)
    shift = int(rng.normal(0, 0.06) * TALL)
    height = max(left.shape[0], right.shape[0]) + 2 * abs(shift)
    both = np.zeros((height, max(left.shape[1] + right.shape[1] + gap, left.shape[1], right.shape[1])), np.float32)
    for ink, x, down in ((left, 0, 0), (right, both.shape[1] - right.shape[1], shift)):
        y = (height - ink.shape[0]) // 2 + down
        part = both[y : y + ink.shape[0], x : x + ink.shape[1]]
        np.maximum(part, ink, out=part)
    return tight(both)


def half(ink: Ink, rng: np.random.Generator) -> Ink:
    """About a half of a figure: left, right, upper or lower."""
    share = rng.uniform(0.35, 0.6)
    y, x = round(ink.shape[0] * share), round(ink.shape[1] * share)
    halves = ink[:y], ink[-y:], ink[:, :x], ink[:, -x:]
    return tight(halves[rng.integers(4)])


def remnant(rng: np.random.Generator) -> Ink:
    """Print and dirt that a normaliser may leave: a corner, a junction, a bar, a blot."""
    side = TALL
    ink = np.zeros((side, side), np.float32)
    thick = int(rng.integers(3, 12))
    x, y = rng.integers(thick, side - thick, 2).tolist()
    kind = rng.integers(3)
    if kind == 0:
        ends = [(x, 0), (x, side - 1), (0, y), (side - 1, y)]
        for i in rng.permutation(4)[: rng.integers(2, 5)]:
            cv2.line(ink, (x, y), ends[i], 1.0, thick)
    elif kind == 1:
        cv2.rectangle(ink, (0, side // 2), (side, side // 2 + 2 * thick), 1.0, -1)
    else:
        for _ in range(rng.integers(2, 7)):
            at = rng.integers(side // 4, 3 * side // 4, 2).tolist()
            axes = rng.integers(3, side // 4, 2).tolist()
            cv2.ellipse(ink, at, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    return tight(ink)
