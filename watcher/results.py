"""What pages say, in rows, and the three files that hold them: results.csv, results.json and datapackage.json."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from watcher.names import escape, unescape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from watcher.calibration import Kind
    from watcher.plane import Box

Status = Literal["accepted", "review", "blank", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)

CERTAIN = 0.9999  # the highest confidence that is ever written: rounding up to 1 would promise too much
THUMBNAILS = "thumbnails"  # their folder in a delivery
ISO_8601 = "%Y-%m-%dT%H:%M:%SZ"
URGENCY: tuple[Status, ...] = ("failed", "review", "blank", "accepted")


@dataclass(frozen=True, slots=True)
class Digit:
    """One digit of a value: what it is, how sure, where it stands, and what else it might be."""

    value: str
    confidence: float
    box: Box
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a page says: the row's judgement, with its digits from left to right."""

    status: Status
    value: str = ""
    confidence: float = 0.0
    digits: tuple[Digit, ...] = ()
    reason: str = ""
    alternative: str = ""
    kind: Kind = "digit"  # by which calibration it was judged
    score: float | None = None  # raw, as that calibration takes it; None: not to be accepted, whatever the score
    likely: float = 0.0  # the network's own probability of the value, which no calibration changes


def blank() -> Reading:
    """The reading of a page with nothing written on it."""
    return Reading("blank")


def failed(reason: str) -> Reading:
    """The reading of a scan that could not be read, by its short code."""
    return Reading("failed", reason=reason)


@dataclass(frozen=True, slots=True)
class Row:
    """What was read from one page of one scan, before it belongs to a delivery."""

    name: str  # the scan's path under the inbox, as the file system has it (surrogate-escaped)
    page: int  # from 1
    reading: Reading
    sha256: str = ""
    stamp: tuple[int, int] = (0, 0)  # size and date (ns) of the file that was read
    width: int = 0
    height: int = 0
    thumbnail: str = ""  # path in the folder of the pictures
    read_at: str = ""
    field: str = ""
    detail: str = ""  # what the decoder said of a scan that failed
    milliseconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tile: bytes = b""  # what the contact sheet shows of it: pixels


@dataclass(frozen=True, slots=True)
class Delivery:
    """What holds for all rows of one delivery."""

    batch: str
    model: str
    received_at: str
    settings: Mapping[str, Any]
    pictures: str = THUMBNAILS  # the folder of the thumbnails, as who reads the rows has to name it


# Column, Table Schema type, further keys, meaning. The one place that says what results.csv holds.
COLUMNS: tuple[tuple[str, str, Mapping[str, Any], str], ...] = (
    ("batch", "string", {"required": True}, "the delivery, also the name of its folder"),
    (
        "file",
        "string",
        {"required": True},
        "path under the inbox; odd characters as \\xhh or \\uhhhh, a backslash as \\\\",
    ),
    ("page", "integer", {"required": True, "minimum": 1}, "page of the scan, from 1"),
    ("field", "string", {}, "name of the field rule that the path matches"),
    (
        "status",
        "string",
        {"required": True, "enum": list(STATUSES)},
        "accepted: use it; review: a person should look; blank: nothing written; failed: not readable",
    ),
    (
        "value",
        "string",
        {"pattern": "[0-9]*"},
        "the digits, as text because leading zeros count; best guess in review",
    ),
    ("confidence", "number", {"minimum": 0, "maximum": 1}, "probability that the value is right"),
    (
        "digit_confidences",
        "string",
        {"pattern": "([01]\\.[0-9]+( [01]\\.[0-9]+)*)?"},
        "one for each digit, by spaces",
    ),
    ("reason", "string", {"pattern": "[a-z_]*(:.*)?"}, "why not accepted, a short code"),
    ("alternative", "string", {"pattern": "[0-9]*"}, "the next best value"),
    (
        "sha256",
        "string",
        {"pattern": "[0-9a-f]{64}"},
        "of the scan's bytes; empty where it was too large, or too slow, to be read",
    ),
    ("width", "integer", {"minimum": 0}, "of the page, in pixels; empty where it could not be decoded"),
    ("height", "integer", {"minimum": 0}, "of the page, in pixels; empty where it could not be decoded"),
    ("thumbnail", "string", {}, "annotated picture, path in the delivery"),
    ("model", "string", {"required": True}, "the network that read it"),
    ("received_at", "datetime", {"required": True}, "when the scan was taken from the inbox, UTC"),
    ("read_at", "datetime", {"required": True}, "when it was read, UTC"),
)


