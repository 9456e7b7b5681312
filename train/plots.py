"""The pictures of a training and of an evaluation."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from train import calibration
from train.percent import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from train.calibration import Right
    from train.export import Probabilities
    from train.mnist import Images, Labels
    from train.recipes import Recipe

INK, FAINT, GRID = "#1f2933", "#6b7785", "#e4e8ec"
BLUE, ORANGE, RED, GREEN = "#2563a8", "#d9822b", "#c0392b", "#2e7d4f"
COLOURS = BLUE, ORANGE, GREEN, RED, "#7b4ea3", "#8a6d3b"  # of the lines in one plot
MARKERS = (("o", 14), ("s", 8), ("^", 6), ("v", 5))  # of the points on them, and sizes: several may be at one place
DPI = 110
HARDEST = 40


def draw(
    folder: Path,
    recipe: Recipe,
    *,
    history: Sequence[dict[str, float]],
    accuracy: dict[str, Any],
    images: Images,
    labels: Labels,
    probabilities: Probabilities,
) -> None:
    """Draw a training's four pictures into `folder`."""
    save(accuracy_by_epoch(history, accuracy, recipe.name), folder / "accuracy.png")
    save(loss_by_epoch(history, recipe.name), folder / "loss.png")
    counts = count_pairs(labels, probabilities.argmax(axis=1), (len(recipe.classes), len(recipe.classes)))
    title = f"The test images and what they were read as · {recipe.name}"
    save(confusion(counts, recipe.classes, recipe.classes, title), folder / "confusion.png")
    save(hardest(images, labels, probabilities, recipe.classes), folder / "hardest.png")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without pyplot, which keeps every figure it has drawn."""
    FigureCanvasAgg(figure).print_png(str(path))


def accuracy_by_epoch(history: Sequence[dict[str, float]], accuracy: dict[str, Any], name: str) -> Figure:
    """Plot the share read wrong by epoch, on a logarithmic scale labelled as accuracy, with the test result."""
    figure, axes = _figure(7.2, 4.4)
    epochs = [row["epoch"] for row in history]
    floor = 0.5 / accuracy["validation_size"]
    for key, label, colour in (("accuracy", "training", ORANGE), ("val_accuracy", "validation", BLUE)):
        wrong = [max(1 - row[key], floor) for row in history]
        axes.plot(epochs, wrong, color=colour, marker="o", markersize=4, linewidth=1.8, label=label)
    missed = max(1 - accuracy["test"], 0.5 / accuracy["test_size"])
    axes.axhline(missed, color=GREEN, linewidth=1.4, linestyle=(0, (4, 3)), label=f"test {percent(accuracy['test'])}")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [t for t in (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5) if low <= t <= high]
    axes.set_yticks(ticks, [f"{100 * (1 - tick):g}%" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.invert_yaxis()
    _epochs(axes, epochs)
    axes.set_ylabel("accuracy")
    axes.set_title(f"Accuracy by epoch · {name}", loc="left", fontsize=12, color=INK, pad=12)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def loss_by_epoch(history: Sequence[dict[str, float]], name: str) -> Figure:
    """Plot the cross-entropy by epoch, on a logarithmic scale."""
    figure, axes = _figure(7.2, 4.4)
    epochs = [row["epoch"] for row in history]
    for key, label, colour in (("loss", "training", ORANGE), ("val_loss", "validation", BLUE)):
        values = [row[key] for row in history]
        axes.plot(epochs, values, color=colour, marker="o", markersize=4, linewidth=1.8, label=label)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [t for t in (0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2) if low <= t <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    _epochs(axes, epochs)
    axes.set_ylabel("categorical cross-entropy")
    axes.set_title(f"Loss by epoch · {name}", loc="left", fontsize=12, color=INK, pad=12)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    return figure


def confusion(counts: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], title: str) -> Figure:
    """Draw how often each of `rows` was read as each of `columns`: right ones green, errors the redder the more."""
    right = np.array([[row == column for column in columns] for row in rows])
    wrong = np.where(right, 0, counts)
    figure, axes = _figure(0.9 + 0.56 * len(columns), 1.2 + 0.54 * len(rows))
    axes.grid(visible=False)
    # The square root keeps single errors visible beside frequent ones.
    axes.imshow(np.sqrt(wrong / max(int(wrong.max()), 1)), cmap="Reds", vmin=0, vmax=1.35)
    for row, column in np.ndindex(counts.shape):
        count = int(counts[row, column])
        if right[row, column]:
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="#eaf4ee"))
        if count:
            colour = GREEN if right[row, column] else INK
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9, color=colour, weight="bold")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("read as")
    axes.set_ylabel("written")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    errors, total = int(wrong.sum()), int(counts.sum())
    axes.set_title(f"{title}\n", loc="left", fontsize=12, color=INK, pad=16)
    note = f"{percent((total - errors) / total)} right, {errors:,} of {total:,} wrong" if total else "there are none"
    axes.annotate(note, (0, 1), (0, 38), xycoords="axes fraction", textcoords="offset points", color=FAINT, fontsize=10)
    return figure


def count_pairs(truth: NDArray[np.integer], read: NDArray[np.integer], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Count how often each pair of true and read class occurs."""
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (truth, read), 1)
    return counts


