"""Ways of writing that MNIST hardly has, as strokes of our own: skeletons drawn anew each time by an unsteady hand.

A skeleton is text: the points of one arc after the other, arcs parted by `|`, in percent of the height from the top
left. Arcs that share a point meet in a corner there. Nothing here is cut from a data set or a font.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Stroke = NDArray[np.float64]
"""The way of the pen, (n, 2) of x and y in heights of the figure."""

DIGITS: Final[dict[str, tuple[str, ...]]] = {
    "0": (
        "40 2 18 12 4 45 10 80 32 99 56 82 62 45 52 12 38 2",
        "50 5 25 8 5 45 12 82 35 99 60 78 64 40 50 12 30 2",
        "40 2 18 12 4 45 10 80 32 99 56 82 62 45 52 12 38 2|4 92 60 8",
        "40 2 18 12 4 45 10 80 32 99 56 82 62 45 52 12 38 2|-10 104 74 -6",
    ),
    "2": (
        "5 25 20 5 40 2 56 18 50 42 25 75 2 98|2 98 30 95 62 98",
        "8 12 30 4 55 6|55 6 30 50 4 96|4 96 30 97 62 94",  # as a Z
        "8 25 22 5 42 2 56 18 48 45 25 80 10 92 4 82 14 76 30 90 50 98 66 90",  # with a loop
        "20 30 14 14 30 2 50 8 52 28 36 58 14 86 4 88 8 76 24 80 44 96 62 84",
    ),
    "3": (
        "6 14 26 2 48 8 50 26 36 42 20 46|20 46 44 48 58 68 48 92 24 100 4 88",
        "4 4 30 3 56 3|56 3 40 22 24 40|24 40 48 44 58 68 46 92 24 100 4 90",  # with a flat top
        "10 10 34 2 50 14 40 34 22 42|22 42 44 50 46 76 26 96 -6 100",
    ),
    "4": (
        "16 2 12 30 4 58|4 58 34 58 66 56|46 30 45 65 42 100",  # open
        "46 2 24 32 2 64|2 64 34 65 68 63|46 2 46 50 44 100",  # closed
        "10 4 8 30 14 50 34 54 54 44|58 2 55 50 50 100",  # as a U with a tail
        "30 0 18 30 4 62|4 62 40 60 70 58|52 34 42 70 32 100",
        "26 0 10 28 4 52 20 58 48 54|48 30 46 60 42 100",
    ),
    "5": (
        "52 4 14 5|14 5 10 42|10 42 32 36 54 50 54 78 34 98 6 90",
        "20 12 14 44|14 44 36 40 54 58 48 86 26 99 4 92|28 5 48 7 74 1",  # with its bar apart
        "18 4 12 42|12 42 36 38 54 56 48 86 26 99 2 90|18 5 44 6 76 -4",
        "54 6 30 4 12 16 16 40 40 50 54 70 40 94 8 94",  # as an S
    ),
    "6": (
        "44 2 20 24 6 60 12 90 32 99 52 84 48 62 28 56 8 72",
        "46 0 26 28 8 62|8 62 10 90 30 99 50 86 46 64 26 60 8 74",
        "54 16 46 4 28 8 10 36 8 76 26 99 48 86 44 58 26 52 18 64",  # with a hook
    ),
    "8": (
        "48 14 32 2 12 14 18 36 40 52 54 74 40 97 16 96 8 74 24 52 46 32 48 14",
        "32 1 14 12 16 36 34 46 52 34 50 12 32 1|34 46 10 60 10 88 34 99 56 86 56 60 34 46",  # two circles
        "54 6 34 2 12 12 16 36 42 54 54 76 38 98 14 94 8 74 26 52 54 22",  # open at the top
        "56 2 36 6 14 16 18 36 42 54 52 78 34 98 12 90 10 74 30 52 58 6",
        "50 12 34 2 16 10 16 30 36 44 50 62 46 88 26 99 12 86 18 62 40 40",  # its loop above hardly closed
        "44 20 40 4 24 2 20 20 32 40 50 56 54 80 34 98 12 88 14 66 38 46",  # a hook above, a wide loop below
    ),
    "9": (
        "50 14 32 2 12 12 10 34 26 46 44 36 50 14|50 14 50 50 44 100",
        "50 16 34 2 12 10 10 34 28 46 46 34 50 16|50 16 54 60 44 94 22 100 6 88",  # hooked
        "52 16 36 2 14 10 12 34 30 44 48 32 52 16|52 16 50 60 36 92 14 100 2 90",
        "50 10 28 2 8 18 12 38 34 40 52 20|52 20 40 60 24 100",
        "46 8 22 4 6 22 16 42 36 36 50 10|50 6 50 50 50 100",  # open
        "54 4 30 0 8 16 12 38 36 40 52 22|54 4 52 54 40 94 18 98 10 84",  # as a g
        "56 8 30 2 10 18 16 40 38 42 54 24 56 8 54 44 40 84 18 100 2 92",  # begun at the right
        "44 30 22 44 6 30 12 8 34 0 52 14 54 46 48 74 28 98 10 90",  # its loop left open
    ),
}

# Only letters that no digit looks like, whatever the hand: no B C D I J L O S U Z b d g i l o q r s t u z.
LETTERS: Final[dict[str, tuple[str, ...]]] = {
    "A": ("2 100 30 0|30 0 58 100|12 62 48 62", "0 100 24 8 40 6 54 100|8 60 50 60"),
    "E": (
        "56 2 10 4|10 4 8 98|8 98 58 96|9 50 46 48",
        "54 12 28 2 10 16 14 40 36 48|36 48 10 54 6 84 30 99 56 88",
    ),
    "F": ("10 0 8 100|10 2 58 0|9 46 44 44",),
    "G": ("58 16 36 1 10 20 4 56 18 92 46 98 60 80|60 80 60 56|38 56 72 56",),
    "H": ("6 0 4 100|54 0 52 100|5 50 53 48",),
    "K": ("8 0 6 100|54 2 8 54|20 44 58 100",),
    "M": ("2 100 8 2|8 2 36 66|36 66 64 2|64 2 70 100", "2 100 4 0|4 0 34 50|34 50 64 0|64 0 66 100"),
    "N": ("4 100 6 0|6 0 56 100|56 100 58 0",),
    "P": ("8 2 6 100|8 4 40 0 56 22 40 46 8 50",),
    "Q": (
        "30 1 6 30 8 74 30 98 54 74 54 28 30 1|32 64 66 106",
        "30 1 6 30 8 74 30 98 54 74 54 28 30 1|24 86 40 74 68 100",
    ),
    "R": ("8 2 6 100|8 4 40 0 54 20 40 44 8 48|26 48 58 100",),
    "T": ("2 2 62 0|32 0 30 100",),
    "V": ("2 0 30 100|30 100 58 0",),
    "W": ("2 0 16 98|16 98 34 30|34 30 52 98|52 98 68 0", "2 0 10 88 26 96 38 30|38 30 46 96 64 88 72 0"),
    "X": ("4 0 58 100|58 0 4 100",),
    "Y": ("2 0 30 50|58 0 30 50|30 50 28 100", "0 0 26 44|26 44 56 -4|26 44 20 100"),
    "a": (
        "60 14 34 2 6 36 8 80 34 98 58 66|66 4 60 70 76 98",
        "10 20 34 4 52 22 52 98|52 46 20 48 6 72 22 96 52 76",
        "66 2 30 6 4 60 14 96 40 84 66 2|66 2 62 60 72 100",
        "12 22 24 4 48 4 58 26 52 60 56 98|52 52 20 54 4 78 20 98 52 80",
    ),
    "d": ("48 44 22 40 4 68 18 98 44 86 52 50|56 0 50 60 58 100",),
    "e": ("6 56 70 48|70 48 58 8 26 2 2 46 16 94 76 88", "10 60 50 44 64 18 42 0 10 30 10 80 44 98 80 80"),
    "f": ("54 10 38 -2 26 16 22 104|4 44 46 40",),
    "h": ("8 0 6 100|6 66 28 44 46 56 46 100",),
    "k": ("8 0 6 100|46 34 8 66|18 60 50 100", "10 0 6 100|8 60 40 32 44 48 10 66|10 66 34 74 56 100"),
    "m": (
        "4 0 6 100|6 32 40 0 52 28 52 100|52 32 86 0 98 28 98 100",
        "0 20 16 0 20 100|20 30 48 0 54 100|54 30 84 4 90 80 106 98",
    ),
    "n": ("6 0 6 100|6 40 40 0 70 30 70 100",),
    "p": ("10 4 4 112|9 26 34 4 54 30 34 62 8 52",),
    "u": ("4 2 6 74 26 98 48 66|52 2 50 70 62 98",),
    "w": ("0 0 16 90 40 96 54 20|54 20 64 98 92 88 106 0", "0 4 28 98|28 98 56 10|56 10 82 98|82 98 112 0"),
    "y": (
        "4 0 28 52|58 -2 8 100",
        "4 2 12 40 34 46|58 0 34 46|58 0 40 80 10 100",
        # With a loop under the line.
        "6 0 12 44 32 54 52 34|56 0 52 56 46 96 26 106 20 88 50 64",
        "2 4 20 50 50 40|56 0 44 70 24 104 6 92 26 72 62 60",
    ),
}

SIGNS: Final[tuple[str, ...]] = (
    "4 4 56 60|56 4 4 60",  # crosses
    "0 0 90 70|86 -4 6 76",
    "30 0 30 60|0 30 60 30",
    "0 40 18 64|18 64 70 0",  # ticks
    "0 50 20 60 26 80|26 80 90 -10",
    "0 0 60 0|0 24 60 24",
    "0 0 60 2",  # dashes
    "0 6 20 0 40 8 66 0",
    "16 0 12 80|40 0 36 80|0 26 56 24|0 56 54 54",
    "6 90 60 4|12 4 4 16 14 26 22 14 12 4|54 70 46 82 56 94 64 82 54 70",
    "60 12 36 0 14 24 10 56 26 94 58 92|0 40 46 38|0 60 42 58",  # currencies
    "52 14 28 6 10 22 20 42 44 52 54 76 34 94 6 84|30 -12 30 112",
    "30 0 30 60|2 14 58 46|58 14 2 46",
    "0 60 34 0|34 0 68 60|68 60 0 60",
    "0 30 70 30|48 8 70 30|70 30 48 52",
    "0 0 1 1|0 50 1 51",  # dots
    "0 0 2 1",
    "0 0 1 1|40 0 41 1|80 0 81 1",
)


def digit(name: str, rng: np.random.Generator, stray: float = 1.0) -> list[Stroke]:
    """Write a digit once, 1 and 7 in the many ways of Europe, `stray` times as far from any of them as usual."""
    if name == "1":
        return trace(one(rng), rng, stray)
    if name == "7":
        return trace(seven(rng), rng, stray)
    return figure(DIGITS[name], rng, stray)


def figure(skeletons: tuple[str, ...], rng: np.random.Generator, stray: float = 1.0) -> list[Stroke]:
    """Write one of some skeletons once."""
    chosen = skeletons[rng.integers(len(skeletons))]
    arcs = [np.array(arc.split(), float).reshape(-1, 2) / 100 for arc in chosen.split("|")]
    return trace(arcs, rng, stray)


def one(rng: np.random.Generator) -> list[Stroke]:
    """A 1 with a flag of any length up to the stem's own, straight or curved, on a foot or not: arcs of points."""
    lean = rng.uniform(-0.05, 0.05)
    stem = np.array([[0.0, 0.0], [lean / 2 + rng.normal(0, 0.015), 0.5], [lean, 1.0]])
    # The nearer to the horizontal the shorter: a long and level flag, or one that a slant makes so, is the bar of a 7.
    angle = np.radians(rng.uniform(14, 50))
    length = rng.uniform(0.15, 0.95 if angle < np.radians(38) else 0.45)
    end = length * np.array([-np.sin(angle), np.cos(angle)])
    across = np.array([-end[1], end[0]])
    arcs = [np.array([end, end / 2 + across * rng.normal(0, 0.12), [0, 0]]), stem]
    if rng.random() < 0.3:
        left, right = rng.uniform(0.12, 0.4, 2)
        arcs.append(np.array([[lean - left, 1.0], [lean + right, 1 + rng.normal(0, 0.03)]]))
    return arcs


