"""The calibration that ships: on images of MNIST that the network never trained on, as clean scans and on worn paper.

MNIST as it is would promise too much for real paper, and paper as bad as we can render it too little for good scans. So
the promise has to hold on both, each by itself. On worn paper, though, with its neighbours, ruled lines, faint pens and
things that are no digits, some crops cannot be read by anybody: less than `FLOOR` is not asked of it.

A digit that may be none is never accepted (`HARDLY_NONE`), but how many of those come, no calibration knows. So the
promise has to hold without the help of that rule: of what it bars only the wrong is counted.

Worn paper gets each image once, so that the crops are independent and the binomial test is exact for other writings.
Of clean scans a small error takes more to show than there are images: they get each several times. Scans of one writing
nearly always go the same way, so what is promised of them is promised for new scans of these writings; what they show
of others is told by `watcher.calibration.Trial.beyond`, in the log and by `check`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from train import calibration, card, export, plots
from train.augmentation import as_inputs
from train.judge import judge
from train.mnist import DataError
from train.pool import NONE, SLICE, Samples, Task, in_processes, render_slice
from train.recipes import RECIPES, TUNED
from train.scans import scan_slice
from watcher.calibration import Calibration
from watcher.model import SERVES
from watcher.reading import HARDLY_NONE, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from train.calibration import Right, Scores
    from train.mnist import Images, Labels, Mnist
    from train.recipes import Recipe

SEED = 2000
SCANS, WORN = 10, 1  # renderings of each image, clean and on worn paper
FLOOR = 0.01  # share of wrong values below which worn paper is not asked to go
NOTHINGS = 0.2  # crops of no digit for each image on worn paper, before those that look like one are dropped
SHOWN_RATES = 0.001, 0.01  # of error, marked in the risk-coverage plot
LOOKS = 0.75  # so likely a digit to a plain network: not to be called none


class Tried(NamedTuple):
    """What became of some crops."""

    on: str  # what they are, in words
    floor: float  # the least error that is asked of them
    scores: Scores
    right: Right
    barred: Right  # never accepted, whatever their score
    writings: int = 0  # of which they are several scans each


def calibrate_shipped(folder: Path, mnist: Mnist, say: Callable[[str], None]) -> dict[str, Any]:
    """Calibrate the network in `folder`, draw how good that is, and write it into the card, which is returned.

    Raises DataError where `mnist` is not what the network was trained on.
    """
    entry: dict[str, Any] = json.loads((folder / card.NAME).read_text(encoding="utf-8"))
    recipe = recipe_of(entry, folder, mnist)
    held_back = recipe.held_back(len(mnist.train_images))
    images, labels = mnist.train_images[held_back], mnist.train_labels[held_back]
    name = f"{len(images):,} {'MNIST ' if mnist.is_original else ''}training images held back"
    if recipe.rendered:
        say(f"putting {name} on paper, {SCANS} times clean and {WORN} time worn, to calibrate with")
        keras.utils.set_random_seed(SEED)  # that network, too, tells the same each time
        looks_like = judge(mnist.train_images[~held_back], mnist.train_labels[~held_back])
        clean = in_processes(scan_slice, _tasks(images, labels, SCANS, 0.0))
        worn = _without_digits_in_none(in_processes(render_slice, _tasks(images, labels, WORN, NOTHINGS)), looks_like)
        none = float((worn.classes == NONE).mean())
        kinds = [
            (clean, f"{len(clean.images):,} clean scans of {name}", 0.0, len(images)),
            (worn, f"{len(worn.images):,} crops of worn paper with {name}, {none:.0%} of no digit", FLOOR, 0),
        ]
    else:
        kinds = [(Samples(images, labels, np.zeros(len(images), np.bool_)), name, 0.0, 0)]
    tried = []
    for samples, on, floor, writings in kinds:
        probabilities = export.predict(folder / SERVES, as_inputs(samples.images))
        tried.append(Tried(on, floor, *judged(probabilities, entry["classes"], samples.classes), writings))
    entry["calibration"]["digit"] = digit = made_of(tried)
    card.write(folder / card.NAME, entry)
    draw(folder, "digit", digit, tried)
    return entry


def recipe_of(entry: dict[str, Any], folder: Path, mnist: Mnist) -> Recipe:
    """The recipe of the model in `folder` with this card, tuned or not: it says what was held back of `mnist`.

    Raises DataError where that is not what its networks were trained on.
    """
    networks = entry, entry.get("fields", entry)
    if any(trained["data"] != dict(mnist.sha256) for trained in networks):
        raise DataError(f"{folder} was trained on other data than this; its card says which.")
    recipe = RECIPES.get(entry["recipe"].removesuffix(TUNED))
    if recipe is None:
        raise DataError(f"{folder} is a model by {entry['recipe']}; calibrate it on crops of your own: calibrate DIR")
    if any(trained.get("held_back") != recipe.held_back.__name__ for trained in networks):
        raise DataError(
            f"{folder} was trained when other images were held back; train it again, or calibrate it on crops of your "
            "own: calibrate DIR"
        )
    return recipe


def judged(probabilities: export.Probabilities, classes: Sequence[str], labels: Labels) -> tuple[Scores, Right, Right]:
    """The raw score of each reading as the watcher takes it, whether it is right, and whether it is barred: (n,) each.

    Where nothing is to be read, whatever is read is wrong.
    """
    scores = np.zeros(len(labels))
    right, barred = np.zeros(len(labels), np.bool_), np.zeros(len(labels), np.bool_)
    for index, (row, label) in enumerate(zip(probabilities.tolist(), labels.tolist(), strict=True)):
        ranked, none, scores[index] = rank(row, classes)
        right[index], barred[index] = ranked[0][0] == str(label), none > HARDLY_NONE
    return scores, right, barred


def made_of(tried: Sequence[Tried]) -> dict[str, Any]:
    """A calibration as the card holds it.

    The map is fitted on all; the thresholds are counted on what may be accepted, with all that is wrong. Of what is
    accepted in the end at most as large a share is wrong: without the barred, each of them wrong, it only falls.
    """
    scores, right = np.concatenate([one.scores for one in tried]), np.concatenate([one.right for one in tried])
    trials = []
    for one in tried:
        counted = ~(one.barred & one.right)
        writings = min(one.writings, int(counted.sum()))  # a poor network bars most
        trials.append(calibration.trial(one.on, one.scores[counted], one.right[counted], one.floor, writings))
    return {"map": calibration.platt(scores, right), "trials": trials}


def draw(folder: Path, kind: str, entry: dict[str, Any], tried: Sequence[Tried]) -> None:
    """Draw the reliability diagram and the risk-coverage curve of a calibration into `folder`."""
    read = Calibration.of(entry)
    lines = {}
    for one in tried:
        lines[one.on] = np.array([read.probability(score) for score in one.scores.tolist()]), one.right
    plots.save(plots.reliability(lines, f"Confidence and accuracy · {kind}"), folder / f"reliability-{kind}.png")
    marks = {
        on: {rate: calibration.accepted_at(*line, read.threshold(rate)) for rate in SHOWN_RATES}
        for on, line in lines.items()
    }
    figure = plots.risk_coverage(lines, marks, f"What is given up for fewer errors · {kind}")
    plots.save(figure, folder / f"risk-coverage-{kind}.png")


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
