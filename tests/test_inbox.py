"""How scans are claimed, batch by batch."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import pytest
from conftest import PATIENCE, crop

from watcher import claims as claims_module
from watcher.claims import WORK, Claims
from watcher.config import Settings
from watcher.errors import Stopped
from watcher.file import BAD, CHANGED, DAMAGED, INCOMPLETE, WRITTEN, ready
from watcher.folder import LEVELS, scan
from watcher.inbox import LONGEST, NO_WAY_BACK, Inbox
from watcher.mounts import kind_of
from watcher.names import escape, thumbnail_name
from watcher.outbox import Outbox
from watcher.results import THUMBNAILS
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


def test_a_path_that_a_delivery_has_no_room_for(settings: Settings, inbox: Inbox) -> None:
    """A path that still fits in a claim, but not with a delivery's folders before it, is left where it is, and told."""
    name = "/".join(["d" * 200] * 16) + "/a.png"
    (settings.inbox / name).parent.mkdir(parents=True)
    (settings.inbox / name).write_bytes(crop())
    (settings.inbox / "b.png").write_bytes(crop())
    assert taken(inbox) == ["b.png"]
    assert inbox.held == {name: "its path is too long"}


def test_a_picture_has_room_for_the_longest_path() -> None:
    """What its folders' names grow by as those of a picture still fits, behind an outbox's own path of some length."""
    longest = LONGEST // (LEVELS + 1) - 1
    name = "/".join([f"={'x' * (longest - 8)}.png"] * (LEVELS + 1))  # both ends grow
    assert len(escape(name)) <= LONGEST
    stage = f"/{'o' * 400}/.staging/20261122T153255Z-000123-7f3a/{THUMBNAILS}/"
    assert len(stage + thumbnail_name(name, 1000)) < os.pathconf("/", "PC_PATH_MAX")


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


def test_replaced_in_the_last_moment_where_nothing_goes_back(
    settings: Settings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS, say, which knows no way back: what has not settled is not read with the others, but set aside first."""
    for name in ("a.png", "b.png"):
        (settings.inbox / name).write_bytes(crop(1))
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if os.path.basename(source) == "a.png" and WORK in str(target) and not inbox.held:
            os.truncate(source, 50)
        real(source, target)

    def renameat2(*_: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr("watcher.file.renameat2", renameat2)
    batches = inbox.batches(lambda _: None, lambda _: None)
    first = next(batches)
    assert [job.name for job in first.jobs()] == ["b.png"]
    assert inbox.held == {"a.png": CHANGED + NO_WAY_BACK}
    first.decide().drop()
    assert [job.name for job in next(batches).jobs()] == ["a.png"]


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


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EUCLEAN, errno.EBADMSG])
def test_a_scan_that_cannot_be_opened(
    settings: Settings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One that others use, or that is broken on the disk, holds up no other, and comes once it can be opened."""
    for name in ("bad.png", "fine.png"):
        (settings.inbox / name).write_bytes(crop())
    real: Callable[..., int] = os.open

    def opened(path: Any, *more: Any, **names: Any) -> int:
        if str(path).endswith("/bad.png"):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *more, **names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        assert taken(inbox) == ["fine.png"]
        assert inbox.held == {"bad.png": DAMAGED if number in BAD else WRITTEN}
    assert taken(inbox) == ["bad.png"]


def test_a_large_scan_that_the_disk_does_not_give(settings: Settings, inbox: Inbox) -> None:
    """One too large to be looked at byte by byte goes back as soon as its copy failed; the rest of its batch comes."""
    inbox.settings = settings.model_copy(update={"limits": settings.limits.model_copy(update={"bytes": 1})})
    for name in ("bad.png", "fine.png"):
        (settings.inbox / name).write_bytes(crop())
    batch = next(inbox.batches(lambda _: None, lambda _: None))
    assert [job.name for job in batch.jobs()] == ["bad.png", "fine.png"]
    inbox.gives = lambda path: not path.endswith("/bad.png")
    assert taken(inbox) == ["fine.png"]
    assert inbox.held == {"bad.png": DAMAGED}
    assert (settings.inbox / "bad.png").exists()


def test_told_to_stop_while_a_batch_comes_again(settings: Settings, inbox: Inbox) -> None:
    """Its scans are looked at one by one, each byte: it is given up between them, and its claim stays."""
    batch = inbox.claims.new()
    for number in range(3):
        (batch.open / f"{number}.png").write_bytes(crop(number))
    beats: list[int] = []
    inbox.beat = lambda: beats.append(1)
    inbox.stop = lambda: bool(beats)
    with pytest.raises(Stopped):
        next(inbox.batches(lambda _: None, lambda _: None))
    assert len(beats) == 1
    assert len(batch.jobs()) == 3


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

    def forget(batch: str) -> None:
        assert begun.open.exists(), "nothing tells any more that it was not decided"
        forgotten.append(batch)

    loop = inbox.batches(lambda _: None, lambda _: None, forget=forget)
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
    monkeypatch.setattr("watcher.file.fcntl.fcntl", fcntl_)
    assert ready(settings.inbox / "a.png", Signature.of((settings.inbox / "a.png").stat()), patient=False) == WRITTEN
    monkeypatch.setattr("watcher.file.OWN_LEASES", {kind_of(settings.inbox.stat().st_dev)})
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


@pytest.mark.parametrize("scans", [["sub/a.png"], []], ids=["with a scan", "else empty"])
def test_what_a_nas_puts_into_a_claim(inbox: Inbox, monkeypatch: pytest.MonkeyPatch, scans: list[str]) -> None:
    """Its hidden files and folders, and a sync tool's, are no scans, and do not keep the claim from being removed."""
    real, synced = claims_module.sync, set()

    def sync(path: Path | str) -> None:
        synced.add(os.path.basename(path))
        real(path)

    monkeypatch.setattr(claims_module, "sync", sync)
    monkeypatch.setattr(claims_module, "COMMIT_AS_ONE", set())
    batch = inbox.claims.new()
    for name in ("@eaDir/a.png", "sub/@eaDir/a.png/SYNO.jpg", "sub/.DS_Store", *scans):
        (batch.open / name).parent.mkdir(parents=True, exist_ok=True)
        (batch.open / name).write_bytes(crop())
    assert taken(inbox) == scans
    assert "@eaDir" not in synced  # it may be closed to us
    assert [path.name for path in inbox.claims.work.iterdir()] == [f"{inbox.claims.id}.lock"]


def test_an_empty_claim_that_cannot_be_deleted(
    settings: Settings, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a NAS's folder in it that is not ours, say: it is named once, holds up nobody, and goes once it can."""
    empty = inbox.claims.new()
    (empty.open / "@eaDir").mkdir()
    (settings.inbox / "a.png").write_bytes(crop())
    real = shutil.rmtree

    def rmtree(path: Path) -> None:
        if path == empty.open:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x")
        real(path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert taken(inbox) == ["a.png"]
    assert taken(inbox) == []
    assert [text for record in caplog.records if "deleted" in (text := record.getMessage())] == [
        f"{empty.open}: cannot be deleted: x: Permission denied; no scan is in it; it is tried again"
    ]
    monkeypatch.setattr(shutil, "rmtree", real)
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
