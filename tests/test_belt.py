"""Batches one behind the other: in their order, and all done again where something hinders one of them."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ROOT, crop, read_csv, until
from test_scenarios import mounted

from watcher.belt import Belt
from watcher.claims import Claims
from watcher.config import Settings
from watcher.courier import Courier
from watcher.inbox import Inbox
from watcher.outbox import Outbox, check_folders
from watcher.service import Service
from watcher.watch import Watch
from watcher.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from watcher.claims import Batch


@contextmanager
def belt(root: Path) -> Iterator[tuple[Belt, Claims]]:
    """A belt on folders of its own, with all that it moves, and claims to put on it."""
    settings = Settings(model=ROOT / "model", inbox=root / "inbox", outbox=root / "outbox", workers=2)
    for folder in (settings.inbox, settings.outbox):
        folder.mkdir(exist_ok=True)
    check_folders(settings)
    outbox = Outbox(settings)
    with (
        Service(settings) as service,
        Watch(settings.inbox, "scan") as watch,
        Claims(settings.inbox, outbox.place) as claims,
        Workers(settings, lambda: claims.lock) as workers,
        Courier() as courier,
    ):
        service.begin(workers.model, Inbox(settings, claims, watch, lambda: False))
        for number in range(3):
            (claims.new().open / f"{number}.png").write_bytes(crop())
        yield Belt(workers, outbox, courier, service), claims


def deliver(moving: Belt, batch: Batch) -> None:
    """Have a batch read and delivered."""
    moving.put(batch)
    moving.clear()


def delivered(root: Path) -> list[str]:
    """The files in each delivery, in the order of the deliveries."""
    folders = sorted(path for path in (root / "outbox").iterdir() if not path.name.startswith("."))
    assert all((folder / "contact-sheet.png").is_file() for folder in folders)
    return [row["file"] for folder in folders for row in read_csv((folder / "results.csv").read_bytes())]


def test_each_is_delivered_while_the_next_is_read(tmp_path: Path) -> None:
    """`put` leaves one to be read and one on its way to the outbox; `clear` waits for both."""
    with belt(tmp_path) as (moving, claims):
        batches = claims.undecided()
        for number, batch in enumerate(batches):
            moving.put(batch)
            assert len(delivered(tmp_path)) in {max(0, number - 1), number}
        moving.clear()
        assert delivered(tmp_path) == ["0.png", "1.png", "2.png"]
        assert claims.undecided() == claims.decided() == []


def test_what_is_decided_and_hindered_is_told_once_it_is_delivered(tmp_path: Path) -> None:
    """Where something stands in a delivery's way it is counted when it is published after all, and not before."""
    with belt(tmp_path) as (moving, claims):
        first = claims.undecided()[0]
        obstacle = tmp_path / "outbox" / first.id / "in the way"
        obstacle.mkdir(parents=True)
        moving.put(first)
        with pytest.raises(OSError, match="not empty"):
            moving.clear()
        assert claims.decided() == [first]
        assert moving.service.state.deliveries == 0
        obstacle.rmdir()
        moving.finish(claims.decided()[0])
        assert claims.decided() == []
        assert (moving.service.state.deliveries, moving.service.state.scans) == (1, 1)
        assert sum(moving.service.state.rows.values()) == 1


def test_what_a_dead_watcher_decided_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it left to be published is counted, and its failed scans are named; what it had published is in the log."""
    caplog.set_level("INFO")
    with belt(tmp_path) as (moving, claims):
        first, second, *_ = claims.undecided()
        (first.open / "0.png").write_bytes(b"text")
        for batch in (first, second):
            obstacle = tmp_path / "outbox" / batch.id / "in the way"
            obstacle.mkdir(parents=True)
            with pytest.raises(OSError, match="not empty"):
                deliver(moving, batch)
            shutil.rmtree(obstacle.parent)
        (moving.outbox.staging / second.id).rename(tmp_path / "taken")
        caplog.clear()
        later = Belt(moving.workers, Outbox(moving.outbox.settings), moving.courier, moving.service)
        for batch in claims.decided():
            later.finish(batch)
        assert moving.service.state.deliveries == moving.service.state.scans == moving.service.state.rows["failed"] == 1
        named, *told = [message for message in caplog.messages if "ready after" not in message]
        assert named.startswith("0.png: unsupported: ")
        assert told == [
            f"{first.id}: 1 scan: 1 failed, read by a watcher that ended before it was published",
            f"{second.id}: published by a watcher that ended before it could say so",
        ]


def test_what_another_one_decided_is_durable_before_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have ended between the two; after a power cut what was seen must not be made again."""
    happened: list[str | int] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(fd: int) -> None:
        happened.append(os.fstat(fd).st_ino)
        fsync(fd)

    def note_rename(source: Path, target: Path) -> None:
        happened.append(str(target))
        rename(source, target)

    with belt(tmp_path) as (moving, claims):
        first = claims.undecided()[0]
        moving.outbox.stage(first)
        first.open.rename(first.done)  # killed here, before what holds the claim was synced
        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(os, "rename", note_rename)
        moving.finish(claims.decided()[0])
        before = happened[: happened.index(str(tmp_path / "outbox" / first.id))]
        assert claims.work.stat().st_ino in before


