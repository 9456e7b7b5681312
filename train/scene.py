"""A strip of paper that is written on, and the crop that is cut from it. Pure: arrays in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from train.paper import BODY, Print, write_text
from train.writer import sign

if TYPE_CHECKING:
    from train.render import Ink
    from train.writer import Writer


class Scene:
    """A strip of paper that is written on from left to right, to be cropped."""

    def __init__(self, writer: Writer, rng: np.random.Generator) -> None:
        self._writer, self._hand, self._rng = writer, writer.hand, rng
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
                self._put(self._writer.digit(int(value[place])), middle, centred=True)
                self.text += value[place]
            elif crossed:
                self._put(self._writer.strokes(sign(crossed, rng), float(rng.uniform(0.45, 1.1))), middle, centred=True)
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

    def _digit(self, digit: int, gap: float) -> None:
        """Put a digit behind what is written, `gap` bodies of paper between their ink."""
        chained = self._hand.chains and digit == 0 and self.text.endswith("0")
        gap = min(gap, 0.3) if chained else gap
        glyph = self._writer.digit(digit)
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
            spot = self._writer.strokes(sign(mark, rng), float(rng.uniform(0.7, 1.2)))
            lift = float(rng.uniform(0.6, 0.9)) * BODY if mark == "'" else float(rng.normal(0, 0.07)) * BODY
            if mark == ",":
                lift -= float(rng.uniform(0.05, 0.25)) * BODY
            # A stop may stand under the next digit's flag.
            self._put(spot, self._x + gap * BODY - float(rng.random() < 0.3) * 0.15 * BODY, lift=lift or 0.1)
            return
        glyph = self._writer.strokes(sign(mark, rng), float(rng.uniform(0.7, 1.2)))
        lift = float(rng.uniform(0.25, 0.6)) * BODY if glyph.shape[0] < 0.6 * BODY else 0.1
        self._put(glyph, self._x + (gap + 0.03) * BODY + hand.half, lift=lift)

    def _slash(self, gap: float) -> None:
        """A slash, `gap` bodies behind the ink before: above and below the digits, as else it would be a 1."""
        rng = self._rng
        thinner = 1.0 if rng.random() < 0.8 else float(rng.uniform(0.3, 1.0))  # printed on the form
        glyph = self._writer.strokes(sign("/", rng), 1.0, thinner)
        lift = -float(rng.uniform(0.25, 0.75)) * max(0, glyph.shape[0] - BODY) or 0.1
        self._put(glyph, self._behind(glyph, gap * BODY, lift), lift=lift)
        self.text += "/"

    def _sign(self, name: str, gap: float) -> None:
        glyph = self._writer.strokes(sign(name, self._rng), float(self._rng.uniform(0.7, 1.1)))
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
                glyph = self._writer.strokes(sign(mark, rng), float(rng.uniform(0.6, 1.3)))
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
                glyph = self._writer.digit(int(rng.integers(10)))
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
