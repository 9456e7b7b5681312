"""Rows become files that a downstream job can trust, whatever a scan is called."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from test_names import NASTY

from watcher.names import thumbnail_name, unescape
from watcher.results import (
    COLUMNS,
    ISO_8601,
    Delivery,
    Digit,
    Reading,
    Row,
    blank,
    doubtful_first,
    failed,
    now,
    to_csv,
    to_datapackage,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# The contract with whoever reads the CSV.
ORDER = [
    *("batch", "file", "page", "field", "status", "value", "confidence", "digit_confidences", "reason"),
    *("alternative", "sha256", "width", "height", "thumbnail", "model", "received_at", "read_at"),
]


DELIVERY = Delivery("20261122T153255Z-000123-7f3a", "compact-0123abcd", "2026-11-22T15:32:55Z", {"settle": 2.0})


def row(name: bytes = b"a.png", **more: Any) -> Row:
    """An accepted row of 007, as the pipeline makes it."""
    digits = tuple(Digit(value, 0.999, (1, 2, 3, 4), (("1", 0.0005), ("9", 0.0003))) for value in "007")
    values: dict[str, Any] = {
        "name": os.fsdecode(name),
        "page": 1,
        "reading": Reading("accepted", "007", 0.99712345, digits, "", "001"),
        "sha256": "0123456789abcdef" * 4,
        "stamp": (5, 6),
        "width": 140,
        "height": 160,
        "thumbnail": thumbnail_name(os.fsdecode(name), 1),
        "read_at": "2026-11-22T15:32:56Z",
        "milliseconds": {"decode": 0.2514},
    }
    return Row(**values | more)


def rows() -> list[Row]:
    """One row of each status, under each nasty name."""
    review = Reading("review", "7", 0.51, (Digit("7", 0.51, (0, 0, 9, 9)),), "low_confidence", "1")
    found = [row(name) for name in NASTY]
    found += [row(b"r.png", reading=review), row(b"b.tif", page=2, reading=blank())]
    found += [
        row(b"f.png", reading=failed(reason), width=0, height=0, thumbnail="", detail="=what\n\udcff\x1b[31m it said")
        for reason in ("truncated", "too_large", "unsupported", "rule:zip")
    ]
    return found


def parsed(data: bytes) -> list[dict[str, str]]:
    """A CSV's rows by column."""
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))


# results.csv


def test_columns_are_the_contract() -> None:
    """The columns are those that were promised, in that order."""
    assert [name for name, *_ in COLUMNS] == ORDER
    assert to_csv([], DELIVERY).decode() == ",".join(ORDER) + "\r\n"


def test_csv_holds_the_rows() -> None:
    """A CSV reader gets each row back, each under its columns, with each name as it was."""
    given = rows()
    found = parsed(to_csv(given, DELIVERY))
    assert [os.fsencode(unescape(line["file"])) for line in found] == [os.fsencode(row.name) for row in given]
    assert all(list(line) == ORDER for line in found)
    assert all(None not in line.values() for line in found)
    assert [line["status"] for line in found] == [row.reading.status for row in given]


def test_csv_cells() -> None:
    """Each cell of an accepted row says what it should; leading zeros stay."""
    (line,) = parsed(to_csv([row(b"zips/a, b.png")], DELIVERY))
    assert line == {
        "batch": "20261122T153255Z-000123-7f3a",
        "file": "zips/a, b.png",
        "page": "1",
        "field": "",
        "status": "accepted",
        "value": "007",
        "confidence": "0.9971",
        "digit_confidences": "0.9990 0.9990 0.9990",
        "reason": "",
        "alternative": "001",
        "sha256": "0123456789abcdef" * 4,
        "width": "140",
        "height": "160",
        "thumbnail": "thumbnails/zips/a, b.png.png",
        "model": "compact-0123abcd",
        "received_at": "2026-11-22T15:32:55Z",
        "read_at": "2026-11-22T15:32:56Z",
    }


