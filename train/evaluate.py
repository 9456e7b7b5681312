"""How well labelled crops are read: by the pipeline that serves and, to compare, the way of the reference."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from tqdm import tqdm

from train import export, plots
from train.augmentation import as_inputs
from train.calibration import wilson
from watcher.decode import decode
from watcher.errors import DigitdropError, ModelError
from watcher.model import SERVES
from watcher.normalise import normalise
from watcher.pipeline import Reader, read_whole
from watcher.reading import Reading, failed
from watcher.tasks import Fault, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from watcher.config import Limits

LABELS = "labels.csv"
FILES = ("report.json", "misses.csv", "confusion.png", "coverage.png", "misses.png")
NO_DIGITS = "-"  # the label of a crop with writing that is no number
PROMISES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  # error rates whose price in coverage is shown
SLICE = 64  # crops decoded before the network runs, as in a worker
SHOWN = 40  # misses in the picture
CELL = 96  # pixels, the side of a crop and of its ink in the picture


class LabelError(DigitdropError):
    """The labels are missing, or name something that is not there."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A labelled crop. `value` is its digits, empty for a blank one, `-` for writing that is no number."""

    file: str
    value: str
    source: str = ""

    @property
    def is_number(self) -> bool:
        """Whether there is a number to read."""
        return self.value.isascii() and self.value.isdigit()

    @property
    def group(self) -> str:
        """The source up to a colon: `wild:kitchen` and `wild:office` are both `wild`."""
        return self.source.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a crop."""

    crop: Crop
    reading: Reading

    @property
    def right(self) -> bool:
        """Whether the value is right, sure or not; nothing to read is right where no value was accepted."""
        if self.crop.is_number:
            return self.reading.status != "failed" and self.reading.value == self.crop.value
        return self.reading.status != "accepted"


def read_labels(folder: Path) -> list[Crop]:
    """Read `labels.csv` of `folder`: columns file, value and, if there, source. Raises LabelError."""
    path = folder / LABELS
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path} cannot be read ({error}); it should be a CSV with columns file,value.") from error
    if not rows or not {"file", "value"} <= set(rows[0]):
        raise LabelError(f"{path} should have a header with the columns file and value, and a line for each crop.")
    crops = [Crop(row["file"], (row["value"] or "").strip(), row.get("source") or "") for row in rows]
    missing = [crop.file for crop in crops if not (folder / crop.file).is_file()]
    if missing:
        raise LabelError(f"{path} names {len(missing)} files that are not in {folder}, the first is {missing[0]}.")
    return crops


def read_crops(folder: Path, crops: Sequence[Crop], reader: Reader) -> list[Result]:
    """Read the crops as a worker does, and keep what the first page of each says."""
    results = []
    with tqdm(total=len(crops), unit=" crops", disable=None, leave=False) as bar:
        for start in range(0, len(crops), SLICE):
            some = crops[start : start + SLICE]
            rows = reader.read([Job(str(folder / crop.file), crop.file) for crop in some], None)
            first = [row.reading for row in rows if row.page == 1]
            results += [Result(crop, reading) for crop, reading in zip(some, first, strict=True)]
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
    probabilities = export.predict(model / SERVES, as_inputs(inputs))
    results: list[Result] = []
    for crop, row, decoded in zip(crops, probabilities, seen, strict=True):
        value = str(row.argmax())
        reading = Reading("review", value, float(row.max())) if decoded else failed("unreadable")
        results.append(Result(crop, reading))
    return results


def report(results: Sequence[Result], max_error: float, threshold: Callable[[float], float]) -> dict[str, Any]:
    """Sum up results; `threshold` gives the confidence from which a value is accepted for a rate of error."""
    numbers = [result for result in results if result.crop.is_number]
    taken = [result for result in numbers if result.reading.status == "accepted"]
    return {
        "crops": len(results),
        **accuracies(numbers),
        "accepted": accepted(taken, numbers, max_error, threshold(max_error)),
        "promises": [accepted(sure(numbers, threshold(rate)), numbers, rate, threshold(rate)) for rate in PROMISES],
        "coverage": coverage(numbers),
        "blank": statuses([result for result in results if not result.crop.value]),
        "not_digits": statuses([result for result in results if result.crop.value and not result.crop.is_number]),
        "status": statuses(numbers),
    }


def accuracies(numbers: Sequence[Result]) -> dict[str, Any]:
    """Sum up how many values are right, overall and by source."""
    groups = sorted({result.crop.group for result in numbers})
    return {
        "numbers": share([result.right for result in numbers]),
        "by_source": {
            group or "(none)": share([result.right for result in numbers if result.crop.group == group])
            for group in groups
        },
    }


def reference_report(folder: Path, crops: Sequence[Crop], model: Path) -> dict[str, Any]:
    """Sum up how many values the way of the reference reads right: it has no notion of being unsure."""
    return accuracies(read_as_reference(folder, [crop for crop in crops if crop.is_number], model))


def share(right: Sequence[bool]) -> dict[str, Any]:
    """Count, with Wilson's 95% interval."""
    low, high = wilson(sum(right), len(right))
    return {
        "size": len(right),
        "right": sum(right),
        "accuracy": round(sum(right) / len(right), 6) if right else None,
        "interval": [round(low, 6), round(high, 6)],
    }


