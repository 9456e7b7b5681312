"""One slice of scans, from files to rows and pictures, as the workers run it."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image

from watcher.config import Limits, Settings
from watcher.names import NAME_MAX, thumbnail_name
from watcher.pipeline import Reader, read_whole, write
from watcher.results import ISO_8601
from watcher.tasks import Fault, Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = Path(__file__).parent.parent / "model"
SETTINGS = Settings(model=MODEL)

STROKES: dict[str, list[tuple[float, float]]] = {
    "1": [(0.45, 0.0), (0.4, 0.5), (0.38, 1.0)],
    "2": [(0.05, 0.22), (0.2, 0.03), (0.5, 0.03), (0.62, 0.2), (0.5, 0.45), (0.05, 0.97), (0.68, 0.95)],
    "3": [(0.08, 0.1), (0.35, 0.0), (0.55, 0.2), (0.25, 0.45), (0.6, 0.68), (0.4, 0.98), (0.03, 0.9)],
    "7": [(0.02, 0.05), (0.65, 0.03), (0.3, 1.0)],
}
"""Digits in one stroke of the pen, in a box one high, x to the right and y down."""


def paper(width: int = 100, height: int = 130) -> NDArray[np.uint8]:
    """Grey paper with a little grain."""
    return np.random.default_rng(2).normal(232, 2, (height, width)).clip(0, 255).astype(np.uint8)


def digit(value: str) -> NDArray[np.uint8]:
    """A crop of one digit, in pen on paper."""
    page = paper()
    points = np.array([(24 + 70 * x, 25 + 80 * y) for x, y in STROKES[value]])
    cv2.polylines(page, [np.round(points * 16).astype(np.int32)], False, 40, 7, cv2.LINE_AA, 4)
    return page


def png(page: NDArray[np.uint8]) -> bytes:
    """A page as a PNG."""
    return cv2.imencode(".png", page)[1].tobytes()


def dropped(folder: Path, **scans: bytes) -> list[Job]:
    """Scans in a folder, as jobs; a keyword is the name, its first underscore the dot before the ending."""
    jobs = []
    for key, data in scans.items():
        name = key.replace("_", ".", 1)
        (folder / name).write_bytes(data)
        jobs.append(Job(str(folder / name), name))
    return jobs


@pytest.fixture(scope="module")
def reader() -> Reader:
    """A reader with the default settings and the model that ships."""
    return Reader(SETTINGS)


def reader_with(**settings: Any) -> Reader:
    """A reader with some settings of its own."""
    return Reader(SETTINGS.model_copy(update=settings))


def picture(path: Path) -> NDArray[np.uint8]:
    """A picture that must be one."""
    found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return np.asarray(found, np.uint8)


def files(folder: Path) -> set[str]:
    """All files under a folder, by relative path."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Reading a file


def test_read_whole(tmp_path: Path) -> None:
    """A file comes with its bytes, their SHA-256, and the size and date by which a later change is noticed."""
    path = tmp_path / "a.png"
    path.write_bytes(b"some bytes")
    os.utime(path, ns=(5, 1_234_567_890_123_456_789))
    data, sha256, stamp = read_whole(str(path), 10)
    assert data == b"some bytes"
    assert sha256 == hashlib.sha256(b"some bytes").hexdigest()
    assert stamp == (10, 1_234_567_890_123_456_789)


def test_read_whole_too_large(tmp_path: Path) -> None:
    """A file over the limit is not read at all, however large; the message names its size and the limit."""
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    data, sha256, stamp = read_whole(str(path), 9)
    assert data == Fault("too_large", f"{1 << 40} bytes, limits.bytes is 9")
    assert sha256 == ""
    assert stamp[0] == 1 << 40


def test_read_whole_empty(tmp_path: Path) -> None:
    """An empty file is read as what it is."""
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    assert read_whole(str(path), 0)[:2] == (b"", hashlib.sha256(b"").hexdigest())


def test_read_whole_of_any_name(tmp_path: Path) -> None:
    """A name that is no UTF-8 is no hindrance."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n=.png")
    Path(path).write_bytes(b"x")
    assert read_whole(path, 9)[0] == b"x"


def test_read_whole_missing(tmp_path: Path) -> None:
    """A file that is not there is the environment's fault, told by its path."""
    with pytest.raises(FileNotFoundError) as caught:
        read_whole(str(tmp_path / "a.png"), 9)
    assert caught.value.filename == str(tmp_path / "a.png")


