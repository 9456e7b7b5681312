"""Probabilities become a value, and a status that says whether it can be trusted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_decoding import steps_of

from watcher.calibration import Calibration, log_odds
from watcher.decoding import candidates
from watcher.fields import Rule
from watcher.line import Line
from watcher.reading import ALTERNATIVES, audited, rank, read_digit, read_field
from watcher.results import Reading, blank, failed

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIGITS = tuple("0123456789")
BOX = (3, 5, 20, 30)


AS_IT_IS = Calibration(((log_odds(0.01), 0.01), (log_odds(0.99), 0.99)), ())


def certain(value: str, confidence: float, second: str) -> list[float]:
    """Probabilities in which `value` has `confidence` and `second` most of the rest."""
    rest = 1 - confidence
    return [confidence if d == value else 0.6 * rest if d == second else 0.05 * rest for d in DIGITS]


@pytest.mark.parametrize(
    ("confidence", "threshold", "status"),
    [(0.99, 0.98, "accepted"), (0.97, 0.98, "review"), (0.999999, math.inf, "review"), (0.6, 0.0, "accepted")],
)
def test_threshold(confidence: float, threshold: float, status: str) -> None:
    """What reaches the threshold is accepted, without a reason; what does not is for review, and says why."""
    reading = read_digit(certain("4", confidence, "9"), DIGITS, BOX, AS_IT_IS, threshold)
    assert reading.status == status
    why = "not_promised" if math.isinf(threshold) else "low_confidence"
    assert reading.reason == ("" if status == "accepted" else why)
    assert reading.value == "4"
    assert reading.confidence == pytest.approx(confidence)


def test_the_threshold_itself_is_accepted() -> None:
    """A score on the threshold is accepted, the least under it is not."""
    probabilities = certain("4", 0.98, "9")
    start = AS_IT_IS.probability(rank(probabilities, DIGITS)[2])
    assert read_digit(probabilities, DIGITS, BOX, AS_IT_IS, start).status == "accepted"
    assert read_digit(probabilities, DIGITS, BOX, AS_IT_IS, math.nextafter(start, 1)).status == "review"


def test_confidence_is_what_the_calibration_makes_of_the_score() -> None:
    """The raw score is the log-odds against all else; confidence is the map's, and the rest is shared out."""
    flat = Calibration(((0.0, 0.5), (4.0, 0.8)), ())
    reading = read_digit([0.96, 0.03, 0.01], ("0", "1", "none"), BOX, flat, 0.5)
    assert reading.kind == "digit"
    assert reading.score == pytest.approx(math.log(0.96 / 0.04))
    assert reading.confidence == pytest.approx(flat.probability(math.log(24)))
    ((other, share),) = reading.digits[0].alternatives
    assert other == "1"
    assert share == pytest.approx(0.75 * (1 - reading.confidence))


@pytest.mark.parametrize(("none", "status"), [(0.009, "accepted"), (0.011, "review"), (0.85, "review")])
def test_what_may_be_no_digit(none: float, status: str) -> None:
    """A digit is accepted only where it is hardly none at all, whatever the calibration promises of such scores."""
    generous = Calibration(((-10.0, 0.98), (10.0, 0.99)), ())
    reading = read_digit([1 - none - 0.001, 0.001, none], ("0", "1", "none"), BOX, generous, 0.5)
    assert (reading.status, reading.value) == (status, "0")
    assert (reading.score is None) == (status == "review")
    assert reading.reason == {0.009: "", 0.011: "low_confidence", 0.85: "not_digits"}[none]


def test_a_digit_that_may_be_half_of_a_number() -> None:
    """One beside which another seems to stand is not taken, however sure it is, nor is much confidence put in it."""
    reading = read_digit(certain("4", 0.99, "9"), DIGITS, BOX, AS_IT_IS, 0.1, paired=True)
    assert (reading.status, reading.reason, reading.score) == ("review", "low_confidence", None)
    assert reading.confidence == reading.digits[0].confidence == 0.5


