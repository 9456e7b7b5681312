"""The samples that a network for real paper is trained on: digits and no digits, rendered and taken back.

Made once for a seed, in as many processes as there are processors, and kept in a cache: each sample comes from a
random generator of its own, so that the number of processes changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from tqdm import tqdm

from train import cache, hands
from train.nothing import KINDS, nothing
from train.render import agree, drawn, page, written
from watcher.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from train.mnist import Images, Labels
    from train.render import Ink

SOURCES = (
    "train/hands.py",
    "train/nothing.py",
    "train/pool.py",
    "train/render.py",
    "watcher/printed.py",
    "watcher/normalise.py",
    "watcher/plane.py",
)
NONE: Final = 10  # the class of what is no digit
SLICE = 250  # images of MNIST that one task renders
DRAWN = 0.22  # strokes of our own for each image of MNIST
HANDS: Final = {
    "1": 0.26,
    "7": 0.18,
    "4": 0.11,
    "9": 0.13,
    "8": 0.12,
    "2": 0.06,
    "0": 0.05,
    "5": 0.04,
    "3": 0.03,
    "6": 0.02,
}
"""What those strokes write: mostly what MNIST lacks."""
NOTHINGS = 0.32  # samples of no digit for each image, before those that look like one are dropped
CERTAIN = 0.75  # that it is a digit: what a network of MNIST finds so likely is no sample of nothing
DOUBTFUL: Final = ("scribble", "struck", "pair", "half")  # in these there may be a digit after all


@dataclass(frozen=True, slots=True)
class Task:
    """A slice of MNIST to render."""

    images: Images
    labels: Labels
    seed: tuple[int, ...]
    nothings: float = NOTHINGS
    anything: bool = False  # keep what the normaliser finds elsewhere than it was put: to measure, not to train


@dataclass(frozen=True, slots=True)
class Samples:
    """What came back: images (n, 28, 28), their classes, and whether a network has to look for a digit in them."""

    images: Images
    classes: Labels
    doubtful: NDArray[np.bool_]


def pool(
    images: Images, labels: Labels, seed: int, passes: int, looks_like: Callable[[Images], NDArray[np.floating]]
) -> tuple[Images, Labels]:
    """Render each image `passes` times, with strokes of our own and no digits among them: (n, 28, 28) and classes.

    `looks_like` tells how likely each of some images is a digit. What the normaliser does not find where it was put
    is left out.
    """
    path = cache.place("rendered", f"{seed} {passes}", images, labels, SOURCES)
    if kept := cache.take(path):
        samples = Samples(**kept)
    else:
        samples = _rendered(images, labels, seed, passes)
        cache.keep(path, {name: getattr(samples, name) for name in Samples.__slots__})
    is_sample = np.ones(len(samples.images), np.bool_)
    is_sample[samples.doubtful] = looks_like(samples.images[samples.doubtful]) < CERTAIN
    return samples.images[is_sample], samples.classes[is_sample]


def render_slice(task: Task) -> Samples:
    """Render one slice: each of its images once, and in proportion strokes of our own and no digits."""
    cv2.setNumThreads(1)  # there is a process for each processor
    count = len(task.images)
    kinds = ["image"] * count + ["hand"] * round(DRAWN * count) + ["nothing"] * round(task.nothings * count)
    images, classes, doubtful = [], [], []
    for index, kind in enumerate(kinds):
        rng = np.random.default_rng([*task.seed, index])
        name = ""
        if kind == "image":
            label = int(task.labels[index])
            ink = written(task.images[index], label, rng)
        elif kind == "hand":
            label = int(rng.choice(list(HANDS), p=list(HANDS.values())))
            ink = drawn(hands.digit(str(label), rng), rng)
        else:
            label, name = NONE, str(rng.choice(list(KINDS), p=list(KINDS.values())))
            ink = nothing(task.images, task.labels, rng, name)
        other = int(rng.integers(count))
        neighbour = written(task.images[other], int(task.labels[other]), rng)
        image = taken_back(ink, neighbour, rng, anything=task.anything)
        if image is not None:
            images.append(image)
            classes.append(label)
            doubtful.append(name in DOUBTFUL)
    shown = np.array(images, np.uint8).reshape(-1, 28, 28)
    return Samples(shown, np.array(classes, np.uint8), np.array(doubtful, np.bool_))


def taken_back(ink: Ink, neighbour: Ink, rng: np.random.Generator, *, anything: bool = False) -> Images | None:
    """Put writing on paper and take it back through the normaliser: (28, 28).

    None where it finds nothing or, unless `anything` will do, something else.
    """
    crop, box = page(ink, [neighbour], rng)
    found = normalise(crop)
    if found is None or not (anything or agree(found.box, box)):
        return None
    return np.rint(found.image * 255).astype(np.uint8)


def _rendered(images: Images, labels: Labels, seed: int, passes: int) -> Samples:
    return in_processes(
        render_slice,
        [
            Task(images[start : start + SLICE], labels[start : start + SLICE], (seed, number, start))
            for number in range(passes)
            for start in range(0, len(images), SLICE)
        ],
    )


def in_processes(render: Callable[[Task], Samples], tasks: Sequence[Task]) -> Samples:
    """Render slices in as many processes as there are processors; the samples in the order of the tasks."""
    # Spawned, since TensorFlow has threads by now.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(tasks), os.cpu_count() or 1), mp_context=context) as workers:
        made = workers.map(render, tasks)
        parts = list(tqdm(made, "rendering", len(tasks), leave=False, disable=None, unit="slice"))
    return Samples(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.doubtful for part in parts]),
    )