def doubtful_first(rows: Iterable[Row]) -> list[Row]:
    """Order rows for a person: failed, review from the least sure, blank, accepted from the least sure; by name."""
    return sorted(rows, key=lambda row: (URGENCY.index(row.reading.status), row.reading.confidence, row.name, row.page))


def to_csv(rows: Sequence[Row], delivery: Delivery) -> bytes:
    """results.csv: RFC 4180, UTF-8, a header and one line a row."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(name for name, *_ in COLUMNS)
    writer.writerows([_text(cell) for cell in cells(row, delivery).values()] for row in rows)
    return text.getvalue().encode()


def to_json(rows: Sequence[Row], delivery: Delivery) -> bytes:
    """results.json: the same rows in full, with the model and the settings in force."""
    document = {
        "batch": delivery.batch,
        "model": delivery.model,
        "received_at": delivery.received_at,
        "settings": delivery.settings,
        "counts": dict(Counter(row.reading.status for row in rows)),
    }
    head = json.dumps(document, ensure_ascii=False, indent=1).removesuffix("\n}")
    # One line a row: indented, json takes twenty times as long.
    lines = ",\n  ".join(json.dumps(_in_full(row, delivery), ensure_ascii=False) for row in rows)
    # A folder in the settings may have a name that is not UTF-8; it is there for people, a ? will do.
    return f'{head},\n "rows": [\n  {lines}\n ]\n}}\n'.encode(errors="replace")


def from_json(data: bytes) -> list[Row]:
    """The rows of a results.json, with what there is to say of them: name, page, status, reason and detail."""
    return [
        Row(
            unescape(row["file"]),
            row["page"],
            Reading(row["status"], reason=row["reason"]),
            detail=unescape(row["detail"]),
        )
        for row in json.loads(data)["rows"]
    ]


def _in_full(row: Row, delivery: Delivery) -> dict[str, Any]:
    """A row for results.json: its columns and what they leave out."""
    return cells(row, delivery) | {
        "digits": [
            {
                "value": digit.value,
                "confidence": round(digit.confidence, 6),
                "box": digit.box,
                "alternatives": [[value, round(p, 6)] for value, p in digit.alternatives],
            }
            for digit in row.reading.digits
        ],
        "detail": escape(row.detail),
        "milliseconds": {step: round(ms, 3) for step, ms in row.milliseconds.items()},
    }


def to_datapackage(batch: str) -> bytes:
    """datapackage.json: a Frictionless Table Schema of results.csv."""
    fields = [
        {"name": name, "type": kind, "description": meaning, **({"constraints": dict(more)} if more else {})}
        for name, kind, more, meaning in COLUMNS
    ]
    document = {
        "profile": "tabular-data-package",
        "name": f"digitdrop-{batch.lower()}",
        "resources": [
            {
                "profile": "tabular-data-resource",
                "name": "results",
                "path": "results.csv",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "schema": {"fields": fields, "missingValues": [""], "primaryKey": ["file", "page"]},
            }
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def cells(row: Row, delivery: Delivery) -> dict[str, str | int | float | None]:
    """A row by column; None where there is nothing to say."""
    reading = row.reading
    read = reading.status in {"accepted", "review"} and bool(reading.digits)
    values = (
        delivery.batch,
        escape(row.name),
        row.page,
        row.field,
        reading.status,
        reading.value,
        min(round(reading.confidence, 6), CERTAIN) if read else None,
        " ".join(f"{min(digit.confidence, CERTAIN):.4f}" for digit in reading.digits),
        reading.reason,
        reading.alternative,
        row.sha256,
        row.width or None,
        row.height or None,
        row.thumbnail and f"{delivery.pictures}/{row.thumbnail}",
        delivery.model,
        delivery.received_at,
        row.read_at,
    )
    return dict(zip((name for name, *_ in COLUMNS), values, strict=True))


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).strftime(ISO_8601)


def _text(cell: str | int | float | None) -> str:
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
