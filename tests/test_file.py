"""When a scan is ready to be taken, and how that is undone."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from conftest import PATIENCE, ROOT, crop
from PIL import Image

from watcher.file import CHANGED, INCOMPLETE, UNREADABLE, WRITTEN, put_back, ready
from watcher.settle import Signature

if TYPE_CHECKING:
    from pathlib import Path


def test_a_writer_keeps_its_file(tmp_path: Path) -> None:
    """A file that somebody has open for writing is not taken, one that is read by others is."""
    path = tmp_path / "a.png"
    path.write_bytes(crop())
    with path.open("ab"):
        assert ready(path, Signature.of(path.stat()), patient=True) == WRITTEN
    with path.open("rb"):
        assert ready(path, Signature.of(path.stat()), patient=False) == ""


@pytest.mark.parametrize(
    "data",
    [b"", crop()[:-30], crop()[:200] + bytes(len(crop()) - 200), bytes(5000), b"BM" + (5000).to_bytes(4, "little")],
    ids=["empty", "cut", "zeros at the end", "zeros", "shorter than it says"],
)
def test_an_incomplete_file_gets_its_time(tmp_path: Path, data: bytes) -> None:
    """A file that is not there to its end waits until patience has run out, and is then taken as it is."""
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert ready(path, Signature.of(path.stat()), patient=False) == INCOMPLETE
    assert ready(path, Signature.of(path.stat()), patient=True) == ""


def paper(kind: str, shade: int, **options: Any) -> bytes:
    """A grey crop in a format without compression, with a stroke on even paper."""
    page = np.full((200, 150), shade, np.uint8)
    cv2.line(page, (40, 30), (110, 170), 255 - shade, 9, cv2.LINE_AA)
    file = io.BytesIO()
    Image.fromarray(page).convert(options.pop("mode", "L")).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        paper("BMP", 0),
        paper("BMP", 0, mode="1"),
        paper("TIFF", 0),
        paper("TIFF", 255, mode="1", tiffinfo={262: 0}),
        crop() + bytes(3000),
    ],
    ids=["black BMP", "black BMP of 1 bit", "black TIFF", "white TIFF, 0 is white", "PNG with zeros behind it"],
)
def test_even_paper_is_no_room_made_in_advance(tmp_path: Path, data: bytes) -> None:
    """A whole file that ends with some zeros is taken as soon as it settled."""
    assert not any(data[-64:])
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert ready(path, Signature.of(path.stat()), patient=False) == ""


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "RGB"])
def test_room_made_in_advance(tmp_path: Path, kind: str, mode: str) -> None:
    """A file that has its size already waits as long as its second half, or of a large one its last 4 KB, are zeros."""
    data = paper(kind, 255, mode=mode)
    room = min(len(data) // 2 + 1, 4096)
    path = tmp_path / "a.png"
    for begun in (data[:-room], data[:200]):
        path.write_bytes(begun.ljust(len(data), b"\0"))
        assert ready(path, Signature.of(path.stat()), patient=False) == INCOMPLETE
    path.write_bytes(data)
    assert ready(path, Signature.of(path.stat()), patient=False) == ""


@pytest.mark.parametrize("cut", [12_000, 18_000, 23_800])
def test_a_cut_page_gets_its_time(tmp_path: Path, cut: int) -> None:
    """A TIFF of which a later page is cut waits, wherever in the file its directories lie."""
    path = tmp_path / "a.tif"
    path.write_bytes((ROOT / "samples" / "6-3_two_pages.tif").read_bytes()[:cut])
    assert ready(path, Signature.of(path.stat()), patient=False) == INCOMPLETE
    assert ready(path, Signature.of(path.stat()), patient=True) == ""


def test_a_cut_photo_gets_its_time(tmp_path: Path) -> None:
    """A JPEG with a whole thumbnail in its first 4 KB is not taken for whole."""
    small, large = io.BytesIO(), io.BytesIO()
    picture = Image.open(io.BytesIO(crop(size=(480, 400))))
    picture.resize((30, 36)).save(small, "JPEG")
    exif = b"Exif\0\0" + small.getvalue().ljust(20_000, b"\0")
    picture.save(large, "JPEG", exif=exif, quality=95)
    path = tmp_path / "a.jpg"
    for cut in (21_500, len(large.getvalue()) - 2):
        path.write_bytes(large.getvalue()[:cut])
        assert ready(path, Signature.of(path.stat()), patient=False) == INCOMPLETE, cut
    path.write_bytes(large.getvalue())
    assert ready(path, Signature.of(path.stat()), patient=False) == ""


def test_a_disk_that_fails_is_not_the_scans_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk throws while a file is looked at is passed on; that this one cannot be read is held against it."""
    number = errno.ESTALE

    def pread(_fd: int, _count: int, _offset: int) -> bytes:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.tif"
    path.write_bytes(paper("TIFF", 255))
    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(OSError, match="Stale"):
        ready(path, Signature.of(path.stat()), patient=False)
    number = errno.EIO
    assert ready(path, Signature.of(path.stat()), patient=False) == "cannot be read from the disk"


