"""Whole number fields that never were: digits of one hand, written on forms, cheques and plain paper (`train.paper`).

Pure: arrays in and out. Every choice comes from the random generator that is handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from train import hands
from train.augmentation import augment
from train.nothing import nothing
from train.paper import taken
from train.render import drawn, page, written
from train.scene import Scene
from train.writer import Hand, Writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.mnist import Images, Labels
    from watcher.normalise import Page

PLAIN = 0.24  # share of fields that are MNIST's own pictures side by side on white
BENT = 0.6  # share of those whose digits are bent, thickened, thinned: so that no digit is learnt by heart
SINGLE = 0.12  # share of fields that are one digit, as the digit network's samples are
NOTHING = 0.03  # share that holds no digit
LENGTHS: Final = (0.04, 0.13, 0.17, 0.19, 0.17, 0.1, 0.07, 0.05, 0.03, 0.02, 0.015, 0.015)
"""How often a field has 1, 2, 3 … digits."""
STRANGE = 1.5  # times as far from the known ways to write as in training: how hands to judge by stray
FORMS: Final = {"nothing": 0.4, "underline": 0.16, "frame": 0.1, "comb": 0.2, "boxes": 0.08, "dots": 0.06}
"""What is printed around a field, and how often."""
GAPS: Final = {"spaced": (3, 14), "tight": (1, 3), "touching": (-3, 1)}
"""Pixels of paper between MNIST's digits side by side, from and to."""
LEARNT: Final = {"spaced": 0.2, "tight": 0.25, "touching": 0.55}
"""How often each of these is trained on: the harder, the more."""


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
    scene = Scene(Writer(images, labels, Hand.any(rng, STRANGE if to_judge else 1.0), rng), rng)
    if form in {"comb", "boxes"}:
        scene.cells(count, form)
    else:
        scene.line(count)
    ink, print_ = scene.cropped(form)
    return taken(ink, print_, rng), scene.text.replace("/", "") if to_judge else scene.text


def date(images: Images, labels: Labels, mark: str, rng: np.random.Generator) -> tuple[Page, str]:
    """Make a date of six digits on paper, a `mark` before the month and before the year: the crop and its digits."""
    scene = Scene(Writer(images, labels, Hand.any(rng), rng), rng)
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
