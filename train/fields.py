"""Whole number fields that never were: digits of one hand, written on forms, cheques and plain paper (`train.paper`).

Pure: arrays in and out. Every choice comes from the random generator that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from train import hands
from train.augmentation import augment
from train.nothing import nothing
from train.paper import BODY, Print, taken, write_text
from train.render import drawn, page, written
from train.styles import STYLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.hands import Stroke
    from train.mnist import Images, Labels
    from train.paper import Ink
    from watcher.normalise import Page

PLAIN = 0.24  # share of fields that are MNIST's own pictures side by side on white
BENT = 0.6  # share of those whose digits are bent, thickened, thinned: so that no digit is learnt by heart
SINGLE = 0.12  # share of fields that are one digit, as the digit network's samples are
NOTHING = 0.03  # share that holds no digit
LENGTHS: Final = (0.04, 0.13, 0.17, 0.19, 0.17, 0.1, 0.07, 0.05, 0.03, 0.02, 0.015, 0.015)
"""How often a field has 1, 2, 3 … digits."""
STRANGE = 1.5  # times as far from the known ways to write as in training: how hands to judge by stray
OWN = 0.3  # share of digits drawn as strokes of our own, in a hand that does so
FORMS: Final = {"nothing": 0.4, "underline": 0.16, "frame": 0.1, "comb": 0.2, "boxes": 0.08, "dots": 0.06}
"""What is printed around a field, and how often."""
GAPS: Final = {"spaced": (3, 14), "tight": (1, 3), "touching": (-3, 1)}
"""Pixels of paper between MNIST's digits side by side, from and to."""
LEARNT: Final = {"spaced": 0.2, "tight": 0.25, "touching": 0.55}
"""How often each of these is trained on: the harder, the more."""


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


def field(images: Images, labels: Labels, rng: np.random.Generator, *, to_judge: bool = False) -> tuple[Page, str]:
    """Make a field of digits from `images`, or of strokes of our own: the crop, and its digits and slashes.

    With `to_judge` it is one to measure by: the digits alone are told, and strings of MNIST's digits are as they are.
    """
    kind = rng.random()
    if kind < SINGLE:
        return _single(images, labels, rng)
    if kind < SINGLE + NOTHING:
        ink = nothing(
            images, labels, rng, str(rng.choice(["letter", "sign", "scribble", "print"], p=[0.4, 0.3, 0.15, 0.15]))
        )
        return page(ink, [], rng)[0], ""
    count = 1 + int(rng.choice(len(LENGTHS), p=LENGTHS))
    if rng.random() < PLAIN:
        if to_judge:
            return plain(images, labels, count, rng)
        gap = GAPS[str(rng.choice(list(LEARNT), p=list(LEARNT.values())))]
        some = rng.integers(len(images), size=count)
        digits = images[some]
        if rng.random() < BENT:
            digits = np.asarray(255 * augment(digits, rng)[..., 0], np.uint8)
        return _side_by_side(digits, labels[some], gap, rng)
    form = str(rng.choice(list(FORMS), p=list(FORMS.values())))
    scene = _Scene(images, labels, Hand.any(rng, STRANGE if to_judge else 1.0), rng)
    if form in {"comb", "boxes"}:
        scene.cells(count, form)
    else:
        scene.line(count)
    ink, print_ = scene.cropped(form)
    return taken(ink, print_, rng), scene.text.replace("/", "") if to_judge else scene.text


def date(images: Images, labels: Labels, mark: str, rng: np.random.Generator) -> tuple[Page, str]:
    """Make a date of six digits on paper, a `mark` before the month and before the year: the crop and its digits."""
    scene = _Scene(images, labels, Hand.any(rng), rng)
    value = f"{rng.integers(1, 32):02}{rng.integers(1, 13):02}{rng.integers(100):02}"
    scene.write(value, {2: mark, 4: mark}, 0.15, 0.1)
    ink, print_ = scene.cropped("nothing")
    return taken(ink, print_, rng), value


