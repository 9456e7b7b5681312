"""How a page became what the network saw, step by step, in one picture: to see where a crop went wrong."""

from __future__ import annotations

import io
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from watcher.decode import decode
from watcher.legend import page_mark, percent, plain_reason
from watcher.lettering import printable
from watcher.line import normalise_line
from watcher.names import thumbnail_name
from watcher.normalise import looks, normalise
from watcher.pipeline import write
from watcher.tasks import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from watcher.config import Limits
    from watcher.normalise import Page
    from watcher.results import Reading, Row

STEPS = (
    "the crop",
    "grey, so that the pen stands out",
    "ink, on paper made flat",
    "darker than what is around",
    "without what was printed",
    "the writing",
    "what the network sees",
)
FIELD_STEPS = "the crop, and the digits that were read", "what the network sees"
_FOUND = "#d0208f"
SIDE = 2.1  # inches of one step


def explain_rows(rows: Iterable[Row], limits: Limits, folder: Path) -> None:
    """Draw into `folder` how each page of files that could be read came to its value."""
    for name, pages in groupby((row for row in rows if row.reading.status != "failed"), key=lambda row: row.name):
        decoded = list(decode(Path(name).read_bytes(), limits))
        for row in pages:
            page = decoded[row.page - 1]
            if not isinstance(page, Fault):
                picture = explain(page, row.reading, row.name, row.page)
                write(folder, thumbnail_name(row.name, row.page), picture)


def explain(page: Page, reading: Reading, name: str, number: int = 1) -> bytes:
    """Draw the steps from `page` to the network's input as a PNG: what was read as a field, or what as a digit."""
    figure = _explain_field(page, reading) if reading.kind == "field" else _explain_digit(page)
    FigureCanvasAgg(figure)
    figure.suptitle(f"{printable(name)}{page_mark(number)}: {_said(reading)}")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _explain_field(page: Page, reading: Reading) -> Figure:
    """The crop with its digits boxed, and under it the line that was found."""
    line = normalise_line(page)
    figure = Figure(figsize=(8, 4.5), dpi=80, layout="constrained")
    axes = figure.subplots(2, 1)
    _show(axes[0], page)
    for digit in reading.digits:
        x, y, w, h = digit.box
        axes[0].add_patch(Rectangle((x, y), w, h, fill=False, color=_FOUND))
        axes[0].text(x + w / 2, y + h, digit.value, ha="center", va="top", color=_FOUND)
    _show(axes[1], None if line is None else 1 - line.image)
    for axis, step in zip(axes, FIELD_STEPS, strict=True):
        axis.set_title(step, fontsize=9)
    return figure


def _explain_digit(page: Page) -> Figure:
    """A row for each look that was taken at the page."""
    rows = list(looks(page))
    figure = Figure(figsize=(SIDE * len(STEPS), (SIDE + 0.5) * len(rows) + 0.4), dpi=80, layout="constrained")
    for look, axes in zip(rows, figure.subplots(len(rows), len(STEPS), squeeze=False), strict=True):
        x, y, w, h = look.part
        _show(axes[0], page[y : y + h, x : x + w])
        if look.written is not None:
            left, top, width, height = look.box
            axes[0].add_patch(Rectangle((left - x, top - y), width, height, fill=False, color=_FOUND))
        _show(axes[1], look.grey)
        _show(axes[2], -look.ink)
        for axis, mask in zip(axes[3:6], (look.dark, look.unruled, look.written), strict=True):
            _show(axis, None if mask is None else 1 - mask)
        # The last look is the one that counts, unless it found nothing.
        ink = normalise(page) if look is rows[-1] else None
        _show(axes[6], None if ink is None else 1 - ink.image)
        for axis, step in zip(axes, STEPS, strict=True):
            axis.set_title(step, fontsize=9)
    return figure


def _said(reading: Reading) -> str:
    if reading.status in {"blank", "failed"}:
        return " – ".join(part for part in (reading.status, plain_reason(reading.reason)) if part)
    why = f" – {plain_reason(reading.reason)}" if reading.reason else ""
    return f"{reading.value}, {percent(reading.confidence)}, {reading.status}{why}"


def _show(axis: Axes, picture: NDArray[np.uint8] | NDArray[np.float32] | None) -> None:
    axis.set_axis_off()
    if picture is None:
        axis.text(0.5, 0.5, "nothing", ha="center", va="center", transform=axis.transAxes)
    else:
        axis.imshow(picture, cmap="gray", interpolation="nearest")
