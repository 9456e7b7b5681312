"""How well one digit is found and read on each kind of paper: `python -m benchmarks.paper --data MNIST`.

Digits of MNIST that were never trained on are written on paper that is hard in one way at a time, so that a weak spot
shows by its name. "Found" is the share whose ink was boxed where it was put, "read" the share of right values.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from train import mnist
from train.render import TALL, agree, written
from watcher import model
from watcher.normalise import normalise
from watcher.reading import NONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from train.render import Ink
    from watcher.normalise import Page
    from watcher.plane import Box

    Case = tuple[Page, Box]
    Digit = Callable[[], Ink]

ROOT = Path(__file__).parent.parent


def placed(ink: Ink, rng: np.random.Generator, room: tuple[float, float] = (0.15, 0.6)) -> tuple[Ink, Box]:
    """Writing on a scene of its own, with margins in shares of its longer side."""
    height, width = ink.shape
    left, top, right, bottom = np.round(max(ink.shape) * rng.uniform(*room, 4)).astype(int).tolist()
    scene = np.zeros((height + top + bottom, width + left + right), np.float32)
    scene[top : top + height, left : left + width] = ink
    return scene, (left, top, width, height)


def photographed(
    scene: Ink,
    printed: Ink | None,
    box: Box,
    rng: np.random.Generator,
    *,
    contrast: float | None = None,
    print_contrast: float = 0.6,
    side: float | None = None,
    noise: float = 3.0,
    blur: float = 0.8,
) -> Case:
    """The scene as a crop of `side` pixels (the square root of its area), in uneven light."""
    paper = rng.uniform(150, 245)
    contrast = contrast or rng.uniform(70, paper - 10)
    hidden = scene * contrast
    if printed is not None:
        hidden = np.maximum(hidden, printed * contrast * print_contrast)
    height, width = scene.shape
    x, y = np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height)[:, np.newaxis]
    light = 1 + rng.uniform(-0.2, 0.2) * x + rng.uniform(-0.2, 0.2) * y - rng.uniform(0, 0.4) * (x * x + y * y)
    seen = cv2.GaussianBlur((np.clip(paper - hidden, 0, 255) * light).astype(np.float32), (0, 0), blur)
    factor = min((side or rng.uniform(70, 220)) / scene.size**0.5, 1.6)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(seen, None, fx=factor, fy=factor, interpolation=how))
    crop = np.clip(np.rint(small + noise * rng.standard_normal(small.shape)), 0, 255).astype(np.uint8)
    fx, fy = crop.shape[1] / width, crop.shape[0] / height
    left, top, wide, high = box
    return crop, (round(left * fx), round(top * fy), max(1, round(wide * fx)), max(1, round(high * fy)))


def ruled(shape: tuple[int, ...], lines: Sequence[tuple[float, float, float, float]], thick: int) -> Ink:
    """Straight lines from (x, y) to (x, y)."""
    cover = np.zeros(shape, np.float32)
    for x0, y0, x1, y1 in lines:
        cv2.line(cover, (round(x0), round(y0)), (round(x1), round(y1)), 1.0, thick, cv2.LINE_AA)
    return cover


def plain(digit: Digit, rng: np.random.Generator, room: tuple[float, float] = (0.15, 0.6), **how: float) -> Case:
    """Nothing but paper; `room` and `how` make it tight, small, faint, blurred or noisy."""
    scene, box = placed(digit(), rng, room)
    return photographed(scene, None, box, rng, **how)


def squared(
    digit: Digit, rng: np.random.Generator, step: tuple[float, float], tilt: float, *, upright: bool = True
) -> Case:
    """Squared or, not `upright`, ruled paper of a step in heights of the digit."""
    scene, box = placed(digit(), rng)
    height, width = scene.shape
    every, start, slope = TALL * rng.uniform(*step), rng.uniform(0, TALL), rng.uniform(-tilt, tilt)
    at = [start + every * i for i in range(-4, int(max(scene.shape) / every) + 5)]
    lines: list[tuple[float, float, float, float]] = [(0, y, width, y + slope * width) for y in at]
    if upright:
        lines += [(x, 0, x - slope * height, height) for x in at]
    return photographed(scene, ruled(scene.shape, lines, int(rng.integers(1, 3))), box, rng, print_contrast=0.5)


def framed(digit: Digit, rng: np.random.Generator, sides: float, gap: tuple[float, float]) -> Case:
    """Lines from edge to edge around the digit, each there with a chance of `sides`, so far from the ink."""
    scene, (x, y, w, h) = placed(digit(), rng)
    height, width = scene.shape
    up, down, left, right = rng.uniform(*gap, 4) * TALL
    tilt = rng.normal(0, 0.015)
    lines = np.array(
        [
            (0, y - up, width, y - up + tilt * width),
            (0, y + h + down, width, y + h + down + tilt * width),
            (x - left, 0, x - left - tilt * height, height),
            (x + w + right, 0, x + w + right - tilt * height, height),
        ]
    )
    printed = ruled(scene.shape, lines[rng.random(4) < sides].tolist(), int(rng.integers(1, 6)))
    return photographed(scene, printed, (x, y, w, h), rng, print_contrast=rng.uniform(0.4, 1.1))


def boxed(digit: Digit, rng: np.random.Generator) -> Case:
    """A closed box that stands free in the crop, near the ink or touching it."""
    scene, (x, y, w, h) = placed(digit(), rng, (0.4, 0.7))
    up, down, left, right = rng.uniform(-0.03, 0.3, 4) * TALL
    x0, y0, x1, y1 = x - left, y - up, x + w + right, y + h + down
    sides = [(x0, y0, x1, y0), (x1, y0, x1, y1), (x1, y1, x0, y1), (x0, y1, x0, y0)]
    printed = ruled(scene.shape, sides, int(rng.integers(1, 5)))
    return photographed(scene, printed, (x, y, w, h), rng, print_contrast=rng.uniform(0.5, 1.1))


def combed(digit: Digit, rng: np.random.Generator, teeth: float = 0.6) -> Case:
    """A line under the digit, through its foot or just below, with teeth beside it or without."""
    scene, (x, y, w, h) = placed(digit(), rng)
    foot, tooth = y + h + rng.uniform(-0.12, 0.1) * TALL, rng.uniform(0.2, 0.6) * TALL * (teeth > 0)
    beside = x - rng.uniform(0.05, 0.3) * TALL, x + w + rng.uniform(0.05, 0.3) * TALL
    lines = [(0, foot, scene.shape[1], foot), *((at, foot, at, foot - tooth) for at in beside)]
    printed = ruled(scene.shape, lines, int(rng.integers(1, 5)))
    return photographed(scene, printed, (x, y, w, h), rng, print_contrast=rng.uniform(0.4, 1.1))


def crowded(digit: Digit, rng: np.random.Generator) -> Case:
    """Neighbours on both sides that the crop's edges cut."""
    scene, (x, y, w, h) = placed(digit(), rng, (0.2, 0.45))
    for to_the_right in (False, True):
        other = digit()
        gap, down = rng.uniform(0.03, 0.2) * TALL, rng.normal(0, 0.08) * TALL
        left = round(x + w + gap if to_the_right else x - gap - other.shape[1])
        top = round(y + (h - other.shape[0]) / 2 + down)
        seen = other[max(0, -top) : max(0, scene.shape[0] - top), max(0, -left) : max(0, scene.shape[1] - left)]
        target = scene[max(0, top) :, max(0, left) :][: seen.shape[0], : seen.shape[1]]
        np.maximum(target, seen, out=target)
    return photographed(scene, None, (x, y, w, h), rng)