def test_a_digit_that_the_edge_cuts() -> None:
    """Of a doubtful digit that runs over the edge the reason says so; a sure one is accepted all the same."""
    sure, doubtful = certain("4", 0.99, "9"), certain("4", 0.7, "9")
    assert read_digit(doubtful, DIGITS, BOX, AS_IT_IS, 0.9, clipped=True).reason == "clipped"
    assert read_digit(doubtful, DIGITS, BOX, AS_IT_IS, math.inf, clipped=True).reason == "not_promised"
    accepted = read_digit(sure, DIGITS, BOX, AS_IT_IS, 0.9, clipped=True)
    assert (accepted.status, accepted.reason) == ("accepted", "")


def test_a_network_that_is_certain() -> None:
    """Probabilities of exactly 1 and 0, as float32 has them, are a very high score and nothing else."""
    reading = read_digit([1.0, *[0.0] * 9], DIGITS, BOX, AS_IT_IS, 0.99)
    assert (reading.status, reading.value) == ("accepted", "0")
    assert reading.score is not None
    assert 20 < reading.score < 100
    assert reading.confidence <= 1


def test_best_guess_and_alternatives() -> None:
    """The likeliest digit is the value, the next one the alternative, and the digit keeps the next three in order."""
    probabilities = [0.0, 0.02, 0.5, 0.03, 0.0, 0.1, 0.05, 0.3, 0.0, 0.0]
    reading = read_digit(probabilities, DIGITS, BOX, AS_IT_IS, 0.9)
    assert (reading.value, reading.alternative) == ("2", "7")
    (digit,) = reading.digits
    assert (digit.value, digit.box) == ("2", BOX)
    assert digit.confidence == pytest.approx(0.5)
    assert [value for value, _ in digit.alternatives] == ["7", "5", "6"]
    assert [p for _, p in digit.alternatives] == pytest.approx([0.3, 0.1, 0.05])
    assert len(digit.alternatives) == ALTERNATIVES


def test_equal_chances() -> None:
    """Of equally likely digits the first of the classes is the value, each time the same."""
    reading = read_digit([0.1] * 10, DIGITS, BOX, AS_IT_IS, 0.9)
    assert (reading.value, reading.alternative, reading.status) == ("0", "1", "review")


def test_classes_name_the_values() -> None:
    """A value is what the model's card calls its class, in whatever order."""
    assert read_digit([0.1, 0.2, 0.7], ("7", "0", "3"), BOX, AS_IT_IS, 0.5).value == "3"


def test_two_classes() -> None:
    """A network of two classes has but one alternative."""
    reading = read_digit([0.3, 0.7], ("0", "1"), BOX, AS_IT_IS, 0.5)
    assert reading.alternative == "0"
    ((other, share),) = reading.digits[0].alternatives
    assert other == "0"
    assert share == pytest.approx(0.3)


def test_as_many_probabilities_as_classes() -> None:
    """Probabilities that do not match the classes are a mistake, not a reading."""
    with pytest.raises(ValueError, match="shorter"):
        read_digit([0.5, 0.5], DIGITS, BOX, AS_IT_IS, 0.5)


# Fields

LINE = Line(np.zeros((32, 160), np.float32), (0, 0, 160, 32), 0.0, finer=lambda: np.zeros((64, 320), np.float32))


def either(*places: str) -> NDArray[np.float32]:
    """Steps that say one of two digits at each place, the first a little likelier."""
    return steps_of(*[said for place in places for said in ({place[0]: 0.55, place[1]: 0.44}, {})])


def checked(*places: str, threshold: float = 0.5, **what: object) -> Reading:
    """What is read of such a line under a rule."""
    steps = either(*places)
    rule = Rule.model_validate({"name": "it", "files": "*"} | what)
    return read_field(steps, candidates(steps), LINE, AS_IT_IS, threshold, rule=rule)


