"""One person's writing: digits of MNIST, and strokes of our own, in one hand. Pure: arrays in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from train import hands
from train.paper import BODY
from train.styles import STYLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.hands import Stroke
    from train.mnist import Images, Labels
    from train.render import Ink

OWN = 0.3  # share of digits drawn as strokes of our own, in a hand that does so


@dataclass(frozen=True, slots=True)
class Hand:
    """How one person writes: the same for every digit of a field."""

    slant: float  # tangent of the angle, to the right
    aspect: float  # width by height
    half: float  # half the width of a stroke, pixels
    unsteady: float  # spread of slant, turn and size from digit to digit
    bend: float  # pixels that a stroke strays
    seed: int  # which of the ways to write a digit
    own: float  # share of digits drawn as strokes of our own
    small_zero: float  # size of a 0 beside the other digits
    chains: bool  # zeros one behind the other are written without lifting the pen
    tall_one: float  # size of a 1 beside the other digits
    joins: float  # share of digits that a stroke joins to the next
    stray: float  # how far digits are from the known ways to write them, times the usual

    @classmethod
    def any(cls, rng: np.random.Generator, stray: float = 1.0) -> Hand:
        """Somebody's hand."""
        chains = bool(rng.random() < 0.12)
        return cls(
            slant=float(np.clip(rng.normal(0.16, 0.2), -0.35, 0.75)),
            aspect=float(np.exp(rng.normal(0, 0.16))),
            half=float(BODY * np.exp(rng.uniform(np.log(0.014), np.log(0.085)))),
            unsteady=float(rng.uniform(0.02, 0.1)),
            bend=float(rng.uniform(0, 0.03) * BODY * stray),
            seed=int(rng.integers(1 << 30)),
            own=OWN * float(rng.integers(0, 4)),
            small_zero=float(rng.uniform(0.4 if chains else 0.55, 0.9)) if chains or rng.random() < 0.15 else 1.0,
            chains=chains,
            tall_one=float(rng.uniform(1.1, 1.55)) if rng.random() < 0.15 else 1.0,
            joins=float(rng.uniform(0.1, 0.7)) if rng.random() < 0.18 else 0.0,
            stray=stray,
        )