def accepted(taken: Sequence[Result], numbers: Sequence[Result], max_error: float, threshold: float) -> dict[str, Any]:
    """Count which share of `numbers` is `taken`, and what of that is wrong. A threshold above 1 takes nothing."""
    wrong = sum(not result.right for result in taken)
    return {
        "max_error": max_error,
        "threshold": threshold if threshold <= 1 else None,
        "size": len(taken),
        "share": round(len(taken) / len(numbers), 6) if numbers else None,
        "wrong": wrong,
        "error": round(wrong / len(taken), 6) if taken else None,
    }


def sure(numbers: Sequence[Result], threshold: float) -> list[Result]:
    """Pick the values whose confidence reaches a threshold."""
    return [result for result in numbers if result.reading.value and result.reading.confidence >= threshold]


def coverage(numbers: Sequence[Result]) -> list[tuple[float, float]]:
    """The share of errors among the surest 5%, 10%, … 100% of all values."""
    ranked = sorted(numbers, key=lambda result: -result.reading.confidence)
    points = []
    for percent in range(5, 101, 5):
        count = round(len(ranked) * percent / 100)
        if count:
            wrong = sum(not result.right for result in ranked[:count])
            points.append((percent / 100, round(wrong / count, 6)))
    return points


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
    head = f"{'source':<16}{'crops':>7}{'right':>7}{'accuracy':>10}   {'95% interval':<17}"
    lines = [f"{head}reference" if reference else head.rstrip()]
    groups = dict(summary["by_source"]) if len(summary["by_source"]) > 1 else {}
    for name, part in [*groups.items(), ("all", summary["numbers"])]:
        low, high = part["interval"]
        line = f"{name:<16}{part['size']:>7}{part['right']:>7}{_percent(part['accuracy']):>10}"
        line += f"   {low:.1%} to {high:.1%}"
        if reference:
            other = reference["numbers"] if name == "all" else reference["by_source"][name]
            line = f"{line:<60}{_percent(other['accuracy']):>9}"
        lines.append(line)
    lines += ["", f"{'max_error':<16}{'from':>9}{'accepted':>10}{'wrong':>7}{'error':>9}"]
    for row in [*summary["promises"], None, summary["accepted"]]:
        if row is None:
            lines.append("as configured:")
            continue
        start = f"{row['threshold']:.5f}" if row["threshold"] is not None else "never"
        lines.append(
            f"{_percent(row['max_error']):<16}{start:>9}{_percent(row['share']):>10}{row['wrong']:>7}"
            f"{_percent(row['error']):>9}"
        )
    for name, what in (("status", "numbers"), ("blank", "blank crops"), ("not_digits", "no digits")):
        if summary[name]:
            counts = ", ".join(f"{count:,} {status}" for status, count in summary[name].items())
            lines += ["", f"{what}: {counts}"] if name == "status" else [f"{what}: {counts}"]
    return "\n".join(lines)


def write(out: Path, folder: Path, results: Sequence[Result], summary: dict[str, Any], limits: Limits) -> None:
    """Write report.json, misses.csv and the pictures into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    counts, rows, columns = confusion(results)
    full = summary | {"confusion": {"rows": rows, "columns": columns, "counts": counts.tolist()}}
    (out / "report.json").write_text(json.dumps(full, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    # The surest first: those are the ones that would slip through.
    misses = sorted((result for result in results if not result.right), key=lambda r: -r.reading.confidence)
    with (out / "misses.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "value", "source", "read", "status", "confidence", "reason", "alternative"])
        for result in misses:
            crop, reading = result.crop, result.reading
            said = (reading.value, reading.status, f"{reading.confidence:.4f}", reading.reason, reading.alternative)
            writer.writerow([*asdict(crop).values(), *said])
    title = "Crops and what they were read as"
    plots.save(plots.confusion(counts, rows, columns, title), out / "confusion.png")
    plots.save(plots.coverage(summary["coverage"], summary["accepted"]), out / "coverage.png")
    shown = misses[:SHOWN]
    captions = [
        (
            f"{result.crop.value or 'blank'} read as {result.reading.value or result.reading.status}\n"
            f"{result.reading.status}, {result.reading.confidence:.1%}",
            plots.RED if result.reading.status == "accepted" else plots.INK,
        )
        for result in shown
    ]
    title = f"The surest {len(shown)} of {len(misses):,} misses: the crop, and what the network saw (red: accepted)"
    pictures = [picture(folder / result.crop.file, limits) for result in shown]
    plots.save(plots.gallery(pictures, captions, title, columns=5), out / "misses.png")


def picture(path: Path, limits: Limits) -> NDArray[np.uint8]:
    """Show a crop beside its ink as the network saw it: (CELL, 2 CELL, 3), dark on white."""
    canvas = np.full((CELL, 2 * CELL + 8, 3), 255, np.uint8)
    data, _, _ = read_whole(os.fspath(path), limits.bytes)
    page = None if isinstance(data, Fault) else next(decode(data, limits), None)
    if page is None or isinstance(page, Fault):
        return canvas
    scale = CELL / max(page.shape[:2])
    height, width = (max(1, round(side * scale)) for side in page.shape[:2])
    small = cv2.resize(page, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (CELL - height) // 2, (CELL - width) // 2
    canvas[top : top + height, left : left + width] = small if small.ndim == 3 else small[..., np.newaxis]
    ink = normalise(page)
    if ink is not None:
        seen = 255 - np.rint(ink.image * 255).astype(np.uint8)
        canvas[:, -CELL:] = cv2.resize(seen, (CELL, CELL), interpolation=cv2.INTER_NEAREST)[..., np.newaxis]
    return canvas


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
