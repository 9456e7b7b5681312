"""How well labelled crops are read: by the pipeline that serves and, to compare, the way of the reference."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from tqdm import tqdm

from train import calibration, export, plots
from train.augmentation import as_inputs
from train.percent import percent
from watcher.decode import decode
from watcher.errors import ModelError
from watcher.line import normalise_line
from watcher.model import SERVES
from watcher.names import escape
from watcher.normalise import looks, normalise
from watcher.pipeline import Reader, read_whole
from watcher.results import Reading, failed
from watcher.tasks import Fault, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from train.labels import Crop
    from watcher.calibration import Kind
    from watcher.config import Limits
    from watcher.model import Card

FILES = ("report.json", "crops.csv", "confusion.png", "reliability.png", "risk-coverage.png", "worst.png")
SHOWN_RATES = (0.001, 0.01)  # of error, marked in the risk-coverage plot
PROMISES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  # error rates whose price in coverage is shown
SLICE = 64  # crops decoded before the network runs, as in a worker
LINES, WORTH_A_LINE = 5, 50  # groups that the plots have a line for, and numbers that make one
SHOWN = 40  # crops in the picture of the worst
NAME = 15  # letters of a group's name in the table
CONFUSION = "Crops of a single digit and what they were read as"
CELL = 96  # pixels, the side of each step in the picture


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a crop."""

    crop: Crop
    reading: Reading
    field: str = ""  # name of the rule that the crop's path matches

    @property
    def is_accepted(self) -> bool:
        """Whether the value goes to the downstream job."""
        return self.reading.status == "accepted"

    @property
    def right(self) -> bool:
        """Whether the value is right, sure or not; nothing to read is right where no value was accepted."""
        if self.crop.is_number:
            return self.reading.status != "failed" and self.reading.value == self.crop.value
        return not self.is_accepted


def read_crops(folder: Path, crops: Sequence[Crop], reader: Reader) -> list[Result]:
    """Read the crops as a worker does, and keep what the first page of each says."""
    results = []
    with tqdm(total=len(crops), unit=" crops", disable=None, leave=False) as bar:
        for start in range(0, len(crops), SLICE):
            some = crops[start : start + SLICE]
            rows = reader.read([Job(str(folder / crop.file), crop.file) for crop in some], None)
            first = [row for row in rows if row.page == 1]
            results += [Result(crop, row.reading, row.field) for crop, row in zip(some, first, strict=True)]
            bar.update(len(some))
    return results


