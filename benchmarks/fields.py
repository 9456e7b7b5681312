"""Measure the reading of fields: its cost on one core, and the share of strings and dates of MNIST's test digits right.

python -m benchmarks.fields --data DIR

Strings and dates are drawn with several seeds and counted together, so that a share is not the luck of one draw: by
default 5 times 1,000 of each kind, which takes some three minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from train import cache, mnist
from train.calibration import wilson
from train.fields import GAPS, date, field, plain
from watcher.line import normalise_line
from watcher.looks import look
from watcher.model import load, load_fields
from watcher.reading import read_field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from train.mnist import Mnist
    from watcher.calibration import Calibration
    from watcher.decode import Page
    from watcher.decoding import Candidate
    from watcher.line import Line

    Look = Callable[[Line], tuple[NDArray[np.float32], list[Candidate]]]

ROOT = Path(__file__).parent.parent
SEEDS = range(5)  # of the strings and dates
SEED = 7  # of the fields that are timed


def main() -> int:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.fields", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with MNIST's four IDX files (default: the user's cache)")
    parser.add_argument("--model", type=Path, default=ROOT / "model", help="model to measure (default: model)")
    parser.add_argument("--strings", type=int, default=1000, help="strings of each kind and seed (default: 1000)")
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), help=f"draws of the strings, pooled (default: {len(SEEDS)})"
    )
    parser.add_argument("--fields", type=int, default=200, help="fields to time (default: 200)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    data = mnist.load(arguments.data, cache.folder() / "mnist")
    card, read_digits = load(arguments.model)
    read_line = load_fields(card)
    if read_line is None or card.field is None:
        print(f"{arguments.model} has no network for fields", file=sys.stderr)
        return 1

    def seen(line: Line) -> tuple[NDArray[np.float32], list[Candidate]]:
        return look(line, read_line, read_digits)

    seeds = range(arguments.seeds)
    right_of = strings(data, seen, arguments.strings, seeds) | dates(data, seen, arguments.strings, seeds)
    spent = times(data, seen, card.field, arguments.fields)
    if arguments.json:
        print(json.dumps({"strings": right_of, "milliseconds": spent}, indent=1))
        return 0
    for name, (right, size) in right_of.items():
        low, high = wilson(right, size)
        print(f"{name:<10}{right / size:>8.2%} of {size:,} right   {low:.1%} to {high:.1%}")
    for name, (median, most) in spent.items():
        print(f"{name:<10}{median:>8.2f} ms a field, 95% within {most:.2f} ms")
    return 0


def strings(data: Mnist, seen: Look, count: int, seeds: Sequence[int]) -> dict[str, tuple[int, int]]:
    """How many strings of 2 to 7 test digits are right, by the paper between them: `count` of each seed, pooled."""

    def made(rng: np.random.Generator, gap: tuple[int, int]) -> tuple[Page, str]:
        return plain(data.test_images, data.test_labels, int(rng.integers(2, 8)), rng, gap)

    return {name: share(partial(made, gap=gap), seen, count, seeds) for name, gap in GAPS.items()}


def dates(data: Mnist, seen: Look, count: int, seeds: Sequence[int]) -> dict[str, tuple[int, int]]:
    """How many dates of six test digits on made paper are right, by their mark: `count` of each seed, pooled."""
    made = partial(date, data.test_images, data.test_labels)
    return {mark.join(("dd", "mm", "yy")): share(partial(made, mark), seen, count, seeds) for mark in "/-."}


def share(
    made: Callable[[np.random.Generator], tuple[Page, str]], seen: Look, count: int, seeds: Sequence[int]
) -> tuple[int, int]:
    """How many made crops are read right, and of how many: `count` of each seed."""
    right = 0
    for seed, index in product(seeds, range(count)):
        page, value = made(np.random.default_rng([seed, index]))
        line = normalise_line(page)
        right += line is not None and seen(line)[1][0].value == value
    return right, count * len(seeds)


def times(data: Mnist, seen: Look, calibration: Calibration, count: int) -> dict[str, tuple[float, float]]:
    """The median and the 95th percentile of what each step takes for made fields, in milliseconds."""
    spent: dict[str, list[float]] = {"line": [], "looks": [], "value": [], "all": []}
    for index in range(count):
        page, _ = field(data.test_images, data.test_labels, np.random.default_rng([SEED, index]))
        begun = time.perf_counter()
        line = normalise_line(page)
        if line is None:
            continue
        found = time.perf_counter()
        steps, values = seen(line)
        told = time.perf_counter()
        read_field(steps, values, line, calibration, 1.0)
        done = time.perf_counter()
        for name, seconds in zip(spent, (found - begun, told - found, done - told, done - begun), strict=True):
            spent[name].append(seconds * 1000)
    return {name: (statistics.median(all_), float(np.percentile(all_, 95))) for name, all_ in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
