"""What a picture says of a reading, in words and in colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.canvas import from_hex
from watcher.lettering import printable

if TYPE_CHECKING:
    from watcher.canvas import Canvas, Colour
    from watcher.lettering import Type
    from watcher.results import Status

# Told apart by the colour-blind too: the four differ in lightness as well as in hue, and each has its word.
STATUS_COLOUR: Final[dict[Status, Colour]] = {
    "accepted": from_hex("#007a6c"),
    "review": from_hex("#f0a202"),
    "blank": from_hex("#8a929b"),
    "failed": from_hex("#c22f1e"),
}
ON_STATUS: Final[dict[Status, Colour]] = {  # text on the status's colour
    "accepted": from_hex("#ffffff"),
    "review": from_hex("#2b1d00"),
    "blank": from_hex("#ffffff"),
    "failed": from_hex("#ffffff"),
}
REASON_COLOUR: Final[dict[Status, Colour]] = {  # amber itself is too light to read on white
    "accepted": from_hex("#007a6c"),
    "review": from_hex("#8a5a00"),
    "blank": from_hex("#5f6770"),
    "failed": from_hex("#b02a1a"),
}
TEXT = from_hex("#1c2126")
QUIET = from_hex("#68707a")
LINE = from_hex("#d3d8dd")
PANEL = from_hex("#eef0f2")
WHITE = from_hex("#ffffff")
INK_BOX = from_hex("#d0208f")  # neither a pen's colour nor a status's

REASONS: Final = {
    "low_confidence": "not sure enough",
    "not_promised": "max_error cannot be promised",
    "not_digits": "may not be a digit",
    "struck_out": "may be struck out",
    "audit": "taken at random for a check",
    "clipped": "runs over the edge",
    "wrong_length": "wrong number of digits",
    "unreadable": "cannot be decoded",
    "truncated": "the file is cut short",
    "empty": "the file is empty",
    "too_large": "too large",
    "unsupported": "a format that is not read",
    "crashed_decoder": "crashed the decoder",
    "timed_out": "took too long",
}

IN_A_WORD: Final = {  # on a tile, of those that neither the status nor how sure a value is tells
    "not_promised": "max_error",
    "not_digits": "no digit?",
    "struck_out": "struck?",
    "audit": "audit",
    "clipped": "edge",
    "wrong_length": "length",
    "rule": "rule",
    "unreadable": "damaged",
    "truncated": "cut short",
    "empty": "empty",
    "too_large": "too large",
    "unsupported": "format",
    "crashed_decoder": "crashed",
    "timed_out": "too slow",
}


def plain_reason(reason: str) -> str:
    """Say a reason's code in plain words; a code without any becomes its own words."""
    if reason.startswith("rule:"):
        return f"against the rule “{reason.removeprefix('rule:')}”"
    return REASONS.get(reason, reason.replace("_", " "))


def percent(probability: float) -> str:
    """Write a probability as a percentage, cut and never rounded up to a certainty that is not there."""
    if probability > 0.999:
        return ">99.9%"
    if probability < 0.01:
        return "<1%"
    tenths = int(probability * 1000 + 1e-9)  # of a percent; 0.29 * 100 is a little less than 29
    return f"{tenths / 10:.1f}%" if tenths >= 990 else f"{tenths // 10}%"


def page_mark(number: int) -> str:
    """Say which page of its scan one is, to stand behind the scan's name; nothing of the first: most have no other."""
    return f" · page {number}" if number > 1 else ""


def named(type_: Type, name: str, number: int, size: float, width: int) -> str:
    """Say in a line at most `width` wide which page of which scan it is; where there is no room, the name gives way."""
    mark = page_mark(number)
    return type_.shorten(printable(name), size, width - type_.width(mark, size)) + mark


def draw_torn(card: Canvas, x: float, y: float) -> None:
    """Draw a torn sheet around (x, y): there is no picture to show."""
    upper = [(-24, 4), (-24, -34), (10, -34), (24, -20), (24, -4), (12, 5), (0, -5), (-12, 5)]
    lower = [(-24, 14), (-12, 15), (0, 5), (12, 15), (24, 6), (24, 34), (-24, 34)]
    for outline in (upper, lower):
        card.polygon([(x + dx, y + dy) for dx, dy in outline], face=WHITE, edge=from_hex("#a9b0b8"))
    card.polygon([(x + 10, y - 34), (x + 10, y - 20), (x + 24, y - 20)], face=PANEL, edge=from_hex("#a9b0b8"))
