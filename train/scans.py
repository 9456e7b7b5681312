"""MNIST as a good scanner would have delivered it, taken back through the normaliser, to calibrate with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from train.pool import Samples
from watcher.normalise import normalise

if TYPE_CHECKING:
    from train.mnist import Images
    from train.pool import Task
    from watcher.normalise import Page

AS_IT_IS = 0.25  # of the clean scans: the image itself, bright on black


def scan_slice(task: Task) -> Samples:
    """Take back each image of a slice once, as it is or as a clean scan of it; what is found is kept."""
    cv2.setNumThreads(1)  # there is a process for each processor
    found = []
    for index, image in enumerate(task.images):
        rng = np.random.default_rng([*task.seed, index])
        ink = normalise(image if rng.random() < AS_IT_IS else scan(image, rng))
        found.append(None if ink is None else np.rint(ink.image * 255).astype(np.uint8))
    kept = [index for index, image in enumerate(found) if image is not None]
    shown = np.array([found[index] for index in kept], np.uint8).reshape(-1, 28, 28)
    return Samples(shown, task.labels[kept], np.zeros(len(kept), np.bool_))


def scan(image: Images, rng: np.random.Generator) -> Page:
    """A digit of MNIST as a good scanner gives it: dark on light, as large as a crop is, hardly soft, hardly noisy."""
    margins = rng.integers(0, 10, (2, 2)).tolist()
    side = rng.uniform(2, 6)
    large = cv2.resize(np.pad(image, margins), None, fx=side, fy=side, interpolation=cv2.INTER_CUBIC)
    paper, ink = rng.uniform(215, 255), rng.uniform(10, 100)
    page = paper - (paper - ink) * large.astype(np.float32) / 255
    page = page + rng.uniform(0, 4) * rng.standard_normal(page.shape, np.float32)
    return np.clip(np.rint(page), 0, 255).astype(np.uint8)