def shadowed(digit: Digit, rng: np.random.Generator) -> Case:
    """The edge of a shadow across the crop."""
    crop, box = plain(digit, rng)
    height, width = crop.shape
    x, y = np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height)[:, np.newaxis]
    angle = rng.uniform(0, 2 * np.pi)
    edge = (np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.25, 0.25)) / rng.uniform(0.01, 0.06)
    light = 1 - rng.uniform(0.25, 0.6) / (1 + np.exp(-np.clip(edge, -30, 30)))
    return np.clip(crop * light, 0, 255).astype(np.uint8), box


def watermarked(digit: Digit, rng: np.random.Generator) -> Case:
    """Waves of security print."""
    scene, box = placed(digit(), rng)
    y, x = np.indices(scene.shape)
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(0.15, 0.4)
    waves = 0.5 + 0.5 * np.sin((np.cos(angle) * x + np.sin(angle) * y) * pitch + 2 * np.sin(y * 0.05))
    return photographed(scene, waves.astype(np.float32), box, rng, print_contrast=rng.uniform(0.1, 0.3))


def inverted(digit: Digit, rng: np.random.Generator) -> Case:
    """Light on dark, in a frame or without."""
    crop, box = framed(digit, rng, 0.25, (0, 0.3))
    return 255 - crop, box


