"""The fields that the field network is trained on: made, and taken back through the line normaliser that serves.

Made once for a seed, in as many processes as there are processors, and kept in a cache: each field comes from a random
generator of its own, so that the number of processes changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from train import cache
from train.fields import field
from watcher.line import FINER, Line, normalise_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from train.mnist import Images, Labels
    from watcher.normalise import Page

SLICE = 250  # fields that one task makes
SOURCES = (
    "train/augmentation.py",
    "train/fields.py",
    "train/hands.py",
    "train/lines.py",
    "train/nothing.py",
    "train/paper.py",
    "train/render.py",
    "train/scene.py",
    "train/styles.py",
    "train/writer.py",
    "watcher/line.py",
    "watcher/printed.py",
    "watcher/plane.py",
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of writing as the network sees them, and their digits: to learn from, with the slashes between them."""

    planes: tuple[NDArray[np.uint8], ...]  # (HEIGHT, width) each
    values: tuple[str, ...]
    finer: tuple[NDArray[np.uint8], ...] = ()  # to judge by, each (FINER * HEIGHT, FINER * width); to learn from, none

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Line:
        """A line to judge by, as the watcher has it."""
        plane = self.planes[index]
        return Line(as_image(plane), (0, 0, *plane.shape[::-1]), 0.0, finer=partial(as_image, self.finer[index]))


@dataclass(frozen=True, slots=True)
class Task:
    """Fields to make of some images."""

    images: Images
    labels: Labels
    seed: tuple[int, ...]
    count: int
    to_judge: bool = False  # see `train.fields.field`


def pool(images: Images, labels: Labels, seed: int, count: int, *, to_judge: bool = False) -> Lines:
    """Make `count` fields of digits from `images`; what the normaliser does not find or is too narrow is left out."""
    path = cache.place("fields", f"{seed} {count} {to_judge}", images, labels, SOURCES)
    if kept := cache.take(path):
        ends = np.cumsum(kept["widths"])[:-1]
        finer = np.split(kept["finer"], FINER * ends, axis=1) if to_judge else ()
        return Lines(tuple(np.split(kept["planes"], ends, axis=1)), tuple(kept["values"].tolist()), tuple(finer))
    lines = _made(images, labels, seed, count, to_judge=to_judge)
    keep = {
        "planes": np.concatenate(lines.planes, axis=1),
        "widths": np.array([plane.shape[1] for plane in lines.planes]),
        "values": np.array(lines.values),
    }
    cache.keep(path, keep | ({"finer": np.concatenate(lines.finer, axis=1)} if to_judge else {}))
    return lines


def make_slice(task: Task) -> Lines:
    """Make one slice of fields."""
    cv2.setNumThreads(1)  # there is a process for each processor
    rngs = (np.random.default_rng([*task.seed, index]) for index in range(task.count))
    made = (field(task.images, task.labels, rng, to_judge=task.to_judge) for rng in rngs)
    return lines_of(made, to_judge=task.to_judge)


def lines_of(made: Iterable[tuple[Page, str]], *, to_judge: bool = False) -> Lines:
    """The lines that the watcher finds on pages of known values; where it finds none, or one too narrow, none."""
    planes, values, finer = [], [], []
    for page, value in made:
        line = normalise_line(page)
        if line is not None and long_enough(line.image.shape[1], value):
            planes.append(in_steps(line.image))
            values.append(value)
            if to_judge:
                finer.append(in_steps(line.finer()))
    return Lines(tuple(planes), tuple(values), tuple(finer))


def in_steps(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A line from 0 to 1 in 256 steps, to be kept."""
    return np.rint(image * 255).astype(np.uint8)


def as_image(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A line in 256 steps as the watcher has it."""
    return np.asarray(plane / np.float32(255), np.float32)


def long_enough(width: int, value: str) -> bool:
    """Whether the network has a step for each digit, and one between those that are alike (see `ctc`)."""
    alike = sum(a == b for a, b in pairwise(value))
    return len(value) + alike <= 2 * (width // 4)


def _made(images: Images, labels: Labels, seed: int, count: int, *, to_judge: bool) -> Lines:
    starts = range(0, count, SLICE)
    tasks = [Task(images, labels, (seed, start), min(SLICE, count - start), to_judge) for start in starts]
    context = multiprocessing.get_context("spawn")  # since TensorFlow has threads by now
    with ProcessPoolExecutor(min(len(tasks), os.cpu_count() or 1), mp_context=context) as workers:
        parts: Sequence[Lines] = list(
            tqdm(workers.map(make_slice, tasks), "making fields", len(tasks), leave=False, disable=None, unit="slice")
        )
    return Lines(
        tuple(plane for part in parts for plane in part.planes),
        tuple(value for part in parts for value in part.values),
        tuple(plane for part in parts for plane in part.finer),
    )
