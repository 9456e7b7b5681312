"""A score becomes a probability, and a threshold keeps its promise."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from train.calibration import curve, risk_coverage, within
from watcher.calibration import CONFIDENCE, Calibration, Trial, binomial_tail, bound, log_odds, shown
from watcher.model import read_card

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MODEL = Path(__file__).parent.parent / "model"
AS_IT_IS = ((log_odds(0.01), 0.01), (log_odds(0.99), 0.99))


# The binomial bound


def exact_tail(errors: int, trials: int, rate: Fraction) -> Fraction:
    """The probability of at most `errors`, in whole numbers."""
    terms = (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(errors + 1))
    return sum(terms, start=Fraction(0))


@pytest.mark.parametrize("rate", [Fraction(1, 1000), Fraction(1, 100), Fraction(1, 7), Fraction(1, 2)])
@pytest.mark.parametrize(
    ("errors", "trials"), [(0, 0), (0, 1), (1, 1), (0, 299), (3, 40), (7, 7), (12, 500), (49, 1000)]
)
def test_binomial_tail(errors: int, trials: int, rate: Fraction) -> None:
    """The probability agrees with exact arithmetic to nine digits."""
    assert binomial_tail(errors, trials, float(rate)) == pytest.approx(
        float(exact_tail(errors, trials, rate)), rel=1e-9
    )


@pytest.mark.parametrize(("trials", "rate"), [(299, 0.01), (598, 0.005), (2995, 0.001)])
def test_how_much_a_promise_takes(trials: int, rate: float) -> None:
    """Without any error 299 images are enough to promise 1%, 598 for 0.5%, 2,995 for 0.1%; one less is not."""
    assert binomial_tail(0, trials, rate) <= 1 - CONFIDENCE < binomial_tail(0, trials - 1, rate)


def test_binomial_tail_of_large_numbers() -> None:
    """A million trials neither overflow nor vanish: about half of them have at most the expected errors."""
    assert 0.5 < binomial_tail(1000, 1_000_000, 0.001) < 0.52


# Thresholds


def threshold(max_error: float, *curve: tuple[float, int, int]) -> float:
    """Where to start on a curve of (score, accepted, errors)."""
    return Trial("drawn", curve[-1][1], 0.0, curve).start(max_error)


def test_no_data_no_promise() -> None:
    """Where too few images were held back nothing is accepted, however few were wrong."""
    assert threshold(0.01, (0.9, 0, 0)) == math.inf
    assert threshold(0.01, (0.99, 100, 0), (0.5, 298, 0)) == math.inf
    assert threshold(0.01, (0.99, 100, 0), (0.5, 299, 0)) == 0.5


def test_lowest_that_passes() -> None:
    """The lowest threshold that the errors allow is taken."""
    curve = ((0.999, 3000, 0), (0.99, 4000, 2), (0.95, 4500, 10), (0.9, 4800, 20), (0.5, 5000, 100))
    assert threshold(0.01, *curve) == 0.9
    assert threshold(0.002, *curve) == 0.99
    assert threshold(0.001, *curve) == 0.999
    assert threshold(0.0001, *curve) == math.inf
    assert threshold(0.5, *curve) == 0.5


def test_bound_is_exact() -> None:
    """One error too many at the bound, and the threshold does not pass."""
    allowed = max(k for k in range(60) if binomial_tail(k, 5000, 0.01) <= 1 - CONFIDENCE)
    assert 30 < allowed < 50  # less than 1% of 5,000, for what they tell is not certain
    assert threshold(0.01, (0.9, 5000, allowed)) == 0.9
    assert threshold(0.01, (0.9, 5000, allowed + 1)) == math.inf


def test_stops_at_the_first_failure() -> None:
    """What fails once ends the search: a lower threshold that would pass by luck is not looked at."""
    assert threshold(0.01, (0.99, 1000, 2), (0.95, 2000, 30), (0.9, 100_000, 30)) == 0.99
    assert threshold(0.01, (0.99, 1000, 30), (0.9, 100_000, 30)) == math.inf


def test_too_few_is_no_failure() -> None:
    """Thresholds that too few images reach are passed over, even where one of the few is wrong."""
    assert threshold(0.01, (0.9999, 10, 1), (0.999, 200, 1), (0.99, 5000, 5)) == 0.99


def test_one_bad_crop_does_not_end_it() -> None:
    """With data enough the first test is one that a single unlucky crop among the surest cannot fail."""
    curve = ((0.9999, 3000, 1), (0.999, 10_000, 1), (0.99, 20_000, 2), (0.9, 22_000, 50))
    assert shown(0, 3000, 0.001)
    assert not shown(1, 3000, 0.001)
    assert threshold(0.001, *curve) == 0.99


def test_little_data_is_tested_as_it_is() -> None:
    """Where no error can be spared, none is: 300 crops without one support 1%, with one they do not."""
    assert threshold(0.01, (0.9, 300, 0)) == 0.9
    assert threshold(0.01, (0.9, 300, 1)) == math.inf


def test_no_lower_than_the_right_values_that_were_seen() -> None:
    """Where scores end, or have a gap, nothing is known: it starts with right values, not with what passes idly."""
    curve = ((6.0, 310, 0), (5.5, 320, 0), (5.0, 330, 0), (-2.0, 330, 0), (-1000.0, 331, 0))
    assert Trial("shipped", 331, 0.0, curve).start(0.01) == -1000.0
    assert Trial("own", 331, 0.0, curve, least=-2.5).start(0.01) == -2.5
    assert Trial("own", 331, 0.0, curve[:4], least=5.2).start(0.01) == 5.2
    gap = ((6.0, 900, 0), (5.0, 950, 0), (2.0, 951, 1), (1.0, 980, 30), (-1000.0, 990, 30))
    assert Trial("own", 990, 0.0, gap, least=0.4).start(0.01) == 5.0


def test_what_decided_before_is_held_where_crops_do_not_tell() -> None:
    """Crops tell where a test fails, and with writing that is no number among them: else the threshold only rises."""
    easy, hard = ((2.0, 5000, 2),), ((4.0, 4000, 0), (2.0, 5000, 200))
    held = Trial("before", 5000, 0.0, ((3.0, 4000, 2), (1.0, 5000, 300)))
    start = 1 / (1 + math.exp(-3))
    for counts, strays, tells in ((easy, 0, False), (easy, 9, False), (hard, 0, False), (hard, 9, True)):
        own = Trial("own", 5000, 0.0, counts, least=1.0, strays=strays)
        found = Calibration(AS_IT_IS, (own,), (held,))
        assert found.is_held(0.01) != tells
        assert found.threshold(0.01) >= start
        assert found.guards(0.01) == ((own,) if tells else (held,))
    low = Trial("own", 5000, 0.0, ((2.0, 4000, 0), (1.0, 5000, 200)), least=1.0, strays=9)
    assert Calibration(AS_IT_IS, (low,), (held,)).threshold(0.01) == pytest.approx(1 / (1 + math.exp(-2)))
    wanting = Trial("before", 100, 0.0, ((3.0, 100, 0),))
    assert "cannot be promised from before" in Calibration(AS_IT_IS, (own_of(easy),), (wanting,)).shortfall(0.01)


def own_of(curve: tuple[tuple[float, int, int], ...]) -> Trial:
    """A trial on labelled crops, all of them numbers."""
    return Trial("own", curve[-1][1], 0.0, curve, least=0.0)


def test_the_shipped_curves_are_in_order() -> None:
    """Each curve that ships goes from the safest score down, and each step takes in the one before."""
    for trial in read_card(MODEL).digit.trials:
        for (high, few, fewer_errors), (low, more, errors) in pairwise(trial.curve):
            assert high > low
            assert few <= more <= trial.size
            assert fewer_errors <= errors <= more


def calibration(*trials: Trial) -> Calibration:
    """A calibration on some trials."""
    return Calibration(AS_IT_IS, trials)


def test_the_promise_holds_on_each_trial() -> None:
    """Of several trials the one that asks for the higher score decides, and one that cannot promise forbids all."""
    easy, hard = Trial("easy", 5000, 0.0, ((5.0, 4000, 0), (1.0, 5000, 9))), Trial("hard", 500, 0.0, ((3.0, 400, 0),))
    assert calibration(easy).threshold(0.01) == pytest.approx(1 / (1 + math.exp(-1)))
    assert calibration(easy, hard).threshold(0.01) == pytest.approx(1 / (1 + math.exp(-3)))
    assert calibration(easy, hard).threshold(0.001) == math.inf
    assert "cannot be promised from hard, about" in calibration(easy, hard).shortfall(0.001)


def test_a_floor_is_the_least_that_is_asked() -> None:
    """A trial on crops that nobody could read better is not asked for less than its floor, but for no more either."""
    hard = Trial("hard", 5000, 0.01, ((3.0, 4000, 20), (1.0, 5000, 200)))
    assert hard.start(0.0001) == hard.start(0.01) == 3.0
    assert hard.start(0.1) == 1.0
    assert calibration(hard).caveat(0.01) == ""
    assert (
        calibration(hard)
        .caveat(0.001)
        .startswith(
            "up to 1.00% of the accepted may be wrong on hard; accept.max_error 0.001 holds on none of its data; "
        )
    )
    clean = Trial("clean", 5000, 0.0, ((3.0, 4900, 0),))
    assert calibration(clean, hard).caveat(0.001) == (
        "up to 1.00% of the accepted may be wrong on hard; accept.max_error 0.001 holds on clean; "
        "if that is too much, label crops of your own and run 'digitdrop-train calibrate'"
    )


def test_several_scans_of_one_writing_say_less_of_others() -> None:
    """Ten scans each of 5,000 writings promise 0.1% for scans of these; for others they count as 5,000, and say so."""
    scans = Trial("scans", 50_000, 0.0, ((2.0, 48_000, 30),), 5000)
    assert scans.start(0.001) == 2.0
    assert scans.beyond(2.0) == pytest.approx(bound(3, 4800))
    assert shown(3, 4800, bound(3, 4800) + 1e-6)
    assert not shown(3, 4800, bound(3, 4800) - 1e-5)
    assert 0.0015 < scans.beyond(2.0) < 0.0017
    said = calibration(scans).caveat(0.001)
    assert said.startswith("up to 0.16% of the accepted may be wrong in other writing of the same people; ")
    assert "; accept.max_error 0.001 holds on scans; " in said
    assert calibration(scans).caveat(0.01) == ""
    assert calibration(Trial("crops", 48_000, 0.0, ((2.0, 48_000, 30),))).caveat(0.001) == ""


def test_scans_of_a_writing_that_do_not_divide() -> None:
    """A part of a writing counts as a wrong one among the wrong, and as none among those that reach a score."""
    scans = Trial("scans", 1000, 0.0, ((4.0, 405, 1), (2.0, 705, 7), (1.0, 990, 60)), 300)
    assert scans.beyond(4.0) == bound(1, 121)  # 0.3 and 121.5
    assert scans.beyond(2.0) == scans.beyond(3.0) == bound(3, 211)  # 2.1 and 211.5; between two, what reaches the lower


def test_two_trials_of_several_scans() -> None:
    """What other writings are promised is counted from where all trials accept, and the worst of it is told."""
    first = Trial("first", 40_000, 0.0, ((5.0, 30_000, 0), (2.0, 38_000, 4)), 4000)
    second = Trial("second", 50_000, 0.0, ((5.0, 40_000, 0), (2.0, 44_000, 1), (1.0, 48_000, 30)), 5000)
    assert (first.start(0.001), second.start(0.001)) == (2.0, 1.0)
    assert calibration(first, second).caveat(0.001) == (
        f"up to {bound(1, 3800):.2%} of the accepted may be wrong in other writing of the same people; "
        "accept.max_error 0.001 holds on first and second; "
        "if that is too much, label crops of your own and run 'digitdrop-train calibrate'"
    )


# What is missing


def missing(max_error: float, size: int, *curve: tuple[float, int, int]) -> int | None:
    """The number of crops missing for a promise."""
    return Trial("drawn", size, 0.0, curve).missing(max_error)


def test_nothing_is_missing_where_the_promise_can_be_made() -> None:
    """What can be promised misses nothing, and says nothing."""
    assert missing(0.01, 400, (0.9, 299, 0)) == 0
    assert calibration(Trial("drawn", 400, 0.0, ((0.9, 299, 0),))).shortfall(0.01) == ""


def test_the_missing_crops_are_counted() -> None:
    """With no error yet, as many are missing as bring the sure ones to 299; the others count in proportion."""
    assert missing(0.01, 250, (0.9, 250, 0)) == 299 - 250
    assert missing(0.01, 500, (0.9, 250, 0)) == 2 * (299 - 250)
    found = missing(0.01, 1000, (0.9, 1000, 8))
    assert found is not None
    assert shown(math.ceil(8 * (1000 + found) / 1000), 1000 + found, 0.01)
    assert 5_000 < found < 9_000  # 0.8% wrong where 1% may be takes much


def test_the_missing_crops_would_do() -> None:
    """Where an unlucky crop among the surest ends the tests at once, that too has to be outweighed: by no one crop."""
    curve = ((6.0, 900, 0), (5.0, 2500, 4), (4.0, 12_000, 9), (1.0, 20_000, 90))
    for rate in (0.001, 0.0012):
        found = missing(rate, 20_000, *curve)
        assert found is not None
        more = tuple(
            (score, n * (20_000 + found) // 20_000, -(-e * (20_000 + found) // 20_000)) for score, n, e in curve
        )
        assert threshold(rate, *more) < math.inf
        assert found > 200
        fewer = tuple((score, n * 101 // 100, -(-e * 101 // 100)) for score, n, e in curve)
        assert threshold(rate, *fewer) == math.inf


def test_more_of_the_same_would_not_help() -> None:
    """Where even the surest are wrong too often no number of crops is named, and the line says why."""
    trial = Trial("drawn", 1000, 0.0, ((5.0, 500, 20), (1.0, 1000, 80)))
    assert trial.missing(0.01) is None
    assert "even the surest are worse" in calibration(trial).shortfall(0.01)


def test_the_shortfall_is_one_line() -> None:
    """It names the setting, its value, the crops there are and those that are missing, what follows and the remedy."""
    said = calibration(Trial("1,250 crops", 1250, 0.0, ((0.9, 1250, 0),))).shortfall(0.001)
    assert "\n" not in said
    assert "accept.max_error 0.001" in said
    assert "1,250 crops" in said
    assert "1,745 more" in said
    assert said.startswith("none is accepted: ")
    assert said.endswith("; label crops of your own and run 'digitdrop-train calibrate', or raise accept.max_error")


# The promise, by simulation

WRITERS = 400_000  # readings that stand for all there will ever be
DRAWS = 300  # calibration sets
CROPS = 2000  # in each of them
RATE = 0.02


def readings(count: int, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores as of a network that is too sure of itself, and whether each value is right; a few hopeless ones in it."""
    honest = random.normal(4.5, 2.5, count)
    right = random.random(count) < 1 / (1 + np.exp(-honest))
    hopeless = random.random(count) < 0.002
    return 1.6 * honest + 1, right & ~hopeless


