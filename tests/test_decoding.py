"""From probabilities along a line to the digits that it says."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from watcher.decoding import BLANK, CLASSES, LEADING, PENALTY, SLASH, candidates, penalised, spots, substitutions

if TYPE_CHECKING:
    from numpy.typing import NDArray


def steps_of(*said: dict[str, float]) -> NDArray[np.float32]:
    """Steps that say some digits with these probabilities, and else nothing."""
    steps = np.full((len(said), CLASSES), 1e-6, np.float32)
    for step, odds in zip(steps, said, strict=True):
        for digit, p in odds.items():
            step[int(digit)] = p
        step[BLANK] = 1 - sum(odds.values())
    return steps


def collapsed(path: tuple[int, ...]) -> str:
    """What a path of classes says: no digit twice without a blank between, no blanks and no slashes."""
    return "".join(str(c) for before, c in itertools.pairwise((-1, *path)) if c not in {before, BLANK, SLASH})


@pytest.mark.parametrize("seed", range(6))
def test_finds_the_likeliest_value_of_all(seed: int) -> None:
    """The best value, and its probability, are those of summing up every path there is."""
    rng = np.random.default_rng(seed)
    steps = np.zeros((6, CLASSES), np.float32)
    used = [1, 2, 3, BLANK]
    steps[:, used] = rng.dirichlet(np.full(4, 0.5), 6)
    total: dict[str, float] = {}
    for path in itertools.product(used, repeat=6):
        value = collapsed(path)
        total[value] = total.get(value, 0.0) + math.prod(float(steps[t, c]) for t, c in enumerate(path))
    found = candidates(steps, beam=2000)
    best = max(total, key=lambda value: total[value])
    assert found[0].value == best
    assert math.exp(found[0].score) == pytest.approx(total[best], rel=0.01)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_line_without_digits() -> None:
    """Where every step is blank, the value is empty."""
    best = candidates(steps_of({}, {}, {}))[0]
    assert best.value == ""
    assert math.exp(best.score) == pytest.approx(1, abs=1e-3)
    assert spots(steps_of({}, {}), "") == []


def test_the_same_digit_twice_needs_a_blank_between() -> None:
    """7 and again 7 is one 7, unless there is nothing in between."""
    assert candidates(steps_of({"7": 0.99}, {"7": 0.99}))[0].value == "7"
    assert candidates(steps_of({"7": 0.99}, {}, {"7": 0.99}))[0].value == "77"


def test_a_digit_stands_where_it_is_said() -> None:
    """Each digit has its steps, and the odds of what else may be there."""
    steps = steps_of({}, {"4": 0.6, "9": 0.3}, {"4": 0.9}, {}, {"2": 0.8}, {})
    first, second = spots(steps, "42")
    assert (first.first, first.last) == (1, 2)
    assert (second.first, second.last) == (4, 4)
    assert sorted(range(10), key=lambda digit: -first.odds[digit])[:2] == [4, 9]
    assert sum(first.odds) <= 1.0001


def test_a_value_too_long_for_its_line_stands_nowhere() -> None:
    """Three digits cannot stand in two steps."""
    assert spots(steps_of({"1": 0.9}, {"2": 0.9}), "123") == []


def test_runners_up_take_the_place_of_digits() -> None:
    """One or two digits give way to what else they may be, the likeliest first."""
    steps = steps_of({"1": 0.9, "7": 0.09}, {}, {"5": 0.7, "6": 0.29}, {}, {"8": 0.99})
    found = [one.value for one in substitutions(steps, candidates(steps)[:1])]
    assert found[:3] == ["168", "758", "768"]


@pytest.mark.parametrize("seed", range(3))
def test_a_slash_is_no_digit(seed: int) -> None:
    """A value is as likely as all paths that say it, with slashes anywhere, those before the first digit counted less.

    A slash between digits that are alike parts them.
    """
    rng = np.random.default_rng(seed)
    steps = np.zeros((5, CLASSES), np.float32)
    used = [1, 7, BLANK, SLASH]
    steps[:, used] = rng.dirichlet(np.full(4, 0.5), 5)
    total: dict[str, float] = {}
    for path in itertools.product(used, repeat=5):
        before = list(itertools.takewhile(lambda sign: sign >= BLANK, path)).count(SLASH)
        likely = math.prod(float(steps[t, c]) for t, c in enumerate(path)) * LEADING**before
        total[collapsed(path)] = total.get(collapsed(path), 0.0) + likely
    found = candidates(steps, beam=2000)
    assert {"", "1", "11", "71"} < {one.value for one in found}
    for one in found:
        assert math.exp(one.score) == pytest.approx(total[one.value], rel=0.01)


def test_digits_stand_beside_a_slash() -> None:
    """A digit's place ends where a slash begins, as it does at a blank."""
    steps = np.full((5, CLASSES), 1e-6, np.float32)
    steps[range(5), [1, 1, SLASH, 1, BLANK]] = 0.9
    assert candidates(steps)[0].value == "11"
    assert [(spot.first, spot.last) for spot in spots(steps, "11")] == [(0, 1), (3, 3)]


def test_what_may_be_a_slash_is_a_1_before_all_digits() -> None:
    """The same doubtful stroke is a 1 where a number begins, and a slash inside of it."""
    stroke, three = ({1: 0.3, SLASH: 0.7}, {3: 0.9999})
    for said, value in (([stroke, three], "13"), ([three, stroke, three], "33")):
        steps = np.full((2 * len(said), CLASSES), 1e-6, np.float32)
        steps[1::2, BLANK] = 1
        for step, odds in zip(steps[::2], said, strict=True):
            step[list(odds)] = list(odds.values())
        assert candidates(steps)[0].value == value


def test_a_penalty_on_blanks() -> None:
    """It brings out a digit that is hardly less likely than none, and changes no digit against another."""
    steps = steps_of({"7": 0.98}, {}, {"1": 0.25, "4": 0.05}, {}, {"3": 0.9, "8": 0.08})
    before = steps.copy()
    less = penalised(steps)
    assert np.array_equal(steps, before)
    assert less.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert less[4, 3] / less[4, 8] == pytest.approx(steps[4, 3] / steps[4, 8])
    odds = (p[2, BLANK] / p[2, 1] for p in (less, steps))
    assert math.log(next(odds)) - math.log(next(odds)) == pytest.approx(-PENALTY, abs=1e-5)
    assert [candidates(p)[0].value for p in (steps, less)] == ["73", "713"]
    assert candidates(penalised(steps_of({}, {}, {})))[0].value == ""
