"""What counts as a scan, when it is ready, and how it is claimed."""

from __future__ import annotations

import errno
import io
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from conftest import PATIENCE, ROOT, crop
from PIL import Image

from watcher.claims import WORK, Claims
from watcher.config import Settings
from watcher.errors import Stopped
from watcher.inbox import CHANGED, INCOMPLETE, NO_WAY_BACK, UNREADABLE, WRITTEN, Inbox, put_back, ready, scan
from watcher.mounts import kind_of
from watcher.outbox import Outbox
from watcher.settle import Signature
from watcher.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from watcher.claims import Batch


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Folders, and settings under which a file settles at once."""
    for name in ("inbox", "outbox"):
        (tmp_path / name).mkdir()
    return Settings(inbox=tmp_path / "inbox", outbox=tmp_path / "outbox", settle=0.0, watch="scan", scan_every=0.05)


@pytest.fixture
def inbox(settings: Settings) -> Iterator[Inbox]:
    """An inbox with its claims, in this process."""
    with Watch(settings.inbox, settings.watch) as watch, Claims(settings.inbox) as claims:
        yield Inbox(settings, claims, watch, stop=too_late())


def too_late() -> Callable[[], bool]:
    """Tells the loop to stop where it would not come to an end."""
    end = time.monotonic() + PATIENCE
    return lambda: time.monotonic() > end


def taken(inbox: Inbox) -> list[str]:
    """The names that a run over the inbox claims; each batch is dropped as if it were delivered."""
    names = []
    for batch in inbox.batches(lambda _: None, lambda _: None, once=True):
        names += [job.name for job in batch.jobs()]
        batch.decide()
        batch.drop()
    return names


def signature(path: Path) -> Signature:
    """How a file looks now."""
    status = path.stat()
    return Signature(status.st_ino, status.st_size, status.st_mtime_ns)


def test_only_scans_are_seen(tmp_path: Path) -> None:
    """Hidden, temporary and other files, links, pipes, sockets and folders named like scans are never touched."""
    for name in ("a.png", "X.PNG", "x.jpeg", "scan.TIF", "deep/er/b.webp", "form.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in (".a.png", "._a.png", ".DS_Store", "~$a.png", ".nfs0001", "@eaDir/a.png", ".stfolder/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in ("Thumbs.db", "a.png.tmp", "a.png.part", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.png"))
        seen, other, folders, closed = scan(tmp_path)
    assert sorted(seen) == ["X.PNG", "a.png", "deep/er/b.webp", "form.pdf", "scan.TIF", "x.jpeg"]
    assert other == 7
    assert len(folders) == 4  # deep, deep/er, folder.png and the folder itself
    assert closed == {}


def test_what_lies_there_is_taken_once(settings: Settings, inbox: Inbox) -> None:
    """Each file is claimed once, from subfolders too, with names that are no text."""
    names = ["a.png", "sub/a.png", os.fsdecode(b"\xff\n.png"), "x" * 251 + ".png"]
    for number, name in enumerate(names):
        (settings.inbox / name).parent.mkdir(exist_ok=True)
        (settings.inbox / name).write_bytes(crop(number))
    assert sorted(taken(inbox)) == sorted(names)
    assert not scan(settings.inbox).scans
    (settings.inbox / "a.png").write_bytes(crop(9))
    assert taken(inbox) == ["a.png"]


def test_a_batch_waits_for_what_settles_soon(settings: Settings) -> None:
    """A scan that settles within `batch.wait` comes along, as soon as it has: the rest of that time is not waited."""
    settings = settings.model_copy(
        update={"settle": 0.5, "batch": settings.batch.model_copy(update={"wait": 10 * PATIENCE})}
    )
    (settings.inbox / "a.png").write_bytes(crop(1))

    with Watch(settings.inbox, settings.watch) as watch, Claims(settings.inbox) as claims:
        inbox = Inbox(settings, claims, watch, stop=too_late())

        def drop(_: OSError | None) -> None:
            if inbox.settling and not (settings.inbox / "b.png").exists():  # the other one was seen
                (settings.inbox / "b.png").write_bytes(crop(2))

        alarm = threading.Timer(PATIENCE, watch.wake)
        alarm.start()
        batch = next(inbox.batches(lambda _: None, drop))
        assert [job.name for job in batch.jobs()] == ["a.png", "b.png"]
        assert alarm.is_alive(), "it was waited for nothing"
        alarm.cancel()
        batch.decide()
        batch.drop()


def test_a_writer_keeps_its_file(tmp_path: Path) -> None:
    """A file that somebody has open for writing is not taken, one that is read by others is."""
    path = tmp_path / "a.png"
    path.write_bytes(crop())
    with path.open("ab"):
        assert ready(path, signature(path), patient=True) == WRITTEN
    with path.open("rb"):
        assert ready(path, signature(path), patient=False) == ""


@pytest.mark.parametrize(
    "data",
    [b"", crop()[:-30], crop()[:200] + bytes(len(crop()) - 200), bytes(5000), b"BM" + (5000).to_bytes(4, "little")],
    ids=["empty", "cut", "zeros at the end", "zeros", "shorter than it says"],
)
def test_an_incomplete_file_gets_its_time(tmp_path: Path, data: bytes) -> None:
    """A file that is not there to its end waits until patience has run out, and is then taken as it is."""
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert ready(path, signature(path), patient=False) == INCOMPLETE
    assert ready(path, signature(path), patient=True) == ""


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
    assert ready(path, signature(path), patient=False) == ""


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "RGB"])
def test_room_made_in_advance(tmp_path: Path, kind: str, mode: str) -> None:
    """A file that has its size already waits as long as its second half, or of a large one its last 4 KB, are zeros."""
    data = paper(kind, 255, mode=mode)
    room = min(len(data) // 2 + 1, 4096)
    path = tmp_path / "a.png"
    for begun in (data[:-room], data[:200]):
        path.write_bytes(begun.ljust(len(data), b"\0"))
        assert ready(path, signature(path), patient=False) == INCOMPLETE
    path.write_bytes(data)
    assert ready(path, signature(path), patient=False) == ""


@pytest.mark.parametrize("cut", [12_000, 18_000, 23_800])
def test_a_cut_page_gets_its_time(tmp_path: Path, cut: int) -> None:
    """A TIFF of which a later page is cut waits, wherever in the file its directories lie."""
    path = tmp_path / "a.tif"
    path.write_bytes((ROOT / "samples" / "6-3_two_pages.tif").read_bytes()[:cut])
    assert ready(path, signature(path), patient=False) == INCOMPLETE
    assert ready(path, signature(path), patient=True) == ""


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
        assert ready(path, signature(path), patient=False) == INCOMPLETE, cut
    path.write_bytes(large.getvalue())
    assert ready(path, signature(path), patient=False) == ""


def test_a_disk_that_fails_is_not_the_scans_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk throws while a file is looked at is passed on; that this one cannot be read is held against it."""
    number = errno.ESTALE

    def pread(_fd: int, _count: int, _offset: int) -> bytes:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.tif"
    path.write_bytes(paper("TIFF", 255))
    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(OSError, match="Stale"):
        ready(path, signature(path), patient=False)
    number = errno.EIO
    assert ready(path, signature(path), patient=False) == "cannot be read from the disk"