def test_a_changed_file_settles_again(tmp_path: Path) -> None:
    """What is no longer what settled, a link among it, is not taken."""
    path = tmp_path / "a.png"
    path.write_bytes(crop())
    before = Signature.of(path.stat())
    path.write_bytes(crop(1) + b"more")
    assert ready(path, before, patient=False) == CHANGED
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert ready(path, before, patient=False)


def test_a_pipe_in_a_files_place(tmp_path: Path) -> None:
    """What became a pipe in the last moment is not waited for, though nobody ever writes to it."""
    path = tmp_path / "a.png"
    path.write_bytes(crop())
    before = Signature.of(path.stat())
    path.unlink()
    os.mkfifo(path)
    rescue = threading.Timer(PATIENCE, lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)))
    rescue.start()
    assert ready(path, before, patient=False) == CHANGED
    assert rescue.is_alive(), "it was waited for"
    rescue.cancel()


OPENED_MEANWHILE = """
import fcntl, os, sys
from watcher.file import written_by_others
real = fcntl.fcntl
def lease(fd, operation, argument=0):
    result = real(fd, operation, argument)
    if (operation, argument) == (fcntl.F_SETLEASE, fcntl.F_RDLCK):
        try:
            os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
        except BlockingIOError:
            print("has to wait")
    return result
fcntl.fcntl = lease
print(written_by_others(os.open(sys.argv[1], os.O_RDONLY)))
"""


def test_a_writer_that_comes_while_it_is_looked_at(tmp_path: Path) -> None:
    """The signal that the system sends for a writer who opens the file at that moment does not end the watcher."""
    (tmp_path / "a.png").write_bytes(crop())
    command = [sys.executable, "-c", OPENED_MEANWHILE, str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "has to wait\nFalse\n"), done.stderr


def test_no_permission(tmp_path: Path) -> None:
    """A file that may not be read is left where it is."""
    path = tmp_path / "a.png"
    path.write_bytes(crop())
    path.chmod(0)
    before, user = Signature.of(path.stat()), os.geteuid()
    if user == 0:  # who may read everything, until it is somebody else
        os.seteuid(65534)
    try:
        assert ready(path, before, patient=False) == UNREADABLE
    finally:
        os.seteuid(user)


def test_a_claim_goes_back_where_it_was(tmp_path: Path) -> None:
    """What is put back comes into its folder, made again if need be, and never over a newer file of its name."""
    claim, inbox = tmp_path / "claim", tmp_path / "inbox"
    claim.mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        (claim / name).write_bytes(crop(number))
    assert put_back(claim / "a.png", inbox / "gone/a.png")
    (inbox / "b.png").write_bytes(crop(9))
    assert not put_back(claim / "b.png", inbox / "b.png")
    assert (inbox / "gone/a.png").read_bytes() == crop(0)
    assert (inbox / "b.png").read_bytes() == crop(9)
    assert [path.name for path in claim.iterdir()] == ["b.png"]
