"""What the scores of a network are worth: the probability that a value is right, and from where on to accept. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["digit", "field"]
"""What is calibrated on its own: crops of one digit, and crops of a whole number."""

CONFIDENCE = 0.95  # of the guarantee behind a threshold
SPARE = 3  # errors that the first test may pass with, where there is data enough, so that one bad crop does not end it
MANY = 100_000_000  # crops: nobody labels more
STEP = 50  # in steps of such a part the crops that are missing are looked for
CALIBRATE = "label crops of your own and run 'digitdrop-train calibrate'"
REMEDY = f"{CALIBRATE}, or raise accept.max_error"
CERTAIN = 36.0  # log-odds: more is 1 to a float


@dataclass(frozen=True, slots=True)
class Trial:
    """Labelled crops that the network never trained on, and what it made of them."""

    on: str  # those crops in words
    size: int  # how many
    floor: float  # the least error that is asked of them: for crops so bad that less cannot be had
    curve: tuple[tuple[float, int, int], ...]  # raw score, falling; crops that reach it; wrong ones among them
    writings: int = 0  # of which the crops are several scans each; 0: each crop is a writing of its own
    least: float | None = None  # score of a right value, where nothing is known of lower ones than were seen
    strays: int = 0  # labelled crops with writing that is no number

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Trial:
        """Take a trial as the card holds it. Raises ValueError, KeyError or TypeError where it makes no sense."""
        made = cls(
            on=str(entry["on"]),
            size=int(entry["size"]),
            floor=float(entry["floor"]),
            curve=tuple((float(score), int(reached), int(wrong)) for score, reached, wrong in entry["curve"]),
            writings=int(entry.get("writings", 0)),
            least=None if entry.get("least") is None else float(entry["least"]),
            strays=int(entry.get("strays", 0)),
        )
        counted = all(0 <= wrong <= reached <= made.size for _, reached, wrong in made.curve)
        falling = all(a > b and n <= m for (a, n, _), (b, m, _) in pairwise(made.curve))
        known = 0 <= made.writings <= made.size and made.strays >= 0 and math.isfinite(made.least or 0)
        if not (made.curve and counted and falling and 0 <= made.floor < 1 and known):
            raise ValueError("counts that make no sense")
        return made

    def start(self, max_error: float) -> float:
        """The lowest raw score from which on at most `max_error` of the values are wrong, at 95% confidence.

        Fixed-sequence testing from a safe score down (Learn then Test, Angelopoulos et al. 2021): each step is an
        exact binomial test, and the first that fails ends it, so that no correction for the number of steps is due.
        Where it starts depends on how many crops reach a score, never on which of them are wrong. Infinite where
        the crops are too few, or too often wrong, to support the promise. Where there is a `least`, it is no lower
        than the right values among them: what passes without one more of these is not known to be right.

        Several scans of one writing are independent given the writing, so for new scans of these writings the test is
        on the safe side (Hoeffding, "On the distribution of the number of successes", 1956). For other writings see
        `beyond`.
        """
        return self._test(max_error)[0]

    def tells(self, max_error: float) -> bool:
        """Whether it shows from where on values are wrong too often, and what becomes of writing that is no number."""
        return self.strays > 0 and self._test(max_error)[1]

    def _test(self, max_error: float) -> tuple[float, bool]:
        """The lowest score that passes, as `start` has it, and whether a lower one failed."""
        rate = max(max_error, self.floor)
        total = self.curve[-1][1]
        spared = next((k for k in range(SPARE, 0, -1) if shown(2 * k, total, rate)), 0)
        lowest, right = math.inf, 0
        for score, reached, wrong in self.curve:
            if not shown(spared, reached, rate):
                continue  # too few to pass but by luck: no test, so none that could fail
            if not shown(wrong, reached, rate):
                return lowest, True
            if self.least is None:
                lowest = score
            elif reached - wrong > right:
                lowest, right = max(score, self.least), reached - wrong
        return lowest, False

    def beyond(self, start: float) -> float:
        """The error from a score on that is shown, at 95% confidence, for other writings than these.

        All scans of one writing count as one, as if they always went the same way, which is nearly so.
        """
        share = self.writings / self.size
        reached, wrong = next((n, e) for score, n, e in self.curve if score <= start)
        return bound(math.ceil(share * wrong), int(share * reached))

    def missing(self, max_error: float) -> int | None:
        """How many labelled crops more would support `max_error`, if they went as these; None: no number of them."""

        def enough(size: int) -> bool:
            return math.isfinite(self._scaled(size).start(max_error))

        few, size = self.size, self.size
        while not enough(size):
            few, size = size, size + max(1, size // STEP)
            if size > MANY:
                return None
        while size - few > 1:
            middle = (few + size) // 2
            few, size = (few, middle) if enough(middle) else (middle, size)
        return size - self.size

    def _scaled(self, size: int) -> Trial:
        """What so many crops would tell, if they went as these."""
        curve = tuple(
            (score, reached * size // self.size, -(-wrong * size // self.size)) for score, reached, wrong in self.curve
        )
        return replace(self, size=size, curve=curve)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How one kind of value is judged by its raw score: log-odds, more or less, that it is right."""

    map: tuple[tuple[float, float], ...]  # raw score, probability that the value is right; both rising
    trials: tuple[Trial, ...]  # the promise holds on each of them
    before: tuple[Trial, ...] = ()  # what decided before: it does so still, beside `trials` that do not tell enough

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Calibration:
        """Take a calibration as the card holds it. Raises ValueError, KeyError or TypeError where it makes no sense."""
        made = cls(
            map=tuple((float(score), float(probability)) for score, probability in entry["map"]),
            trials=tuple(Trial.of(trial) for trial in entry["trials"]),
            before=tuple(Trial.of(trial) for trial in entry.get("before", ())),
        )
        if not made.trials or len(made.map) < 2 or not all(0 < probability < 1 for _, probability in made.map):
            raise ValueError("a calibration without trials, or a map without two points between 0 and 1")
        if not all(a < b and p < q for (a, p), (b, q) in pairwise(made.map)):
            raise ValueError("a calibration whose map does not rise")
        return made

    def probability(self, score: float) -> float:
        """The probability that a value with this raw score is right; higher for a higher score.

        Between the points of the map its log-odds are interpolated, and beyond them extrapolated: with two points this
        is Platt's scaling (1999). As it only renames scores, the promise does not rest on it.
        """
        after = min(max(bisect_left(self.map, (score, 0.0)), 1), len(self.map) - 1)
        (low, p), (high, q) = self.map[after - 1 : after + 1]
        share = (score - low) / (high - low)
        odds = (1 - share) * log_odds(p) + share * log_odds(q)
        return 1 / (1 + math.exp(-min(max(odds, -CERTAIN), CERTAIN)))

    def threshold(self, max_error: float) -> float:
        """The lowest probability at which the promise of `max_error` holds; above 1, out of reach, where it cannot."""
        start = self._start(max_error)
        return self.probability(start) if math.isfinite(start) else math.inf

    def is_held(self, max_error: float) -> bool:
        """Whether what decided before does so still."""
        return bool(self.before) and not all(trial.tells(max_error) for trial in self.trials)

    def guards(self, max_error: float) -> tuple[Trial, ...]:
        """The trials that a calibration in place of this one is held to."""
        return self.before if self.is_held(max_error) else self.trials

    @property
    def steepness(self) -> float:
        """How fast the log-odds fall with the score, below all of the map."""
        (low, p), (high, q) = self.map[:2]
        return (log_odds(q) - log_odds(p)) / (high - low)

    def deciding(self, max_error: float) -> tuple[Trial, ...]:
        """The trials on each of which `max_error` is promised."""
        return (*self.trials, *self.before) if self.is_held(max_error) else self.trials

    def _start(self, max_error: float) -> float:
        """The lowest raw score at which the promise holds; infinite where it cannot."""
        return max(trial.start(max_error) for trial in self.deciding(max_error))

    def caveat(self, max_error: float) -> str:
        """On what `max_error` holds less than fully, in one line; empty where it holds on all trials."""
        trials, start = self.deciding(max_error), self._start(max_error)
        worse = [(trial.floor, f"on {trial.on}") for trial in trials if trial.floor > max_error]
        others = [(trial.beyond(start), trial.floor) for trial in trials if trial.writings]
        if beyond := max((shown for shown, floor in others if shown > max(max_error, floor)), default=0.0):
            worse.append((beyond, "in other writing of the same people"))
        if not worse:
            return ""
        full = " and ".join(trial.on for trial in trials if trial.floor <= max_error)
        held = f"holds on {full}" if full else "holds on none of its data"
        where = ", and ".join(f"up to {share:.2%} of the accepted may be wrong {place}" for share, place in worse)
        return f"{where}; accept.max_error {max_error:g} {held}; if that is too much, {CALIBRATE}"

    def shortfall(self, max_error: float) -> str:
        """Why nothing can be accepted at `max_error`, in one line; empty where something can."""
        for trial in self.deciding(max_error):
            missing = trial.missing(max_error)
            if missing != 0:
                more = f"about {missing:,} more labelled crops are missing" if missing else "even the surest are worse"
                return (
                    f"none is accepted: accept.max_error {max_error:g} cannot be promised from {trial.on}, {more}; "
                    f"{REMEDY}"
                )
        return ""


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


def bound(errors: int, trials: int) -> float:
    """The least rate that so many errors show, at 95% confidence, to be an upper bound (Clopper and Pearson 1934)."""
    low, high = errors / max(trials, 1), 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if trials and shown(errors, trials, middle):
            high = middle
        else:
            low = middle
    return high


def log_odds(probability: float) -> float:
    """How much likelier than not, in nats."""
    return math.log(probability) - math.log1p(-probability)