def broken(rule: Callable[[Trial], float], random: np.random.Generator) -> float:
    """The share of calibration sets for which more than RATE of all that is accepted afterwards is wrong."""
    scores, right = readings(WRITERS, random)
    order = np.argsort(-scores)
    scores, wrong = scores[order], np.cumsum(~right[order]) / np.arange(1, WRITERS + 1)
    worse = 0
    for _ in range(DRAWS):
        drawn = readings(CROPS, random)
        start = rule(Trial("drawn", CROPS, 0.0, tuple(curve(*drawn))))
        taken = int((scores >= start).sum())
        worse += bool(taken) and float(wrong[taken - 1]) > RATE
    return worse / DRAWS


def test_the_promise_is_kept() -> None:
    """Over many calibration sets from one distribution it is broken in no more than one of twenty, chance allowed."""
    kept = broken(lambda trial: trial.start(RATE), np.random.default_rng(3))
    assert kept <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / DRAWS)


def test_a_broken_rule_breaks_the_promise() -> None:
    """The simulation would notice: accepting from where the count alone is low enough fails far more often."""

    def naive(trial: Trial) -> float:
        return min((score for score, reached, wrong in trial.curve if wrong <= RATE * reached), default=math.inf)

    assert broken(naive, np.random.default_rng(3)) > 0.3


