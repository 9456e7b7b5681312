"""Several looks at one line: what they agree on, and the digits that stand alone on it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from test_line import PLACES, drawn, line

from watcher.decoding import BLANK, CLASSES, Candidate, penalised
from watcher.line import HEIGHT, INKED
from watcher.looks import MISCUT, TALL, WAYS, WELL_CUT, agreed, checked, likelihood, look, standing_alone
from watcher.model import load, load_fields

Plane = NDArray[np.float32]
MODEL = Path(__file__).parent.parent / "model"


def said(value: str, sure: float) -> Plane:
    """What a network says of a line with these digits: each as likely as `sure`, else the one after it."""
    steps = np.full((2 * len(value) + 1, CLASSES), 1e-6, np.float32)
    steps[::2, BLANK] = 1
    for place, digit in enumerate(value):
        steps[2 * place + 1, int(digit)] = sure
        steps[2 * place + 1, (int(digit) + 1) % 10] = 1 - sure
    return steps


def digits(*shares: dict[int, float]) -> Plane:
    """Probabilities of the ten digits and of none for what stands alone."""
    rows = np.zeros((len(shares), 11), np.float32)
    for row, share in zip(rows, shares, strict=True):
        row[list(share)] = list(share.values())
    return rows


def centres(inputs: Plane) -> list[float]:
    """Where the middle of each input's ink is, across."""
    return [float((one.sum(axis=0) * np.arange(28)).sum() / one.sum()) for one in inputs]


def alike(one: Plane, other: Plane) -> float:
    """How much two inputs correlate, a pixel to any side or none."""
    moved = (np.roll(other, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1))
    return max(float(np.corrcoef(one.ravel(), there.ravel())[0, 1]) for there in moved)


def test_each_digit_stands_alone() -> None:
    """Each figure of a line is found by itself, from left to right, in the middle of its input."""
    found = standing_alone(line(drawn()).finer())
    assert found.shape == (len(PLACES), 28, 28)
    assert centres(found) == pytest.approx([13.5] * len(PLACES), abs=1)
    assert alike(found[0], found[3]) > 0.85 > alike(found[0], found[1])


@pytest.mark.parametrize("printed", ["line", "boxes"])
def test_what_is_printed_joins_no_digits(printed: str) -> None:
    """A ruled line under the digits or boxes around them are left out."""
    page = drawn()
    if printed == "line":
        cv2.line(page, (0, 112), (339, 112), 60, 2)
    else:
        for left in PLACES:
            cv2.rectangle(page, (left - 14, 25), (left + 46, 115), 60, 2)
    plain, found = standing_alone(line(drawn()).finer()), standing_alone(line(page).finer())
    assert len(found) == len(PLACES)
    for one, other in zip(plain, found, strict=True):
        assert alike(one, other) > 0.85


def test_digits_that_touch_do_not_stand_alone() -> None:
    """Two figures that a stroke joins come out as one, which the digit network then calls none."""
    page = drawn()
    cv2.line(page, (PLACES[0] + 30, 70), (PLACES[1] + 27, 70), 40, 5)
    assert len(standing_alone(line(page).finer())) == len(PLACES) - 1


