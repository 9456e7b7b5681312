"""The fields that the field network is trained on: made, and taken back through the line normaliser that serves.

Made once for a seed, in as many processes as there are processors, and kept in a cache: each field comes from a random
generator of its own, so that the number of processes changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from train import cache
from train.fields import field
from watcher.line import normalise_line

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def __len__(self) -> int:
        return len(self.values)


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
        planes = np.split(kept["planes"], np.cumsum(kept["widths"])[:-1], axis=1)
        return Lines(tuple(planes), tuple(kept["values"].tolist()))
    lines = _made(images, labels, seed, count, to_judge=to_judge)
    side_by_side = np.concatenate(lines.planes, axis=1)
    widths = np.array([plane.shape[1] for plane in lines.planes])
    cache.keep(path, {"planes": side_by_side, "widths": widths, "values": np.array(lines.values)})
    return lines


def make_slice(task: Task) -> Lines:
    """Make one slice of fields."""
    cv2.setNumThreads(1)  # there is a process for each processor
    planes, values = [], []
    for index in range(task.count):
        page, value = field(
            task.images, task.labels, np.random.default_rng([*task.seed, index]), to_judge=task.to_judge
        )
        plane = line_of(page)
        if plane is not None and long_enough(plane.shape[1], value):
            planes.append(plane)
            values.append(value)
    return Lines(tuple(planes), tuple(values))


def line_of(page: Page) -> NDArray[np.uint8] | None:
    """The line that the watcher finds on a page, in 256 steps; None where it finds nothing."""
    found = normalise_line(page)
    return None if found is None else np.rint(found.image * 255).astype(np.uint8)


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
        tuple(plane for part in parts for plane in part.planes), tuple(value for part in parts for value in part.values)
    )
