"""What the scores of a network are worth: fitted maps, counts for thresholds, and how good both are. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from watcher.calibration import log_odds

if TYPE_CHECKING:
    from collections.abc import Sequence

Scores = NDArray[np.float64]
"""(n,), raw scores: log-odds, more or less, that a value is right."""
Right = NDArray[np.bool_]
"""(n,), whether the value is right."""

GRID = (*np.round(np.arange(12, -2.025, -0.05), 2).tolist(), -1000.0)
"""Scores at which crops are counted, the same for all data, so that tests at them are not chosen by what they test."""
ENDS = 0.02, 0.98  # where the straight line of log-odds is written down
FLATTEST, STEEPEST = 0.05, 50.0  # slope: scores that tell nothing still have to rise, and on more than one point
LEVEL = 1e-6  # slope above all scores that were seen: more of a score is no more evidence, but has to rise
FULL = 20.0  # log-odds that no labelled crops show, whichever way
BINS = 15  # of confidence, equally wide
WORTH_A_POINT = 20  # values: fewer are no point of a reliability diagram


def platt(scores: Scores, right: Right) -> list[tuple[float, float]]:
    """Fit a line from raw scores to log-odds of being right, as two points of a calibration's map.

    Platt (1999), with his smoothed targets, by Newton's method as Lin, Lin and Weng (2007) have it. A slope and a
    shift are enough for a network's own log-odds, and cannot overfit; the slope is the inverse of a temperature.
    """
    good, bad = int(right.sum()), int((~right).sum())
    target = np.where(right, (good + 1) / (good + 2), 1 / (bad + 2))

    def loss(line: NDArray[np.float64]) -> float:
        odds = line[0] * scores + line[1]
        return float((np.logaddexp(0, odds) - target * odds).sum())

    line = np.array([0.0, np.log((good + 1) / (bad + 1))])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(line[0] * scores + line[1], -36, 36)))
        weight = p * (1 - p)
        gradient = np.array([((target - p) * scores).sum(), (target - p).sum()])
        cross = float((weight * scores).sum())
        hessian = np.array([[float((weight * scores * scores).sum()), cross], [cross, float(weight.sum())]])
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        while loss(line + step) > loss(line) and np.abs(step).max() > 1e-9:
            step = step / 2
        line = line + step
        if np.abs(step).max() < 1e-7:
            break
    slope, shift = min(max(float(line[0]), FLATTEST), STEEPEST), float(line[1])
    if slope != line[0]:  # the shift that goes with it
        low, high = -1e4, 1e4
        while high - low > 1e-6:
            shift = (low + high) / 2
            excess = float((1 / (1 + np.exp(-np.clip(slope * scores + shift, -36, 36))) - target).sum())
            low, high = (low, shift) if excess > 0 else (shift, high)
    return [(round((log_odds(p) - shift) / slope, 4), p) for p in ENDS]


def within(line: Sequence[tuple[float, float]], scores: Scores, steepness: float) -> list[tuple[float, float]]:
    """Bend a line that was fitted to `scores` where they end, for nothing is known beyond them.

    Above the highest the probability stays what it is; below the lowest it falls by `steepness` or more.
    """
    (low, p), (high, q) = line
    slope = (log_odds(q) - log_odds(p)) / (high - low)
    # Ends that no number tells from 0 or 1 are drawn in.
    ends = [min(max(log_odds(p) + slope * (score - low), -FULL), FULL) for score in (scores.min(), scores.max())]
    first, last = (low + (odds - log_odds(p)) / slope for odds in ends)
    bends = [
        (first - 1, ends[0] - max(slope, steepness)),
        (first, ends[0]),
        (last, ends[1]),
        (last + 1, ends[1] + LEVEL),
    ]
    return [(float(at), float(1 / (1 + np.exp(-odds)))) for at, odds in dict(bends).items()]


def curve(scores: Scores, right: Right) -> list[tuple[float, int, int]]:
    """Count (score, how many reach it, how many of those are wrong), from the strictest score down."""
    return [(score, int((scores >= score).sum()), int(((scores >= score) & ~right).sum())) for score in GRID]


def trial(on: str, scores: Scores, right: Right, floor: float = 0.0, writings: int = 0) -> dict[str, Any]:
    """Make a trial as the card holds it: `on` says in words what crops they are.

    `writings`, where the crops are several scans of each of so many.
    """
    several = {"writings": writings} if writings else {}
    return {"on": on, "size": len(scores), "floor": floor, **several, "curve": curve(scores, right)}


def expected_error(confidence: NDArray[np.float64], right: Right) -> float:
    """How far confidence and accuracy lie apart, on average over the values by bins (ECE, Guo et al. 2017)."""
    apart = [len(some) * abs(some.mean() - hits.mean()) for some, hits in _bins(confidence, right)]
    return float(sum(apart) / max(len(confidence), 1))


def reliability(confidence: NDArray[np.float64], right: Right) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and size of each bin of a reliability diagram; small bins are joined to the next."""
    points: list[tuple[float, float, int]] = []
    some, hits = np.zeros(0), np.zeros(0, np.bool_)
    for more, more_hits in _bins(confidence, right):
        some, hits = np.append(some, more), np.append(hits, more_hits)
        if len(some) >= WORTH_A_POINT:
            points.append((float(some.mean()), float(hits.mean()), len(some)))
            some, hits = some[:0], hits[:0]
    return points


def risk_coverage(scores: NDArray[np.float64], right: Right) -> list[tuple[float, float]]:
    """The share of values that reach each score, and the share of wrong ones among them, the surest first."""
    if not len(scores):
        return []
    order = np.argsort(-scores, kind="stable")
    counts = np.arange(1, len(scores) + 1)
    wrong = np.cumsum(~right[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # equals are taken together
    return list(zip((counts / len(scores))[last].tolist(), (wrong / counts)[last].tolist(), strict=True))


def aurc(scores: NDArray[np.float64], right: Right) -> float:
    """The area under the risk-coverage curve (Geifman et al. 2019): the mean error over all shares accepted."""
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    _, tie, size = np.unique(-scores[order], return_inverse=True, return_counts=True)
    wrong = (np.bincount(tie, ~right[order]) / size)[tie]  # among equals the wrong ones stand anywhere
    return float((np.cumsum(wrong) / np.arange(1, len(scores) + 1)).mean())


def accepted_at(confidence: NDArray[np.float64], right: Right, start: float) -> tuple[float, float]:
    """The share of values that reach a threshold, and the share of wrong ones among them."""
    taken = confidence >= start
    return (float(taken.mean()), float((~right[taken]).mean())) if taken.any() else (0.0, 0.0)


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Bound a share by Wilson's score interval, at 95% confidence unless `z` says otherwise."""
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    reach = z * np.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, float(centre - reach)), min(1.0, float(centre + reach))


def _bins(confidence: NDArray[np.float64], right: Right) -> Sequence[tuple[NDArray[np.float64], Right]]:
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [(confidence[number == one], right[number == one]) for one in np.unique(number)]