def test_a_changed_file_settles_again(tmp_path: Path) -> None:
    """What is no longer what settled, a link among it, is not taken."""
    path = tmp_path / "a.png"
    path.write_bytes(crop())
    before = signature(path)
    path.write_bytes(crop(1) + b"more")
    assert ready(path, before, patient=False) == CHANGED
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert ready(path, before, patient=False)


def test_a_pipe_in_a_files_place(tmp_path: Path) -> None:
    """What became a pipe in the last moment is not waited for, though nobody ever writes to it."""
    path = tmp_path / "a.png"
    path.write_bytes(crop())
    before = signature(path)
    path.unlink()
    os.mkfifo(path)
    rescue = threading.Timer(PATIENCE, lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)))
    rescue.start()
    assert ready(path, before, patient=False) == CHANGED
    assert rescue.is_alive(), "it was waited for"
    rescue.cancel()


OPENED_MEANWHILE = """
import fcntl, os, sys
from watcher.inbox import written_by_others
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


def test_a_path_that_a_delivery_has_no_room_for(settings: Settings, inbox: Inbox) -> None:
    """A path that still fits in a claim, but not with a delivery's folders before it, is left where it is, and told."""
    name = "/".join(["d" * 200] * 16) + "/a.png"
    (settings.inbox / name).parent.mkdir(parents=True)
    (settings.inbox / name).write_bytes(crop())
    (settings.inbox / "b.png").write_bytes(crop())
    assert taken(inbox) == ["b.png"]
    assert inbox.held == {name: "its path is too long"}


def test_no_permission(tmp_path: Path) -> None:
    """A file that may not be read is left where it is."""
    path = tmp_path / "a.png"
    path.write_bytes(crop())
    path.chmod(0)
    before, user = signature(path), os.geteuid()
    if user == 0:  # who may read everything, until it is somebody else
        os.seteuid(65534)
    try:
        assert ready(path, before, patient=False) == UNREADABLE
    finally:
        os.seteuid(user)


