"""Whole fields through the pipeline that serves, with the model that ships."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from test_pipeline import MODEL, SETTINGS, STROKES, digit, dropped, paper, picture, png, reader_with

from watcher.calibration import Calibration
from watcher.fields import Rule
from watcher.line import normalise_line
from watcher.model import read_card
from watcher.normalise import Ink, normalise
from watcher.pipeline import Reader
from watcher.reading import is_alone, of_two
from watcher.results import Delivery, Digit, Reading, to_csv, to_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from watcher.calibration import Kind
    from watcher.plane import Box


def field(value: str, pitch: int = 84) -> NDArray[np.uint8]:
    """A crop of some digits, and slashes, side by side, in pen on paper."""
    page = paper(60 + pitch * len(value))
    for index, figure in enumerate(value):
        if figure == "/":
            cv2.line(page, (36 + pitch * index, 123), (74 + pitch * index, 8), 40, 7, cv2.LINE_AA)
            continue
        points = np.array([(34 + pitch * index + 70 * x, 25 + 80 * y) for x, y in STROKES[figure]])
        cv2.polylines(page, [np.round(points * 16).astype(np.int32)], False, 40, 7, cv2.LINE_AA, 4)
    return page


@pytest.fixture(scope="module")
def reader() -> Reader:
    """A reader with the default settings and the model that ships."""
    return Reader(SETTINGS)


def with_rule(**what: Any) -> Reader:
    """A reader that has a rule for every file."""
    return reader_with(fields=(Rule.model_validate({"name": "it", "files": "*"} | what),))


@pytest.mark.parametrize("value", ["23", "7213", "3317", "27323"])
def test_a_field_is_read(reader: Reader, tmp_path: Path, value: str) -> None:
    """The digits of a field are read from left to right, each with its box around it."""
    (row,) = reader.read(dropped(tmp_path, a_png=png(field(value))), None)
    reading = row.reading
    assert reading.value == value
    assert reading.kind == "field"
    assert "".join(one.value for one in reading.digits) == value
    for index, one in enumerate(reading.digits):
        x, y, width, height = one.box
        assert x == pytest.approx(34 + 84 * index, abs=24)
        assert y == pytest.approx(25, abs=12)
        assert height == pytest.approx(80, abs=16)
        assert 5 <= width <= 80
        assert 0 < one.confidence <= 1
        assert one.value not in [other for other, _ in one.alternatives]


@pytest.mark.parametrize("height", [165, 190, 230])
@pytest.mark.parametrize("value", ["21", "71", "31", "11", "12"])
def test_a_number_on_a_square_page_is_not_one_digit(reader: Reader, tmp_path: Path, value: str, height: int) -> None:
    """A slim 1 at its side does not make the other digit one that stands alone."""
    written = field(value, pitch=70)
    page = np.pad(written, ((height - len(written), 0), (0, 0)), mode="edge")
    (row,) = reader.read(dropped(tmp_path, a_png=png(page)), None)
    assert row.reading.value == value or (row.reading.status == "review" and row.reading.confidence <= 0.5)


@pytest.mark.parametrize("width", [800, 1600, 3000])
@pytest.mark.parametrize("value", ["23", "7213"])
def test_a_field_on_a_page_that_is_mostly_empty(reader: Reader, tmp_path: Path, value: str, width: int) -> None:
    """It is not taken for one of its digits, nor for nothing."""
    page = np.full((130, width), 232, np.uint8)
    written = field(value)
    page[:, width // 3 : width // 3 + written.shape[1]] = written
    (row,) = reader.read(dropped(tmp_path, a_png=png(page)), None)
    assert (row.reading.value, row.reading.kind) == (value, "field")


def small(value: str, tall: int, pen: int, size: tuple[int, int], at: float) -> NDArray[np.uint8]:
    """A digit of some height on paper of (height, width), at half its height and a share of its width."""
    height, width = size
    page = np.full(size, 232, np.uint8)
    points = np.array([(width * at + 0.9 * tall * x, (height - tall) / 2 + tall * y) for x, y in STROKES[value]])
    cv2.polylines(page, [np.round(points * 16).astype(np.int32)], False, 40, pen, cv2.LINE_AA, 4)
    return page


@pytest.mark.parametrize(
    ("page", "found", "value"),
    [
        (small("2", 30, 6, (100, 1600), 0.6), (False, True), "2"),
        (np.maximum(small("7", 70, 9, (100, 300), 0.4), 224), (True, False), "7"),
    ],
    ids=["too small for the one", "too faint for the other"],
)
def test_what_one_alone_finds_on_a_wide_page_is_for_review(
    reader: Reader, tmp_path: Path, page: NDArray[np.uint8], found: tuple[bool, bool], value: str
) -> None:
    """Where the digit or the line is found alone, the page is neither blank nor accepted."""
    assert (normalise(page) is not None, normalise_line(page) is not None) == found
    (row,) = reader.read(dropped(tmp_path, a_png=png(page)), None)
    assert (row.reading.status, row.reading.value, row.reading.reason) == ("review", value, "low_confidence")


@pytest.mark.parametrize(
    ("value", "page"),
    [
        ("1", small("1", 40, 3, (120, 600), 0.85)),  # of less ink there is no digit
        ("1", small("1", 48, 3, (120, 1200), 0.85)),
        ("2", small("2", 40, 3, (120, 2400), 0.85)),
        ("2", small("2", 60, 4, (800, 600), 0.85)),  # an upright page is not only looked at for a digit
        ("7", small("7", 80, 5, (900, 800), 0.85)),
    ],
)
def test_a_small_digit_is_no_blank(reader: Reader, tmp_path: Path, value: str, page: NDArray[np.uint8]) -> None:
    """Somewhere on much paper a digit is found, and for review."""
    (row,) = reader.read(dropped(tmp_path, a_png=png(page)), None)
    assert (row.reading.status, row.reading.value, row.reading.kind) == ("review", value, "field")


@pytest.mark.parametrize("written", ["27/13", "23/12/27", "31/7/21", "12/3"])
def test_a_slash_is_no_digit(reader: Reader, tmp_path: Path, written: str) -> None:
    """What stands between day, month and year, higher and lower than they, is no 1."""
    (row,) = reader.read(dropped(tmp_path, a_png=png(field(written))), None)
    assert row.reading.value == written.replace("/", "")


@pytest.mark.parametrize("gap", [150, 220])
def test_a_date_that_nobody_filled_in(reader: Reader, tmp_path: Path, gap: int) -> None:
    """Two printed slashes alone look like two ones: that is for a person to see."""
    page = np.full((120, 2 * gap + 120), 245, np.uint8)
    for x in (gap, 2 * gap):
        cv2.line(page, (x - 22, 92), (x + 22, 28), 60, 3, cv2.LINE_AA)
    (row,) = reader.read(dropped(tmp_path, a_png=png(page)), None)
    assert row.reading.status == "review"


@pytest.mark.parametrize("value", ["23", "7213", "27323"])
@pytest.mark.parametrize(("height", "struck"), [(58, True), (66, True), (74, True), (112, False)])
def test_a_number_that_was_struck_out(reader: Reader, tmp_path: Path, value: str, height: int, struck: bool) -> None:
    """A line through the middle of the digits, a little skew or not, may cancel them; one below is the form's."""
    page = field(value)
    cv2.line(page, (24, height - 3), (page.shape[1] - 24, height + 3), 40, 5, cv2.LINE_AA)
    (row,) = reader.read(dropped(tmp_path, a_png=png(page)), None)
    assert (row.reading.reason == "struck_out") == struck
    assert (row.reading.status == "review") >= struck