def seven(rng: np.random.Generator) -> list[Stroke]:
    """A 7 with a straight or wavy bar, with or without a serif, a cross bar and a foot: arcs of points."""
    wide, drop = rng.uniform(0.35, 0.75), rng.normal(-0.02, 0.04)
    wave = rng.choice([0.0, rng.uniform(0.03, 0.12)])
    top = np.array([[0, 0], [wide * 0.33, wave - drop / 3], [wide * 0.66, -wave / 2], [wide, drop]])
    foot = np.array([wide - rng.uniform(0.1, 0.75), 1.0])
    bend = rng.uniform(-0.02, 0.14)
    middle = (top[-1] + foot) / 2 - np.array([bend, 0])
    arcs = [top, np.array([top[-1], middle, foot])]
    if rng.random() < 0.35:
        arcs.append(np.array([[rng.normal(0, 0.03), rng.uniform(0.1, 0.28)], top[0]]))
    if rng.random() < 0.5:
        reach = rng.uniform(0.14, 0.36)
        at = middle + (foot - top[-1]) * rng.uniform(-0.12, 0.14)
        tilt = np.array([reach, rng.normal(-0.03, 0.08)])
        arcs.append(np.array([at - tilt, at + tilt * rng.uniform(0.7, 1.3)]))
    if rng.random() < 0.06:
        arcs.append(np.array([foot, foot + np.array([rng.uniform(0.2, 0.45), rng.normal(0, 0.03)])]))
    return arcs


