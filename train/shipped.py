"""The calibration that ships: on images of MNIST that the network never trained on, as clean scans and on worn paper.

MNIST as it is would promise too much for real paper, and paper as bad as we can render it too little for good scans. So
the promise has to hold on both, each by itself. On worn paper, though, with its neighbours, ruled lines, faint pens and
things that are no digits, some crops cannot be read by anybody: less than `FLOOR` is not asked of it.

Each image is rendered several times, since a small error takes many crops to show. Renderings of one image are
independent given the image, so the binomial test is exact for new scans of these writings (for unequal chances it is on
the safe side: Hoeffding, "On the distribution of the number of successes", 1956), but says less of other writers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from train import calibration, card, export, plots
from train.augmentation import as_inputs
from train.judge import judge
from train.mnist import DataError
from train.pool import NONE, SLICE, Samples, Task, in_processes, render_slice
from train.recipes import RECIPES
from watcher.calibration import Calibration
from watcher.model import SERVES
from watcher.normalise import normalise
from watcher.reading import rank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from train.calibration import Right, Scores
    from train.mnist import Images, Labels, Mnist
    from watcher.normalise import Page

SEED = 2000
SCANS, WORN = 10, 4  # renderings of each image, clean and on worn paper
FLOOR = 0.01  # share of wrong values below which worn paper is not asked to go
NOTHINGS = 0.2  # crops of no digit for each image on worn paper, before those that look like one are dropped
SHOWN_RATES = 0.001, 0.01  # of error, marked in the risk-coverage plot
LOOKS = 0.75  # so likely a digit to a plain network: not to be called none
AS_IT_IS = 0.25  # of the clean scans: the image itself, bright on black
Tried = tuple[str, float, "Scores", "Right"]
"""What crops they are in words, the least error asked of them, their scores, and whether they were read right."""


def calibrate_shipped(folder: Path, mnist: Mnist, say: Callable[[str], None]) -> dict[str, Any]:
    """Calibrate the network in `folder`, draw how good that is, and write it into the card, which is returned.

    Raises DataError where `mnist` is not what the network was trained on.
    """
    entry: dict[str, Any] = json.loads((folder / card.NAME).read_text(encoding="utf-8"))
    if entry["data"] != dict(mnist.sha256):
        raise DataError(f"{folder} was trained on other data than this; its card says which.")
    recipe = RECIPES[entry["recipe"]]
    held_back = recipe.held_back(len(mnist.train_images))
    images, labels = mnist.train_images[held_back], mnist.train_labels[held_back]
    name = f"{len(images):,} {'MNIST ' if mnist.is_original else ''}training images held back"
    if recipe.rendered:
        say(f"putting {name} on paper, {SCANS} times clean and {WORN} times worn, to calibrate with")
        looks_like = judge(mnist.train_images[~held_back], mnist.train_labels[~held_back])
        clean = in_processes(scan_slice, _tasks(images, labels, SCANS, 0.0))
        worn = _without_digits_in_none(in_processes(render_slice, _tasks(images, labels, WORN, NOTHINGS)), looks_like)
        none = float((worn.classes == NONE).mean())
        kinds = [
            (f"{len(clean.images):,} clean scans of {name}", 0.0, clean),
            (f"{len(worn.images):,} crops of worn paper with {name}, {none:.0%} of no digit", FLOOR, worn),
        ]
    else:
        kinds = [(name, 0.0, Samples(images, labels, np.zeros(len(images), np.bool_)))]
    tried: list[Tried] = []
    for on, floor, samples in kinds:
        probabilities = export.predict(folder / SERVES, as_inputs(samples.images))
        scores, right = judged(probabilities, entry["classes"], samples.classes)
        tried.append((on, floor, scores, right))
    entry["calibration"]["digit"] = digit = made_of(tried)
    card.write(folder / card.NAME, entry)
    draw(folder, "digit", digit, tried)
    return entry


def judged(probabilities: export.Probabilities, classes: Sequence[str], labels: Labels) -> tuple[Scores, Right]:
    """The raw score of each reading as the watcher takes it, and whether it is right: (n,) each.

    Where nothing is to be read, whatever is read is wrong.
    """
    scores, right = np.zeros(len(labels)), np.zeros(len(labels), np.bool_)
    for index, (row, label) in enumerate(zip(probabilities.tolist(), labels.tolist(), strict=True)):
        ranked, _, scores[index] = rank(row, classes)
        right[index] = ranked[0][0] == str(label)
    return scores, right


def made_of(tried: Sequence[Tried]) -> dict[str, Any]:
    """A calibration as the card holds it."""
    scores, right = np.concatenate([one[2] for one in tried]), np.concatenate([one[3] for one in tried])
    return {
        "map": calibration.platt(scores, right),
        "trials": [calibration.trial(on, scores, right, floor) for on, floor, scores, right in tried],
    }


def draw(folder: Path, kind: str, entry: dict[str, Any], tried: Sequence[Tried]) -> None:
    """Draw the reliability diagram and the risk-coverage curve of a calibration into `folder`."""
    read = Calibration.of(entry)
    lines = {}
    for on, _, scores, right in tried:
        confidence = np.array([read.probability(score) for score in scores.tolist()])
        lines[on] = confidence, right
    plots.save(plots.reliability(lines, f"Confidence and accuracy · {kind}"), folder / f"reliability-{kind}.png")
    marks = {
        on: {rate: calibration.accepted_at(*line, read.threshold(rate)) for rate in SHOWN_RATES}
        for on, line in lines.items()
    }
    figure = plots.risk_coverage(lines, marks, f"What is given up for fewer errors · {kind}")
    plots.save(figure, folder / f"risk-coverage-{kind}.png")


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


def _tasks(images: Images, labels: Labels, passes: int, nothings: float) -> list[Task]:
    return [
        Task(
            images[start : start + SLICE], labels[start : start + SLICE], (SEED, number, start), nothings, anything=True
        )
        for number in range(passes)
        for start in range(0, len(images), SLICE)
    ]


def _without_digits_in_none(samples: Samples, looks_like: Callable[[Images], Any]) -> Samples:
    """The samples without those of no digit that came out as one all the same: a half of an 8 may be a 3."""
    none = np.flatnonzero(samples.classes == NONE)
    kept = np.ones(len(samples.images), np.bool_)
    kept[none] = looks_like(samples.images[none]) < LOOKS
    return Samples(samples.images[kept], samples.classes[kept], samples.doubtful[kept])
