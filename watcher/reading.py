"""From a network's probabilities to a value that says how far it can be trusted. Pure: no files, no clock."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.calibration import Calibration, Kind

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
    kind: Kind = "digit"  # by which calibration it was judged
    score: float | None = None  # raw, as that calibration takes it; None: not to be accepted, whatever the score


NONE = "none"  # the class of what is no digit
TINY = 1e-30  # under every probability that float32 tells from 0 in practice; keeps the logarithm finite
ALTERNATIVES = 3  # runners-up that a digit keeps


def rank(probabilities: Sequence[float], classes: Sequence[str]) -> tuple[list[tuple[str, float]], float, float]:
    """The digits with their probabilities, likeliest first; that of none; and the raw score of the first.

    The score is the log-odds of that digit against all else, the class "none" of what is no digit among it.
    """
    found = dict(zip(classes, (max(float(p), TINY) for p in probabilities), strict=True))
    none = found.pop(NONE, 0.0)
    ranked = sorted(found.items(), key=lambda item: -item[1])
    return ranked, none, math.log(ranked[0][1] / math.fsum([none, *(p for _, p in ranked[1:])]))


def read_digit(
    probabilities: Sequence[float], classes: Sequence[str], box: Box, calibration: Calibration, threshold: float
) -> Reading:
    """Judge one digit by a network's probabilities, one for each of `classes`.

    It is accepted where the confidence that `calibration` makes of its score reaches `threshold`, else for review.
    """
    ranked, none, score = rank(probabilities, classes)
    value, likeliest = ranked[0]
    confidence = calibration.probability(score)
    shared = (1 - confidence) / math.fsum([none, *(p for _, p in ranked[1:])])  # in the network's own proportions
    digit = Digit(value, confidence, box, tuple((other, p * shared) for other, p in ranked[1 : 1 + ALTERNATIVES]))
    accepted = confidence >= threshold
    return Reading(
        status="accepted" if accepted else "review",
        value=value,
        confidence=confidence,
        digits=(digit,),
        reason="" if accepted else "not_digits" if none > likeliest else "low_confidence",
        alternative=ranked[1][0],
        score=score,
    )


def audited(reading: Reading, sha256: str, page: int, share: float) -> Reading:
    """Put a `share` of what was accepted before a person all the same: always the same, chosen by the scan's bytes.

    Their values are a random sample of what is accepted, so that the errors a person finds among them tell whether the
    promise holds.
    """
    if reading.status != "accepted":
        return reading
    lot = int.from_bytes(hashlib.sha256(f"{sha256} {page}".encode()).digest()[:8]) / 2**64
    return replace(reading, status="review", reason="audit") if lot < share else reading


def blank() -> Reading:
    """The reading of a page with nothing written on it."""
    return Reading("blank")


def failed(reason: str) -> Reading:
    """The reading of a scan that could not be read, by its short code."""
    return Reading("failed", reason=reason)
