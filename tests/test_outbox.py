"""Deliveries: complete when they appear, and with the bytes that were read."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import resource
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import crop, read_csv, stages

from watcher import claims
from watcher.claims import Claims
from watcher.config import Settings
from watcher.errors import ConfigError, Stopped
from watcher.mounts import mount_of
from watcher.outbox import CHUNK, STAGING, Outbox, check_folders, summary
from watcher.pipeline import read_whole
from watcher.results import THUMBNAILS, Reading, Row, failed
from watcher.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from watcher.claims import Batch


class Case:
    """A claimed batch of two scans and the outbox that it goes to."""

    def __init__(self, settings: Settings, claims: Claims) -> None:
        self.settings, self.claims = settings, claims
        self.batch: Batch = claims.new()
        for name, data in (("sub/a.png", crop()), ("b.png", b"text")):
            (self.batch.open / name).parent.mkdir(exist_ok=True)
            (self.batch.open / name).write_bytes(data)

    def left(self) -> list[str]:
        """The endings of its claims, without the marks."""
        return [path.suffix.partition("-")[0] for path in self.batch.work.glob(f"{self.batch.id}.*")]

    def decided(self, outbox: Outbox) -> Batch:
        """The batch after something stood in the way of its publication."""
        obstacle = self.settings.outbox / self.batch.id / "in the way"
        obstacle.mkdir(parents=True)
        outbox.stage(self.batch)
        with pytest.raises(OSError, match="not empty"):
            outbox.deliver(self.batch, self.rows(), "model")
        shutil.rmtree(obstacle.parent)
        return self.claims.decided()[0]

    def rows(self) -> list[Row]:
        """One scan read, one failed."""
        rows = []
        for job in self.batch.jobs():
            data, sha256, stamp = read_whole(job.path, 10**6)
            reading = failed("unsupported") if data == b"text" else Reading("review", value="7")
            rows.append(Row(job.name, 1, reading, sha256=sha256, stamp=stamp, read_at="2026-01-01T00:00:00Z"))
        return rows


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    """A claimed batch, in folders of its own."""
    settings = Settings(inbox=tmp_path / "inbox", outbox=tmp_path / "outbox")
    settings.inbox.mkdir()
    settings.outbox.mkdir()
    check_folders(settings)
    with Claims(settings.inbox) as claims:
        yield Case(settings, claims)


def files(root: Path) -> list[str]:
    """All files under a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(("originals", "kept"), [("keep", ["scans/sub/a.png"]), ("delete", [])])
def test_a_delivery_holds_what_it_should(case: Case, originals: str, kept: list[str]) -> None:
    """A delivery holds its tables and the originals as configured, those that failed in any case."""
    settings = case.settings.model_copy(update={"originals": originals})
    outbox = Outbox(settings)
    outbox.stage(case.batch)
    outbox.deliver(case.batch, case.rows(), "model")
    delivery = settings.outbox / case.batch.id
    assert files(delivery) == sorted(["datapackage.json", "failed/b.png", "results.csv", "results.json", *kept])
    assert [row["file"] for row in read_csv((delivery / "results.csv").read_bytes())] == ["b.png", "sub/a.png"]
    assert case.left() == []
    assert stages(settings.outbox) == []


def test_pictures_that_no_row_names_are_not_delivered(case: Case) -> None:
    """Those of a scan's first pages, which were drawn before a later one made it fail as a whole."""
    outbox = Outbox(case.settings)
    pictures = outbox.stage(case.batch) / THUMBNAILS
    (pictures / "sub").mkdir(parents=True)
    for name in ("sub/a.png", "sub/b-p1.png", "c-p1.png"):
        (pictures / name).write_bytes(b"picture")
    failed_one, read = case.rows()
    outbox.deliver(case.batch, [failed_one, replace(read, thumbnail="sub/a.png")], "model")
    assert files(case.settings.outbox / case.batch.id / THUMBNAILS) == ["sub/a.png"]