def _single(images: Images, labels: Labels, rng: np.random.Generator) -> tuple[Page, str]:
    """One digit as `train.render` shows it: in the middle of a crop that may be large."""
    index, other = rng.integers(len(images), size=2)
    label = int(labels[index])
    if rng.random() < 0.3:
        label = int(
            rng.choice([1, 7, 4, 9, 0, 2, 3, 5, 6, 8], p=[0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])
        )
        ink = drawn(hands.digit(str(label), rng), rng)
    else:
        ink = written(images[index], label, rng)
    return page(ink, [written(images[other], int(labels[other]), rng)], rng)[0], str(label)


def plain(
    images: Images, labels: Labels, count: int, rng: np.random.Generator, gap: tuple[int, int] | None = None
) -> tuple[Page, str]:
    """MNIST's own pictures side by side, black on white, `gap` pixels of paper between their ink (any, from to)."""
    chosen = rng.integers(len(images), size=count)
    return _side_by_side(images[chosen], labels[chosen], gap or list(GAPS.values())[rng.integers(3)], rng)


def _side_by_side(digits: Images, labels: Labels, gap: tuple[int, int], rng: np.random.Generator) -> tuple[Page, str]:
    low, high = gap
    parts = [_ink_columns(digit) for digit in digits]
    shifts = rng.integers(-2, 3, len(digits))
    canvas = np.zeros((36, sum(part.shape[1] for part in parts) + len(parts) * max(high, 0) + 24), np.uint8)
    x = int(rng.integers(2, 12))
    for part, shift in zip(parts, shifts, strict=True):
        target = canvas[4 + shift : 32 + shift, x : x + part.shape[1]]
        np.maximum(target, part, out=target)
        x += part.shape[1] + int(rng.integers(low, high))
    page = 255 - canvas[:, : x - low + int(rng.integers(2, 12))]
    return page, "".join(map(str, labels))


