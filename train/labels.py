"""Labelled crops: a folder of pictures with a `labels.csv` that says what each of them shows."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from watcher.errors import DigitdropError
from watcher.names import unescape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LABELS = "labels.csv"
NO_DIGITS = "-"  # the label of a crop with writing that is no number


class LabelError(DigitdropError):
    """The labels are missing, or name something that is not there."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A labelled crop. `value` is its digits, empty for a blank one, `-` for writing that is no number."""

    file: str
    value: str
    source: str = ""
    sha256: str = ""  # of its bytes

    @property
    def is_number(self) -> bool:
        """Whether there is a number to read."""
        return self.value.isascii() and self.value.isdigit()

    @property
    def group(self) -> str:
        """The source up to a colon: `wild:kitchen` and `wild:office` are both `wild`."""
        return self.source.partition(":")[0]


def read_labels(folder: Path) -> list[Crop]:
    """Read `labels.csv` of `folder`: columns file, value and, if there, source.

    Raises LabelError where that is no such table, or the labels make no sense.
    """
    path = folder / LABELS
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            header, rows = table.fieldnames or [], list(table)
    except UnicodeDecodeError as error:
        raise LabelError(f"{path} cannot be read ({error}); save it as UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise LabelError(f"{path} cannot be read ({error}); it should be a CSV with columns file,value.") from error
    if not rows or not {"file", "value"} <= set(header):
        hint = "; it is parted by semicolons: save it with commas" if any(";" in name for name in header) else ""
        raise LabelError(
            f"{path} should have a header with the columns file and value, and a line for each crop{hint}."
        )
    long = [row["file"] for row in rows if None in row]
    if long:
        raise LabelError(
            f"{path}: the line of {long[0]} has more cells than the header; a value is digits alone, without a comma."
        )
    short = [row["file"] for row in rows if row["file"] is None or row["value"] is None]
    if short:
        raise LabelError(f"{path}: the line of {short[0]} has no value; a blank crop's ends with a comma.")
    nameless = [number for number, row in enumerate(rows, start=1) if not row["file"].strip()]
    if nameless:
        raise LabelError(f"{path}: crop {nameless[0]} of {len(rows)} has no name in the column file; name it.")
    names = [row["file"] for row in rows]
    # As label-next.csv and deliveries have them, where there is none of that very name.
    files = [name if (folder / name).is_file() else unescape(name) for name in names]
    missing = [name for name, file in zip(names, files, strict=True) if not (folder / file).is_file()]
    if missing:
        raise LabelError(f"{path} names {len(missing)} files that are not in {folder}, the first is {missing[0]}.")
    crops = [
        Crop(file, row["value"].strip(), row.get("source") or "", _sha256(folder / file))
        for row, file in zip(rows, files, strict=True)
    ]
    _check_labels(path, crops)
    return crops


def distinct(crops: Sequence[Crop]) -> list[Crop]:
    """The crops without those that are copies of another one to the byte: they tell nothing that it does not tell."""
    first: dict[str, Crop] = {}
    for crop in crops:
        first.setdefault(crop.sha256, crop)
    return list(first.values())


def _check_labels(path: Path, crops: Sequence[Crop]) -> None:
    """Raise LabelError where the labels make no sense, in one line that names the first of them."""
    odd = [crop for crop in crops if crop.value and crop.value != NO_DIGITS and not crop.is_number]
    if odd:
        raise LabelError(
            f"{path}: {_names(odd)} no number; a value is digits alone, {NO_DIGITS!r} for writing that is no number, "
            "or empty for a blank crop."
        )
    names: set[str] = set()
    seen: dict[str, Crop] = {}
    for crop in crops:
        name = os.path.normpath(crop.file)
        if name in names:
            raise LabelError(f"{path}: {name} is there twice; name each crop once.")
        names.add(name)
        other = seen.setdefault(crop.sha256, crop)
        if other.value != crop.value:
            raise LabelError(
                f"{path}: {other.file} is {other.value!r} and {crop.file} is {crop.value!r}, but they are the same "
                "picture; correct one of them."
            )


def _names(odd: Sequence[Crop]) -> str:
    first = ", ".join(f"{crop.file} ({crop.value!r})" for crop in odd[:3])
    more = f" and {len(odd) - 3:,} more" if len(odd) > 3 else ""
    return f"{first}{more} {'is' if len(odd) == 1 else 'are'}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
