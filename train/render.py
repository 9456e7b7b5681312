"""Writing put on paper and taken as a scanner or a camera would, for the normaliser to find. Pure: arrays in and out.

Lengths of writing are in pixels of a scene in which a figure is about TALL high; the camera comes last and takes the
scene at any size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.hands import Stroke
    from watcher.normalise import Page
    from watcher.plane import Box

Image = NDArray[np.uint8]
"""A picture as MNIST has it, (28, 28), 0 paper to 255 ink."""
Ink = NDArray[np.float32]
"""One value a pixel; of ink: how much of the paper it hides, 0 to 1."""

TALL = 80  # pixels: the height of a figure in the scene, before its hand's aspect and slant
ENLARGED = 4  # times: MNIST before its strokes are drawn anew
FINEST, BROADEST = 0.012, 0.095  # of TALL: half the width of a pen's stroke, from a fine ballpoint to a marker
LEFTMOST, RIGHTMOST = -0.36, 0.75  # slant, as the tangent of the angle
NARROWEST, WIDEST = 0.55, 1.5  # aspect
TURN = np.radians(15)
BEND = 0.035  # of TALL, at most: how far an elastic hand strays
CROOKED = 0.06  # at most, as a slope: how askew a crop may be to what is printed
PRINTS = {"nothing": 0.42, "box": 0.28, "ruled": 0.12, "squared": 0.06, "margin": 0.05, "closed": 0.04, "comb": 0.03}
"""What may stand on the paper, and how often it does."""
SMALLEST, LARGEST = 22, 260  # pixels: the square root of a crop's area


def written(image: Image, label: int, rng: np.random.Generator) -> Ink:
    """Write a digit of MNIST with another hand and pen, now and then with what other countries add to it."""
    large = cv2.resize(image, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    ink = (cv2.GaussianBlur(large, (0, 0), 1.3) > 105).astype(np.uint8)
    if rng.random() < 0.25:
        _add(ink, label, rng)
    scale = TALL / (20 * ENLARGED)
    bent = _bent(ink * np.float32(255), scale, rng)
    return _redrawn(bent > 127, rng)


def drawn(strokes: Sequence[Stroke], rng: np.random.Generator) -> Ink:
    """Write strokes, in heights of the figure, with a hand's slant and a pen's width."""
    matrix = _hand(rng) * TALL
    points = [stroke @ matrix.T for stroke in strokes]
    low = np.min([path.min(axis=0) for path in points], axis=0)
    high = np.max([path.max(axis=0) for path in points], axis=0)
    scale = min(1.0, 2 * TALL / float((high - low).max()))
    half = _half_width(rng)
    margin = int(2 * half) + 4
    width, height = ((high - low) * scale).astype(int) + 2 * margin
    line = np.ones((height, width), np.uint8)
    for path in points:
        cv2.polylines(line, [np.round((path - low) * scale + margin).astype(np.int32)], False, 0)
    apart = cv2.distanceTransform(line, cv2.DIST_L2, 5)
    pressure = 1 + _texture((height, width), 12, rng) * rng.uniform(0, 0.14)
    return tight(np.clip(half * pressure - apart + 0.5, 0, 1).astype(np.float32))


def page(ink: Ink, neighbours: Sequence[Ink], rng: np.random.Generator) -> tuple[Page, Box]:
    """Take writing as a crop on some paper, with light, lens, sensor and encoding; and the box it stands in."""
    scene, box = _placed(ink, rng)
    blank = scene.shape
    if rng.random() < 0.4 * bool(neighbours):
        _peek_in(scene, neighbours[0], box, rng)
    if rng.random() < 0.15:
        _sprinkle(scene, rng)
    if rng.random() < 0.35:  # pencil, chalk, a dry pen on rough paper
        scene *= 1 - rng.uniform(0.1, 0.75) * np.clip(0.5 + 0.5 * _texture(blank, rng.uniform(0.6, 1.5), rng), 0, 1)
    printed = _printed(blank, box, rng)
    tone = float(rng.uniform(110, 255)), float(rng.uniform(0, 1))
    contrast = rng.uniform(28, 80) if rng.random() < 0.25 else rng.uniform(60, tone[0])
    light = _light(blank, rng) + rng.uniform(0, 0.012) * _texture(blank, rng.uniform(0.7, 5), rng)
    hidden = scene * contrast + printed * contrast * rng.uniform(0.25, 1.2) * (1 - 0.7 * scene)
    seen = np.clip(tone[0] - hidden, 0, 255) * light
    if rng.random() < 0.22:
        seen = 255 - seen  # chalk, screens, negatives
    small = rng.random() < 0.12
    side = (
        np.exp(rng.uniform(np.log(SMALLEST), np.log(60 if small else LARGEST))) if small else rng.uniform(60, LARGEST)
    )
    factor = min(side / (blank[0] * blank[1]) ** 0.5, 1.6)
    taken = _taken(seen.astype(np.float32), contrast, factor, rng)
    fy, fx = taken.shape[0] / blank[0], taken.shape[1] / blank[1]
    x, y, w, h = box
    return taken, (round(x * fx), round(y * fy), max(1, round(w * fx)), max(1, round(h * fy)))


def agree(found: Box, true: Box) -> bool:
    """Whether two boxes are about the same."""
    x = min(found[0] + found[2], true[0] + true[2]) - max(found[0], true[0])
    y = min(found[1] + found[3], true[1] + true[3]) - max(found[1], true[1])
    shared = max(x, 0) * max(y, 0)
    return shared > 0.55 * (found[2] * found[3] + true[2] * true[3] - shared)


def _hand(rng: np.random.Generator) -> NDArray[np.float64]:
    """A hand's aspect, slant and turn as a matrix on (x, y)."""
    slant = float(np.clip(rng.normal(0.12, 0.22), LEFTMOST, RIGHTMOST))
    aspect = np.exp(rng.uniform(np.log(NARROWEST), np.log(WIDEST)) if rng.random() < 0.3 else rng.normal(0, 0.12))
    turn = rng.uniform(-TURN, TURN) * rng.uniform(0, 1)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(rotation @ np.array([[aspect, -slant], [0, 1]]))