def hardest(images: Images, labels: Labels, probabilities: Probabilities, classes: Sequence[str]) -> Figure:
    """Draw the images whose right class got the least probability, hardest first."""
    right = probabilities[np.arange(len(labels)), labels]
    order = np.argsort(right, kind="stable")[:HARDEST]
    captions = []
    for index in order:
        read = int(probabilities[index].argmax())
        confidence = probabilities[index, read]
        wrong = read != labels[index]
        text = f"{classes[labels[index]]} read as {classes[read]}\n{percent(float(confidence), 1)} sure"
        captions.append((text, RED if wrong else GREEN))
    shown = [images[index] for index in order]
    errors = int((probabilities.argmax(axis=1) != labels).sum())
    title = f"The hardest {len(order)} of {len(labels):,} test images, {errors:,} read wrong (red)"
    return gallery([255 - image for image in shown], captions, title)


def gallery(
    pictures: Sequence[NDArray[np.uint8]], captions: Sequence[tuple[str, str]], title: str, columns: int = 8
) -> Figure:
    """Lay out grey or RGB pictures of one shape in rows, each with its caption and the caption's colour."""
    rows = max(1, -(-len(pictures) // columns))
    tall, wide = pictures[0].shape[:2] if pictures else (1, 1)
    width, lines = 10.0, 0.42  # inches, of the figure and for the caption of a picture
    height = lines + rows * (width / columns * 0.9 * tall / wide + lines)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.text(0.012, 1 - 0.2 / height, title, fontsize=12, color=INK, va="center")
    margins = {"left": 0.01, "right": 0.99, "top": 1 - 0.42 / height, "bottom": lines / height, "wspace": 0.08}
    picture_height = (1 - 2 * 0.42 / height) * height / rows
    margins["hspace"] = lines / max(picture_height - lines, 0.1)
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=margins)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, picture, (text, colour) in zip(grid.flat, pictures, captions, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal", origin="upper")
        axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=colour)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure in the house look: light grid, no box."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
    return figure, axes


def _epochs(axes: Axes, epochs: Sequence[float]) -> None:
    """Whole epochs on the axis, some twelve labels at most."""
    axes.set_xlabel("epoch")
    axes.set_xticks(list(epochs)[:: -(-len(epochs) // 12)])


def reliability(lines: Mapping[str, tuple[NDArray[np.float64], Right]], title: str) -> Figure:
    """Draw, for each named set of confidences, how many were right of those of about one confidence.

    Where a line runs above the diagonal the values are better than they say; the bars are 95% intervals.
    """
    figure, axes = _figure(6.2, 5.6)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), label="as it should be")
    for (name, (confidence, right)), colour in zip(lines.items(), COLOURS, strict=False):
        bins = calibration.reliability(confidence, right)
        error = calibration.expected_error(confidence, right)
        label = f"{_short(name)}\n{len(right):,} values, expected calibration error {error:.4f}"
        axes.plot([x for x, *_ in bins], [y for _, y, _ in bins], color=colour, marker="o", markersize=4, label=label)
        for x, y, count in bins:
            low, high = calibration.wilson(round(y * count), count)
            axes.plot([x, x], [low, high], color=colour, linewidth=1, alpha=0.5)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("confidence")
    axes.set_ylabel("right")
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=12)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def risk_coverage(
    lines: Mapping[str, tuple[NDArray[np.float64], Right]],
    marks: Mapping[str, Mapping[float, tuple[float, float]]],
    title: str,
) -> Figure:
    """Plot, for each named set, the share of wrong values against the share accepted, the surest first.

    `marks` are, for each set and each `max_error`, the share that is accepted and the share of wrong ones among it.
    """
    figure, axes = _figure(7.6, 5.0)
    floor = 1.0
    for (name, (confidence, right)), colour in zip(lines.items(), COLOURS, strict=False):
        points = calibration.risk_coverage(confidence, right)
        least = 0.5 / max(len(right), 1)  # no error at all is drawn at half an error
        floor = min(floor, least)
        area = calibration.aurc(confidence, right)
        label = f"{_short(name)}\n{len(right):,} values, area under the curve {area:.5f}"
        axes.plot([x for x, _ in points], [max(y, least) for _, y in points], color=colour, linewidth=1.6, label=label)
        for (marker, size), (accepted, wrong) in zip(MARKERS, marks[name].values(), strict=False):
            if accepted:
                at = [accepted], [max(wrong, least)]
                axes.plot(*at, marker, color=colour, markersize=size, markeredgecolor="white", clip_on=False, zorder=3)
    rates = dict.fromkeys(rate for some in marks.values() for rate in some)
    for (marker, _), rate in zip(MARKERS, rates, strict=False):
        if any(some[rate][0] for some in marks.values() if rate in some):
            axes.plot([], [], marker, color=FAINT, label=f"accepted at max_error {100 * rate:g}%")
    axes.set_yscale("log")
    axes.set_ylim(max(floor, 1e-5) / 1.3, 1)  # room for marks at no error
    ticks = [t for t in (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if t >= floor]
    axes.set_yticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share accepted, the surest first")
    axes.set_ylabel("wrong among them (none: drawn as half a value)")
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=12)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _short(name: str) -> str:
    return textwrap.fill(name, 72, max_lines=2, placeholder="…")