class Writer:
    """Somebody who writes in a hand, with MNIST's digits to take after."""

    def __init__(self, images: Images, labels: Labels, hand: Hand, rng: np.random.Generator) -> None:
        self._images, self.hand, self._rng = images, hand, rng
        self._of = [np.flatnonzero(labels == digit) for digit in range(10)]

    def digit(self, digit: int) -> Ink:
        """Write a digit: one of MNIST's again, or strokes of our own."""
        rng, hand = self._rng, self.hand
        size = {0: hand.small_zero, 1: hand.tall_one}.get(digit, 1.0)
        if rng.random() < hand.own:
            # The same way to write a digit throughout a field, drawn anew each time.
            way = np.random.default_rng([hand.seed, digit])
            ways = STYLES.get(str(digit), ())
            if ways and way.random() < 0.6:
                strokes = hands.figure(ways, way, hand.stray)
            else:
                strokes = hands.digit(str(digit), way, hand.stray)
            return self.strokes(strokes, size)
        index = int(rng.choice(self._of[digit]))
        return self._rewritten(self._images[index], digit, size)

    def _rewritten(self, image: NDArray[np.uint8], digit: int, size: float) -> Ink:
        """A digit of MNIST in this hand: upright first, then with the hand's slant, aspect and pen."""
        hand, rng = self.hand, self._rng
        x, y, w, h = cv2.boundingRect((image > 80).astype(np.uint8))
        if w == 0 or h == 0:
            return np.zeros((1, 1), np.float32)
        moments = cv2.moments(image)
        lean = -moments["mu11"] / moments["mu02"] if moments["mu02"] > 1 else 0.0  # to the right
        scale = size * BODY * (1 + float(rng.normal(0, hand.unsteady))) / h
        slant = hand.slant + float(rng.normal(0, hand.unsteady)) - 0.7 * lean
        turn = float(rng.normal(0, 0.6 * hand.unsteady))
        across = scale * hand.aspect * (1 + float(rng.normal(0, hand.unsteady)))
        cos, sin = np.cos(turn), np.sin(turn)
        matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[across, -slant * scale], [0, scale]])
        corners = matrix @ (np.array([[-w, w, w, -w], [-h, -h, h, h]]) / 2)
        margin = 6 + int(hand.bend)
        side = (np.ceil(np.ptp(corners, axis=1)) + 2 * margin).astype(int)
        centre = np.array([x + w / 2 - 0.5, y + h / 2 - 0.5])
        shift = side / 2 - matrix @ centre
        warp = np.concatenate([matrix, shift[:, np.newaxis]], axis=1).astype(np.float32)
        large = cv2.warpAffine(image, warp, (int(side[0]), int(side[1])), flags=cv2.INTER_CUBIC)
        if hand.bend > 0.3:
            large = _bent(large, hand.bend, rng)
        ink = (cv2.GaussianBlur(large, (0, 0), 1.0) > 105).astype(np.uint8)
        if np.random.default_rng([hand.seed, digit, 1]).random() < 0.3:
            _add(ink, digit, rng)
        return _redrawn(ink, hand.half * float(np.exp(rng.normal(0, 0.08))))

    def strokes(self, strokes: list[Stroke], size: float, thinner: float = 1.0) -> Ink:
        """Write strokes, in heights of the figure, in this hand."""
        hand, rng = self.hand, self._rng
        half = thinner * hand.half
        slant = hand.slant + float(rng.normal(0, hand.unsteady))
        matrix = np.array([[hand.aspect, -slant], [0, 1]]) * BODY * size * (1 + float(rng.normal(0, hand.unsteady)))
        points = [stroke @ matrix.T for stroke in strokes]
        low = np.min([path.min(axis=0) for path in points], axis=0)
        high = np.max([path.max(axis=0) for path in points], axis=0)
        margin = int(2 * half) + 3
        width, height = (np.minimum(high - low, 5 * BODY)).astype(int) + 2 * margin
        line = np.ones((height, width), np.uint8)
        for path in points:
            cv2.polylines(line, [np.round((path - low + margin) * 16).astype(np.int32)], False, 0, 1, 8, 4)
        apart = cv2.distanceTransform(line, cv2.DIST_L2, 3)
        return _tight(np.clip(half - apart + 0.6, 0, 1).astype(np.float32))


def sign(name: str, rng: np.random.Generator) -> list[Stroke]:
    """A sign that is no digit, in strokes; what is not known is a short line."""
    far = float(rng.uniform(0.35, 0.9))
    level = float(rng.normal(0, 0.04))
    tall, lean = rng.uniform(1.13, 1.7), rng.uniform(0.25, 0.85)
    skeletons = {
        ".": "0 0 2 2",
        ",": f"6 0 4 {10 + 10 * far:.0f} -6 {20 + 20 * far:.0f}",
        "'": f"6 0 0 {12 + 12 * far:.0f}",
        ":": "0 0 2 2|0 40 2 42",
        "-": f"0 0 {50 * far:.0f} {100 * level:.0f} {100 * far:.0f} {60 * level:.0f}",
        "~": f"0 8 {25 * far:.0f} 0 {70 * far:.0f} 12 {100 * far:.0f} 2",
        "=": f"0 0 {100 * far:.0f} {100 * level:.0f}|{30 * level:.0f} 22 {95 * far:.0f} {22 + 90 * level:.0f}",
        "/": f"{100 * tall * lean:.0f} 0 0 {100 * tall:.0f}",
        "+": "30 0 30 60|0 30 60 30",
        "x": "4 4 70 90|66 0 0 96",
        "X": f"{30 * far:.0f} {40 * far:.0f} {50 + 30 * far:.0f} {110 - 50 * far:.0f}|{80 - 20 * far:.0f} 0 0 90",
        "#": "20 0 10 90|50 0 40 90|0 26 66 24|-6 58 60 56",
        "*": "30 0 30 60|2 14 58 46|58 14 2 46",
        "$": "52 14 28 6 10 22 20 42 44 52 54 76 34 94 6 84|30 -12 30 112",
        "£": "60 12 36 0 20 24 24 60 6 96|6 96 70 92|4 50 50 48",
        "L": f"0 60 {60 * far:.0f} 0 {120 * far:.0f} 70 {200 * far:.0f} 10",
    }
    arcs = [np.array(arc.split(), float).reshape(-1, 2) / 100 for arc in skeletons.get(name, "0 0 40 0").split("|")]
    return hands.trace(arcs, rng)


