"""What a field is written on: the lines of its form, the paper and its print, and the scan that is made. Pure.

Lengths are in pixels of a scene in which a digit is about BODY high; the camera comes last and takes the scene at any
size. Every choice comes from the random generator that is handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.render import Ink
    from watcher.normalise import Page

BODY = 38  # pixels: a digit's height in the scene
GROUNDS: Final = {"plain": 0.5, "guilloche": 0.36, "letters": 0.08, "stamp": 0.06}
"""What is printed under the writing, and how often."""


class Print:
    """What is printed with one pen: a form's lines."""

    def __init__(self, shape: tuple[int, ...], start: int, rng: np.random.Generator) -> None:
        self.cover = np.zeros(shape, np.float32)
        self._start, self._rng = start, rng
        self._thick = int(rng.integers(1, 5))
        self._tone = float(rng.uniform(0.25, 1.2))
        self._tilt = 0.0 if rng.random() < 0.5 else float(rng.normal(0, 0.008))

    def across(self, y: float, left: float, right: float) -> None:
        """Print a level line."""
        ends = [(round(x), round(y + self._tilt * (x - self._start))) for x in (left, right)]
        cv2.line(self.cover, ends[0], ends[1], self._tone, self._thick, cv2.LINE_AA)

    def down(self, x: float, top: float, bottom: float, thick: int = 0) -> None:
        """Print an upright line."""
        ends = [(round(x), round(y + self._tilt * (x - self._start))) for y in (top, bottom)]
        cv2.line(self.cover, ends[0], ends[1], self._tone, thick or self._thick, cv2.LINE_AA)

    def box(self, left: float, top: float, right: float, bottom: float) -> None:
        """Print a box."""
        for y in (top, bottom):
            self.across(y, left, right)
        for x in (left, right):
            self.down(x, top, bottom)

    def comb(self, lefts: Sequence[float], right: float, top: float, bottom: float) -> None:
        """Print cells side by side, open at the top or closed, now and then with a bar of the form beside them."""
        rng = self._rng
        inner = max(1, self._thick - int(rng.integers(0, 3)))
        closed = rng.random() < 0.75
        rungs = top if closed or rng.random() < 0.5 else bottom - float(rng.uniform(0.15, 0.4)) * (bottom - top)
        for y in (bottom, top)[: 1 + closed]:
            self.across(y, lefts[0], right)
        for x in lefts[1:]:
            self.down(x, rungs, bottom, inner)
        for x in (lefts[0], right):
            self.down(x, rungs, bottom)
        if rng.random() < 0.12:
            ends = (round(lefts[0] - rng.uniform(0.1, 0.5) * BODY), 0), (round(lefts[0]), self.cover.shape[0])
            cv2.rectangle(self.cover, ends[0], ends[1], self._tone, -1)

    def dots(self, y: int, left: int, right: int) -> None:
        """Print a dotted line."""
        for x in range(left, right, int(self._rng.integers(4, 12))):
            cv2.circle(self.cover, (x, y), max(1, self._thick - 1), self._tone, -1)

    def wear(self) -> None:
        """Break what is printed, as in copies of copies."""
        height, width = self.cover.shape
        rough = cv2.resize(self._rng.random((height // 3, width // 3), np.float32), (width, height))
        self.cover *= rough > self._rng.uniform(0.2, 0.5)


def write_text(cover: Ink, text: str, at: tuple[int, int], *, size: float, thick: int, tone: float) -> None:
    """Print a text into `cover`, its lower left corner `at` (x, y), as dark as `tone`."""
    plane = np.zeros(cover.shape, np.uint8)  # OpenCV sets text on bytes only
    cv2.putText(plane, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, 255, thick, cv2.LINE_AA)
    np.maximum(cover, tone / 255 * plane.astype(np.float32), out=cover)


def taken(ink: Ink, printed: Ink, rng: np.random.Generator) -> Page:
    """The crop as a scanner or a camera takes it."""
    shape = ink.shape[:2]
    ground, secure = _ground((shape[0], shape[1]), rng)
    if rng.random() < 0.35:  # pencil, chalk, a dry pen on rough paper
        ink = ink * (1 - rng.uniform(0.1, 0.7) * np.clip(0.5 + 0.5 * _texture(shape, rng.uniform(0.6, 1.5), rng), 0, 1))
    elif rng.random() < 0.3:
        ink = ink * (1 - rng.uniform(0.05, 0.45) * np.clip(_texture(shape, rng.uniform(8, 30), rng), 0, 1))
    paper = float(rng.uniform(120, 255))
    contrast = float(rng.uniform(30, 80) if rng.random() < (0.4 if secure else 0.2) else rng.uniform(60, paper))
    under = np.maximum(printed, ground)
    hidden = contrast * (ink + under * (1 - 0.75 * ink))
    light = np.ones(shape, np.float32)
    if rng.random() < 0.4:
        x = np.linspace(-0.5, 0.5, shape[1], dtype=np.float32)
        y = np.linspace(-0.5, 0.5, shape[0], dtype=np.float32)[:, np.newaxis]
        light = 1 + rng.uniform(-0.25, 0.25) * x + rng.uniform(-0.2, 0.2) * y
        if rng.random() < 0.25:
            angle, soft = rng.uniform(0, 2 * np.pi), rng.uniform(0.01, 0.08)
            edge = (np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.3, 0.3)) / soft
            light = light * (1 - rng.uniform(0.15, 0.5) / (1 + np.exp(-np.clip(edge, -30, 30))))
    grain = rng.uniform(0, 0.015) * _texture(shape, rng.uniform(0.7, 4), rng)
    seen = np.clip(paper - hidden, 0, 255) * np.clip(light + grain, 0.2, 1.2)
    if rng.random() < 0.07:
        seen = 255 - seen  # chalk, displays, negatives
    seen = np.asarray(seen, np.float32)
    if rng.random() < 0.55:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 1.7)), np.float32)
    target = np.exp(rng.uniform(np.log(15), np.log(60)))  # pixels: the digits' height in the crop
    factor = float(target / BODY)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    seen = np.asarray(cv2.resize(seen, None, fx=factor, fy=factor, interpolation=how), np.float32)
    noise = min(rng.exponential(3.0), 0.14 * contrast)
    seen = seen + noise * rng.standard_normal(seen.shape, np.float32)
    scan = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
    kind = rng.random()
    if kind < 0.06:  # one bit, or nearly: as some scanners deliver
        level, _ = cv2.threshold(scan, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        steep = float(rng.choice([1, 20, 60]))
        return np.asarray(np.clip((scan.astype(np.float32) - level) * 255 / steep + 128, 0, 255), np.uint8)
    if kind < 0.55:
        _, data = cv2.imencode(".jpg", scan, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
    return np.asarray(scan, np.uint8)


def _ground(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Ink, bool]:
    """What is printed under the writing, 1 for as dark as it, and whether it is a security print."""
    height, width = shape
    kind = str(rng.choice(list(GROUNDS), p=list(GROUNDS.values())))
    cover = np.zeros(shape, np.float32)
    if kind == "guilloche":
        y, x = np.mgrid[:height, :width].astype(np.float32)
        for _ in range(rng.integers(1, 4)):
            angle, period = rng.uniform(-1.6, 1.6), rng.uniform(4, 16)
            wave = rng.uniform(0, 3.5) * np.sin(x * rng.uniform(0.01, 0.12) + y * rng.uniform(-0.1, 0.1))
            phase = (x * np.sin(angle) + y * np.cos(angle)) / period + wave * rng.uniform(0.1, 0.8)
            family = np.clip((np.cos(2 * np.pi * phase) - rng.uniform(-0.3, 0.8)) * rng.uniform(1, 4), 0, 1)
            np.maximum(cover, rng.uniform(0.3, 1) * family, out=cover)
        cover *= rng.uniform(0.1, 0.6)
    elif kind == "letters":
        for _ in range(rng.integers(1, 5)):
            at = int(rng.uniform(-0.2, 1) * width), int(rng.uniform(0.2, 1.3) * height)
            text = chr(int(rng.integers(65, 91)))
            size = float(rng.uniform(1, 4)) * height / 90
            write_text(cover, text, at, size=size, thick=int(rng.integers(4, 22)), tone=1.0)
        cover *= rng.uniform(0.08, 0.4)
    elif kind == "stamp":
        at = int(rng.uniform(0, 1) * width), int(rng.uniform(0, 1) * height)
        thick = int(rng.integers(1, 4))
        if rng.random() < 0.5:
            cv2.circle(cover, at, int(rng.uniform(0.5, 1.6) * height), 1.0, thick, cv2.LINE_AA)
        else:
            end = at[0] + int(rng.uniform(1, 3) * height), at[1] + int(rng.uniform(0.5, 1) * height)
            cv2.rectangle(cover, at, end, 1.0, thick, cv2.LINE_AA)
        cover *= rng.uniform(0.15, 0.6)
    return cover, kind == "guilloche"


def _texture(shape: tuple[int, ...], spread: float, rng: np.random.Generator) -> Ink:
    """Random unevenness of unit size whose grains are about `spread` pixels."""
    step = max(1.0, spread)
    coarse = max(2, round(shape[1] / step)), max(2, round(shape[0] / step))
    noise = rng.standard_normal(coarse[::-1], np.float32)
    return np.asarray(cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