def test_the_promise_is_worth_something() -> None:
    """It is not kept by accepting nothing: most of what could be accepted is."""
    random = np.random.default_rng(5)
    scores, right = readings(WRITERS, random)
    possible = max(share for share, wrong in risk_coverage(scores, right) if wrong <= RATE)
    starts = [Trial("drawn", CROPS, 0.0, tuple(curve(*readings(CROPS, random)))).start(RATE) for _ in range(30)]
    accepted = float(np.mean([(scores >= start).mean() for start in starts]))
    assert possible > 0.7
    assert accepted > 0.75 * possible


# The map


def test_two_points_are_platts_scaling() -> None:
    """Log-odds between and beyond two points lie on one line."""
    found = Calibration(((-2.0, 0.2), (3.0, 0.9)), ())
    slope = (log_odds(0.9) - log_odds(0.2)) / 5
    for score in (-30.0, -2.0, 0.0, 1.7, 3.0, 12.0):
        expected = 1 / (1 + math.exp(-(log_odds(0.2) + slope * (score + 2))))
        assert found.probability(score) == pytest.approx(expected, rel=1e-9)


def test_the_map_rises() -> None:
    """A higher score is a higher probability everywhere, and never leaves 0 to 1."""
    bent = Calibration(((-3.0, 0.1), (0.0, 0.3), (1.0, 0.9), (6.0, 0.99)), ())
    found = [bent.probability(score) for score in np.linspace(-12, 20, 200).tolist()]
    assert all(low < high for low, high in pairwise(found))
    assert all(0 < p < 1 for p in found)
    for score in (-1e6, 1e6):
        assert 0 <= bent.probability(score) <= 1
    for score, probability in bent.map:
        assert bent.probability(score) == pytest.approx(probability)


