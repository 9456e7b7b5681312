"""From a network's probabilities to a value that says how far it can be trusted. Pure: no files, no clock."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from watcher.decoding import Candidate, spots, substitutions
from watcher.fields import steer
from watcher.line import boxes, is_struck
from watcher.results import Digit, Reading, blank

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from watcher.calibration import Calibration
    from watcher.decoding import Spot
    from watcher.fields import Rule
    from watcher.line import Line
    from watcher.normalise import Ink
    from watcher.plane import Box

NONE = "none"  # the class of what is no digit
SURELY_NONE = 0.8  # of its probability: below that it may be a digit after all, and is only not sure enough
HARDLY_NONE = 0.01  # of its probability, to be accepted: how much of what comes is no digit, no calibration can know
HALF = 0.5  # confidence at most in a digit beside which another seems to stand
TINY = 1e-30  # under every probability that float32 tells from 0 in practice; keeps the logarithm finite
ALTERNATIVES = 3  # runners-up that a digit keeps
WIDE = 1.5  # times its height: a page as wide as that is hardly cut for one digit
FILLS = 0.45  # of a page's width, if it is no narrower than high: a digit that it was cut for is broader
SLASHES = 1.3  # of their height: so far apart stand the slashes of an empty date, and hardly two ones
CUT = 1  # pixels from a page's edge: what stands so near may go on beyond it
CLEAR = 0.06  # of a page's width: so far from its sides no neighbour's end stands
# Whether a page shows a digit or a field is decided by what the networks say themselves, lest a new calibration change
# what it was counted on.
LIKELY, SURE = 0.02, 0.46  # of a field where a digit was found
DIGIT_SURE = 0.82  # of that digit
NO_FIELD = 0.985  # of a digit: so sure, and with nothing beside it, it is not one of several


def rank(probabilities: Sequence[float], classes: Sequence[str]) -> tuple[list[tuple[str, float]], float, float]:
    """The digits with their probabilities, likeliest first; that of none; and the raw score of the first.

    The score is the log-odds of that digit against all else, the class "none" of what is no digit among it.
    """
    found = dict(zip(classes, (max(float(p), TINY) for p in probabilities), strict=True))
    none = found.pop(NONE, 0.0)
    ranked = sorted(found.items(), key=lambda item: -item[1])
    return ranked, none, math.log(ranked[0][1] / math.fsum([none, *(p for _, p in ranked[1:])]))


def read_digit(
    probabilities: Sequence[float],
    classes: Sequence[str],
    box: Box,
    calibration: Calibration,
    threshold: float,
    *,
    clipped: bool = False,
    paired: bool = False,
    rule: Rule | None = None,
) -> Reading:
    """Judge one digit by a network's probabilities, one for each of `classes`.

    It is accepted where the confidence that `calibration` makes of its score reaches `threshold`, else for review. For
    review is, however sure, what may be no digit at all, a digit that `rule` put in the place of a likelier one, and
    one that is `paired` with another thing of its size, as if it were half of a number. A doubtful one whose ink is
    `clipped` by the page's edge has that for its reason.
    """
    ranked, none, score = rank(probabilities, classes)
    best, why, alternative = steer([Candidate(value, math.log(p)) for value, p in ranked], rule)
    rest = math.fsum([none, *(p for _, p in ranked[1:])])
    sure = calibration.probability(score)
    shares = {value: p * (1 - sure) / rest for value, p in ranked[1:]}  # in the network's own proportions
    shares[ranked[0][0]] = sure
    confidence = min(shares.pop(best.value), HALF if paired else 1.0)
    digit = Digit(best.value, confidence, box, tuple(sorted(shares.items(), key=_share)[:ALTERNATIVES]))
    may_be_taken = not why and none <= HARDLY_NONE and not paired
    accepted = may_be_taken and confidence >= threshold
    return Reading(
        status="accepted" if accepted else "review",
        value=best.value,
        confidence=confidence,
        digits=(digit,),
        reason="" if accepted else why or ("not_digits" if none > SURELY_NONE else _doubt(threshold, clipped=clipped)),
        alternative=alternative,
        score=score if may_be_taken else None,
        likely=math.exp(best.score),
    )


def read_field(
    steps: NDArray[np.float32],
    found: list[Candidate],
    line: Line,
    calibration: Calibration,
    threshold: float,
    *,
    rule: Rule | None = None,
) -> Reading:
    """Judge a field by the network's (steps, CLASSES) probabilities along its line, and the values found in them.

    It is accepted where the confidence that `calibration` makes of its score reaches `threshold`, else for review. A
    value that `rule` put in the place of a likelier one is for review, however sure it is.
    """
    best, why, alternative = steer(found, rule)
    if why and why != "wrong_length" and best is found[0]:
        best, why, alternative = steer([*found, *substitutions(steps, found)], rule)
    if not best.value:
        return Reading("review", reason=why or "not_digits", alternative=alternative, kind="field")
    score = score_of(best)
    confidence = calibration.probability(score)
    stands = spots(steps, best.value)
    places = boxes(line, [(spot.first / len(steps), (spot.last + 1) / len(steps)) for spot in stands])
    if not why and len(best.value) > 1:
        why = "struck_out" if is_struck(line.image) else "not_digits" if _may_be_slashes(best.value, places) else ""
    accepted = not why and confidence >= threshold
    digits = [_digit(value, spot, box) for value, spot, box in zip(best.value, stands, places, strict=True)]
    return Reading(
        status="accepted" if accepted else "review",
        value=best.value,
        confidence=confidence,
        digits=tuple(digits),
        reason="" if accepted else why or _doubt(threshold),
        alternative=alternative,
        kind="field",
        score=None if why else score,
        likely=math.exp(min(best.score, 0.0)),
    )


def _may_be_slashes(value: str, places: Sequence[Box]) -> bool:
    """Whether nothing but ones stand there, far apart: so do the slashes of a date that nobody filled in."""
    gaps = [after[0] - before[0] - before[2] for before, after in pairwise(places)]
    return set(value) == {"1"} and bool(gaps) and min(gaps) > SLASHES * max(place[3] for place in places)


def is_alone(digit: Reading, ink: Ink) -> bool:
    """Whether a page shows this digit and no more, so that nobody need look for a field on it."""
    _, _, width, height = ink.box
    return ink.alone and width <= height and digit.likely >= NO_FIELD


def of_two(digit: Reading, field: Reading, shape: tuple[int, ...], *, has_one: bool = False) -> Reading:
    """Decide whether a page of some shape shows a digit or a field, by what either network makes of it.

    A field where its rule says that it `has_one` digit is of the wrong length.
    """
    likelier = _likelier(digit, field, shape)
    if has_one and likelier.kind == "field":
        return replace(_for_review(digit, field.value), reason="wrong_length")
    return likelier


def _likelier(digit: Reading, field: Reading, shape: tuple[int, ...]) -> Reading:
    """Take the digit, perhaps for review, or the field.

    What stands beside a digit in a tight crop may look like more digits, so there a field has to be likely where the
    digit is not; and where neither is clear, the likelier of the two is for review. On a wide page it is the other way
    round: the digit network may have seen one of several, or what is left of boxes, so that a digit has to be one to
    both.
    """
    height, width = shape[:2]
    if width >= WIDE * height:
        if field.value and field.value != digit.value:
            return _one_of(digit, field) if len(field.value) == 1 and digit.likely >= DIGIT_SURE else field
        return digit if field.value and field.likely >= SURE else _for_review(digit, "")
    if len(field.value) < 2:
        return digit
    # Higher than wide is what was cut for one digit; but what stands clear of both sides is no neighbour's end.
    first, last = field.digits[0].box, field.digits[-1].box
    near, far = sorted((first[0], width - last[0] - last[2]))
    apart = (width >= height or near > CLEAR * width) and digit.digits[0].box[2] < FILLS * width
    if near <= CUT and far > CLEAR * width:  # at one side only: a neighbour's end, or a field that is cut short
        field = _for_review(field, digit.value)
    if (apart and field.likely >= LIKELY) or (digit.likely < DIGIT_SURE and field.likely >= SURE):
        return field
    if field.likely < LIKELY and not apart:
        return digit
    return _one_of(digit, field)


def _one_of(digit: Reading, field: Reading) -> Reading:
    """The likelier of two readings, for review, with as much of its confidence as the other one leaves it."""
    one, other = (field, digit) if field.likely > digit.likely else (digit, field)
    confidence = one.confidence * one.likely / (one.likely + other.likely)
    digits = (replace(one.digits[0], confidence=confidence),) if one is digit else one.digits
    return _for_review(replace(one, confidence=confidence, digits=digits), other.value)


def of_none(field: Reading | None) -> Reading:
    """Decide what a page shows on which no digit was found: what its line says is for review."""
    return _for_review(field, "") if field is not None and field.value else blank()


def _for_review(one: Reading, alternative: str) -> Reading:
    reason = one.reason or "low_confidence"
    return replace(one, status="review", reason=reason, alternative=alternative or one.alternative, score=None)


def score_of(best: Candidate) -> float:
    """The raw score of a field: the log-odds of its value against all others."""
    return best.score - math.log(max(-math.expm1(min(best.score, 0.0)), TINY))


def _digit(value: str, spot: Spot, box: Box) -> Digit:
    shares = {str(other): share for other, share in enumerate(spot.odds)}
    confidence = shares.pop(value)
    return Digit(value, confidence, box, tuple(sorted(shares.items(), key=_share)[:ALTERNATIVES]))


def _doubt(threshold: float, *, clipped: bool = False) -> str:
    """Why a value is not accepted that nothing else speaks against."""
    return "not_promised" if threshold > 1 else "clipped" if clipped else "low_confidence"


def _share(item: tuple[str, float]) -> float:
    return -item[1]


def audited(reading: Reading, sha256: str, page: int, share: float) -> Reading:
    """Put a `share` of what was accepted before a person all the same: always the same, chosen by the scan's bytes.

    Their values are a random sample of what is accepted, so that the errors a person finds among them tell whether the
    promise holds.
    """
    if reading.status != "accepted":
        return reading
    lot = int.from_bytes(hashlib.sha256(f"{sha256} {page}".encode()).digest()[:8]) / 2**64
    return replace(reading, status="review", reason="audit") if lot < share else reading
