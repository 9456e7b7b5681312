"""What a network says along a line: the likely values, and where each of their digits stands. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANK = 10  # the class that is no digit
SLASH = 11  # nor is this: known by itself so that it is not taken for a 1
CLASSES = 12
LEADING = 0.05  # how likely a slash is to the network counts so much before the first digit: there it is mostly a 1
PENALTY = 1.5  # taken off the log-probability of a blank
BEAM = 8  # values kept at each step; more find nothing more, and take longer
LEAST = 1e-3  # less likely digits are not followed up
SLIGHT = 1e-5  # of the likeliest value so far: what adds less to one is left out
SWAPS = 30  # runners-up that are tried in the place of a digit
SURE = 0.999  # a step so surely blank changes nothing but the odds


@dataclass(frozen=True, slots=True)
class Candidate:
    """A value that a line may say, and its log-probability."""

    value: str
    score: float


@dataclass(frozen=True, slots=True)
class Spot:
    """One digit of a value on its line."""

    first: int  # steps, where it begins and ends
    last: int
    odds: tuple[float, ...]  # of each of the ten digits, there


def penalised(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """(…, steps, CLASSES) probabilities with less for the blanks, each step's sum still 1.

    A network that learnt by connectionist temporal classification leaves out digits far more often than it adds any, a
    slim 1 above all. A penalty on the blank evens that out, as in the decoders of speech recognition.
    """
    less = steps.copy()
    less[..., BLANK] *= math.exp(-PENALTY)
    less /= less.sum(axis=-1, keepdims=True)
    return less


def candidates(steps: NDArray[np.float32], beam: int = BEAM) -> list[Candidate]:
    """The likeliest values of (steps, CLASSES) probabilities, likeliest first, by prefix beam search (Graves 2012).

    A slash counts as a blank: it, too, parts two digits that are alike.
    """
    # Of each value so far: its last digit, how likely it is with a blank at the end, and with that digit there.
    kept = [("", BLANK, 1.0, 0.0)]
    scale = 0.0  # log of what was taken out, lest the numbers vanish
    for step in steps.astype(np.float64).tolist():
        none, begins = step[BLANK] + step[SLASH], step[BLANK] + LEADING * step[SLASH]
        stays = [(value, last, (b + d) * (none if value else begins), d * step[last]) for value, last, b, d in kept]
        if begins > SURE:
            kept = stays
            continue
        likely = [(digit, p) for digit, p in enumerate(step[:BLANK]) if p > LEAST]
        grown = {one[0]: one for one in stays}
        # Less than any of a full beam has does not come into it: a value that is not there grows in one way only.
        least = min(b + d for _, _, b, d in stays) if len(stays) == beam else 0.0
        for value, last, b, d in kept:
            for digit, p in likely:
                more = (b if digit == last else b + d) * p
                if more < SLIGHT:
                    continue
                longer = value + str(digit)
                if longer in grown:
                    _, _, with_blank, with_digit = grown[longer]
                    grown[longer] = longer, digit, with_blank, with_digit + more
                elif more >= least:
                    grown[longer] = longer, digit, 0.0, more
        best = sorted(grown.values(), key=lambda one: -(one[2] + one[3]))[:beam]
        top = best[0][2] + best[0][3]
        scale += math.log(top)
        kept = [(value, last, b / top, d / top) for value, last, b, d in best]
    found = [Candidate(value, math.log(b + d) + scale) for value, _, b, d in kept if b + d > 0]
    return sorted(found, key=lambda candidate: -candidate.score)


def spots(steps: NDArray[np.float32], value: str) -> list[Spot]:
    """Where each digit of `value` stands, by the likeliest alignment (Viterbi); empty where it cannot be."""
    if not value:
        return []
    states = np.full(2 * len(value) + 1, BLANK)
    states[1::2] = [int(digit) for digit in value]
    said = steps.astype(np.float64)
    said[:, BLANK] += said[:, SLASH]
    logs = np.log(np.maximum(said, 1e-30))[:, states]
    count = len(states)
    # A blank between two digits may be left out unless they are alike.
    skips = np.full(count, -np.inf)
    skips[3::2][states[3::2] != states[1:-2:2]] = 0
    score = np.full((len(logs), count + 2), -np.inf)  # two more states on the left, where nothing comes from
    score[0, 2:4] = logs[0, :2]
    for t in range(1, len(logs)):
        before = score[t - 1]
        likeliest = np.maximum(np.maximum(before[2:], before[1:-1]), before[:-2] + skips)
        np.add(likeliest, logs[t], out=score[t, 2:])
    state = count - 1 if score[-1, -1] > score[-1, -2] else count - 2
    if not np.isfinite(score[-1, 2 + state]):
        return []
    path = np.zeros(len(logs), np.int64)
    for t in range(len(logs) - 1, 0, -1):
        path[t] = state
        skipped, moved, stayed = score[t - 1, state : state + 3].tolist()
        skipped += skips[state]
        if max(moved, skipped) > stayed:
            state -= 1 if moved >= skipped else 2
    path[0] = state
    found = []
    for number in range(len(states) // 2):
        here = np.flatnonzero(path == 2 * number + 1)
        odds = steps[here, :BLANK].max(axis=0)
        odds = odds / max(float(odds.sum()), 1.0)
        found.append(Spot(int(here[0]), int(here[-1]), tuple(odds.tolist())))
    return found


def substitutions(steps: NDArray[np.float32], found: list[Candidate], most: int = 4) -> list[Candidate]:
    """What the likeliest values become with one or two digits replaced by their runners-up, the likeliest first.

    A check digit tells such values apart where the beam has long dropped them.
    """
    made: dict[str, float] = {}
    for candidate in found[:most]:
        swaps = [
            (place, str(other), math.log(max(odds, 1e-12)) - math.log(max(spot.odds[int(digit)], 1e-12)))
            for place, (digit, spot) in enumerate(zip(candidate.value, spots(steps, candidate.value), strict=False))
            for other, odds in enumerate(spot.odds)
            if other != int(digit)
        ]
        swaps = sorted(swaps, key=lambda swap: -swap[2])[:SWAPS]
        pairs = [(one, other) for one in swaps for other in swaps if one[0] < other[0]]
        for changes in [*((swap,) for swap in swaps), *pairs]:
            digits = list(candidate.value)
            for place, digit, _ in changes:
                digits[place] = digit
            value, score = "".join(digits), candidate.score + sum(cost for *_, cost in changes)
            made[value] = max(score, made.get(value, -math.inf))
    return sorted((Candidate(value, score) for value, score in made.items()), key=lambda one: -one.score)