def comb(cells: int, tilt: float = 0.0) -> NDArray[np.uint8]:
    """A crop of printed cells side by side."""
    page = paper(60 + 70 * cells, 130)
    walls = [[(30, 25), (30 + 70 * cells, 25)], [(30, 105), (30 + 70 * cells, 105)]]
    walls += [[(30 + 70 * cell, 25), (30 + 70 * cell, 105)] for cell in range(cells + 1)]
    turn = cv2.getRotationMatrix2D((page.shape[1] / 2, 65), tilt, 1)
    for wall in walls:
        ends = np.round(cv2.transform(np.array([wall], np.float32), turn)[0]).astype(int).tolist()
        cv2.line(page, ends[0], ends[1], 70, 3, cv2.LINE_AA)
    return page


@pytest.mark.parametrize("tilt", [0.0, -2.5, 3.0])
@pytest.mark.parametrize("cells", [3, 6, 9])
def test_cells_that_nobody_wrote_in(reader: Reader, tmp_path: Path, cells: int, tilt: float) -> None:
    """An unused comb is blank, for whatever cells it has and however it lies."""
    (row,) = reader.read(dropped(tmp_path, a_png=png(comb(cells, tilt))), None)
    assert (row.reading.status, row.reading.value) == ("blank", "")


@pytest.mark.parametrize("ink", [40, 150, 215])
@pytest.mark.parametrize("cell", [0, 2, 5])
def test_one_digit_in_cells_is_no_blank(reader: Reader, tmp_path: Path, cell: int, ink: int) -> None:
    """However faint beside the walls, and wherever it stands: what is written there is never passed over."""
    page = comb(6)
    points = np.array([(44 + 70 * cell + 44 * x, 38 + 54 * y) for x, y in STROKES["7"]])
    cv2.polylines(page, [np.round(points * 16).astype(np.int32)], False, ink, 4, cv2.LINE_AA, 4)
    (row,) = reader.read(dropped(tmp_path, a_png=png(page)), None)
    assert row.reading.status in {"accepted", "review"}