def test_read_whole_of_a_bad_sector() -> None:
    """A file that the disk does not give is the environment's fault, told by its path."""
    # This one of the kernel's opens, and has nothing at its beginning.
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_whole("/proc/self/mem", 9)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/proc/self/mem")


@pytest.mark.parametrize("limit", [0, 10**6])
def test_read_whole_of_a_growing_file(limit: int) -> None:
    """A file that gives other bytes than its size says is not taken: somebody still writes it."""
    # This one of the kernel's says that it is empty and gives text, as a file does that grows while it is read.
    with pytest.raises(BlockingIOError) as caught:
        read_whole("/proc/self/status", limit)
    assert caught.value.errno == errno.EAGAIN
    assert caught.value.filename == "/proc/self/status"


# Reading scans


def test_reads_digits(reader: Reader, tmp_path: Path) -> None:
    """Digits drawn with a pen are read, in the order of the jobs, each boxed where it stands."""
    jobs = dropped(tmp_path, **{f"{value}_png": png(digit(value)) for value in STROKES})
    rows = reader.read(jobs[::-1], None)
    assert [row.name for row in rows] == [job.name for job in jobs[::-1]]
    assert [row.reading.value for row in rows] == list(STROKES)[::-1]
    for row in rows:
        assert row.reading.status in {"accepted", "review"}
        (found,) = row.reading.digits
        assert found.value == row.reading.value
        left, top, width, height = found.box
        assert 15 <= left < left + width <= 85
        assert abs(top - 22) <= 5
        assert abs(height - 87) <= 8


def test_row_tells_where_it_came_from(reader: Reader, tmp_path: Path) -> None:
    """A row holds the hash, stamp and size of its scan, when it was read and how long each step took."""
    data = png(digit("2"))
    (job,) = dropped(tmp_path, a_png=data)
    (row,) = reader.read([job], tmp_path / "out")
    status = (tmp_path / "a.png").stat()
    assert row.sha256 == hashlib.sha256(data).hexdigest()
    assert row.stamp == (len(data), status.st_mtime_ns)
    assert (row.width, row.height, row.page) == (100, 130, 1)
    assert datetime.strptime(row.read_at, ISO_8601)
    assert list(row.milliseconds) == ["decode", "normalise", "predict", "draw"]
    assert all(value >= 0 for value in row.milliseconds.values())


def test_alone_or_together(reader: Reader, tmp_path: Path) -> None:
    """A scan is read the same alone as among others, good and bad."""
    jobs = dropped(tmp_path, a_png=png(digit("7")), b_png=b"no picture", c_png=png(paper()), d_png=png(digit("3")))
    together = reader.read(jobs, None)
    alone = [row for job in jobs for row in reader.read([job], None)]
    for one, other in zip(together, alone, strict=True):
        assert one.reading.value == other.reading.value
        assert one.reading.status == other.reading.status
        assert one.reading.confidence == pytest.approx(other.reading.confidence, abs=1e-5)


def test_nothing_to_read(reader: Reader) -> None:
    """No jobs, no rows."""
    assert reader.read([], None) == []


def test_blank_page(reader: Reader, tmp_path: Path) -> None:
    """A page with nothing on it is blank: it has a size, but neither value nor reason."""
    (row,) = reader.read(dropped(tmp_path, a_png=png(paper())), tmp_path)
    assert (row.reading.status, row.reading.value, row.reading.reason) == ("blank", "", "")
    assert (row.width, row.height) == (100, 130)


BROKEN = {
    "empty.png": (b"", "empty"),
    "text.png": (b"I am no picture at all", "unsupported"),
    "cut.png": (png(digit("2"))[:200], "truncated"),
    "holed.png": (png(digit("2"))[:200] + bytes(200) + png(digit("2"))[400:], "unreadable"),
    "big.png": (bytes(200_000), "too_large"),
    "wide.png": (png(np.zeros((1000, 1100), np.uint8)), "too_large"),
}