def test_nothing_to_say_is_empty() -> None:
    """A row without a value has no confidence, and one that was not decoded no size and no picture."""
    unread = Reading("review", reason="not_digits", kind="field")
    empty, broken, nothing = parsed(
        to_csv(
            [
                row(reading=blank()),
                row(reading=failed("truncated"), width=0, height=0, thumbnail=""),
                row(reading=unread),
            ],
            DELIVERY,
        )
    )
    for line in (empty, broken, nothing):
        assert (line["value"], line["confidence"], line["digit_confidences"], line["alternative"]) == ("", "", "", "")
    assert (empty["width"], empty["reason"]) == ("140", "")
    assert (broken["width"], broken["height"], broken["reason"]) == ("", "", "truncated")
    assert (empty["thumbnail"], broken["thumbnail"]) == ("thumbnails/a.png.png", "")
    assert nothing["reason"] == "not_digits"


def test_nothing_is_certain() -> None:
    """However sure a value and its digits are, no confidence is written as 1."""
    sure = Reading("accepted", "7", 0.99999999, (Digit("7", 1.0, (0, 0, 9, 9)),))
    (line,) = parsed(to_csv([row(reading=sure)], DELIVERY))
    assert (line["confidence"], line["digit_confidences"]) == ("0.9999", "0.9999")


def test_line_ends() -> None:
    """Lines end in CR LF, also the last one, and nowhere else does either stand."""
    data = to_csv(rows(), DELIVERY)
    assert data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r") == len(rows()) + 1
    assert data.endswith(b"\r\n")
    assert not data.startswith(b"\xef\xbb\xbf")


def test_no_formula() -> None:
    """No cell of text begins with what makes a spreadsheet run it."""
    for line in parsed(to_csv(rows(), DELIVERY)):
        assert not [cell for cell in line.values() if cell[:1] in {"=", "+", "-", "@", "\t", "\r"}]


# results.json


def test_json_holds_the_same() -> None:
    """results.json holds the rows of the CSV, in the same order and with the same keys, and counts them."""
    given = rows()
    document = json.loads(to_json(given, DELIVERY))
    lines = parsed(to_csv(given, DELIVERY))
    assert [row["file"] for row in document["rows"]] == [line["file"] for line in lines]
    for found, line in zip(document["rows"], lines, strict=True):
        assert list(found) == [*ORDER, "digits", "detail", "milliseconds"]
        same = [key for key in ORDER if key != "confidence"]
        assert ["" if found[key] is None else str(found[key]) for key in same] == [line[key] for key in same]
    assert document["counts"] == {"accepted": len(NASTY), "review": 1, "blank": 1, "failed": 4}
    assert (document["batch"], document["model"]) == (DELIVERY.batch, DELIVERY.model)
    assert document["settings"] == {"settle": 2.0}


def test_json_digits() -> None:
    """Each digit has its box and its runners-up; the value stays text."""
    (found,) = json.loads(to_json([row()], DELIVERY))["rows"]
    assert found["value"] == "007"
    assert found["confidence"] == 0.997123
    assert found["milliseconds"] == {"decode": 0.251}
    assert found["digits"][2] == {
        "value": "7",
        "confidence": 0.999,
        "box": [1, 2, 3, 4],
        "alternatives": [["1", 0.0005], ["9", 0.0003]],
    }


def test_json_is_plain_utf_8() -> None:
    """No half of a surrogate pair and no raw control character stands in the JSON, escaped or not."""
    text = to_json(rows(), DELIVERY).decode("utf-8")
    assert not re.search(r"\\ud[89a-f]", text)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_json_of_odd_folders() -> None:
    """Folders whose names are not UTF-8 do not keep a delivery from being written."""
    settings = {"inbox": os.fsdecode(b"/srv/\xff/in")}
    document = json.loads(to_json([row()], Delivery("b", "m", "2026-11-22T15:32:55Z", settings)).decode("utf-8"))
    assert document["settings"] == {"inbox": "/srv/?/in"}


# datapackage.json