def test_a_check_digit_finds_what_was_dropped_long_ago() -> None:
    """Where none of the values that were followed up passes, the likeliest is taken that other digits make of them."""
    places = "13", "56", "70", "24", "98"
    luhn = Rule.model_validate({"name": "it", "files": "*", "check": "luhn"})
    assert all(luhn.broken(one.value) for one in candidates(either(*places)))
    reading = checked(*places, check="luhn")
    assert (reading.value, reading.reason, reading.alternative) == ("36749", "rule:it", "15729")
    assert (reading.status, reading.score) == ("review", None)


def test_what_no_digit_in_another_ones_place_puts_right() -> None:
    """A value of the wrong length, and one that nothing likely enough comes near, stay, with what is wrong of them."""
    short = checked("13", "56", length=3)
    assert (short.value, short.reason, short.alternative) == ("15", "wrong_length", "16")
    alone = checked("13", "56", range=[90, 99])
    assert (alone.value, alone.reason, alone.alternative) == ("15", "rule:it", "16")


def test_the_threshold_itself_is_accepted_of_a_field() -> None:
    """A score on the threshold is accepted, the least under it is not."""
    start = checked("13", "56").confidence
    assert checked("13", "56", threshold=start).status == "accepted"
    assert checked("13", "56", threshold=math.nextafter(start, 1)).status == "review"


def test_blank() -> None:
    """A page with nothing on it has neither value nor reason."""
    assert blank() == Reading("blank", value="", confidence=0.0, digits=(), reason="", alternative="")


def test_failed() -> None:
    """A scan that could not be read has no value but says why."""
    assert failed("truncated") == Reading("failed", value="", confidence=0.0, digits=(), reason="truncated")


def test_an_audit_takes_its_share_and_always_the_same() -> None:
    """About the share that is asked for goes to a person, value and confidence kept; a rerun marks the same ones."""
    reading = read_digit(certain("4", 0.99, "9"), DIGITS, BOX, AS_IT_IS, 0.9)
    names = [f"{number:064x}" for number in range(4000)]
    chosen = [name for name in names if audited(reading, name, 1, 0.05).reason == "audit"]
    assert 140 < len(chosen) < 260
    assert chosen == [name for name in names if audited(reading, name, 1, 0.05).status == "review"]
    assert set(chosen) <= {name for name in names if audited(reading, name, 1, 0.1).reason == "audit"}
    marked = audited(reading, chosen[0], 1, 0.05)
    assert (marked.value, marked.confidence, marked.digits) == (reading.value, reading.confidence, reading.digits)
    assert marked.score == reading.score  # it may be calibrated with
    pages = [{audited(reading, name, page, 0.5).status for page in (1, 2)} for name in names[:40]]
    assert {"accepted", "review"} in pages  # each page is drawn for itself


def test_an_audit_of_none_or_all() -> None:
    """Without a share nothing is taken, with all of it everything that was accepted, and nothing else."""
    accepted = read_digit(certain("4", 0.99, "9"), DIGITS, BOX, AS_IT_IS, 0.9)
    doubtful = read_digit(certain("4", 0.5, "9"), DIGITS, BOX, AS_IT_IS, 0.9)
    assert audited(accepted, "0" * 64, 1, 0.0) is accepted
    assert audited(accepted, "0" * 64, 1, 1.0).status == "review"
    for other in (doubtful, blank(), failed("truncated")):
        assert audited(other, "0" * 64, 1, 1.0) is other


def test_what_is_no_digit_is_for_review() -> None:
    """Where the class of no digits is by far the likeliest, the best digit is a guess, and the reason says so."""
    reading = read_digit([0.08, 0.02, 0.9], ["0", "1", "none"], (0, 0, 1, 1), AS_IT_IS, 0.4)
    assert (reading.status, reading.value, reading.reason) == ("review", "0", "not_digits")
    assert reading.confidence == pytest.approx(0.08)
    doubtful = read_digit([0.3, 0.1, 0.6], ["0", "1", "none"], (0, 0, 1, 1), AS_IT_IS, 0.4)
    assert (doubtful.status, doubtful.reason) == ("review", "low_confidence")
    assert "none" not in [value for value, _ in reading.digits[0].alternatives]