def test_a_batch_in_a_few_words(case: Case) -> None:
    """Scans are counted as scans, and pages as pages where that is not the same."""
    first, second = case.rows()
    assert summary([first]) == "1 scan: 1 failed"
    assert summary([first, second]) == "2 scans: 1 review, 1 failed"
    assert summary([first, second, replace(second, page=2)]) == "2 scans, 3 pages: 2 review, 1 failed"


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_originals_are_copied_where_they_cannot_be_linked(
    case: Case, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Between file systems, and on one that gives no links, the originals are copied, with the same bytes."""

    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    outbox.deliver(case.batch, case.rows(), "model")
    assert (case.settings.outbox / case.batch.id / "scans/sub/a.png").read_bytes() == crop()


def test_an_original_with_another_name_is_copied(case: Case) -> None:
    """A file that its user has elsewhere too is not shared with them: what they write there reaches no delivery."""
    os.link(case.batch.open / "sub/a.png", case.settings.inbox / "archived")
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    outbox.deliver(case.batch, case.rows(), "model")
    delivery = case.settings.outbox / case.batch.id
    assert not os.path.samefile(delivery / "scans/sub/a.png", case.settings.inbox / "archived")
    assert (delivery / "scans/sub/a.png").stat().st_nlink == 1


def test_a_scan_that_changes_is_not_delivered(case: Case) -> None:
    """When a scan's bytes change after they were read, nothing is decided: the batch has to be read again."""
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    rows = case.rows()
    (case.batch.open / "b.png").write_bytes(b"other text")
    with pytest.raises(BlockingIOError):
        outbox.deliver(case.batch, rows, "model")
    assert case.batch.open.exists()
    assert not (case.settings.outbox / case.batch.id).exists()


def test_a_disk_that_cannot_make_it_durable(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system says that it could not write all, nothing is decided: the batch has to be read again."""

    def syncfs(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(claims, "syncfs", syncfs)
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    with pytest.raises(OSError, match="Input/output error"):
        outbox.deliver(case.batch, case.rows(), "model")
    assert case.batch.open.exists()
    assert not (case.settings.outbox / case.batch.id).exists()


def test_a_stage_is_wiped(case: Case) -> None:
    """What an earlier try left in the stage does not get into the delivery."""
    outbox = Outbox(case.settings)
    (outbox.stage(case.batch) / "thumbnails").mkdir()
    assert os.listdir(outbox.stage(case.batch)) == []


def test_a_stage_that_is_made_again_and_again_keeps_one_file_open(case: Case) -> None:
    """A batch may be tried for days."""
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    held = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        outbox.stage(case.batch)
    assert len(os.listdir("/proc/self/fd")) == held


def test_a_stage_that_another_one_makes_anew_in_the_last_moment(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that is wiped while it is made durable is not decided either."""
    outbox, other = Outbox(case.settings), Outbox(case.settings)
    real: Callable[[int], int] = claims.syncfs

    def syncfs(fd: int) -> int:
        other.stage(case.batch)
        return real(fd)

    monkeypatch.setattr(claims, "syncfs", syncfs)
    monkeypatch.setattr(claims, "COMMIT_AS_ONE", {mount_of(case.settings.outbox).kind})
    outbox.stage(case.batch)
    with pytest.raises(FileNotFoundError, match="was replaced while it was filled"):
        outbox.deliver(case.batch, case.rows(), "model")
    assert case.batch.open.exists()


def test_a_stage_that_another_one_made_anew(case: Case) -> None:
    """A stage that was wiped under us, and filled by somebody else, is not decided."""
    outbox, other = Outbox(case.settings), Outbox(case.settings)
    outbox.stage(case.batch)
    stage = other.stage(case.batch)
    with pytest.raises(FileNotFoundError, match="was replaced while it was filled"):
        outbox.deliver(case.batch, case.rows(), "model")
    assert case.batch.open.exists()
    assert files(stage) == []


def test_nothing_is_put_where_a_stage_was(case: Case) -> None:
    """An outbox whose file system went away is not written to: what lies there is the bare mount point."""
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    case.settings.outbox.rename(case.settings.outbox.with_name("mounted"))
    case.settings.outbox.mkdir()
    with pytest.raises(FileNotFoundError):
        outbox.deliver(case.batch, case.rows(), "model")
    assert not list(case.settings.outbox.iterdir())
    assert case.batch.open.exists()


def test_a_full_disk_is_told_with_its_folder(case: Case) -> None:
    """What the system does not name, the stage stands for."""
    outbox = Outbox(case.settings)
    stage = outbox.stage(case.batch)
    (stage / "results.csv").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        outbox.deliver(case.batch, case.rows(), "model")
    assert caught.value.filename == str(stage)
    assert case.batch.open.exists()


def test_a_decided_delivery_is_never_abandoned(case: Case) -> None:
    """What could not be published yet stays staged, wherever its claim is: without the stage it would be lost."""
    outbox = Outbox(case.settings)
    stage = outbox.stage(case.batch)
    (case.settings.outbox / case.batch.id).mkdir()
    (case.settings.outbox / case.batch.id / "in the way").touch()
    with pytest.raises(OSError, match="not empty"):
        outbox.deliver(case.batch, case.rows(), "model")
    assert case.left() == [".done"]
    outbox.abandon(case.batch.id)
    assert (stage / "results.csv").exists()


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where inbox and outbox are on different file systems."""

    def link(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("links", [True, False], ids=["linked", "copied"])
def test_scans_that_the_file_system_takes_for_one(case: Case, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Where case does not matter no original takes the place of another: each is there, with its bytes."""
    real = {name: getattr(os, name) for name in ("link", "mkdir")}
    stage = str(case.settings.outbox / STAGING / case.batch.id)

    def fold(path: Any) -> Any:
        return stage + path[len(stage) :].lower() if isinstance(path, str) and path.startswith(stage) else path

    for name in real if links else ("mkdir",):
        monkeypatch.setattr(os, name, lambda *paths, name=name, **more: real[name](*map(fold, paths), **more))
    if not links:
        no_links(monkeypatch)
    opened = open
    monkeypatch.setattr("builtins.open", lambda path, *more, **names: opened(fold(path), *more, **names))
    for name in ("B.PNG", "b.PNG", "SUB/A.PNG", "x.png", "X.PNG/y.png"):
        (case.batch.open / name).parent.mkdir(exist_ok=True)
        (case.batch.open / name).write_bytes(name.encode())
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    rows = case.rows()
    outbox.deliver(case.batch, rows, "model")
    delivery = case.settings.outbox / case.batch.id
    originals = [path for folder in ("scans", "failed") for path in (delivery / folder).rglob("*") if path.is_file()]
    assert sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in originals) == sorted(
        row.sha256 for row in rows
    )


def test_a_large_scan_is_copied_in_parts(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives signs of life and keeps its holes; told to stop, nothing is decided, and it is done again."""
    no_links(monkeypatch)
    large = case.batch.open / "large.png"
    with large.open("wb") as file:
        file.write(b"x")
        file.truncate(10 * CHUNK)
    rows = [Row(large.name, 1, failed("too_large"), stamp=(large.stat().st_size, large.stat().st_mtime_ns))]
    beats: list[int] = []
    stopped = Outbox(case.settings, lambda: beats.append(1), lambda: len(beats) == 3)
    stopped.stage(case.batch)
    with pytest.raises(Stopped):
        stopped.deliver(case.batch, rows, "model")
    assert case.left() == [".open"]
    outbox = Outbox(case.settings, lambda: beats.append(1))
    outbox.stage(case.batch)
    outbox.deliver(case.batch, rows, "model")
    copy = case.settings.outbox / case.batch.id / "failed" / large.name
    assert len(beats) >= 13
    assert copy.read_bytes() == b"x" + bytes(10 * CHUNK - 1)
    assert copy.stat().st_blocks * 512 <= 2 * CHUNK


def test_told_to_stop_between_small_copies(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small scans on their way to a slow disk hold up a stop no more than a large one."""
    no_links(monkeypatch)
    outbox = Outbox(case.settings, stop=lambda: bool(list(case.settings.outbox.glob(".staging/*/failed/b.png"))))
    stage = outbox.stage(case.batch)
    with pytest.raises(Stopped):
        outbox.deliver(case.batch, case.rows(), "model")
    assert not (stage / "scans/sub/a.png").exists()
    assert case.left() == [".open"]


def test_a_scan_that_the_disk_does_not_give_to_be_copied(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the scan that is named, not the outbox, and its claim hears of it once."""
    no_links(monkeypatch)
    (case.batch.open / "bad.png").symlink_to("/proc/self/mem")  # has nothing at its beginning: EIO
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    with pytest.raises(OSError, match="Input/output error") as caught:
        outbox.deliver(case.batch, [Row("bad.png", 1, failed("too_large"))], "model")
    path = str(case.batch.open / "bad.png")
    assert caught.value.filename == path
    assert [outbox.gives(path), outbox.gives(path)] == [False, True]
    assert outbox.gives(str(case.batch.open / "b.png"))


@pytest.mark.parametrize(
    ("refused", "name"),
    [(":", "12:30.png"), ("\\", "-1.png"), ("\\", "sub/\u200e.png"), ("long", "long" * 60 + "ü.png")],
)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOENT, errno.EACCES, errno.ENAMETOOLONG])
def test_names_that_the_outbox_refuses(
    case: Case, monkeypatch: pytest.MonkeyPatch, refused: str, name: str, number: int
) -> None:
    """A scan whose name, or its picture's, is refused is told, in the words of any file system."""
    real = os.open

    def opened(path: str | Path, *more: int, **names: int) -> int:
        if refused in os.path.basename(path):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *more, **names)

    monkeypatch.setattr(os, "open", opened)
    outbox = Outbox(case.settings)
    assert not outbox.takes(name)
    assert outbox.takes("ü.png")
    assert stages(case.settings.outbox) == []


def test_odd_names_in_an_outbox_that_was_emptied(case: Case) -> None:
    """Where downstream cleared away `.staging` it is made again; where the outbox has gone that is no name's fault."""
    outbox = Outbox(case.settings)
    outbox.staging.rmdir()
    assert outbox.takes("Müller.png")
    shutil.rmtree(case.settings.outbox)
    with pytest.raises(FileNotFoundError):
        outbox.takes("Müller.png")
    assert not case.settings.outbox.exists()


def test_a_disk_that_is_full_for_a_copy(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a scan that has to be copied, what is full is where the copy goes."""
    no_links(monkeypatch)
    outbox = Outbox(case.settings)
    stage = outbox.stage(case.batch)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            outbox.deliver(case.batch, case.rows(), "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == f"{stage}/failed/b.png"


def test_the_stage_of_a_batch_that_was_taken_away(case: Case) -> None:
    """It is removed, and the folder let go of; of a batch that has none that is no error."""
    outbox = Outbox(case.settings)
    stage = outbox.stage(case.batch)
    held = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        outbox.abandon(case.batch.id)
    assert not stage.exists()
    assert len(os.listdir("/proc/self/fd")) == held - 1


def test_the_stage_of_a_watcher_that_was_killed(case: Case) -> None:
    """Where its scans go back to the inbox, the next watcher takes the stage away; where it was decided, it stays."""
    stage = Outbox(case.settings).stage(case.batch)
    case.settings.outbox.rename(case.settings.outbox.with_name("unmounted"))
    with pytest.raises(FileNotFoundError):
        Outbox(case.settings).abandon(case.batch.id)
    case.settings.outbox.with_name("unmounted").rename(case.settings.outbox)
    Outbox(case.settings).abandon(case.batch.id)
    assert not stage.exists()
    Outbox(case.settings).stage(case.batch)
    case.batch.decide()
    Outbox(case.settings).abandon(case.batch.id)
    assert stage.exists()


def test_killed_while_it_tries_a_name(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is left of the try goes with the next start, and is not called a delivery."""
    caplog.set_level("INFO")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        assert Outbox(case.settings).takes("Müller.png")
    (left,) = case.settings.outbox.glob(f"{STAGING}/*")
    assert os.listdir(left)
    Retention(case.settings).turn()
    assert stages(case.settings.outbox) == []
    assert caplog.messages == []


def test_published_once(case: Case) -> None:
    """A decided batch is published while it is staged; when it was, only the claim goes, wherever the delivery is."""
    outbox = Outbox(case.settings)
    (outbox.stage(case.batch) / "results.csv").write_bytes(b"x")
    case.batch.decide()
    outbox.finish(case.batch)
    delivery = case.settings.outbox / case.batch.id
    assert delivery.exists()
    delivery.rename(case.settings.outbox.with_name("taken"))
    outbox.finish(case.batch)
    assert not delivery.exists()


@pytest.mark.parametrize(("what", "words"), [("", "No such file"), (STAGING, "has gone with the delivery")])
def test_an_outbox_that_is_gone(case: Case, what: str, words: str) -> None:
    """A decided batch whose outbox, or all that is staged, is not there keeps its claim: it was not published."""
    outbox = Outbox(case.settings)
    outbox.stage(case.batch)
    case.batch.decide()
    (case.settings.outbox / what).rename(case.settings.outbox.with_name("unmounted"))
    with pytest.raises(FileNotFoundError, match=words):
        outbox.finish(case.batch)
    assert case.batch.done.exists()
    (case.settings.outbox.with_name("unmounted")).rename(case.settings.outbox / what)
    outbox.finish(case.batch)
    assert (case.settings.outbox / case.batch.id).is_dir()


@pytest.mark.parametrize("how", ["made again", "replaced"])
def test_an_outbox_that_was_made_again(case: Case, how: str) -> None:
    """What was decided for one outbox is not taken for published in another at its place, whatever was delivered there.

    It is published when its own comes back, as a copy too, or read again where a person says so.
    """
    outbox, root = Outbox(case.settings), case.settings.outbox
    decided = case.decided(outbox)
    root.rename(root.with_name("old"))
    root.mkdir()
    check_folders(case.settings)
    if how == "replaced":
        with Claims(case.settings.inbox) as others:
            other = Case(case.settings, others)
            outbox.stage(other.batch)
            outbox.deliver(other.batch, other.rows(), "model")
    with pytest.raises(FileNotFoundError, match=f"{decided.id} in it; bring it back, or, .*, rename {decided.done} to"):
        outbox.finish(decided)
    assert decided.done.exists()
    shutil.rmtree(root)
    shutil.copytree(root.with_name("old"), root)
    outbox.finish(decided)
    assert files(root / decided.id)
    assert case.left() == []


def test_published_and_then_killed(case: Case) -> None:
    """Of a delivery that was published, and taken away, before its claim went, the next watcher drops the claim."""
    decided = case.decided(Outbox(case.settings))
    (case.settings.outbox / STAGING / decided.id).rename(case.settings.outbox.with_name("taken"))
    Outbox(case.settings).finish(decided)
    assert case.left() == []


@pytest.mark.parametrize("key", ["inbox", "outbox"])
def test_folders_that_will_not_do(tmp_path: Path, key: str) -> None:
    """A missing folder, and a file in its place, are refused by name."""
    settings = Settings(inbox=tmp_path / "inbox", outbox=tmp_path / "outbox")
    for name in ("inbox", "outbox"):
        (tmp_path / name).mkdir()
    (tmp_path / key).rmdir()
    with pytest.raises(ConfigError, match=f"^{key}: .*make it"):
        check_folders(settings)
    (tmp_path / key).write_bytes(b"")
    with pytest.raises(ConfigError, match=f"^{key}: .*is not a folder"):
        check_folders(settings)


@pytest.mark.parametrize("at_once", [True, False], ids=["one commit", "file by file"])
def test_durable_before_decided_before_published(case: Case, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    """Each file of a delivery is on the disk before it is decided, and the decision before it is published."""
    happened: list[tuple[str, object]] = []
    fsync, syncfs, rename = os.fsync, claims.syncfs, os.rename

    def note_fsync(fd: int) -> None:
        happened.append(("fsync", os.fstat(fd).st_ino))
        fsync(fd)

    def note_syncfs(fd: int) -> int:
        happened.append(("syncfs", os.fstat(fd).st_dev))
        return int(syncfs(fd))

    def note_rename(source: Path, target: Path) -> None:
        happened.append(("rename", os.path.splitext(source)[1]))
        rename(source, target)

    if not at_once:
        monkeypatch.setattr(claims, "COMMIT_AS_ONE", set())
    outbox = Outbox(case.settings)
    stage = outbox.stage(case.batch)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(claims, "syncfs", note_syncfs)
    monkeypatch.setattr(os, "rename", note_rename)
    inodes = {os.stat(folder).st_ino for folder in (case.batch.work, stage.parent, case.settings.outbox)}
    outbox.deliver(case.batch, case.rows(), "model")
    delivered = case.settings.outbox / case.batch.id
    inodes |= {os.stat(path).st_ino for path in (delivered, *delivered.rglob("*"))}
    decided, published = happened.index(("rename", ".open")), happened.index(("rename", ""))
    assert decided < published
    before = set(happened[:decided])
    if at_once:
        assert ("syncfs", os.stat(delivered).st_dev) in before
    else:
        assert {("fsync", inode) for inode in inodes} <= before
    assert ("fsync", os.stat(case.batch.work).st_ino) in happened[decided:published]
    assert ("fsync", os.stat(case.settings.outbox).st_ino) in happened[published:]