def _bent(plane: NDArray[np.uint8] | cv2.typing.MatLike, bend: float, rng: np.random.Generator) -> cv2.typing.MatLike:
    height, width = plane.shape[:2]
    nodes = bend * rng.standard_normal((2, 4, 4)).astype(np.float32)
    dx, dy = (cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR) for part in nodes)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(plane, x + dx, y + dy, cv2.INTER_LINEAR)


def _redrawn(ink: NDArray[np.uint8], half: float) -> Ink:
    """Ink whose strokes are `half` broad to each side, by the distance to their edges."""
    inside = cv2.distanceTransform(ink, cv2.DIST_L2, 3)
    now = 2 * float(inside[ink > 0].mean()) if ink.any() else 1.0
    if half < 0.8 * now:
        # Paring a stroke down would break it where it is thin: a fine pen goes along its middle instead.
        peak = (inside > 0.3 * now) & (inside >= cv2.dilate(inside, np.ones((3, 3), np.uint8)) - 0.5)
        apart = cv2.distanceTransform(1 - peak.astype(np.uint8), cv2.DIST_L2, 3)
        return _tight(np.clip(max(half, 0.6) - apart + 0.7, 0, 1).astype(np.float32))
    change = min(half - now, 0.05 * BODY)  # no broader than leaves the loops open
    margin = max(0, int(change)) + 2
    ink = np.pad(ink, margin)
    inside = cv2.distanceTransform(ink, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - ink, cv2.DIST_L2, 3)
    edge = np.where(ink > 0, inside - 0.5, 0.5 - outside)
    return _tight(np.clip(edge + change + 0.5, 0, 1).astype(np.float32))


def _add(ink: NDArray[np.uint8], digit: int, rng: np.random.Generator) -> None:
    """Add what MNIST hardly has: a flag or a foot to a 1, a bar to a 7."""
    x, y, w, h = cv2.boundingRect(ink)
    if not w:
        return
    thick = max(2, round(4 * float(cv2.distanceTransform(ink, cv2.DIST_L2, 3)[ink > 0].mean())))

    def line(start: tuple[float, float], end: tuple[float, float]) -> None:
        cv2.line(ink, (round(start[0]), round(start[1])), (round(end[0]), round(end[1])), 1, thick)

    def edge(row: float) -> float:
        columns = np.flatnonzero(ink[int(np.clip(row, 0, len(ink) - 1))])
        return float(columns[-1]) - thick / 2 if columns.size else x + w / 2

    if digit == 1 and w < 0.7 * h:
        top = edge(y + thick / 2), y + thick / 2
        angle = np.radians(rng.uniform(18, 60))
        length = h * rng.uniform(0.25, 0.75 if angle < np.radians(45) else 0.5)
        line(top, (top[0] - length * np.sin(angle), top[1] + length * np.cos(angle)))
        if rng.random() < 0.25:
            foot, reach = edge(y + h - 1 - thick / 2), h * rng.uniform(0.12, 0.35)
            line((foot - reach, y + h - thick / 2), (foot + reach, y + h - thick / 2))
    elif digit == 7:
        row = y + h * rng.uniform(0.42, 0.62)
        reach, tilt = h * rng.uniform(0.14, 0.34), h * rng.normal(0.02, 0.05)
        line((edge(row) - reach, row + tilt), (edge(row) + reach, row - tilt))


def _tight(ink: Ink) -> Ink:
    """Cut ink to its own box."""
    x, y, w, h = cv2.boundingRect((ink > 0.3).astype(np.uint8))
    return ink[y : y + h, x : x + w] if w and h else ink[:1, :1]
