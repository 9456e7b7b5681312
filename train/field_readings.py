"""What the watcher reads on made fields: how often it is right, and what its scores are worth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from train import card
from train.fields import GAPS, plain
from train.lines import lines_of, pool
from train.mnist import every_twelfth_pair
from train.shipped import FLOOR, Tried, draw, made_of
from watcher.line import is_struck
from watcher.looks import look
from watcher.model import FIELDS, SERVES, digit_reader, line_reader
from watcher.reading import score_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from train.lines import Lines
    from train.mnist import Images, Labels, Mnist
    from watcher.decoding import Candidate
    from watcher.line import Line
    from watcher.model import LineReader, Network

    Read = Callable[[Line], Candidate]

HELD = 20_000  # fields made of digits held back, to calibrate with
STRINGS = 1_000  # of each kind, of test digits
CLEAN = 1  # strings of digits held back for each of those fields


def calibrate_fields(folder: Path, mnist: Mnist, say: Callable[[str], None], count: int = HELD) -> dict[str, Any]:
    """Measure and calibrate the field network in `folder` again, as `fit` does, and write that into the card: returned.

    The digit network beside it is to be calibrated already; `recipe_of` checks that `mnist` is what was trained on.
    """
    entry: dict[str, Any] = json.loads((folder / card.NAME).read_text(encoding="utf-8"))
    seed = entry["fields"]["seed"]
    say(f"making {count:,} fields of digits held back, to calibrate with")
    checks = held_back(mnist, seed, count)
    read = reader(folder / FIELDS, folder / SERVES)
    entry["fields"]["accuracy"] = accuracy(read, mnist, checks, seed)
    tried = tried_on_fields(read, mnist, checks, seed)
    entry["calibration"]["field"] = made_of(tried)
    card.write(folder / card.NAME, entry)
    draw(folder, "field", entry["calibration"]["field"], tried)
    return entry


def held_back(mnist: Mnist, seed: int, count: int) -> Lines:
    """Make fields to measure by, of the digits that neither network trains on."""
    held = every_twelfth_pair(len(mnist.train_images))
    return pool(mnist.train_images[held], mnist.train_labels[held], seed + 1000, count, to_judge=True)


def accuracy(read: Read, mnist: Mnist, checks: Lines, seed: int) -> dict[str, Any]:
    """The share read right of strings of test digits, by the paper between them, and of fields held back."""
    of_strings = {name: round(share(read, strings(mnist, STRINGS, gap, seed)), 4) for name, gap in GAPS.items()}
    return of_strings | {
        "held_back": round(share(read, checks), 4),
        "strings": STRINGS,
        "held_back_size": len(checks),
    }


def reader(fields: Path, digits: Path) -> Read:
    """What the watcher reads on a line, with the networks in these files."""
    return reading_with(line_reader(fields), digit_reader(digits))


def reading_with(read_line: LineReader, read_digits: Network) -> Read:
    """What the watcher reads on a line, with these networks."""
    return lambda line: look(line, read_line, read_digits)[1][0]


def strings(mnist: Mnist, count: int, gap: tuple[int, int], seed: int) -> Lines:
    """MNIST's test digits in strings of 2 to 7, as they are, side by side."""
    return _strings(mnist.test_images, mnist.test_labels, count, gap, seed)


def _strings(images: Images, labels: Labels, count: int, gap: tuple[int, int] | None, seed: int) -> Lines:
    rngs = (np.random.default_rng([seed, index]) for index in range(count))
    return lines_of((plain(images, labels, int(rng.integers(2, 8)), rng, gap) for rng in rngs), to_judge=True)


def share(read: Read, lines: Lines) -> float:
    """The share of lines whose likeliest value is right."""
    right = [read(lines[i]).value == value for i, value in enumerate(lines.values)]
    return float(np.mean(right))


def tried_on_fields(read: Read, mnist: Mnist, worn: Lines, seed: int) -> list[Tried]:
    """Read what a calibration of fields is made of, all of digits never trained on: strings, and fields on made paper.

    Those are written in stranger hands than were trained on (`train.fields.STRANGE`), since those that come will be.
    """
    held = every_twelfth_pair(len(mnist.train_images))
    images, labels = mnist.train_images[held], mnist.train_labels[held]
    name = f"{len(images):,} {'MNIST ' if mnist.is_original else ''}training images held back"
    tried: list[Tried] = []
    clean = _strings(images, labels, CLEAN * len(worn), None, seed)
    for what, floor, lines in (("strings", 0.0, clean), ("fields on made paper in strange hands", FLOOR, worn)):
        best = [read(lines[i]) for i in range(len(lines))]
        # As in the watcher: what is read as one digit or none is for the digit network.
        judged = [
            (one, value, is_struck(lines[i].image))
            for i, (one, value) in enumerate(zip(best, lines.values, strict=True))
            if len(one.value) > 1
        ]
        scores = np.array([score_of(one) for one, _, _ in judged], np.float64)
        right = np.array([one.value == value for one, value, _ in judged], np.bool_)
        barred = np.array([struck for _, _, struck in judged], np.bool_)
        # Each image is in many of these: so many of them could be written with none in two.
        writings = int(len(images) / np.mean([len(value) for _, value, _ in judged]))
        tried.append(Tried(f"{len(judged):,} {what} of {name}", floor, scores, right, barred, writings))
    return tried