def _half_width(rng: np.random.Generator) -> float:
    return float(TALL * np.exp(rng.uniform(np.log(FINEST), np.log(BROADEST))))


def _bent(plane: Ink, scale: float, rng: np.random.Generator) -> Ink:
    """The plane as another hand would have written it: sheared, stretched, turned and bent, about its centre."""
    inverse = np.linalg.inv(_hand(rng) * scale)
    side = np.array(plane.shape[::-1])
    corners = np.abs(np.linalg.inv(inverse) @ (np.array([[1, 1], [1, -1]]) * side / 2).T)
    width, height = (2 * corners.max(axis=1)).astype(int) + 8
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - width / 2, y - height / 2
    nodes = rng.uniform(0, BEND) * TALL * rng.standard_normal((2, 5, 5)).astype(np.float32)
    dx, dy = (cv2.resize(part, (int(width), int(height)), interpolation=cv2.INTER_CUBIC) for part in nodes)
    x, y = x + dx, y + dy
    (a, b), (c, d) = inverse.astype(np.float32)
    source = (a * x + b * y + side[0] / 2).astype(np.float32), (c * x + d * y + side[1] / 2).astype(np.float32)
    return np.asarray(cv2.remap(plane, *source, cv2.INTER_LINEAR), np.float32)


def _redrawn(ink: NDArray[np.bool_], rng: np.random.Generator) -> Ink:
    """Ink whose strokes are as broad as another pen's, by the distance to their edges."""
    inside = cv2.distanceTransform(ink.astype(np.uint8), cv2.DIST_L2, 5)
    now = 2 * float(inside[ink].mean()) if ink.any() else 1.0
    half = _half_width(rng)
    if half < 0.8 * now:
        # Paring a stroke down would break it where it is thin: a fine pen goes along its middle instead.
        middle = ink & (inside > 0.3 * now) & (inside >= cv2.dilate(inside, np.ones((3, 3), np.uint8)) - 0.5)
        # The ridge of the distances has small gaps where a stroke turns.
        line = cv2.morphologyEx(middle.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        apart = cv2.distanceTransform(1 - np.asarray(line, np.uint8), cv2.DIST_L2, 5)
        return tight(np.clip(max(half, 1.1) + 0.2 - apart + 0.5, 0, 1).astype(np.float32))
    change = min(half - now, 0.05 * TALL)  # no broader than leaves the loops open
    margin = max(0, int(change)) + 2
    ink = np.pad(ink, margin)
    inside = cv2.distanceTransform(ink.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~ink).astype(np.uint8), cv2.DIST_L2, 5)
    edge = np.where(ink, inside - 0.5, 0.5 - outside)
    return tight(np.clip(edge + change + 0.5, 0, 1).astype(np.float32))


def tight(ink: Ink) -> Ink:
    """Cut ink to its own box."""
    x, y, w, h = cv2.boundingRect((ink > 0.3).astype(np.uint8))
    return ink[y : y + h, x : x + w] if w and h else ink[:1, :1]


