"""The flood as a picture for the README."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

TEXT, QUIET, OURS, OTHERS = "#1c2126", "#68707a", "#007a6c", "#b9c0c7"


def plot(flood: dict[str, dict[str, float]], path: Path) -> None:
    """Draw scans a second of each way, on a logarithmic axis: a bar twice as fast is as much longer everywhere."""
    rows = sorted(((row["scans/s"], row["× reference"], name) for name, row in flood.items()))
    figure = Figure(figsize=(7.2, 0.42 * len(rows) + 0.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    theirs = ("reference", "floor", "Tesseract")
    axes.barh(
        [name for *_, name in rows],
        [rate for rate, *_ in rows],
        color=[OTHERS if name.startswith(theirs) else OURS for *_, name in rows],
        height=0.66,
    )
    for at, (rate, ratio, _) in enumerate(rows):
        axes.text(rate * 1.06, at, f"{rate:,.0f}   {ratio:,.3g}×", va="center", color=TEXT, fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(right=rows[-1][0] * 5)
    axes.set_xlabel("scans a second, and how many times the reference path (logarithmic)", color=QUIET, fontsize=9)
    axes.tick_params(colors=TEXT, labelsize=9, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path)