def _ink_columns(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    columns = np.flatnonzero((image > 60).any(axis=0))
    return image[:, columns[0] : columns[-1] + 1] if columns.size else image[:, :1]


class _Scene:
    """A strip of paper that is written on from left to right, to be cropped."""

    def __init__(self, images: Images, labels: Labels, hand: Hand, rng: np.random.Generator) -> None:
        self._images, self._labels, self._hand, self._rng = images, labels, hand, rng
        self._of = [np.flatnonzero(labels == digit) for digit in range(10)]
        self._top = 3 * BODY
        self._base = self._top + BODY
        self._ink = np.zeros((self._base + 3 * BODY, 1600), np.float32)
        self._x = 3 * BODY  # where the writing has come to
        self._start = self._x
        self.text = ""  # the digits and slashes that were written
        self._slope = float(rng.normal(0, 0.04)) if rng.random() < 0.5 else 0.0
        if rng.random() < 0.06:
            self._slope = float(rng.uniform(-0.16, 0.16))
        self._rows: tuple[float, float] | None = None  # top and bottom of a frame
        self._cells: list[tuple[float, float]] = []

    def line(self, count: int) -> None:
        """Write digits freely, with what people put before, between and after them."""
        rng = self._rng
        value = self._value(count)
        kind = rng.random()
        low, high = (-0.10, 0.02) if kind < 0.2 else (0.0, 0.16) if kind < 0.55 else (0.1, 0.7)
        centre = float(rng.uniform(low, high))
        kinds = ["none", "thousands", "decimals", "between", "date"]
        marked = str(rng.choice(kinds, p=[0.34, 0.22, 0.09, 0.11, 0.24]))
        mark = str(rng.choice(list({"date": "///-. ", "between": ".,-/' :="}.get(marked, ".,.,-' :="))))
        if rng.random() < 0.08:
            self._sign(str(rng.choice(["#", "$", "*", "=", "-", "+", "x", "£"])), centre + 0.15)
        day, month = rng.choice([1, 2], 2, p=[0.25, 0.75])
        places = {
            "none": (),
            "thousands": range(count % 3, count, 3),
            "decimals": (count - 2,),
            "between": np.flatnonzero(rng.random(count) < 0.3),
            "date": (day, day + month),
        }[marked]
        self.write(value, dict.fromkeys(map(int, places), mark), centre, 0.25 * (high - low) + 0.02)
        if rng.random() < 0.42:
            self._ending()
        if rng.random() < 0.05:
            self._label()

    def write(self, value: str, marks: dict[int, str], gap: float, jitter: float) -> None:
        """Write digits with about `gap` bodies of paper between, and before some of them, by their place, a mark."""
        rng = self._rng
        aside = float(rng.choice([0.0, rng.uniform(0.0, 0.9)], p=[0.4, 0.6]))  # of a slash, to both sides
        for index, digit in enumerate(value):
            apart = gap + float(rng.normal(0, jitter))
            mark = marks.get(index, "") if index else ""
            if mark == "/":
                self._slash(aside + float(rng.uniform(-0.05, 0.15)))
                apart = aside + float(rng.uniform(-0.05, 0.15))
            elif mark:
                self._mark(mark)
                apart = max(apart, 0.0) + (float(rng.uniform(0.0, 0.6)) if mark == " " else 0)
            self._digit(int(digit), apart)

    def cells(self, count: int, form: str) -> None:
        """Write digits into the cells of a comb or into boxes of their own, the unused ones crossed or empty."""
        rng = self._rng
        value = self._value(count)
        unused = int(rng.choice([0, 0, 0, 1, 2, 3])) if count < 9 else 0
        before = unused if rng.random() < 0.7 else 0
        pitch = BODY * float(rng.uniform(0.75, 1.0) if rng.random() < 0.35 else rng.uniform(1.0, 2.1))
        pitch = max(pitch, 0.5 * BODY * self._hand.aspect + 3 * self._hand.half)
        apart = float(rng.uniform(0.08, 0.5)) * BODY if form == "boxes" else 0.0
        crossed = str(rng.choice(["", "x", "x", "X", "-", "~"]))  # a slash would be a 1
        off = float(rng.normal(0, 0.06)) * pitch
        for index in range(count + unused):
            left = self._start + index * (pitch + apart)
            self._cells.append((left, left + pitch))
            middle = left + pitch / 2 + off + float(rng.normal(0, 0.06)) * pitch
            place = index - before
            if 0 <= place < count:
                self._put(self._glyph(int(value[place])), middle, centred=True)
                self.text += value[place]
            elif crossed:
                self._put(self._drawn(_sign(crossed, rng), float(rng.uniform(0.45, 1.1))), middle, centred=True)
        self._x = int(self._cells[-1][1])
        top, bottom = rng.uniform(0.05, 0.55, 2) if rng.random() < 0.75 else rng.uniform(-0.06, 0.15, 2)
        self._rows = self._top - float(top) * BODY, self._base + float(bottom) * BODY

    def cropped(self, form: str) -> tuple[Ink, Ink]:
        """Cut the crop out: the writing, and what is printed."""
        rng = self._rng
        roomy = rng.random() < 0.55
        above, below = BODY * (rng.uniform(0.1, 0.9, 2) if roomy else rng.uniform(-0.04, 0.25, 2))
        before, after = BODY * (rng.uniform(0.1, 1.5, 2) if roomy else rng.uniform(-0.03, 0.35, 2))
        used = self._ink[:, self._start : self._x].max(axis=1) > 0.3
        rows = np.flatnonzero(used[self._top - BODY : self._base + BODY]) + self._top - BODY
        first, last = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (self._top, self._base)
        if self._rows is not None and rng.random() < 0.85:
            first, last = min(first, int(self._rows[0])), max(last, int(self._rows[1]))
        top, bottom = max(0, int(first - above)), min(self._ink.shape[0], int(last + below))
        if rng.random() < 0.22:
            self._peek_in(top, bottom)
        left, right = max(0, int(self._start - before)), min(self._ink.shape[1], int(self._x + after))
        printed = self._printed(form)
        return self._ink[top:bottom, left:right].copy(), printed[top:bottom, left:right]

    def _value(self, count: int) -> str:
        rng = self._rng
        digits = rng.integers(0, 10, count)
        if rng.random() < 0.3 and count > 2:  # round sums, and the same digit again and again
            digits[int(rng.integers(1, count)) :] = 0 if rng.random() < 0.7 else rng.integers(10)
        if rng.random() < 0.15:  # 1, 7 and 4 are what hands differ in
            digits = np.where(rng.random(count) < 0.6, rng.choice([1, 7, 4], count), digits)
        return "".join(map(str, digits))

    def _glyph(self, digit: int) -> Ink:
        rng, hand = self._rng, self._hand
        size = {0: hand.small_zero, 1: hand.tall_one}.get(digit, 1.0)
        if rng.random() < hand.own:
            # The same way to write a digit throughout a field, drawn anew each time.
            way = np.random.default_rng([hand.seed, digit])
            ways = STYLES.get(str(digit), ())
            if ways and way.random() < 0.6:
                strokes = hands.figure(ways, way, hand.stray)
            else:
                strokes = hands.digit(str(digit), way, hand.stray)
            return self._drawn(strokes, size)
        index = int(rng.choice(self._of[digit]))
        return self._rewritten(self._images[index], digit, size)

    def _rewritten(self, image: NDArray[np.uint8], digit: int, size: float) -> Ink:
        """A digit of MNIST in this hand: upright first, then with the hand's slant, aspect and pen."""
        hand, rng = self._hand, self._rng
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

    def _drawn(self, strokes: list[Stroke], size: float, thinner: float = 1.0) -> Ink:
        """Strokes, in heights of the figure, in this hand."""
        hand, rng = self._hand, self._rng
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

    def _digit(self, digit: int, gap: float) -> None:
        """Put a digit behind what is written, `gap` bodies of paper between their ink."""
        chained = self._hand.chains and digit == 0 and self.text.endswith("0")
        gap = min(gap, 0.3) if chained else gap
        glyph = self._glyph(digit)
        end, begin = self._x, self._behind(glyph, gap * BODY)
        self._put(glyph, begin)
        if end > self._start and 0 <= gap < 0.5 and (chained or self._rng.random() < self._hand.joins):
            self._join(end, int(begin), 0.75 if chained else 0.1)
        self.text += str(digit)

    def _join(self, end: int, begin: int, lowest: float) -> None:
        """Go on to the next digit without lifting the pen, where the two have ink at about one height."""
        rng = self._rng
        y = int(self._base - rng.uniform(lowest, 1.0) * BODY * self._hand.small_zero)
        reach = BODY // 2
        before = self._ink[y - 2 : y + 3, max(0, end - reach) : end].max(axis=0) > 0.3
        after = self._ink[y - 2 : y + 3, begin : begin + reach].max(axis=0) > 0.3
        if before.any() and after.any():
            left, right = end - 1 - int(before[::-1].argmax()), begin + int(after.argmax())
            sag = int(rng.normal(0, 0.06) * BODY)
            thick = max(1, round(2 * self._hand.half))
            points = np.array([[left, y], [(left + right) // 2, y + sag], [right, y]], np.int32)
            cv2.polylines(self._ink, [points], False, 1.0, thick, cv2.LINE_AA)

    def _behind(self, glyph: Ink, gap: float, lift: float = 0.0) -> float:
        """Where the left edge of `glyph` comes so that its ink is `gap` pixels from the ink before it."""
        top = self._height_of(glyph, lift)
        before = self._ink[top : top + glyph.shape[0], max(0, self._x - 4 * BODY) : self._x]
        if self._x == self._start or not before.size:
            return self._x + max(gap, 0)
        near = cv2.dilate((before > 0.3).astype(np.uint8), np.ones((7, 1), np.uint8))
        reach = near.shape[1] - 1 - near[:, ::-1].argmax(axis=1)
        reach = np.where(near.any(axis=1), reach, -2 * BODY)
        here = (glyph > 0.3)[: len(reach)]
        edge = np.where(here.any(axis=1), here.argmax(axis=1), 2 * BODY)
        nearest = max(int((reach[: len(edge)] - edge).max()), -glyph.shape[1])
        x = self._x - near.shape[1] + nearest + 1 + gap
        # Never so far under what comes before that the order could not be told.
        return float(max(x, self._x - (0.45 if gap >= 0 else 0.3) * glyph.shape[1]))

    def _height_of(self, glyph: Ink, lift: float) -> int:
        base = self._base + self._slope * (self._x - self._start) - lift
        return int(np.clip(base - glyph.shape[0], 0, self._ink.shape[0] - glyph.shape[0]))

    def _put(self, glyph: Ink, x: float, *, centred: bool = False, lift: float = 0.0) -> None:
        rng, hand = self._rng, self._hand
        height, width = glyph.shape
        if centred:
            x -= width / 2
        base = self._base + self._slope * (x - self._start) - lift + float(rng.normal(0, hand.unsteady)) * BODY * 0.7
        left, top = max(0, int(x)), int(base - height)
        if lift == 0 and centred:
            top -= int((BODY - height) / 2) if height < 0.7 * BODY else 0
        top = int(np.clip(top, 0, self._ink.shape[0] - height))
        target = self._ink[top : top + height, left : left + width]
        np.maximum(target, glyph[:, : target.shape[1]], out=target)
        self._x = max(self._x, min(left + width, self._ink.shape[1] - 4 * BODY))

    def _mark(self, mark: str) -> None:
        """A separator: a stop, a comma, a dash, a slash."""
        rng, hand = self._rng, self._hand
        gap = float(rng.uniform(0.0, 0.2))
        if mark == " ":
            return
        if mark in ".,':":
            spot = self._drawn(_sign(mark, rng), float(rng.uniform(0.7, 1.2)))
            lift = float(rng.uniform(0.6, 0.9)) * BODY if mark == "'" else float(rng.normal(0, 0.07)) * BODY
            if mark == ",":
                lift -= float(rng.uniform(0.05, 0.25)) * BODY
            # A stop may stand under the next digit's flag.
            self._put(spot, self._x + gap * BODY - float(rng.random() < 0.3) * 0.15 * BODY, lift=lift or 0.1)
            return
        glyph = self._drawn(_sign(mark, rng), float(rng.uniform(0.7, 1.2)))
        lift = float(rng.uniform(0.25, 0.6)) * BODY if glyph.shape[0] < 0.6 * BODY else 0.1
        self._put(glyph, self._x + (gap + 0.03) * BODY + hand.half, lift=lift)

    def _slash(self, gap: float) -> None:
        """A slash, `gap` bodies behind the ink before: above and below the digits, as else it would be a 1."""
        rng = self._rng
        thinner = 1.0 if rng.random() < 0.8 else float(rng.uniform(0.3, 1.0))  # printed on the form
        glyph = self._drawn(_sign("/", rng), 1.0, thinner)
        lift = -float(rng.uniform(0.25, 0.75)) * max(0, glyph.shape[0] - BODY) or 0.1
        self._put(glyph, self._behind(glyph, gap * BODY, lift), lift=lift)
        self.text += "/"

    def _sign(self, name: str, gap: float) -> None:
        glyph = self._drawn(_sign(name, self._rng), float(self._rng.uniform(0.7, 1.1)))
        lift = 0.3 * BODY if glyph.shape[0] < 0.6 * BODY else 0.1
        self._put(glyph, self._x, lift=lift)
        self._x += int(max(gap, 0.05) * BODY)

    def _ending(self) -> None:
        """What people put after a sum: a stop, a dash, two lines, a flourish."""
        rng = self._rng
        for mark in str(rng.choice([".-", "-", "=", ".", ",", "--", ".=", "/-", "#", ".--", "*", "~", "x", "L"])):
            if mark == "/":
                self._slash(float(rng.uniform(0.0, 0.4)))
            elif mark in ".,":
                self._mark(mark)
            else:
                gap = float(rng.uniform(0.05, 0.4)) * BODY
                glyph = self._drawn(_sign(mark, rng), float(rng.uniform(0.6, 1.3)))
                lift = float(rng.uniform(0.0, 0.9)) * BODY if glyph.shape[0] < 0.6 * BODY else 0.1
                self._put(glyph, self._x + gap, lift=lift)

    def _label(self) -> None:
        """A printed word after the field."""
        rng = self._rng
        text = str(rng.choice(["EUR", "Fr.", "kWh", "kg", "Nr.", "DM", "UAH", "USD"]))
        at = self._x + int(rng.uniform(0.15, 0.6) * BODY), self._base - int(rng.uniform(0, 0.2) * BODY)
        size = float(rng.uniform(0.5, 1.0)) * BODY / 30
        part = self._ink[:, at[0] : at[0] + 4 * BODY]
        thick, tone = int(rng.integers(1, 4)), float(rng.uniform(0.5, 1))
        write_text(part, text, (0, at[1]), size=size, thick=thick, tone=tone)
        self._x = min(at[0] + int(len(text) * 18 * size), self._ink.shape[1] - BODY)

    def _peek_in(self, top: int, bottom: int) -> None:
        """Let the ends of the lines above and below stand in the crop."""
        rng = self._rng
        for above in (True, False):
            if rng.random() < 0.4:
                continue
            x = self._start - BODY + int(rng.uniform(0, 2 * BODY))
            seen = rng.uniform(0.03, 0.25) * BODY
            while x < self._x + BODY:
                glyph = self._glyph(int(rng.integers(10)))
                y = int(top + seen + rng.normal(0, 0.04) * BODY) - glyph.shape[0] if above else int(bottom - seen)
                y = int(np.clip(y, 0, self._ink.shape[0] - glyph.shape[0]))
                target = self._ink[y : y + glyph.shape[0], x : x + glyph.shape[1]]
                np.maximum(target, glyph[: target.shape[0], : target.shape[1]], out=target)
                x += glyph.shape[1] + int(rng.uniform(0.1, 1.5) * BODY)

    def _printed(self, form: str) -> Ink:
        """The form itself: how dark it is, 1 for as dark as the writing."""
        rng = self._rng
        start, end, width = self._start, self._x, self._ink.shape[1]
        top, bottom = self._rows or (
            self._top - float(rng.uniform(0.05, 0.5)) * BODY,
            self._base + float(rng.uniform(0.05, 0.5)) * BODY,
        )
        print_ = Print(self._ink.shape[:2], start, rng)
        match form:
            case "underline":
                reach = (0.0, float(width)) if rng.random() < 0.8 else (start - BODY * 0.3, end + BODY * 0.5)
                print_.across(self._base + float(rng.normal(0.06, 0.12)) * BODY, *reach)
                if rng.random() < 0.25:
                    print_.across(self._top - float(rng.uniform(-0.1, 0.4)) * BODY, *reach)
            case "dots":
                y = self._base + int(rng.normal(0.06, 0.08) * BODY)
                print_.dots(y, start - 2 * BODY, min(end + 2 * BODY, width))
            case "frame":
                self._rows = top, bottom
                left, right = (float(rng.uniform(0.1, 0.8)) * BODY for _ in "lr")
                print_.box(start - left, top, end + right, bottom)
            case "boxes":
                for left, right in self._cells:
                    print_.box(left, top, right, bottom)
            case "comb":
                print_.comb([left for left, _ in self._cells], self._cells[-1][1], top, bottom)
        if form in {"comb", "frame", "boxes", "underline"} and rng.random() < 0.3:
            print_.wear()
        return print_.cover


def _sign(name: str, rng: np.random.Generator) -> list[Stroke]:
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