def wrong_cells(schema: dict[str, Any], data: bytes) -> list[tuple[str, str]]:
    """The cells of a CSV that a Frictionless Table Schema forbids, by column."""
    kinds: dict[str, Callable[[str], Any]] = {
        "string": str,
        "integer": int,
        "number": float,
        "datetime": lambda cell: datetime.strptime(cell, ISO_8601).replace(tzinfo=UTC),
    }
    lines = parsed(data)
    found = []
    for field in schema["fields"]:
        limits = field.get("constraints", {})
        for cell in (line[field["name"]] for line in lines):
            if cell in schema["missingValues"]:
                if limits.get("required"):
                    found.append((field["name"], cell))
                continue
            try:
                value = kinds[field["type"]](cell)
            except ValueError:
                found.append((field["name"], cell))
                continue
            fits = (
                ("pattern" not in limits or re.fullmatch(limits["pattern"], cell))
                and ("enum" not in limits or value in limits["enum"])
                and ("minimum" not in limits or value >= limits["minimum"])
                and ("maximum" not in limits or value <= limits["maximum"])
            )
            if not fits:
                found.append((field["name"], cell))
    return found


def schema_of(batch: str) -> dict[str, Any]:
    """The schema in a delivery's datapackage.json."""
    (resource,) = json.loads(to_datapackage(batch))["resources"]
    assert resource["path"] == "results.csv"
    found: dict[str, Any] = resource["schema"]
    return found


def test_schema_describes_the_csv() -> None:
    """The schema names the columns in their order, explains each, and allows each cell that we write."""
    schema = schema_of(DELIVERY.batch)
    assert [field["name"] for field in schema["fields"]] == ORDER
    assert all(field["description"] for field in schema["fields"])
    assert wrong_cells(schema, to_csv(rows(), DELIVERY)) == []


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("file", ""),
        ("page", "0"),
        ("page", "one"),
        ("status", "maybe"),
        ("value", "12a"),
        ("confidence", "1.5"),
        ("digit_confidences", "0.9,0.8"),
        ("sha256", "0123"),
        ("read_at", "22.11.2026"),
        ("model", ""),
    ],
)
def test_schema_forbids(column: str, cell: str) -> None:
    """The schema would notice a cell that is none of ours."""
    line = parsed(to_csv([row()], DELIVERY))[0] | {column: cell}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ORDER)
    writer.writeheader()
    writer.writerow(line)
    assert wrong_cells(schema_of(DELIVERY.batch), text.getvalue().encode()) == [(column, cell)]


def test_schema_key() -> None:
    """File and page together tell a row from all others, and are always there."""
    schema = schema_of(DELIVERY.batch)
    assert schema["primaryKey"] == ["file", "page"]
    assert {field["name"] for field in schema["fields"] if field.get("constraints", {}).get("required")} >= {
        "file",
        "page",
        "status",
    }


def test_package_name() -> None:
    """The package's name is one that the standard allows: small letters, digits and few marks."""
    assert re.fullmatch("[-a-z0-9._/]+", json.loads(to_datapackage(DELIVERY.batch))["name"])


# Thumbnails' names


def test_now() -> None:
    """Times are UTC to the second, as ISO 8601 writes them, and sort as text."""
    before, told, after = datetime.now(UTC).replace(microsecond=0), now(), datetime.now(UTC)
    assert before <= datetime.strptime(told, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) <= after


def test_doubtful_first() -> None:
    """Failed, then review from the least sure, then blank, then accepted from the least sure; ties by name."""
    readings = {
        "a": Reading("accepted", confidence=0.99),
        "b": Reading("accepted", confidence=0.98),
        "c": Reading("blank"),
        "d": Reading("review", confidence=0.8),
        "g": Reading("failed"),
        "e": Reading("failed"),
        "f": Reading("review", confidence=0.3),
    }
    ordered = doubtful_first(Row(name, 1, reading) for name, reading in readings.items())
    assert "".join(row.name for row in ordered) == "egfdcba"