def scribble(rng: np.random.Generator) -> list[Stroke]:
    """One long line that turns at random."""
    points = np.cumsum(rng.normal(0, 0.45, (rng.integers(7, 22), 2)), axis=0)
    points = 0.5 + 0.5 * np.tanh(points - points.mean(axis=0))  # back and forth over one place
    return [smooth(points)]


def zigzag(rng: np.random.Generator) -> list[Stroke]:
    """What strikes a figure of unit height out: lines across it, or one that goes back and forth."""
    turns = int(rng.integers(2, 6))
    y = rng.uniform(0.05, 0.35) + np.linspace(0, rng.uniform(0.25, 0.6), turns + 1)
    x = np.where(np.arange(turns + 1) % 2, 0.9, -0.15) + rng.normal(0, 0.08, turns + 1)
    points = np.stack([x, y + rng.normal(0, 0.04, turns + 1)], axis=1)
    if rng.random() < 0.5:
        return [smooth(points)]
    tilt = rng.normal(0, 0.25)
    return [smooth(np.array([[-0.15, h + tilt], [0.9, h - tilt]])) for h in y]


def trace(arcs: list[Stroke], rng: np.random.Generator, stray: float = 1.0) -> list[Stroke]:
    """Draw arcs of points as an unsteady hand: what shares a point still does."""
    moved: dict[tuple[float, ...], Stroke] = {}
    spread = stray * rng.uniform(0.008, 0.035)
    return [
        smooth(np.array([moved.setdefault(tuple(point), point + rng.normal(0, spread, 2)) for point in arc]))
        for arc in arcs
    ]


def smooth(points: Stroke) -> Stroke:
    """Lay a Catmull-Rom spline through points: (n, 2), eight steps from each to the next."""
    ends = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    a, b, c, d = (ends[i : len(ends) - 3 + i, np.newaxis] for i in range(4))
    t = np.linspace(0, 1, 8, endpoint=False)[:, np.newaxis]
    curve = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    return np.concatenate([0.5 * curve.reshape(-1, 2), points[-1:]])
