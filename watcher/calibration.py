"""What the scores of a network are worth: the probability that a value is right, and from where on to accept. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["digit", "field"]
"""What is calibrated on its own: crops of one digit, and crops of a whole number."""

CONFIDENCE = 0.95  # of the guarantee behind a threshold
SPARE = 3  # errors that the first test may pass with, where there is data enough, so that one bad crop does not end it

MANY = 1_000_000  # crops: nobody labels more


@dataclass(frozen=True, slots=True)
class Calibration:
    """How one kind of value is judged, found on labelled crops that the network never trained on."""

    on: str  # those crops in words
    size: int  # how many, each of them independent of the others
    temperature: float  # divides the network's logits before a score is taken of them (Guo et al. 2017)
    map: tuple[tuple[float, float], ...]  # raw score, probability that the value is right; both rising
    curve: tuple[tuple[float, int, int], ...]  # probability, crops that reach it, wrong ones among them; falling

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Calibration:
        """Take a calibration as the card holds it. Raises ValueError, KeyError or TypeError where it makes no sense."""
        made = cls(
            on=str(entry["on"]),
            size=int(entry["size"]),
            temperature=float(entry["temperature"]),
            map=tuple((float(score), float(probability)) for score, probability in entry["map"]),
            curve=tuple((float(start), int(reached), int(wrong)) for start, reached, wrong in entry["curve"]),
        )
        rising = all(a < b and p < q for (a, p), (b, q) in pairwise(made.map))
        counted = all(0 <= wrong <= reached for _, reached, wrong in made.curve)
        falling = all(a > b and n <= m for (a, n, _), (b, m, _) in pairwise(made.curve))
        if not (made.temperature > 0 and len(made.map) > 1 and rising and counted and falling):
            raise ValueError("calibration that makes no sense")
        if not all(0 < probability < 1 for _, probability in made.map):
            raise ValueError("calibration that is certain")
        return made

    def probability(self, score: float) -> float:
        """The probability that a value with this raw score is right, the higher the higher the score.

        Between the points of the map its log-odds are interpolated, and beyond them extrapolated: with two points this
        is Platt's scaling (1999).
        """
        after = min(max(bisect_left(self.map, (score, 0.0)), 1), len(self.map) - 1)
        (low, p), (high, q) = self.map[after - 1 : after + 1]
        share = (score - low) / (high - low)
        return _probability((1 - share) * log_odds(p) + share * log_odds(q))

    def threshold(self, max_error: float) -> float:
        """The lowest probability at which at most `max_error` of the values are wrong, at 95% confidence.

        Fixed-sequence testing from a safe threshold down (Learn then Test, Angelopoulos et al. 2021): each step is
        an exact binomial test, and the first that fails ends it, so that no correction for the number of steps is
        due. Where it starts depends on how many crops reach a threshold, never on which of them are wrong. Above 1,
        which no probability reaches, where the calibration data cannot support the promise.
        """
        lowest = math.inf
        total = self.curve[-1][1] if self.curve else 0
        least = next((k for k in range(SPARE, 0, -1) if shown(2 * k, total, max_error)), 0)
        for threshold, reached, wrong in self.curve:
            if not shown(least, reached, max_error):
                continue  # too few to pass but by luck: no test, so none that could fail
            if not shown(wrong, reached, max_error):
                break
            lowest = threshold
        return lowest

    def missing(self, max_error: float) -> int | None:
        """How many labelled crops more would support `max_error`, if they went as these; None: no number of them."""
        if self.threshold(max_error) <= 1:
            return 0
        sizes = [
            self.size * (_needed(wrong / reached, max_error) / reached - 1)
            for _, reached, wrong in self.curve
            if reached and wrong / reached < max_error
        ]
        fewest = min(sizes, default=math.inf)
        return None if math.isinf(fewest) else max(1, math.ceil(fewest))

    def shortfall(self, max_error: float) -> str:
        """Why nothing can be accepted at `max_error`, in one line; empty where something can."""
        missing = self.missing(max_error)
        if missing == 0:
            return ""
        want = (
            f"about {missing:,} more labelled crops are missing"
            if missing
            else "even the surest of them are wrong more often"
        )
        return (
            f"accept.max_error {max_error:g} cannot be promised by a calibration on {self.size:,} crops, {want}; "
            "nothing is accepted"
        )


def binomial_tail(errors: int, trials: int, rate: float) -> float:
    """The probability of at most `errors` in `trials`, each with probability `rate`."""
    return math.fsum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * math.log(rate)
            + (trials - k) * math.log1p(-rate)
        )
        for k in range(errors + 1)
    )


def shown(errors: int, trials: int, rate: float) -> bool:
    """Whether so many errors show, at 95% confidence, that at most `rate` are wrong (exact binomial test)."""
    return errors <= trials * rate and binomial_tail(errors, trials, rate) <= 1 - CONFIDENCE


def log_odds(probability: float) -> float:
    """How much likelier than not, in nats."""
    return math.log(probability) - math.log1p(-probability)


def _probability(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(max(odds, -700.0)) / (1 + math.exp(max(odds, -700.0)))


def _needed(share: float, max_error: float) -> float:
    """How many trials, `share` of them wrong, show that at most `max_error` are; infinite: more than anybody labels."""
    low, high = 0, 1
    while not shown(math.ceil(share * high), high, max_error):
        low, high = high, 2 * high
        if high > MANY:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        if shown(math.ceil(share * middle), middle, max_error):
            high = middle
        else:
            low = middle
    return high
