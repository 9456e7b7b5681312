"""From a network's probabilities to a value that says how far it can be trusted. Pure: no files, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def read_digit(probabilities: Sequence[float], classes: Sequence[str], box: Box, threshold: float) -> Reading:
    """Judge one digit by its calibrated probabilities, one for each of `classes`.

    It is accepted where the best digit reaches `threshold`, a confidence from the model's card; else it is for review.
    A class "none" takes its share of the probability, so that what looks like no digit does not get there.
    """
    found = dict(zip(classes, map(float, probabilities), strict=True))
    none = found.pop(NONE, 0.0)
    ranked = sorted(found.items(), key=lambda item: -item[1])
    value, confidence = ranked[0]
    digit = Digit(value, confidence, box, tuple(ranked[1 : 1 + ALTERNATIVES]))
    accepted = confidence >= threshold
    return Reading(
        status="accepted" if accepted else "review",
        value=value,
        confidence=confidence,
        digits=(digit,),
        reason="" if accepted else "not_digits" if none > confidence else "low_confidence",
        alternative=ranked[1][0],
    )


def blank() -> Reading:
    """The reading of a page with nothing written on it."""
    return Reading("blank")


def failed(reason: str) -> Reading:
    """The reading of a scan that could not be read, by its short code."""
    return Reading("failed", reason=reason)