CASES: dict[str, Callable[[Digit, np.random.Generator], Case]] = {
    "plain": plain,
    "cut at the ink": partial(plain, room=(0, 0.05)),
    "small on the page": lambda digit, rng: plain(digit, rng, (1.2, 3.0), side=rng.uniform(200, 500)),
    "20 to 34 pixels": lambda digit, rng: plain(digit, rng, side=rng.uniform(20, 34)),
    "faint": lambda digit, rng: plain(digit, rng, contrast=rng.uniform(18, 40), noise=2.5),
    "blurred": lambda digit, rng: plain(digit, rng, blur=rng.uniform(3, 6)),
    "noisy": lambda digit, rng: plain(digit, rng, noise=rng.uniform(10, 18)),
    "light on dark": inverted,
    "shadow": shadowed,
    "neighbours": crowded,
    "ruled": partial(squared, step=(0.7, 1.5), tilt=0.05, upright=False),
    "squared": partial(squared, step=(0.3, 0.8), tilt=0.01),
    "squared, askew": partial(squared, step=(0.3, 0.8), tilt=0.07),
    "squared, large": partial(squared, step=(0.8, 1.6), tilt=0.05),
    "frame": partial(framed, sides=1.0, gap=(-0.06, 0.25)),
    "part of a frame": partial(framed, sides=0.5, gap=(-0.04, 0.3)),
    "closed box": boxed,
    "comb": combed,
    "underline": partial(combed, teeth=0),
    "security print": watermarked,
}


def main() -> None:
    """Print a line for each kind of paper."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with MNIST's four files")
    parser.add_argument("--model", type=Path, default=ROOT / "model", metavar="DIR", help="network to read with")
    parser.add_argument("--crops", type=int, default=300, metavar="N", help="of each kind (default: 300)")
    parser.add_argument("cases", nargs="*", metavar="KIND", help=f"of {', '.join(CASES)} (default: all)")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - CASES.keys():
        parser.error(f"unknown kind {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    cv2.setNumThreads(1)
    data = mnist.load(arguments.data, arguments.data)
    held_back = mnist.every_twelfth_pair(len(data.train_images))
    images, labels = data.train_images[held_back], data.train_labels[held_back]
    card, predict = model.load(arguments.model)
    digits = [index for index, name in enumerate(card.classes) if name != NONE]
    print(f"{card.name}, {arguments.crops} crops of each kind\n{'paper':<20}{'found':>8}{'blank':>8}{'read':>8}")
    shares = []
    for name in arguments.cases or CASES:
        found, blank, inputs, truth = 0, 0, [np.zeros((28, 28), np.float32)], [-1]
        for number in range(arguments.crops):
            rng = np.random.default_rng([number, *name.encode()])
            written_down: list[int] = []
            crop, box = CASES[name](partial(_digit, images, labels, rng, written_down), rng)
            ink = normalise(crop)
            blank += ink is None
            if ink is not None:
                found += agree(ink.box, box)
                inputs.append(ink.image)
                truth.append(written_down[0])
        values = predict(np.stack(inputs))[:, digits].argmax(axis=1)
        shares.append(float((values == np.array(truth)).sum()) / arguments.crops)
        print(f"{name:<20}{found / arguments.crops:>8.1%}{blank:>8}{shares[-1]:>8.1%}", flush=True)
    print(f"{'mean':<36}{np.mean(shares):>8.1%}")


def _digit(images: NDArray[np.uint8], labels: NDArray[np.uint8], rng: np.random.Generator, truth: list[int]) -> Ink:
    """Write any digit, and note which one it is: the first that is asked for is the one to read."""
    index = int(rng.integers(len(images)))
    truth.append(int(labels[index]))
    return written(images[index], truth[-1], rng)


if __name__ == "__main__":
    main()