def test_a_number_of_one_digit_is_a_digit(reader: Reader, tmp_path: Path) -> None:
    """The program finds out that a crop holds one digit."""
    (row,) = reader.read(dropped(tmp_path, a_png=png(field("7"))), None)
    assert (row.reading.value, row.reading.kind) == ("7", "digit")


def test_a_length_of_one_makes_it_a_digit(tmp_path: Path) -> None:
    """Where a rule says so the value has one, and where there are more it is for review."""
    reader = with_rule(length=1)
    (row,) = reader.read(dropped(tmp_path, a_png=png(digit("3"))), None)
    assert (row.reading.status, row.reading.value) == ("accepted", "3")
    for written in ("73", "27", "31", "7213"):
        (row,) = reader.read(dropped(tmp_path, a_png=png(field(written))), None)
        assert (row.reading.kind, row.reading.status, row.reading.reason) == ("digit", "review", "wrong_length")
        assert len(row.reading.value) == 1
        assert row.reading.alternative == written


def test_a_rule_that_fits_changes_nothing(reader: Reader, tmp_path: Path) -> None:
    """A value that fits its rule is judged as without one, and its row names the rule."""
    jobs = dropped(tmp_path, a_png=png(field("7213")))
    (without,), (row,) = reader.read(jobs, None), with_rule(length=4, range=[7000, 7999]).read(jobs, None)
    assert row.reading == without.reading
    assert (without.field, row.field) == ("", "it")


def test_a_value_that_a_rule_changed_is_for_review(tmp_path: Path) -> None:
    """Even where anything is accepted, what breaks its rule is not, and the row tells what was read."""
    anything = SETTINGS.accept.model_copy(update={"max_error": 0.5})
    for what in ({"length": 3}, {"range": [0, 6999]}, {"length": 4, "check": "luhn"}):
        rule = Rule.model_validate({"name": "it", "files": "*"} | what)
        reader = reader_with(fields=(rule,), accept=anything)
        (row,) = reader.read(dropped(tmp_path, a_png=png(field("7213"))), None)
        assert row.reading.status == "review"
        assert row.reading.score is None
        assert row.reading.reason in {"rule:it", "wrong_length"}
        if row.reading.value != "7213":
            assert row.reading.alternative == "7213"
            assert rule.broken(row.reading.value) == ""


def test_rows_and_pictures_of_a_field(tmp_path: Path) -> None:
    """The CSV has a confidence for each digit, the JSON a box too, and the thumbnail shows the line."""
    reader = with_rule(length=4)
    rows = reader.read(dropped(tmp_path, a_png=png(field("7213"))), tmp_path)
    delivery = Delivery("", "model", "", {})
    (line,) = csv.DictReader(io.StringIO(to_csv(rows, delivery).decode()))
    assert (line["field"], line["value"]) == ("it", "7213")
    assert len(line["digit_confidences"].split()) == 4
    digits = json.loads(to_json(rows, delivery))["rows"][0]["digits"]
    assert [digit["value"] for digit in digits] == ["7", "2", "1", "3"]
    assert all(len(digit["box"]) == 4 and len(digit["alternatives"]) == 3 for digit in digits)
    assert picture(tmp_path / rows[0].thumbnail).shape == (180, 360, 3)


def test_a_reading_does_not_depend_on_the_batch(reader: Reader, tmp_path: Path) -> None:
    """A field reads the same alone and among others, to the last bit."""
    scans = {f"{index}_png": png(field(value)) for index, value in enumerate(["23", "7213", "23721123", "7"])}
    jobs = dropped(tmp_path, **scans)
    together = [row.reading for row in reader.read(jobs, None)]
    assert [reader.read([job], None)[0].reading for job in jobs] == together


def test_shipped_calibration_of_fields() -> None:
    """What ships knows what its readings of fields are worth."""
    calibration = read_card(MODEL).calibration("field")
    assert isinstance(calibration, Calibration)
    assert calibration.probability(6.0) > calibration.probability(0.0)


LEFT, RIGHT, CUT = (25, 10, 20, 80), (60, 10, 20, 80), (0, 10, 12, 80)  # boxes of digits


def found(value: str, confidence: float, kind: str = "field", *boxes: Box) -> Reading:
    """A reading with a box for some of its digits."""
    digits = tuple(
        Digit(digit, confidence, box) for digit, box in zip(value, boxes or ((10, 10, 60, 80),), strict=False)
    )
    as_what: Kind = "field" if kind == "field" else "digit"
    return Reading("accepted", value, confidence, digits, kind=as_what, score=5.0, likely=confidence)