def test_replaced_in_the_last_moment(settings: Settings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is replaced between the look and the claim goes back: it has to settle, and to be whole, as that."""
    path = settings.inbox / "a.png"
    path.write_bytes(crop(1))
    real, last = os.rename, crop(2)

    def rename(source: Path, target: Path) -> None:
        if os.path.basename(source) == "a.png" and WORK in str(target) and path.read_bytes() == crop(1):
            fresh = settings.outbox / "fresh"
            fresh.write_bytes(last[:-40])
            real(fresh, path)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)

    def tell(error: OSError | None) -> None:
        assert error is None
        if inbox.held.get("a.png") == INCOMPLETE:
            path.write_bytes(last)

    batch = next(inbox.batches(lambda _: None, tell))
    (job,) = batch.jobs()
    with open(job.path, "rb") as file:
        assert file.read() == last


def test_a_writer_that_comes_in_the_last_moment(
    settings: Settings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that a writer opens between the look and the claim goes back until it is closed, and is read then."""
    path = settings.inbox / "a.png"
    path.write_bytes(crop(1))
    real: Callable[[Any, Any], None] = os.rename
    writers: list[IO[bytes]] = []

    def rename(source: Path, target: Path) -> None:
        if os.path.basename(source) == "a.png" and WORK in str(target) and not writers:
            writers.append(path.open("ab"))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)

    def tell(error: OSError | None) -> None:
        assert error is None
        if inbox.held.get("a.png") == WRITTEN:
            writers[0].write(b"more")
            writers[0].close()

    batch = next(inbox.batches(lambda _: None, tell))
    (job,) = batch.jobs()
    with open(job.path, "rb") as file:
        assert file.read() == crop(1) + b"more"
    assert writers[0].closed


def test_a_claim_goes_back_where_it_was(settings: Settings, inbox: Inbox) -> None:
    """What is put back comes into its folder, made again if need be, and never over a newer file of its name."""
    batch = inbox.claims.new()
    for number, name in enumerate(("gone/a.png", "b.png")):
        (batch.open / name).parent.mkdir(exist_ok=True)
        (batch.open / name).write_bytes(crop(number))
    put_back(batch.open / "gone/a.png", settings.inbox / "gone/a.png")
    (settings.inbox / "b.png").write_bytes(crop(9))
    put_back(batch.open / "b.png", settings.inbox / "b.png")
    assert (settings.inbox / "gone/a.png").read_bytes() == crop(0)
    assert (settings.inbox / "b.png").read_bytes() == crop(9)
    assert [job.name for job in batch.jobs()] == ["b.png"]


@pytest.mark.parametrize("name", ["x.png", "sub/x.png"], ids=["a newer one has its name", "its folder is a file now"])
def test_a_claimed_file_that_cannot_go_back(settings: Settings, inbox: Inbox, name: str) -> None:
    """What somebody has open and what cannot be put back stays claimed, named, in nobody's way, until it is closed."""
    batch = inbox.claims.new()
    for file in (name, "fine.png"):
        (batch.open / file).parent.mkdir(exist_ok=True)
        (batch.open / file).write_bytes(crop(1))
    for file in (name.partition("/")[0], "other.png"):
        (settings.inbox / file).write_bytes(crop(2))
    newer = ["x.png"] if name == "x.png" else []
    with (batch.open / name).open("r+b"):
        assert sorted(taken(inbox)) == ["fine.png", "other.png", *newer]
        assert taken(inbox) == []
        assert inbox.held == {name: WRITTEN if newer else WRITTEN + NO_WAY_BACK}  # once the newer one is taken it can
        assert not sum(inbox.claimed.values())
    assert taken(inbox) == [name]
    assert not inbox.held
    assert not inbox.claims.undecided()


def test_an_odd_name_while_the_outbox_has_gone(settings: Settings, inbox: Inbox) -> None:
    """It is told that the outbox has gone; the scan is not taken for one that its user took back."""
    inbox.takes = Outbox(settings).takes
    (settings.inbox / "Müller.png").write_bytes(crop())
    settings.outbox.rmdir()
    with pytest.raises(FileNotFoundError):
        taken(inbox)
    settings.outbox.mkdir()
    assert taken(inbox) == ["Müller.png"]


def test_a_batch_that_is_put_back_whole(settings: Settings, inbox: Inbox) -> None:
    """Where all scans of a batch that was begun go back, it is forgotten: nothing of it is left in the outbox."""
    path = settings.inbox / "a.png"
    path.write_bytes(crop())
    os.link(path, settings.outbox / "its users.png")
    forgotten: list[str] = []
    loop = inbox.batches(lambda _: None, lambda _: None, forget=forgotten.append)
    begun = next(loop)
    with (settings.outbox / "its users.png").open("r+b"):
        inbox.stop = lambda: bool(forgotten)
        with suppress(Stopped):
            assert list(loop) == []
    assert forgotten == [begun.id]
    assert path.read_bytes() == crop()


