"""From a network's probabilities to a value that says how far it can be trusted. Pure: no files, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from watcher.calibration import log_odds
from watcher.decoding import Candidate, spots, substitutions
from watcher.fields import steer
from watcher.line import boxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from watcher.calibration import Calibration
    from watcher.fields import Rule
    from watcher.line import Line

Status = Literal["accepted", "review", "blank", "failed"]
Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the page."""


@dataclass(frozen=True, slots=True)
class Digit:
    """One digit of a value: what it is, how sure, where it stands, and what else it might be."""

    value: str
    confidence: float
    box: Box
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a page says: the row's judgement, with its digits from left to right."""

    status: Status
    value: str = ""
    confidence: float = 0.0
    digits: tuple[Digit, ...] = ()
    reason: str = ""
    alternative: str = ""


NONE = "none"  # the class of what is no digit
ALTERNATIVES = 3  # runners-up that a digit keeps
TINY = 1e-12  # the least probability, so that its logarithm is finite


def read_digit(
    probabilities: Sequence[float], classes: Sequence[str], box: Box, threshold: float, rule: Rule | None = None
) -> Reading:
    """Judge one digit by its calibrated probabilities, one for each of `classes`.

    It is accepted where the best digit reaches `threshold`, a confidence from the model's card; else it is for review.
    A class "none" takes its share of the probability, so that what looks like no digit does not get there.
    """
    found = dict(zip(classes, map(float, probabilities), strict=True))
    none = found.pop(NONE, 0.0)
    ranked = sorted(found.items(), key=lambda item: -item[1])
    best, why, alternative = steer([Candidate(value, math.log(max(p, TINY))) for value, p in ranked], rule)
    value, confidence = best.value, found[best.value]
    others = [(other, p) for other, p in ranked if other != value]
    digit = Digit(value, confidence, box, tuple(others[:ALTERNATIVES]))
    accepted = not why and confidence >= threshold
    return Reading(
        status="accepted" if accepted else "review",
        value=value,
        confidence=confidence,
        digits=(digit,),
        reason="" if accepted else why or ("not_digits" if none > confidence else "low_confidence"),
        alternative=alternative,
    )


def read_field(
    steps: NDArray[np.float32],
    found: list[Candidate],
    line: Line,
    rule: Rule | None,
    calibration: Calibration | None,
    threshold: float,
) -> Reading:
    """Judge a field by what the network says along its line: (steps, 11) probabilities, and the values found in them.

    A value that a rule put in the place of a likelier one is for review, however sure it is.
    """
    best, why, alternative = steer(found, rule)
    if why and why != "wrong_length" and best is found[0]:
        best, why, alternative = steer([*found, *substitutions(steps, found)], rule)
    if not best.value:
        return Reading("review", reason=why or "not_digits", alternative=alternative)
    score = log_odds(min(max(math.exp(best.score), TINY), 1 - TINY))
    confidence = calibration.probability(score) if calibration else math.exp(min(best.score, 0.0))
    accepted = not why and confidence >= threshold
    stands = spots(steps, best.value)
    places = boxes(line, [(spot.first / len(steps), (spot.last + 1) / len(steps)) for spot in stands])
    digits = []
    for digit, spot, box in zip(best.value, stands, places, strict=True):
        ranked = sorted(((str(other), odds) for other, odds in enumerate(spot.odds)), key=lambda item: -item[1])
        others = tuple((other, odds) for other, odds in ranked if other != digit)
        digits.append(Digit(digit, spot.odds[int(digit)], box, others[:ALTERNATIVES]))
    return Reading(
        status="accepted" if accepted else "review",
        value=best.value,
        confidence=confidence,
        digits=tuple(digits),
        reason="" if accepted else why or "low_confidence",
        alternative=alternative,
    )


def blank() -> Reading:
    """The reading of a page with nothing written on it."""
    return Reading("blank")


def failed(reason: str) -> Reading:
    """The reading of a scan that could not be read, by its short code."""
    return Reading("failed", reason=reason)