def read_as_reference(folder: Path, crops: Sequence[Crop], model: Path) -> list[Result]:
    """Read the crops the way of the reference: grey, resized to 28×28, inverted, predicted; nothing else.

    `model` is a folder with the reference network. Raises ModelError.
    """
    if not (model / SERVES).is_file():
        raise ModelError(f"{model} has no {SERVES}; make it with: fit --recipe seed --out {model}")
    inputs = np.zeros((len(crops), 28, 28), np.uint8)
    seen = np.zeros(len(crops), np.bool_)
    for index, crop in enumerate(crops):
        data = np.fromfile(folder / crop.file, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
        if image is not None:
            inputs[index], seen[index] = 255 - cv2.resize(image, (28, 28)), True
    try:
        probabilities = export.predict(model / SERVES, as_inputs(inputs))
    except ValueError as error:
        raise ModelError(f"{model / SERVES} is no network that can be run ({error})") from error
    results: list[Result] = []
    for crop, row, decoded in zip(crops, probabilities, seen, strict=True):
        value = str(row.argmax())
        reading = Reading("review", value, float(row.max())) if decoded else failed("unreadable")
        results.append(Result(crop, reading))
    return results


def report(results: Sequence[Result], max_error: float, card: Card) -> dict[str, Any]:
    """Sum up results, as they were judged at `max_error`; and what other rates of error would have meant."""
    numbers = [result for result in results if result.crop.is_number]
    confidence, right = confidences(numbers)
    return {
        "crops": len(results),
        "model": card.name,
        "max_error": max_error,
        **accuracies(numbers),
        "by_field": grouped(numbers, lambda result: result.field),
        "expected_calibration_error": round(calibration.expected_error(*read_values(numbers)), 6),
        "area_under_risk_coverage": round(calibration.aurc(confidence, right), 8),
        "promises": [promise(numbers, rate, card) for rate in PROMISES],
        "all_accepted": taken([result for result in results if result.is_accepted], len(results)),
        "blank": statuses([result for result in results if not result.crop.value]),
        "not_digits": statuses([result for result in results if result.crop.value and not result.crop.is_number]),
        "status": statuses(numbers),
        "reason": dict(sorted(Counter(result.reading.reason for result in numbers if result.reading.reason).items())),
    }


def accuracies(numbers: Sequence[Result]) -> dict[str, Any]:
    """Sum up how many values are right and how many were accepted, overall and by source."""
    return {"numbers": share(numbers), "by_source": grouped(numbers, lambda result: result.crop.group)}


def grouped(numbers: Sequence[Result], name: Callable[[Result], str]) -> dict[str, Any]:
    """Sum up the results of each group by itself."""
    groups = sorted({name(result) for result in numbers})
    return {group or "(none)": share([result for result in numbers if name(result) == group]) for group in groups}


def reference_report(folder: Path, crops: Sequence[Crop], model: Path) -> dict[str, Any]:
    """Sum up how many values the way of the reference reads right: it has no notion of being unsure."""
    return accuracies(read_as_reference(folder, [crop for crop in crops if crop.is_number], model))


def share(results: Sequence[Result]) -> dict[str, Any]:
    """Count what is right, what was accepted, and what of that is wrong, with Wilson's 95% intervals."""
    right = sum(result.right for result in results)
    return {
        "size": len(results),
        "right": right,
        "accuracy": _share(right, len(results)),
        "interval": _interval(right, len(results)),
        "accepted": taken([result for result in results if result.is_accepted], len(results)),
    }


def taken(accepted: Sequence[Result], total: int) -> dict[str, Any]:
    """Count which share of `total` was accepted, and what of that is wrong, with Wilson's 95% intervals."""
    wrong = sum(not result.right for result in accepted)
    return {
        "size": len(accepted),
        "share": _share(len(accepted), total),
        "share_interval": _interval(len(accepted), total),
        "wrong": wrong,
        "error": _share(wrong, len(accepted)),
        "error_interval": _interval(wrong, len(accepted)),
    }


def promise(numbers: Sequence[Result], max_error: float, card: Card) -> dict[str, Any]:
    """What would be accepted, and wrong, if `max_error` were configured. No threshold: nothing can be promised."""
    thresholds = {kind: card.calibration(kind).threshold(max_error) for kind in card.kinds}
    sure = [
        result
        for result in numbers
        if result.reading.score is not None
        and result.reading.confidence >= thresholds.get(result.reading.kind, math.inf)
    ]
    return {
        "max_error": max_error,
        "threshold": {kind: threshold if threshold <= 1 else None for kind, threshold in thresholds.items()},
        **taken(sure, len(numbers)),
    }


def confidences(results: Sequence[Result]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How sure each value is and whether it is right; what cannot be accepted, as a blank or a failed one, is not."""
    sure = [0.0 if result.reading.score is None else result.reading.confidence for result in results]
    return np.array(sure, np.float64), np.array([result.right for result in results], np.bool_)


def read_values(results: Sequence[Result]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The same of those only that have a value with a confidence."""
    return confidences([result for result in results if result.reading.score is not None])


def statuses(results: Sequence[Result]) -> dict[str, int]:
    """Count results by status."""
    return dict(sorted(Counter(result.reading.status for result in results).items()))


def confusion(results: Sequence[Result]) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Count single digits by what they were read as: the counts, the names of rows and of columns."""
    rows, columns = list("0123456789"), [*"0123456789", "none"]
    pairs = [(result.crop.value, result.reading.value) for result in results if len(result.crop.value) == 1]
    counted = [(rows.index(true), columns.index(read) if read in rows else 10) for true, read in pairs if true in rows]
    truth, read = np.array(counted, np.int64).reshape(-1, 2).T
    return plots.count_pairs(truth, read, (len(rows), len(columns))), rows, columns


def table(summary: dict[str, Any]) -> str:
    """Lay the report out as text for a terminal."""
    reference = summary.get("reference")
    head = f"{'source':<16}{'crops':>7}{'right':>7}{'accuracy':>10}   {'95% interval':<17}{'accepted':>9}{'wrong':>7}"
    head += f"   {'95% interval':<15}"
    lines = [f"{head}reference" if reference else head.rstrip()]
    sources = summary["by_source"] if len(summary["by_source"]) > 1 else {}
    fields = summary["by_field"] if set(summary["by_field"]) - {"(none)"} else {}
    for name, part in [*sources.items(), ("all", summary["numbers"])]:
        line = _line(name, part)
        if reference:
            other = reference["numbers"] if name == "all" else reference["by_source"][name]
            line = f"{line:<92}{_percent(other['accuracy']):>9}"
        lines.append(line)
    if fields:
        lines += ["", head.replace("source", "field ").rstrip(), *(_line(name, part) for name, part in fields.items())]
    start = f"from ({', '.join(summary['promises'][0]['threshold'])})"
    lines += ["", f"{'max_error':<12}{start:>21}{'accepted':>10}{'wrong':>7}{'error':>9}   95% interval"]
    for row in summary["promises"]:
        starts = [f"{start:.5f}" if start is not None else "never" for start in row["threshold"].values()]
        low, high = row["error_interval"]
        lines.append(
            f"{_percent(row['max_error']):<12}{', '.join(starts):>21}{_percent(row['share']):>10}{row['wrong']:>7}"
            f"{_percent(row['error']):>9}   " + (f"{percent(low)} to {percent(high)}" if row["size"] else "-")
        )
    lines += [
        "",
        f"read with {summary['model']} at max_error {summary['max_error']:g}; "
        f"expected calibration error {summary['expected_calibration_error']:.4f}, "
        f"area under the risk-coverage curve {summary['area_under_risk_coverage']:.6f}",
    ]
    for name, what in (("status", "numbers"), ("reason", "of them"), ("blank", "blank crops"), ("not_digits", "none")):
        if summary[name]:
            counts = ", ".join(f"{count:,} {status}" for status, count in summary[name].items())
            lines.append(f"{what}: {counts}")
    if summary["blank"] or summary["not_digits"]:
        accepted = summary["all_accepted"]
        lines.append(
            f"of all {accepted['size']:,} accepted values, those of crops without a number among them, "
            f"{accepted['wrong']:,} are wrong: {_percent(accepted['error'])}"
        )
    return "\n".join(lines)


def _line(name: str, part: dict[str, Any]) -> str:
    low, high = part["interval"]
    shown = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
    line = f"{shown:<{NAME + 1}}{part['size']:>7}{part['right']:>7}{_percent(part['accuracy']):>10}"
    accepted = part["accepted"]
    line += f"   {f'{percent(low, 1)} to {percent(high, 1)}':<17}{_percent(accepted['share']):>9}{accepted['wrong']:>7}"
    low, high = accepted["error_interval"]
    return line + (f"   {percent(low)} to {percent(high)}" if accepted["size"] else "   -")


def write(
    out: Path, folder: Path, results: Sequence[Result], summary: dict[str, Any], *, card: Card, limits: Limits
) -> None:
    """Write report.json, crops.csv and the pictures into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    counts, rows, columns = confusion(results)
    full = summary | {"confusion": {"rows": rows, "columns": columns, "counts": counts.tolist()}}
    (out / "report.json").write_text(json.dumps(full, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    # The surest misses first: those are the ones that would slip through.
    ranked = sorted(results, key=lambda r: (not r.is_accepted, -r.reading.confidence))
    worst = [r for r in ranked if not r.right]
    with (out / "crops.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = ["file", "value", "source", "field", "right", "read", "status", "confidence", "reason", "alternative"]
        writer.writerow(names)
        for result in [*worst, *(r for r in ranked if r.right)]:
            crop, reading = result.crop, result.reading
            said = (reading.value, reading.status, f"{reading.confidence:.4f}", reading.reason, reading.alternative)
            writer.writerow([escape(crop.file), crop.value, crop.source, result.field, int(result.right), *said])
    plots.save(plots.confusion(counts, rows, columns, CONFUSION), out / "confusion.png")
    numbers = [result for result in results if result.crop.is_number]
    sets = _sets(numbers)
    sure = {name: read_values(some) for name, some in sets.items()}
    plots.save(plots.reliability(sure, "Confidence and accuracy"), out / "reliability.png")
    marks: dict[str, dict[float, tuple[float, float]]] = {
        name: {rate: _accepted(promise(some, rate, card)) for rate in SHOWN_RATES} for name, some in sets.items()
    }
    whole = {name: confidences(some) for name, some in sets.items()}
    plots.save(plots.risk_coverage(whole, marks, "What is given up for fewer errors"), out / "risk-coverage.png")
    shown = worst[:SHOWN]
    captions = [
        (
            f"{result.crop.value or 'blank'} read as {result.reading.value or result.reading.status}\n"
            f"{result.reading.status}, {percent(result.reading.confidence, 1)}",
            plots.RED if result.is_accepted else plots.INK,
        )
        for result in shown
    ]
    title = f"The worst {len(shown)} of {len(worst):,} misses, from the crop to what the network saw (red: accepted)"
    pictures = [picture(folder / result.crop.file, result.reading.kind, limits) for result in shown]
    plots.save(plots.gallery(pictures, captions, title, columns=3), out / "worst.png")


def _sets(numbers: Sequence[Result]) -> dict[str, list[Result]]:
    """What the plots have a line for: all, and the largest groups where there are several, by field else by source."""
    fields = [result.field for result in numbers]
    names = fields if len(set(fields)) > 1 else [result.crop.group for result in numbers]
    counts = [(name, count) for name, count in Counter(names).most_common(LINES) if count >= WORTH_A_LINE]
    groups = {name or "(none)": [r for r, own in zip(numbers, names, strict=True) if own == name] for name, _ in counts}
    return {"all": list(numbers), **(groups if len(groups) > 1 else {})}


def _accepted(promised: dict[str, Any]) -> tuple[float, float]:
    return promised["share"] or 0.0, promised["error"] or 0.0


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _interval(part: int, whole: int) -> list[float]:
    low, high = calibration.wilson(part, whole)
    return [round(low, 6), round(high, 6)]


def picture(path: Path, kind: Kind, limits: Limits) -> NDArray[np.uint8]:
    """Show what each step made of a crop: (CELL, 5 CELL, 3).

    Of a digit: the crop, its ink, less what was printed, the writing, the network's input. Of a field: crop and line.
    """
    canvas = np.full((CELL, 5 * CELL, 3), 255, np.uint8)
    data, _, _ = read_whole(os.fspath(path), limits.bytes)
    page = None if isinstance(data, Fault) else next(decode(data, limits), None)
    if page is None or isinstance(page, Fault):
        return canvas
    if kind == "field":
        line = normalise_line(page)
        _place(canvas[:, : 2 * CELL], page)
        if line is not None:
            _place(canvas[:, 2 * CELL :], _dark_on_white(line.image))
        return canvas
    last = list(looks(page))[-1]
    ink = normalise(page)
    steps = [last.ink / max(float(last.ink.max()), 1), last.unruled, last.written, None if ink is None else ink.image]
    for index, step in enumerate([page, *(None if one is None else _dark_on_white(one) for one in steps)]):
        if step is not None:
            _place(canvas[:, index * CELL : (index + 1) * CELL], step)
    return canvas


def _dark_on_white(ink: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.asarray(255 - np.rint(255 * np.clip(ink, 0, 1)), np.uint8)


def _place(cell: NDArray[np.uint8], shown: NDArray[np.uint8]) -> None:
    """Fit a picture into the middle of a cell, a little within it."""
    scale = min((side - 6) / own for side, own in zip(cell.shape[:2], shown.shape[:2], strict=True))
    height, width = (max(1, round(side * scale)) for side in shown.shape[:2])
    small = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    top, left = (cell.shape[0] - height) // 2, (cell.shape[1] - width) // 2
    cell[top : top + height, left : left + width] = small if small.ndim == 3 else small[..., np.newaxis]


def _percent(value: float | None) -> str:
    return "-" if value is None else percent(value)