def test_broken_scans_among_good_ones(tmp_path: Path) -> None:
    """Each bad scan is one failed row that says why, in its place, and spoils none of the others."""
    reader = reader_with(limits=Limits(bytes=100_000, pixels=1_000_000))
    good = png(digit("7"))
    jobs = []
    for name, (data, _) in BROKEN.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"good {name}").write_bytes(good)
        jobs += [Job(str(tmp_path / name), name), Job(str(tmp_path / f"good {name}"), f"good {name}")]
    rows = reader.read(jobs, tmp_path / "out")
    assert [row.name for row in rows] == [job.name for job in jobs]
    for row in rows:
        if row.name.startswith("good "):
            assert row.reading.value == "7"
        else:
            data, reason = BROKEN[row.name]
            assert (row.reading.status, row.reading.reason) == ("failed", reason), row.detail
            assert row.reading.value == ""
            assert row.detail
            assert row.sha256 == (hashlib.sha256(data).hexdigest() if len(data) <= 100_000 else "")
            assert (row.width, row.height) == (0, 0)
            picture(tmp_path / "out" / row.thumbnail)


def test_pages_of_a_tiff(reader: Reader, tmp_path: Path) -> None:
    """Each page of a TIFF has a row and a thumbnail, numbered from 1, in order, before the next scan's."""
    pages = [Image.fromarray(page) for page in (digit("7"), paper(), digit("2"))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    jobs = [Job(str(tmp_path / "a.tif"), "a.tif"), *dropped(tmp_path, b_png=png(digit("1")))]
    rows = reader.read(jobs, tmp_path / "out")
    assert [(row.name, row.page, row.reading.value) for row in rows] == [
        ("a.tif", 1, "7"),
        ("a.tif", 2, ""),
        ("a.tif", 3, "2"),
        ("b.png", 1, "1"),
    ]
    assert rows[1].reading.status == "blank"
    assert len({row.sha256 for row in rows[:3]}) == 1
    assert len({row.thumbnail for row in rows}) == 4


def test_pages_of_a_tiff_are_told_apart_in_pictures(reader: Reader, tmp_path: Path) -> None:
    """Pages that look alike have pictures that differ: by their number."""
    page = Image.fromarray(digit("7"))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    rows = reader.read([Job(str(tmp_path / "a.tif"), "a.tif")], tmp_path / "out")
    assert len({row.tile for row in rows}) == len({picture(tmp_path / "out" / row.thumbnail).tobytes() for row in rows})
    assert len({row.tile for row in rows}) == 3


def test_bad_page_of_a_tiff(reader: Reader, tmp_path: Path) -> None:
    """A page that cannot be read fails alone; the other pages are read."""
    pages = [Image.fromarray(digit(value)) for value in ("7", "1", "2")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(1)
        start = image.tag_v2[273][0]  # type: ignore[attr-defined]
    data[start : start + 40] = b"\xff" * 40
    (tmp_path / "a.tif").write_bytes(data)
    rows = reader.read([Job(str(tmp_path / "a.tif"), "a.tif")], None)
    assert [(row.page, row.reading.value, row.reading.reason) for row in rows if row.page != 2] == [
        (1, "7", rows[0].reading.reason),
        (3, "2", rows[2].reading.reason),
    ]
    assert rows[1].reading.status == "failed"


def test_large_pages_are_not_hoarded(tmp_path: Path) -> None:
    """Pages that together exceed the limit are finished as they come, and the rows stay in order."""
    reader = reader_with(limits=Limits(pixels=14_000))  # those of one page, and not of two
    together: list[int] = []
    predict = reader.predict

    def counted(images: NDArray[np.float32]) -> NDArray[np.float32]:
        together.append(len(images))
        return predict(images)

    reader.predict = counted
    jobs = dropped(tmp_path, **{f"{i}_png": png(digit(value)) for i, value in enumerate("7213217")})
    assert "".join(row.reading.value for row in reader.read(jobs, None)) == "7213217"
    assert max(together) == 2


def test_told_which_is_in_hand(reader: Reader, tmp_path: Path) -> None:
    """Before each scan its index is told, and -1 before what serves them all: so a worker's death has a culprit."""
    jobs = dropped(tmp_path, a_png=png(digit("7")), b_png=b"bad", c_png=png(paper()))
    told: list[int] = []
    reader.read(jobs, None, told.append)
    assert told == [0, 1, 2, -1]


def test_known_fault(reader: Reader, tmp_path: Path) -> None:
    """A scan that ended a worker before is not decoded again: its row says what it did, and has its hash."""
    data = png(digit("7"))
    (job,) = dropped(tmp_path, a_png=data)
    (row,) = reader.read([replace(job, fault=Fault("timed_out", "no word"))], tmp_path / "out")
    assert (row.reading.status, row.reading.reason, row.detail) == ("failed", "timed_out", "no word")
    assert row.sha256 == hashlib.sha256(data).hexdigest()
    assert row.stamp[0] == len(data)
    assert (row.width, row.page) == (0, 1)


def test_missing_scan_is_not_its_fault(reader: Reader, tmp_path: Path) -> None:
    """A scan that cannot be opened is raised as the environment's fault and makes no row."""
    with pytest.raises(FileNotFoundError):
        reader.read([Job(str(tmp_path / "gone.png"), "gone.png")], None)


# Which are accepted


def test_promise_decides(tmp_path: Path) -> None:
    """A promise that the calibration cannot support accepts nothing; the values stay the same."""
    jobs = dropped(tmp_path, **{f"{value}_png": png(digit(value)) for value in STROKES})
    accept = SETTINGS.accept
    strict = reader_with(accept=accept.model_copy(update={"max_error": 1e-6})).read(jobs, None)
    lax = reader_with(accept=accept.model_copy(update={"max_error": 0.5})).read(jobs, None)
    assert {row.reading.status for row in strict} == {"review"}
    assert {row.reading.reason for row in strict} == {"not_promised"}
    assert [row.reading.value for row in strict] == [row.reading.value for row in lax] == list(STROKES)
    assert "accepted" in {row.reading.status for row in lax}


def test_an_audit_puts_accepted_values_before_a_person(tmp_path: Path) -> None:
    """What is taken for an audit keeps its value; what would not be accepted keeps its own reason."""
    jobs = dropped(tmp_path, **{f"{value}_png": png(digit(value)) for value in STROKES})
    accept = SETTINGS.accept.model_copy(update={"max_error": 0.5})
    plain = reader_with(accept=accept).read(jobs, None)
    audit = reader_with(accept=accept, audit=1.0).read(jobs, None)
    assert [row.reading.value for row in audit] == [row.reading.value for row in plain]
    expected = {"accepted": "audit"}
    assert [row.reading.reason for row in audit] == [
        expected.get(row.reading.status, row.reading.reason) for row in plain
    ]
    assert {row.reading.status for row in audit} == {"review"}


# Pictures


def mixed(folder: Path) -> list[Job]:
    """Two digits, a blank page and a broken file."""
    return dropped(
        folder, a_png=png(digit("3")), b_png=png(digit("1")), c_png=png(paper()), d_png=png(digit("2"))[:100]
    )


def test_thumbnails(reader: Reader, tmp_path: Path) -> None:
    """Each row has its thumbnail where it says, and there are no others; and a tile."""
    rows = reader.read(mixed(tmp_path), tmp_path / "out")
    assert files(tmp_path / "out") == {row.thumbnail for row in rows}
    assert len(rows) == 4
    for row in rows:
        assert picture(tmp_path / "out" / row.thumbnail).shape == (180, 360, 3)
        assert row.tile


def test_thumbnails_for_review(tmp_path: Path) -> None:
    """With `thumbnails: review` whatever was accepted has none, and the rest does."""
    for name in ("strict", "lax"):
        (tmp_path / name).mkdir()
    accept = {"strict": 1e-6, "lax": 0.5}
    for name, max_error in accept.items():
        settings = {"thumbnails": "review", "accept": SETTINGS.accept.model_copy(update={"max_error": max_error})}
        rows = reader_with(**settings).read(mixed(tmp_path / name), tmp_path / name / "out")
        shown = {row.thumbnail for row in rows if row.reading.status != "accepted"}
        assert all(shown)
        assert files(tmp_path / name / "out") == shown
        assert not any(row.thumbnail for row in rows if row.reading.status == "accepted")
        assert ("accepted" in {row.reading.status for row in rows}) == (name == "lax")


def test_no_thumbnails(tmp_path: Path) -> None:
    """With `thumbnails: none` there are none, but the contact sheet still has its tiles."""
    rows = reader_with(thumbnails="none").read(mixed(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [row.thumbnail for row in rows] == [""] * 4
    assert all(row.tile for row in rows)


def test_no_contact_sheet(tmp_path: Path) -> None:
    """Without a contact sheet no tiles are made for it."""
    rows = reader_with(contact_sheet=False).read(mixed(tmp_path), tmp_path / "out")
    assert [row.tile for row in rows] == [b""] * 4
    assert all(row.thumbnail for row in rows)


def test_no_pictures_at_all(reader: Reader, tmp_path: Path) -> None:
    """Where nobody wants pictures none are drawn."""
    before = files(tmp_path)
    rows = reader.read(mixed(tmp_path), None)
    assert [(row.thumbnail, row.tile) for row in rows] == [("", b"")] * 4
    assert files(tmp_path) == before | {"a.png", "b.png", "c.png", "d.png"}


@pytest.mark.parametrize(
    "name", [b"\xff\n.png", b"=1,2.png", b"x" * 251 + b".png", "é".encode() * 125 + b".png", b"a/b/=c.png"]
)
def test_thumbnails_of_nasty_names(reader: Reader, tmp_path: Path, name: bytes) -> None:
    """A scan of any name that a file system allows gets its thumbnail, in the folders of the scan."""
    path = os.fsencode(tmp_path) + b"/in/" + name
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(png(digit("7")))
    (row,) = reader.read([Job(os.fsdecode(path), os.fsdecode(name))], tmp_path / "out")
    assert row.name == os.fsdecode(name)
    assert row.thumbnail.count("/") == os.fsdecode(name).count("/")
    picture(tmp_path / "out" / row.thumbnail)


def test_same_name_in_two_folders(reader: Reader, tmp_path: Path) -> None:
    """Scans of one name in two folders, and the pages of each, keep apart."""
    jobs = []
    for folder, value in (("a", "7"), ("b", "2")):
        (tmp_path / folder).mkdir()
        page = Image.fromarray(digit(value))
        page.save(tmp_path / folder / "x.tif", save_all=True, append_images=[page])
        jobs.append(Job(str(tmp_path / folder / "x.tif"), f"{folder}/x.tif"))
    rows = reader.read(jobs, tmp_path / "out")
    assert [row.reading.value for row in rows] == ["7", "7", "2", "2"]
    assert len(files(tmp_path / "out")) == len({row.thumbnail for row in rows}) == 4


def test_thumbnail_names_of_similar_scans() -> None:
    """Scans whose names differ in the ending, a number or an odd byte have thumbnails of their own."""
    scans = [
        "a.png",
        "a.jpg",
        "a.tif",
        "a.2.png",
        "a.png.png",
        "a.tif.2.png",
        "\udcff.png",
        "\\xff.png",
        "d/a.png",
        "d~a.png",
        "../a.png",
        "../../a.png",
        "...d/a.png",
    ]
    names = [thumbnail_name(scan, page) for scan in scans for page in (1, 2, 3)]
    assert len(set(names)) == len(names)
    assert not any(".." in name.split("/") for name in names)


@pytest.mark.parametrize("length", range(240, 256))
def test_thumbnail_name_length(length: int) -> None:
    """Around the limit of a file name no thumbnail's name is longer, and each is printable and its own."""
    stems = ["a" * length, "é" * (length // 2), "\udcff" * length, "\\" * length, "🖊" * (length // 4)]
    for stem in stems:
        names = {thumbnail_name(stem[:-1] + last, page) for last in "bc" for page in (1, 12)}
        assert len(names) == 4
        for name in names:
            assert len(name.encode("utf-8")) <= NAME_MAX
            assert name.isprintable()


def test_write_makes_folders(tmp_path: Path) -> None:
    """A picture's folders are made when the first one comes; a full or closed folder is the environment's fault."""
    write(tmp_path / "a", "b/c.png", b"x")
    write(tmp_path / "a", "b/d.png", b"y")
    assert (tmp_path / "a/b/d.png").read_bytes() == b"y"
    with pytest.raises(OSError, match="directory"):
        write(tmp_path / "a", "b/c.png/e.png", b"z")


def test_write_makes_no_stage(tmp_path: Path) -> None:
    """Nothing is written where a stage was: what lies there now may be a mount point without its file system."""
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "stage" / "thumbnails", "sub/a.png", b"x")
    assert not list(tmp_path.iterdir())


def test_write_names_the_file(tmp_path: Path) -> None:
    """A full disk is told with what could not be written: the system itself does not say."""
    (tmp_path / "a.png").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path, "a.png", b"x")
    assert caught.value.filename == str(tmp_path / "a.png")
