"""What was printed and not written: ruled lines, frames, boxes, squared paper. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from watcher.plane import RIM, WORK, components, median, odd, only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from watcher.plane import Mask, Strokes

LINE_LENGTH = 0.55  # of the crop's side: what is straight for so long may be ruled
LINE_MINIMUM = 0.4  # of WORK: in a narrow crop a stroke is as long as the crop is wide
LINE_SLACK = 0.04  # of WORK: so far a line may stray
LINE_WIDTH = 0.10  # of WORK: so wide a gap is bridged where strokes crossed a line
TIGHT = 0.04  # of the crop's side: a ruled line goes on so far where the writing on it ends
THICKEST = 0.08  # of WORK: what is thicker in a crop cut at the ink was written
STEADIEST, STEADY = 0.0035, 0.005  # of WORK: no hand, and hardly a hand, draws so straight
PARALLEL = 0.035  # of slopes: lines of one frame differ by less
MAX_TILT = 0.1  # of a ruled line, as its slope
PIECE = 0.14  # of WORK: the least that is seen of a line between two strokes
NEAR = 3  # pixels between the end of a line and what it ends at
MIN_REST = 0.25  # of WORK, or of a box: what is written beside lines is larger
SMALLEST_BOX = 0.15  # of WORK, its shorter side
HELD = 0.4  # of a ring's shorter side: what stands in it is larger
GAP = 5  # pixels: a ring may be open so far
ROOM = 0.45  # of a ring's box: so much is inside it
SPECKS = 0.08  # of the height of a row of cells: what is smaller beside them is dirt
SQUARE = 0.9  # of the least box around it: so much fills a rectangle, and an oval does not
WALL = 5  # pixels: how far the edge of a cell's wall is blurred, to both sides
SPAN = 0.85  # of the crop's side: a line so long runs from edge to edge
_REACH = odd(LINE_WIDTH)
_SLACK = np.ones((odd(LINE_SLACK), 1), np.uint8)
_UP, _TILTED = np.ones((_REACH, 1), np.uint8), np.eye(_REACH, dtype=np.uint8)
_WAYS = _UP, _UP.T, _TILTED, np.ascontiguousarray(_TILTED[::-1])


def without_lines(mask: Mask) -> tuple[Mask, Strokes]:
    """The mask less what is ruled or framed, and its strokes; those that cross a line stay whole."""
    framed, within = _framed(mask)
    strokes = components(mask & ~framed)
    ruled = framed | _boxed(strokes) | _ringed(strokes)
    across, down = _straight(mask & ~ruled), _straight((mask & ~ruled).T).T
    if across.any() or down.any():
        # First what runs along the rim, then, beside what is left, what runs through the middle.
        for along_rim in (True, False):
            here = _spanning(across & ~ruled, along_rim=along_rim), _spanning((down & ~ruled).T, along_rim=along_rim).T
            rest = mask & ~ruled & ~here[0] & ~here[1]
            ruled |= _ruled(here[0], rest) | _ruled(here[1].T, rest.T).T
    if not ruled.any():
        return mask, strokes
    return within if within and np.array_equal(ruled, framed) else _without(ruled, mask)


def _without(ruled: Mask, mask: Mask) -> tuple[Mask, Strokes]:
    """The mask less what is ruled, its strokes whole again where a line had crossed them whichever way; and those."""
    rest = mask & ~ruled
    bridges = np.zeros_like(rest)
    for way in _WAYS:
        bridges |= np.asarray(cv2.morphologyEx(rest, cv2.MORPH_CLOSE, way), np.uint8)
    rest |= bridges & ruled
    return rest, components(rest)


def _framed(mask: Mask) -> tuple[Mask, tuple[Mask, Strokes] | None]:
    """The lines of a frame, a table or squared paper; and, where there are any, the mask without them and its strokes.

    They run from edge to edge or from line to line, both ways: one such line may be a stroke in a crop cut tight; a
    line each way, or three one way, are none.
    """
    nothing = np.zeros_like(mask), None
    rims = mask[:NEAR], mask[-NEAR:], mask[:, :NEAR], mask[:, -NEAR:]
    up, down, left, right = (bool(rim.any()) for rim in rims)
    if not ((up and down) or (left and right)):  # nothing can run from edge to edge
        return nothing
    ways = mask, np.asarray(cv2.transpose(mask), np.uint8)
    may_span = [_may_span(way) for way in ways]
    if not any(may_span):
        return nothing
    pieces: list[list[_Line]] = [[], []]
    joined: list[list[_Line]] = [[], []]
    ruled = [np.zeros_like(way) for way in ways]
    # The first line must run from edge to edge: where none does, none the other way can end at it.
    for i in sorted(range(2), key=lambda i: not may_span[i]):
        if not may_span[i] and not any(_ends(line, ruled[1 - i], None) == 2 for line in joined[1 - i]):
            return nothing
        pieces[i] = _pieces(ways[i])
        joined[i] = _joined(pieces[i])
    found: list[list[_Line]] = [[], []]
    for _ in "at edges", "at lines":
        for i in range(2):
            found[i] = [line for line in joined[i] if _ends(line, ruled[i], ruled[1 - i].T) == 2]
            _draw(ruled[i], found[i])
    counts = len(found[0]), len(found[1])
    if not (min(counts) >= 1 or max(counts) >= 3):
        return nothing
    # Where there are such lines, what runs as they do from an edge is one that strokes or noise interrupt.
    thick = statistics.median(line.thick for line in found[0] + found[1])
    for i in range(2):
        # Down is across turned by a right angle, and so is its slope.
        slope = statistics.median([line.slope for line in found[i]] or [-line.slope for line in found[1 - i]])
        _draw(
            ruled[i],
            [
                line
                for line in pieces[i]
                if line.thick < 2 * thick and abs(line.slope - slope) < PARALLEL and _ends(line, ruled[i], None)
            ],
        )
    both = ruled[0] | ruled[1].T
    rest, strokes = _without(both, mask)
    # A 0 like a box, a 1 or a 7 cut at the ink: nothing to speak of would be left of them.
    is_left = len(strokes.stats) > 1 and strokes.stats[1:, 2:4].max() > MIN_REST * WORK
    return (both, (rest, strokes)) if is_left else nothing


class _Line(NamedTuple):
    """A straight thing that runs from left to right."""

    x: NDArray[np.intp]  # of its pixels
    y: NDArray[np.intp]
    first: int  # its ends
    last: int
    slope: float
    height: float  # at x = 0
    thick: float

    def at(self, x: int) -> float:
        """How high it would be at `x`."""
        return self.slope * x + self.height


def _pieces(mask: Mask) -> list[_Line]:
    """What runs straight from left to right, the long first and then, in what they leave, however short."""
    lines = []
    rest = mask
    for run in (0, int(PIECE * WORK)):
        straight = _straight(rest, run)
        if not straight.any():
            continue
        labels, stats, _ = components(straight)
        for i, (x, y, w, h, _) in enumerate(stats.tolist()[1:], start=1):
            if w > PIECE * WORK and h < MAX_TILT * w + LINE_WIDTH * WORK:
                ys, xs = np.nonzero(labels[y : y + h, x : x + w] == i)
                counts = np.bincount(xs)
                thick = median(counts)
                # Where a stroke lies along it, it is thicker: that is left to the stroke.
                plain = (counts < 1.5 * thick + 1)[xs]
                slope, height = _fitted(xs[plain], ys[plain])
                strays = np.abs(ys - slope * xs - height)
                if median(strays[plain]) < thick / 2:
                    own = strays < thick / 2 + 1.5
                    at = height + y - slope * x
                    lines.append(_Line(xs[own] + x, ys[own] + y, x, x + w - 1, slope, at, thick))
        rest = rest & ~straight
    return sorted(lines, key=lambda line: line.first)


def _fitted(x: NDArray[np.intp], y: NDArray[np.intp]) -> tuple[float, float]:
    """Slope and height of the straight line through points, by least squares."""
    mean_x, mean_y = int(x.sum()) / x.size, float(y.sum()) / y.size
    aside = x - mean_x
    slope = float((aside * (y - mean_y)).sum()) / max(1e-6, float((aside * aside).sum()))
    return slope, mean_y - slope * mean_x


def _may_span(mask: Mask) -> bool:
    """Whether anything can run straight from the left edge to the right: the least of `_pieces` at both of them."""
    if mask.shape[1] < 2 * PIECE * WORK:
        return True
    # A run that is so long and comes within NEAR of an edge has all of these columns, with the slack of `_straight`.
    ends = mask[:, NEAR + 1 : 2 * NEAR + 2], mask[:, -2 * NEAR - 2 : -NEAR - 1]
    return all(bool(np.asarray(cv2.dilate(end, _SLACK)).all(axis=1).any()) for end in ends)


def _joined(pieces: list[_Line]) -> list[_Line]:
    """Pieces that lie on one line, joined; strokes on it, and thresholds that rise near them, interrupt a line."""
    lines: list[_Line] = []
    for piece in pieces:
        for i, line in enumerate(lines):
            middle = (line.last + piece.first) // 2
            if piece.first > line.last and abs(line.at(middle) - piece.at(middle)) < NEAR:
                x, y = np.append(line.x, piece.x), np.append(line.y, piece.y)
                lines[i] = _Line(x, y, line.first, piece.last, *_fitted(x, y), max(line.thick, piece.thick))
                break
        else:
            lines.append(piece)
    return lines


def _ends(line: _Line, plane: Mask, crossing: Mask | None) -> int:
    """How many of a line's two ends lie at an edge of the plane, or at `crossing` lines."""
    found = 0
    for x in (line.first, line.last):
        y = int(line.at(x))
        there = slice(max(0, y - NEAR), y + NEAR + 1), slice(max(0, x - NEAR), x + NEAR + 1)
        found += not NEAR < x < plane.shape[1] - 1 - NEAR or (crossing is not None and bool(crossing[there].any()))
    return found