@pytest.mark.parametrize(
    ("line", "scores"),
    [
        (((-1.0, 0.02), (1.0, 0.98)), (-3.0, 2.0, 4.0)),
        (((-90.0, 0.02), (60.0, 0.98)), (4.0, 9.0)),
        (((-90.0, 0.02), (60.0, 0.98)), (5.0,)),
        (((0.1, 0.02), (0.2, 0.98)), (-3.0, 2.0, 6.0)),
    ],
)
def test_no_confidence_beyond_what_was_seen(line: tuple[tuple[float, float], ...], scores: tuple[float, ...]) -> None:
    """Above all scores seen it stays what it is, below them it falls no slower than before; between, it is the line."""
    bent = within(line, np.array(scores), 0.5)
    found, straight = Calibration.of(GOOD | {"map": bent}), Calibration(line, ())
    low, high = min(scores), max(scores)
    for score in scores:
        assert found.probability(score) == pytest.approx(straight.probability(score), abs=1e-6)
    assert found.probability(high + 20) == pytest.approx(found.probability(high), abs=1e-4)
    assert found.probability(high) < found.probability(high + 0.1)
    for below in (0.5, 3.0, 20.0):
        fallen = log_odds(found.probability(low)) - log_odds(found.probability(low - below))
        assert fallen >= 0.49 * below or found.probability(low - below) < 1e-6