def test_a_share_that_gives_no_leases(settings: Settings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of NFS and SMB the refusal of a lease says nothing: a file that settled is taken."""

    def fcntl_(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    (settings.inbox / "a.png").write_bytes(crop())
    monkeypatch.setattr("watcher.inbox.fcntl.fcntl", fcntl_)
    assert ready(settings.inbox / "a.png", signature(settings.inbox / "a.png"), patient=False) == WRITTEN
    monkeypatch.setattr("watcher.inbox.OWN_LEASES", {kind_of(settings.inbox.stat().st_dev)})
    assert taken(inbox) == ["a.png"]


def test_claims_that_are_taken_away_with_the_inbox(settings: Settings, inbox: Inbox) -> None:
    """What was handed out and has no claim any more is forgotten; it is not in flight for ever."""
    (settings.inbox / "a.png").write_bytes(crop())
    forgotten: list[str] = []
    seen: list[str] = []
    for batch in inbox.batches(lambda _: None, lambda _: None, forget=forgotten.append):
        seen.append(batch.id)
        if len(seen) == 1:
            settings.inbox.rename(settings.inbox.with_name("away"))
            settings.inbox.mkdir()
            (settings.inbox / "b.png").write_bytes(crop())
        else:
            break
    assert forgotten == seen[:1]
    assert list(inbox.claimed) == list(inbox.arrived) == seen[1:]


def test_batches_are_bounded(settings: Settings) -> None:
    """No batch holds more scans than batch.size; a backlog becomes several."""
    small = settings.model_copy(update={"batch": settings.batch.model_copy(update={"size": 4, "wait": 0.0})})
    for number in range(10):
        (settings.inbox / f"{number}.png").write_bytes(crop(number))
    with Watch(small.inbox, "scan") as watch, Claims(small.inbox) as claims:
        sizes = []
        for batch in Inbox(small, claims, watch, stop=too_late()).batches(lambda _: None, lambda _: None, once=True):
            sizes.append(len(batch.jobs()))
            batch.decide()
            batch.drop()
    assert sum(sizes) == 10
    assert max(sizes) <= 4


def test_trouble_is_told_and_tried_again(settings: Settings, inbox: Inbox) -> None:
    """A batch that could not be delivered comes again, the same one, until it can."""
    (settings.inbox / "a.png").write_bytes(crop())
    seen = []
    for batch in inbox.batches(lambda _: None, lambda _: None, once=True):
        seen.append((batch.id, [job.name for job in batch.jobs()]))
        if len(seen) == 2:
            batch.decide()
            batch.drop()
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_an_inbox_that_is_gone_and_comes_back(settings: Settings, inbox: Inbox) -> None:
    """While the inbox is missing that is told, as the environment's fault; a new one in its place is watched."""
    settings.inbox.rename(settings.inbox.with_name("away"))
    told: list[OSError] = []

    def tell(error: OSError | None) -> None:
        if error is not None:
            told.append(error)
            settings.inbox.mkdir()
            (settings.inbox / "a.png").write_bytes(crop())

    batch = next(inbox.batches(lambda _: None, tell))
    assert [job.name for job in batch.jobs()] == ["a.png"]
    assert [error.errno for error in told] == [errno.ENOENT]


def test_an_empty_claim_is_no_delivery(inbox: Inbox) -> None:
    """What a crash right after the claim's making leaves is cleaned up, not delivered as a batch of nothing."""
    empty = inbox.claims.new()
    (empty.open / "sub").mkdir()
    assert taken(inbox) == []
    assert not empty.open.exists()


def test_a_batch_on_its_way_is_not_handed_out_again(settings: Settings, inbox: Inbox) -> None:
    """The environment may fail the loop while a batch is being delivered: it is waited for, and not read once more."""
    (settings.inbox / "a.png").write_bytes(crop())
    work, away = inbox.claims.work, inbox.claims.work.with_name(".away")
    under_way: list[Batch] = []

    def landed() -> None:
        while under_way and work.exists():
            batch = under_way.pop()
            batch.decide()
            batch.drop()

    def tell(error: OSError | None) -> None:
        if error is not None:
            away.rename(work)

    stop = False
    inbox.stop = lambda: stop
    seen = []
    for batch in inbox.batches(lambda _: None, tell, landed=landed):
        seen += [job.name for job in batch.jobs()]
        if len(seen) == 1:
            under_way.append(batch)
            (settings.inbox / "b.png").write_bytes(crop())
            work.rename(away)  # gone until the loop has met it
        else:
            batch.decide()
            batch.drop()
            stop = True
    assert seen == ["a.png", "b.png"]