def _draw(plane: Mask, lines: list[_Line]) -> None:
    for line in lines:
        plane[line.y, line.x] = 1


def _straight(mask: Mask, run: int = 0) -> Mask:
    """What runs straight, and thin, from left to right for `run` pixels, or a good part of the crop."""
    mask = np.ascontiguousarray(mask)
    # A little slack up and down, for a line may be skew or rough.
    slack = np.asarray(cv2.dilate(mask, _SLACK), np.uint8)
    run = run or int(max(LINE_LENGTH * mask.shape[1], LINE_MINIMUM * WORK))
    # Only rows that hold as much can hold such a run; one that an edge cuts counts from its half on.
    counts = cv2.reduce(slack, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
    least = np.where(slack[:, 0] | slack[:, -1], min(run // 2, mask.shape[1]), run)
    rows = np.flatnonzero(counts >= least)
    straight = np.zeros_like(mask)
    if rows.size:
        part, kernel = slice(rows[0], rows[-1] + 1), np.ones((1, run), np.uint8)
        eroded = cv2.erode(slack[part], kernel)
        if cv2.countNonZero(eroded):
            np.bitwise_and(np.asarray(cv2.dilate(eroded, kernel), np.uint8), mask[part], out=straight[part])
    return straight


def _spanning(lines: Mask, *, along_rim: bool) -> Mask:
    """Those of the horizontal `lines` that run from edge to edge, near the rim or in the middle."""
    if not lines.any():
        return lines
    labels, stats, _ = components(lines)
    height, width = lines.shape
    rim = (stats[:, 1] + stats[:, 3] < RIM * height) | (stats[:, 1] > (1 - RIM) * height)
    spans = (rim & (stats[:, 2] >= SPAN * width)) if along_rim else (~rim & (stats[:, 2] >= width - 2))
    spans[0] = False
    return only(spans, labels)


def _ruled(lines: Mask, rest: Mask) -> Mask:
    """Those of the horizontal, spanning `lines` that are no stroke of the `rest`."""
    if not lines.any():
        return lines
    labels, stats, _ = components(lines)
    where, shapes, _ = components(rest)
    height, width = lines.shape
    central = (shapes[:, 0] + shapes[:, 2] > RIM * width) & (shapes[:, 0] < (1 - RIM) * width)
    keep = np.zeros(len(stats), np.bool_)
    for i in range(1, len(stats)):
        _, y, w, h, area = stats[i]
        near = cv2.dilate((labels == i).astype(np.uint8), np.ones((5, 5), np.uint8))
        # The ticks of a comb, at the crop's sides, are no writing.
        hanging = [j for j in set(where[near > 0].tolist()) if j and central[j]]
        waver = _waver(labels == i) / WORK
        through = w >= width - 2
        if not hanging:
            keep[i] = through or waver < STEADY
            continue
        # A ruler is straighter than a hand. And a line goes on to both sides of the writing that crosses it,
        # where a stroke of the writing ends with it.
        x0, _, w0, h0, _ = shapes[max(hanging, key=lambda j: int(shapes[j, cv2.CC_STAT_AREA]))]
        beyond = x0 > TIGHT * width and x0 + w0 < (1 - TIGHT) * width
        # In a crop cut at the ink itself the foot of a 1 lies along one edge, and the 1 goes up to the other.
        fills = (y < 0.1 * height or y + h > 0.9 * height) and h0 + h > 0.8 * height
        thin = area < THICKEST * WORK * w
        keep[i] = through and thin and waver < STEADIEST if fills else beyond or waver < STEADY
    return only(keep, labels)


def _waver(line: NDArray[np.bool_]) -> float:
    """How far a horizontal line usually strays from a straight one, in pixels."""
    thick = line.sum(axis=0)
    x = np.flatnonzero(thick)
    y = (np.arange(line.shape[0]) @ line)[x] / thick[x]
    slope, height = _fitted(x, y)
    return median(np.abs(y - slope * x - height))


def _boxed(strokes: Strokes) -> Mask:
    """The sides of a box around the middle of the crop; what stands in it may touch them."""
    labels, stats, _ = strokes
    height, width = labels.shape
    sides = np.zeros((height, width), np.uint8)
    for i, (x, y, w, h, _) in enumerate(stats.tolist()[1:], start=1):
        is_large = min(w, h) > SMALLEST_BOX * WORK and max(w, h) > 2 * SMALLEST_BOX * WORK
        if not (is_large and x < width / 2 < x + w and y < height / 2 < y + h):
            continue
        ours = (labels[y : y + h, x : x + w] == i).astype(np.uint8)
        turned = [np.rot90(ours, turn) for turn in range(4)]
        if not all(_is_long(_upper(one)) for one in turned):
            continue
        ring = np.zeros_like(ours)
        for turn, one in enumerate(turned):
            side = _side(one)
            if side is None:
                break
            ring |= np.rot90(side, -turn)
        else:  # straight on all four sides up to the corners: a 0 has no corners, a 5 no fourth side
            inside = components((labels[y : y + h, x : x + w] > 0).astype(np.uint8) & ~ring).stats
            # A 0 drawn like a box holds nothing.
            if len(inside) > 1 and inside[1:, 2:4].max() > MIN_REST * min(w, h):
                sides[y : y + h, x : x + w] |= ring
    return sides


def _ringed(strokes: Strokes) -> Mask:
    """What runs around other writing in the middle of the crop, whatever its shape: a circle, a rounded box."""
    labels, stats, _ = strokes
    height, width = labels.shape
    rings = np.zeros((height, width), np.uint8)
    if len(stats) < 3:  # nothing can stand in the only thing there is
        return rings
    first, last = stats[:, :2], stats[:, :2] + stats[:, 2:4]
    for i, (x, y, w, h, _) in enumerate(stats.tolist()[1:], start=1):
        is_large = min(w, h) > 2 * SMALLEST_BOX * WORK
        if not (is_large and x < width / 2 < x + w and y < height / 2 < y + h):
            continue
        held = ((first > (x, y)) & (last < (x + w, y + h))).all(axis=1) & (stats[:, 2:4].max(axis=1) > HELD * min(w, h))
        if not held.any():
            continue
        wall = np.pad((labels[y : y + h, x : x + w] == i).astype(np.uint8), GAP)
        wall = np.asarray(cv2.morphologyEx(wall, cv2.MORPH_CLOSE, np.ones((GAP, GAP), np.uint8)), np.uint8)
        rooms = components(1 - wall)
        # The room at the corner is outside; a 0 drawn around a speck, or a 6, holds nothing so large.
        outside = int(rooms.labels[0, 0])
        inside = np.asarray(rooms.labels[GAP:-GAP, GAP:-GAP] != outside) & (wall[GAP:-GAP, GAP:-GAP] == 0)
        if np.count_nonzero(inside) < ROOM * w * h:
            continue
        part = labels[y : y + h, x : x + w]
        if any(inside[part == j].all() for j in np.flatnonzero(held)):
            rings[y : y + h, x : x + w] |= (part == i).astype(np.uint8)
    return rings


def cells(mask: Mask) -> Mask | None:
    """The insides of the printed cells on a mask, where nothing else is on it: an unused comb or row of boxes; or None.

    What each of them encloses is rectangular, however askew it lies, and so are they together.
    """
    height = mask.shape[0]
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents: list[int] = np.reshape(tree, (-1, 4))[:, 3].tolist() if outlines else []
    rooms = [outline for outline, parent in zip(outlines, parents, strict=True) if parent >= 0]
    walls = [outline for outline, parent in zip(outlines, parents, strict=True) if parent < 0]
    walls = [outline for outline in walls if max(cv2.boundingRect(outline)[2:]) > SPECKS * height]
    room = [cv2.contourArea(outline) for outline in rooms]
    rooms = [outline for outline, area in zip(rooms, room, strict=True) if area > 0.5 * max(room)]
    if len(rooms) < 2 or sum(room) < 0.5 * sum(map(cv2.contourArea, walls)):
        return None
    _, top, _, tall = np.array([cv2.boundingRect(outline) for outline in rooms]).T
    is_row = np.ptp(top + tall / 2) < 0.5 * tall.max() and tall.min() > height / 4
    if not (is_row and all(_is_rectangle(outline) for outline in [*rooms, *walls])):
        return None
    inside = np.asarray(cv2.drawContours(np.zeros_like(mask), rooms, -1, 1, cv2.FILLED), np.uint8)
    walls_and_blur = np.asarray(cv2.dilate(mask, np.ones((WALL, WALL), np.uint8)), np.uint8)
    return inside & (1 - walls_and_blur)


def _is_rectangle(outline: cv2.typing.MatLike) -> bool:
    _, (width, height), _ = cv2.minAreaRect(outline)
    return cv2.contourArea(outline) > SQUARE * width * height


def _upper(ours: Mask) -> Mask:
    """Where the upper side would lie."""
    return ours[: max(2, int(0.12 * ours.shape[0]))]


def _is_long(band: Mask) -> bool:
    """Whether a side goes from end to end."""
    return bool(np.count_nonzero(cv2.reduce(band, 0, cv2.REDUCE_MAX)) >= 0.92 * band.shape[1])


def _side(ours: Mask) -> Mask | None:
    """The upper side of what may be a box cut at its edges; None where there is no straight one."""
    height, width = ours.shape
    part = _upper(ours)
    x = np.flatnonzero(part.any(axis=0))
    top = part.argmax(axis=0)[x]
    slope, at = _fitted(x, top)
    if median(np.abs(top - slope * x - at)) > 2 * STEADY * WORK:
        return None
    rows = np.arange(height)[:, np.newaxis] - slope * np.arange(width) - at
    # As thick as it is where no stroke touches it, and its rough edge.
    solid = np.cumsum((ours == 0) & (rows > 0), axis=0) == 0
    thick = float(np.quantile(np.where(solid, rows, 0).max(axis=0), 0.3))
    return ours & (rows < thick + 2).astype(np.uint8)