@pytest.mark.parametrize(("ink", "there"), [(150, True), (215, False)])
def test_faint_ink_belongs_to_the_digit_beside_it(ink: int, *, there: bool) -> None:
    """A stroke too faint to stand by itself, as of a pen that runs dry, is part of the digit; dirt is not."""
    page, left = drawn(), PLACES[1]
    cv2.line(page, (left + 2, 70), (left + 34, 70), ink, 5)  # the bar of the 7
    plain, found = (standing_alone(line(one).finer()) for one in (drawn(), page))
    assert len(found) == len(PLACES)
    assert line(page).finer()[TALL // 2, 60:80].max() < INKED  # left of the 7's stem: no stroke by itself
    assert ((found[1] - plain[1]).clip(0).sum() > 3) == there


@pytest.mark.parametrize(("top", "stands"), [(0, 1), (20, 2)])
def test_the_end_of_another_line_is_no_digit(top: int, stands: int) -> None:
    """What is low and comes in over the edge is of the line above."""
    image = np.zeros((TALL, 160), np.float32)
    image[8:56, 30:36] = 1
    image[top : top + 17, 100:108] = 1
    assert len(standing_alone(image)) == stands


def test_nothing_stands_on_an_empty_line() -> None:
    """An empty line gives no inputs, in their shape."""
    assert standing_alone(np.zeros((TALL, 160), np.float32)).shape == (0, 28, 28)


def test_likelihood_is_the_sum_over_all_ways() -> None:
    """What stands alone may be a digit or none: a value's likelihood adds up all the ways that say it."""
    rows = np.random.default_rng(1).dirichlet(np.ones(11), 4).astype(np.float32)
    for value in ("", "3", "33", "105", "9876"):
        ways = 0.0
        for chosen in itertools.combinations(range(len(rows)), len(value)):
            taken = dict(zip(chosen, value, strict=True))
            ways += math.prod(float(row[int(taken[i])] if i in taken else row[-1]) for i, row in enumerate(rows))
        assert likelihood(rows, value) == pytest.approx(ways, rel=1e-5)
    assert likelihood(rows, "12345") == 0


def test_readings_agree_on_what_all_find_likely() -> None:
    """A value that one reading is sure of and the others hardly find loses against one that all find likely."""
    readings = [
        [Candidate("17", -0.1), Candidate("71", -3.0)],
        [Candidate("71", -0.2), Candidate("11", -9.0)],
        [Candidate("71", -0.5), Candidate("17", -1.0)],
    ]
    found = agreed(readings)
    assert [one.value for one in found] == ["71", "17", "11"]
    assert found[0].score == pytest.approx((-3.0 - 0.2 - 0.5) / 3)
    assert found[1].score == pytest.approx((-0.1 - 9.0 - 1.0) / 3)  # the second did not find it


def test_digits_decide_between_two_values() -> None:
    """Digits that stand alone and are sure choose among likely values, but cannot choose an unlikely one."""
    sure = digits({1: 0.98, 7: 0.01, 10: 0.01}, {7: 1.0})
    assert checked(rivals(0.6, 0.3), sure)[0].value == "17"
    assert checked(rivals(0.95, 0.95 * WELL_CUT / 2), sure)[0].value == "77"


@pytest.mark.parametrize(
    ("stands", "trusted"),
    [
        (({1: 0.999, 7: 0.001}, {7: 1.0}), True),
        (({1: 0.999, 7: 0.001}, {7: 1.0}, {10: 1.0}), True),  # a speck
        (({1: 0.999, 7: 0.001},), False),  # two that touch, or one of them is missing
        (({1: 0.999, 7: 0.001}, {7: 0.5, 10: 0.5}, {1: 0.9, 10: 0.1}), False),  # one too many
        (({1: 0.999, 7: 0.001}, {4: 0.95, 7: 0.05}), False),  # they say 14, which is no value of the line
    ],
)
def test_digits_that_were_cut_well_are_trusted_more(stands: tuple[dict[int, float], ...], *, trusted: bool) -> None:
    """No fewer than the value has digits, which say another value, outdo it; else they leave it as it is."""
    values = rivals(0.8, 0.8 * (WELL_CUT * MISCUT) ** 0.5)
    found = checked(values, digits(*stands))
    assert found[0].value == ("17" if trusted else "77")
    if not trusted:
        assert found == values


@pytest.mark.parametrize(
    ("other", "stands", "trusted"),
    [
        ("7", ({10: 1.0}, {7: 1.0}), True),  # what the line took for a digit is a speck
        ("7", ({7: 1.0},), False),  # the other may touch it
        ("177", ({1: 1.0}, {7: 1.0}, {7: 1.0}), False),  # one of them may be a slash
    ],
)
def test_digits_are_trusted_to_say_fewer_than_the_line_and_not_more(
    other: str, stands: tuple[dict[int, float], ...], *, trusted: bool
) -> None:
    """Fewer, where there is enough for what the line says; more never."""
    values = [Candidate("17", math.log(0.8)), Candidate(other, math.log(0.8 * (WELL_CUT * MISCUT) ** 0.5))]
    assert checked(values, digits(*stands))[0].value == (other if trusted else "17")


def test_where_nothing_stands_alone_nothing_is_weighed() -> None:
    """Without digits no value gains, nor does the empty one, which alone they would not contradict."""
    values = [*rivals(0.6, 0.3), Candidate("", math.log(0.1))]
    assert checked(values, digits()) == values


def rivals(first: float, second: float) -> list[Candidate]:
    """The values 77 and 17, as likely as that."""
    return [Candidate("77", math.log(first)), Candidate("17", math.log(second))]


@pytest.mark.parametrize(
    ("sure", "stands", "asked", "ways"),
    [
        (0.996, "0740", 0, ()),  # nothing is as near
        (0.7, "0740", 1, ()),  # what the digits say settles it
        (0.7, "1740", 1, ()),  # and so they do where they say another of the likely values
        (0.7, "", 1, WAYS),  # they say nothing, and are asked once
    ],
)
def test_a_line_is_looked_at_until_it_is_settled(
    sure: float, stands: str, asked: int, ways: tuple[tuple[float, float], ...]
) -> None:
    """Of a line that is surely read nothing more is asked; of a doubtful one its digits, and then further looks."""
    counts: list[int] = []
    widths: list[int] = []

    def read_digits(images: Plane) -> Plane:
        counts.append(len(images))
        said = [int(digit) for digit in stands] or [10] * len(images)
        return digits(*({digit: 1.0} for digit in said))

    def read_line(plane: Plane) -> Plane:
        widths.append(plane.shape[1])
        return np.stack([said("0740", sure)] * 2)

    shown = line(drawn())
    steps, found = look(shown, read_line, read_digits)
    assert found[0].value == (stands or "0740")
    assert np.array_equal(steps, penalised(said("0740", sure)))
    assert widths == [
        pytest.approx(share * shown.image.shape[1] + abs(slant) * HEIGHT, abs=1) for share, slant in [(1, 0), *ways]
    ]
    assert counts == [len(PLACES)] * asked


@pytest.mark.parametrize(
    ("value", "sure", "looked"), [("7", 0.6, 1), ("74", 0.6, 3), ("74", 0.3, 3), ("74", 0.9999, 2), ("", 0.9, 1)]
)
def test_one_look_is_enough_for_one_digit(value: str, sure: float, looked: int) -> None:
    """Where several digits are asked for and the first look hardly finds them, nothing more is read, nor found."""
    widths: list[int] = []

    def read_line(plane: Plane) -> Plane:
        widths.append(plane.shape[1])
        return np.stack([said(value, sure)] * 2)

    shown = line(drawn())
    steps, found = look(shown, read_line, lambda images: images[:0], least=2)
    assert bool(found) == (len(value) > 1)
    if found:
        assert np.array_equal(steps, said(value, sure))  # no penalty on blanks: a foot would become a digit
    assert len(widths) == looked
    assert widths[0] == shown.image.shape[1]


def test_all_networks_have_a_say() -> None:
    """What one network finds is outvoted by the other, should that be the surer one; the steps are the first one's."""
    mine, other = said("17", 0.6), said("27", 0.99)

    def read_line(_: Plane) -> Plane:
        return np.stack([mine, other])

    steps, found = look(line(drawn()), read_line, lambda images: np.zeros((len(images), 11), np.float32))
    assert found[0].value == "27"
    assert np.array_equal(steps, penalised(mine))


def test_the_networks_that_ship_read_a_line() -> None:
    """The networks that ship read drawn figures."""
    card, read_digits = load(MODEL)
    read_line = load_fields(card)
    assert read_line is not None
    assert look(line(drawn()), read_line, read_digits)[1][0].value == "0740"