# In the card

TRIAL = {"on": "drawn", "size": 10, "floor": 0.0, "curve": [[3, 5, 0], [1, 9, 2]]}
GOOD = {"map": [[0, 0.1], [1, 0.9]], "trials": [TRIAL]}


def test_an_entry_of_a_card_is_read() -> None:
    """What the card holds is what there is."""
    read = Calibration.of(GOOD)
    assert read.map == ((0.0, 0.1), (1.0, 0.9))
    assert read.trials == (Trial("drawn", 10, 0.0, ((3.0, 5, 0), (1.0, 9, 2))),)


@pytest.mark.parametrize(
    "change",
    [
        {"map": []},
        {"map": [[0, 0.5]]},
        {"map": [[0, 0.9], [1, 0.1]]},
        {"map": [[1, 0.1], [0, 0.9]]},
        {"map": [[0, 0.0], [1, 0.9]]},
        {"map": [[0, 0.1], [1, 1.0]]},
        {"trials": []},
        {"trials": [TRIAL | {"curve": []}]},
        {"trials": [TRIAL | {"curve": [[3, 5, 6]]}]},
        {"trials": [TRIAL | {"curve": [[3, 5, -1]]}]},
        {"trials": [TRIAL | {"curve": [[1, 9, 2], [3, 5, 0]]}]},
        {"trials": [TRIAL | {"curve": [[3, 9, 2], [1, 5, 0]]}]},
        {"trials": [TRIAL | {"size": 8}]},
        {"trials": [TRIAL | {"floor": -0.1}]},
        {"trials": [TRIAL | {"floor": math.nan}]},
        {"trials": [TRIAL | {"floor": 1.0}]},
        {"trials": [TRIAL | {"writings": -1}]},
        {"trials": [TRIAL | {"writings": 11}]},
        {"trials": [TRIAL | {"strays": -1}]},
        {"trials": [TRIAL | {"least": math.nan}]},
        {"before": [TRIAL | {"size": 8}]},
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    """A map that does not rise, or counts that cannot be, are no calibration."""
    with pytest.raises(ValueError, match=r"no sense|calibration"):
        Calibration.of(GOOD | change)
