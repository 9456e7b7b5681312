"""What a network's probabilities are worth: a temperature, and how many go wrong above each threshold. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from watcher.calibration import log_odds

Probabilities = NDArray[np.float32]
"""(n, classes), each row sums to 1."""
Classes = NDArray[np.integer]
"""(n,), indices of classes."""

TINY = 1e-30  # under every probability that float32 tells from 0 in practice; keeps the logarithm finite
AS_IT_IS = [(log_odds(probability), probability) for probability in (0.01, 0.99)]  # the map of a score that is honest
THRESHOLDS = tuple(round(1 - distance, 7) for distance in np.geomspace(1e-6, 0.9, 60).tolist())


def tempered(probabilities: Probabilities, temperature: float) -> NDArray[np.float64]:
    """Soften (above 1) or sharpen (under 1) probabilities as dividing the logits by `temperature` would."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def negative_log_likelihood(probabilities: NDArray[np.floating], labels: Classes) -> float:
    """Average how surprising the right classes are, in nats."""
    right = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(right, TINY)).mean())


def fit_temperature(probabilities: Probabilities, labels: Classes) -> float:
    """Find the temperature that makes `labels` likeliest (Guo et al. 2017), between 0.05 and 20.

    The likelihood has a single optimum over the inverse temperature, so a ternary search finds it.
    """
    low, high = np.log(0.05), np.log(20)
    while high - low > 1e-4:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        scores = [negative_log_likelihood(tempered(probabilities, np.exp(t)), labels) for t in (left, right)]
        if scores[0] < scores[1]:
            high = right
        else:
            low = left
    return round(float(np.exp((low + high) / 2)), 4)


def curve(confidences: NDArray[np.floating], correct: NDArray[np.bool_]) -> list[tuple[float, int, int]]:
    """Count (threshold, how many reach it, how many of those are wrong), from the strictest threshold down."""
    points = []
    for threshold in THRESHOLDS:
        reached = confidences >= threshold
        points.append((threshold, int(reached.sum()), int((reached & ~correct).sum())))
    return points


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Bound a share by Wilson's score interval, at 95% confidence unless `z` says otherwise."""
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    reach = z * np.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, float(centre - reach)), min(1.0, float(centre + reach))