@pytest.mark.parametrize(
    ("digit", "field", "shape", "value", "status"),
    [
        (found("7", 0.99, "digit"), found("7", 0.99), (100, 90), "7", "accepted"),
        (found("7", 0.99, "digit"), found("71", 0.01), (100, 90), "7", "accepted"),  # a neighbour peeks in
        (found("7", 0.99, "digit"), found("71", 0.95), (100, 90), "7", "review"),  # who knows
        (found("7", 0.5, "digit"), found("71", 0.95), (100, 90), "71", "accepted"),
        (found("7", 0.99, "digit", (30, 10, 20, 80)), found("171", 0.8), (100, 110), "171", "accepted"),
        (found("7", 0.99, "digit", LEFT), found("71", 0.9, "field", LEFT, RIGHT), (140, 100), "71", "accepted"),
        (found("7", 0.99, "digit", RIGHT), found("17", 0.9, "field", CUT, RIGHT), (100, 110), "17", "review"),
        (found("7", 0.99, "digit", (30, 10, 20, 80)), found("171", 0.01), (100, 110), "7", "review"),
        (found("1", 0.85, "digit", LEFT), found("11", 0.63, "field", (2, 10, 9, 80), LEFT), (140, 90), "1", "review"),
        (found("2", 0.05, "digit"), found("423", 0.4), (100, 90), "423", "review"),  # hardly one, and perhaps several
        (found("7", 0.99, "digit"), found("71", 0.4), (100, 200), "71", "accepted"),  # too wide for one
        (found("8", 0.3, "digit"), found("7", 0.9), (100, 300), "7", "accepted"),  # boxes, all but one of them empty
        (found("5", 0.99, "digit"), found("4", 0.9), (100, 200), "5", "review"),  # the two do not agree
        (found("7", 0.99, "digit"), found("7", 0.99), (100, 300), "7", "accepted"),
        (found("7", 0.99, "digit"), found("7", 0.4), (100, 300), "7", "review"),
        (
            found("7", 0.99, "digit"),
            Reading("review", kind="field"),
            (100, 300),
            "7",
            "review",
        ),  # what is left of boxes
    ],
)
def test_a_digit_or_a_field(digit: Reading, field: Reading, shape: tuple[int, int], value: str, status: str) -> None:
    """Which of two readings holds depends on how sure they are and on the shape of the page."""
    reading = of_two(digit, field, shape)
    assert (reading.value, reading.status) == (value, status)
    assert (reading.score is None) == (status == "review")  # or a calibration would count it as accepted


def test_what_two_networks_are_sure_of_is_sure_to_neither() -> None:
    """A digit that may be several, or the other way round, has the confidence that the other reading leaves it."""
    reading = of_two(found("7", 0.99, "digit"), found("71", 0.66), (100, 90))
    assert (reading.value, reading.alternative) == ("7", "71")
    assert reading.confidence == reading.digits[0].confidence == pytest.approx(0.99 * 0.6)


def test_no_calibration_changes_what_is_counted(tmp_path: Path) -> None:
    """Whatever the thresholds and maps, the same values are there to be judged, by the same scores."""
    pages = [
        np.pad(field(value), ((0, 0), (0, pad)), mode="edge") for value in ("7", "73", "1", "3") for pad in (0, 90)
    ]
    jobs = dropped(tmp_path, **{f"{index}_png": png(page) for index, page in enumerate(pages)})
    counted = []
    for points in (((-5.0, 0.02), (3.0, 0.98)), ((2.0, 0.02), (30.0, 0.98))):
        reader = reader_with()
        judge = replace(reader.card.digit, map=points)
        reader.card = replace(reader.card, digit=judge, field=judge)
        reader.threshold = reader.field_threshold = 0.5
        counted.append([(row.reading.value, row.reading.kind, row.reading.score) for row in reader.read(jobs, None)])
    assert counted[0] == counted[1]
    assert any(score is not None for _, _, score in counted[0])


@pytest.mark.parametrize(
    ("likely", "size", "beside", "alone"),
    [
        (0.999, (40, 80), False, True),
        (0.95, (40, 80), False, False),  # may be two that touch
        (0.999, (90, 80), False, False),  # as broad as two
        (0.999, (40, 80), True, False),
    ],
)
def test_a_digit_alone(likely: float, size: tuple[int, int], beside: bool, alone: bool) -> None:
    """No field is looked for where a sure digit of a digit's shape stands by itself."""
    box = (10, 10, size[0], size[1])
    ink = Ink(np.zeros((28, 28), np.float32), box, clipped=False, alone=not beside)
    assert is_alone(found("7", likely, "digit", box), ink) is alone