def test_what_is_forgotten_is_neither_kept_nor_told(tmp_path: Path) -> None:
    """Of a batch whose claim was taken away no stage is left; where another watcher delivers it, that is not ours."""
    with belt(tmp_path) as (moving, claims):
        first = claims.undecided()[0]
        moving.put(first)
        until((moving.outbox.staging / first.id / "thumbnails" / "0.png.png").is_file, "it to be read")
        first.open.rename(tmp_path / "away")
        with pytest.raises(FileNotFoundError):
            moving.clear()
        assert (moving.outbox.staging / first.id).exists()
        moving.forget(first.id)
        assert not (moving.outbox.staging / first.id).exists()
        (tmp_path / "away").rename(first.done)
        moving.finish(first)
        assert claims.decided() == []
        assert moving.service.state.deliveries == 0


def test_a_claim_that_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its delivery counts once and holds up no other; it is named once, and goes when it can."""
    real = os.unlink

    def unlink(path: Path | str, **more: Any) -> None:
        if os.path.basename(path) == "0.png":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        real(path, **more)

    with belt(tmp_path) as (moving, claims):
        first, second, third = claims.undecided()
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", unlink)
            for batch in (first, second):
                deliver(moving, batch)
                (left,) = claims.decided()
                moving.finish(left)
            Outbox(moving.outbox.settings).finish(left)
        assert moving.service.state.deliveries == 2
        assert not [text for text in caplog.messages if "a watcher that ended" in text]
        words = "cannot be deleted: 0.png: Operation not permitted; it is tried again; its scans are delivered"
        assert caplog.messages.count(f"{left.done}: {words}") == 2  # of the later watcher too
        moving.finish(left)
        assert claims.decided() == []
        deliver(moving, third)
        assert delivered(tmp_path) == ["0.png", "1.png", "2.png"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("where", ["copied", "drawn"])
def test_a_full_disk_is_given_back_what_was_staged(tmp_path: Path, where: str) -> None:
    """While an outbox has no room for a batch none of it stays there: others need what is left."""
    (tmp_path / "outbox").mkdir()
    with mounted(tmp_path / "outbox", "-t", "tmpfs", "-o", "size=1m", "tmpfs"), belt(tmp_path) as (moving, claims):
        filler = tmp_path / "outbox" / ".filler"
        filler.write_bytes(bytes((800 if where == "copied" else 1016) << 10))
        first, *others = claims.undecided()
        for batch in others:
            shutil.rmtree(batch.open)
        with (first.open / "0.png").open("ab") as scan:
            scan.write(bytes(900_000))
        with pytest.raises(OSError, match="No space left"):
            deliver(moving, first)
        assert list(moving.outbox.staging.iterdir()) == []
        filler.unlink()
        (first.open / "0.png").write_bytes(crop())
        deliver(moving, first)
        assert delivered(tmp_path) == ["0.png"]


def test_where_one_is_hindered_all_that_are_read_come_again(tmp_path: Path) -> None:
    """What went wrong is raised by the next `put`; nothing of it is delivered, and the claims can be put on again."""
    with belt(tmp_path) as (moving, claims):
        batches = claims.undecided()
        moving.put(batches[0])
        until((moving.outbox.staging / batches[0].id / "thumbnails" / "0.png.png").is_file, "the first to be read")
        os.utime(batches[0].open / "0.png")  # somebody had it open, and wrote to it
        moving.put(batches[1])
        with pytest.raises(BlockingIOError, match="is still being written"):
            moving.put(batches[2])
        moving.clear()  # has nothing to wait for
        assert claims.undecided() == batches
        assert delivered(tmp_path) == []
        for batch in batches:
            moving.put(batch)
        moving.clear()
        assert delivered(tmp_path) == ["0.png", "1.png", "2.png"]