def _add(ink: Image, label: int, rng: np.random.Generator) -> None:
    """Add to an enlarged digit of MNIST: a flag or a foot to a 1, a bar to a 7, a slash to a 0."""
    x, y, w, h = cv2.boundingRect(ink)
    if w == 0:
        return
    thick = max(2, round(4 * float(cv2.distanceTransform(ink, cv2.DIST_L2, 3)[ink > 0].mean())))

    def line(start: tuple[float, float], end: tuple[float, float]) -> None:
        ends = [(round(px), round(py)) for px, py in (start, end)]
        cv2.line(ink, ends[0], ends[1], 1, thick)

    def centre(row: int) -> float:
        return float(np.flatnonzero(ink[row])[-1]) - thick / 2 if ink[row].any() else x + w / 2

    if label == 1 and w < 0.6 * h:
        top = centre(y + thick // 2), y + thick / 2
        if rng.random() < 0.8:
            angle = np.radians(rng.uniform(18, 48))
            length = h * rng.uniform(0.25, 0.75 if angle < np.radians(38) else 0.42)
            line(top, (top[0] - length * np.sin(angle), top[1] + length * np.cos(angle)))
        if rng.random() < 0.3:
            foot, reach = centre(y + h - 1 - thick // 2), h * rng.uniform(0.12, 0.35)
            line((foot - reach, y + h - thick / 2), (foot + reach, y + h - thick / 2))
    elif label == 7:
        row = y + int(h * rng.uniform(0.42, 0.62))
        reach, tilt = h * rng.uniform(0.14, 0.34), h * rng.normal(0.02, 0.05)
        line((centre(row) - reach, row + tilt), (centre(row) + reach, row - tilt))
    elif label == 0 and w > 0.4 * h and rng.random() < 0.4:
        over = rng.uniform(-0.12, 0.12) * h
        line((x - over, y + h + over), (x + w + over, y - over))


def _placed(ink: Ink, rng: np.random.Generator) -> tuple[Ink, Box]:
    """Writing on a crop of paper: small or filling it, now and then cut a little by an edge."""
    height, width = ink.shape
    side = max(height, width, TALL // 2)
    roomy = rng.random() < 0.65
    margins = side * (rng.uniform(0.12, 0.75, 4) if roomy else rng.uniform(0.02, 0.3, 4))
    if rng.random() < 0.04:
        margins[rng.integers(4)] = -0.04 * side
    left, top, right, bottom = np.round(margins).astype(int)
    scene = np.zeros((max(8, height + top + bottom), max(8, width + left + right)), np.float32)
    x, y = max(left, 0), max(top, 0)
    part = ink[max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0)]
    scene[y : y + part.shape[0], x : x + part.shape[1]] = part
    return scene, (x, y, part.shape[1], part.shape[0])


def _peek_in(scene: Ink, other: Ink, box: Box, rng: np.random.Generator) -> None:
    """Let the end of a neighbour stand in from the left or the right, apart from the writing, or a full stop."""
    x, y, w, h = box
    height, width = scene.shape
    if rng.random() < 0.25:
        at = round(x + w + rng.uniform(0.05, 0.3) * TALL), round(y + h - rng.uniform(-0.03, 0.12) * TALL)
        cv2.circle(scene, at, round(rng.uniform(0.02, 0.06) * TALL), 1.0, -1, cv2.LINE_AA)
        return
    gap = max(4, round(rng.uniform(0.05, 0.3) * TALL))
    to_the_right = rng.random() < 0.5
    room = width - x - w - gap if to_the_right else x - gap
    seen = min(int(rng.uniform(0.05, 0.5) * other.shape[1]), room)
    if seen < 3:
        return
    part = other[:, :seen] if to_the_right else other[:, -seen:]
    top = y + int(rng.uniform(-0.25, 0.25) * TALL) + (h - part.shape[0]) // 2
    part = part[max(-top, 0) : max(0, height - top)]
    left, top = width - seen if to_the_right else 0, max(top, 0)
    target = scene[top : top + part.shape[0], left : left + seen]
    np.maximum(target, part, out=target)


def _sprinkle(scene: Ink, rng: np.random.Generator) -> None:
    """Dirt: a few specks anywhere."""
    height, width = scene.shape
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(scene, at, int(rng.integers(0, 3)), float(rng.uniform(0.3, 1)), -1)


def _printed(shape: tuple[int, ...], box: Box, rng: np.random.Generator) -> Ink:
    """What stood on the paper before: a whole or a partial box around the writing, ruled or squared lines."""
    height, width = shape
    cover = np.zeros((height, width), np.float32)
    kind = rng.choice(list(PRINTS), p=list(PRINTS.values()))
    x, y, w, h = box
    tilt = rng.normal(0, 0.012) if rng.random() < 0.7 else rng.uniform(-CROOKED, CROOKED)
    thick = int(rng.integers(1, 6 if kind in {"box", "closed", "comb"} else 3))

    def across(at: float) -> None:
        ends = (0, round(at)), (width, round(at + tilt * width))
        cv2.line(cover, *ends, 1.0, thick, cv2.LINE_AA)

    def down(at: float) -> None:
        ends = (round(at), 0), (round(at - tilt * height), height)
        cv2.line(cover, *ends, 1.0, thick, cv2.LINE_AA)

    if kind == "box":
        sides = rng.random(4) < rng.choice([0.5, 1.0])
        for draw, at, there in (
            (across, rng.uniform(-0.1, 1.0) * y, sides[0]),
            (across, y + h + rng.uniform(0, 1.1) * (height - y - h), sides[1]),
            (down, rng.uniform(-0.1, 1.0) * x, sides[2]),
            (down, x + w + rng.uniform(0, 1.1) * (width - x - w), sides[3]),
        ):
            if there:
                draw(at)
    elif kind == "closed":
        near, far = rng.uniform(-0.02, 0.3, (2, 2)) * TALL
        cv2.rectangle(
            cover, (int(x - near[0]), int(y - near[1])), (int(x + w + far[0]), int(y + h + far[1])), 1.0, thick
        )
    elif kind == "comb":
        foot, tooth = y + h + rng.uniform(-0.1, 0.15) * TALL, rng.uniform(0.2, 0.6) * TALL
        across(foot)
        for at in (x - rng.uniform(0.05, 0.3) * TALL, x + w + rng.uniform(0.05, 0.3) * TALL):
            cv2.line(cover, (round(at), round(foot)), (round(at), round(foot - tooth)), 1.0, thick, cv2.LINE_AA)
    elif kind == "ruled":
        across(y + h * rng.uniform(0.9, 1.2))
        if rng.random() < 0.5:
            across(y - h * rng.uniform(-0.05, 0.3))
    elif kind == "squared":
        step, shift = TALL * rng.uniform(0.3, 1.4), rng.uniform(0, TALL)
        for i in range(-2, int(max(height, width) / step) + 1):
            across(i * step + shift)
            down(i * step + shift)
    elif kind == "margin":
        down(x * rng.uniform(0, 0.8) if rng.random() < 0.5 else x + w + rng.uniform(0.2, 1) * (width - x - w))
    return cover


def _light(shape: tuple[int, ...], rng: np.random.Generator) -> Ink:
    """How much of the light arrives where: a fall-off, a vignette, a shadow's edge."""
    height, width = shape
    if rng.random() < 0.4:
        return np.ones((height, width), np.float32)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, np.newaxis]
    light = 1 + rng.uniform(-0.25, 0.25) * x + rng.uniform(-0.25, 0.25) * y
    if rng.random() < 0.3:
        light = light - rng.uniform(0.1, 0.7) * (x * x + y * y)
    if rng.random() < 0.25:
        angle, soft = rng.uniform(0, 2 * np.pi), rng.uniform(0.01, 0.08)
        edge = (np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.3, 0.3)) / soft
        light = light * (1 - rng.uniform(0.15, 0.5) / (1 + np.exp(-np.clip(edge, -30, 30))))
    return np.asarray(np.clip(light, 0.2, 1.2), np.float32)


def _taken(scene: Ink, contrast: float, factor: float, rng: np.random.Generator) -> Page:
    """The scene at the camera's resolution, with its blur, noise and encoding; a few in colour, or black and white."""
    if rng.random() < 0.5:
        scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.4, 2.2)), np.float32)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(scene, None, fx=factor, fy=factor, interpolation=how), np.float32)
    noise = min(rng.exponential(3.0), 0.16 * contrast)
    small = small + noise * rng.standard_normal(small.shape, np.float32)
    taken = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    kind = rng.random()
    if kind < 0.05:  # one bit, as some scanners deliver
        _, black = cv2.threshold(taken, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        return np.asarray(black, np.uint8)
    if kind < 0.2:  # a coloured cast, as if by the pen or the paper
        low, high = rng.uniform(0, 60, 3), rng.uniform(150, 255, 3)
        ramp = np.linspace(0, 1, 256)[:, np.newaxis] * (high - low) + low
        return np.asarray(ramp.astype(np.uint8)[taken], np.uint8)
    if kind < 0.6:
        _, data = cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
    return taken


def _texture(shape: tuple[int, ...], spread: float, rng: np.random.Generator) -> Ink:
    """Random unevenness of unit size whose grains are about `spread` pixels."""
    step = max(1.0, spread)
    coarse = max(2, round(shape[1] / step)), max(2, round(shape[0] / step))
    field = rng.standard_normal(coarse[::-1], np.float32)
    return np.asarray(cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
