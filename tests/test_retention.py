"""Old deliveries lose their scans and thumbnails when asked to, never their results, and never by halves."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Folder, crop, stages

from watcher.claims import STAMP
from watcher.config import Settings
from watcher.outbox import ENDING, STAGING, check_folders
from watcher.retention import EVERY, TURN, Retention

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAVY = {"scans", "thumbnails"}


def aged(folder: Folder, days: float) -> Path:
    """Make a delivery look as old as that."""
    (delivery,) = [path for path in folder.deliveries() if path.name.startswith("20")]
    stamp = time.strftime(STAMP, time.gmtime(time.time() - days * 86400))
    old = delivery.with_name(f"{stamp}-{delivery.name.partition('-')[2]}")
    delivery.rename(old)
    return old


def test_only_when_asked(folder: Folder) -> None:
    """Without keep_days a delivery of any age stays whole; with it only older ones lose scans and thumbnails."""
    folder.drop("seven.png", crop())
    folder.drop("broken.tif", b"text")
    folder.configure(patience=0)
    assert folder.command("run", "--once").returncode == 0
    old = aged(folder, days=3)
    before = {path.name: path.read_bytes() for path in old.iterdir() if path.is_file()}
    whole = set(os.listdir(old))
    for keep_days, left in ((None, whole), (4.0, whole), (2.0, whole - HEAVY)):
        folder.configure(keep_days=keep_days)
        assert folder.command("run", "--once").returncode == 0
        assert set(os.listdir(old)) == left, keep_days
    assert {path.name: path.read_bytes() for path in old.iterdir() if path.is_file()} == before
    assert (old / "failed" / "broken.tif").read_bytes() == b"text"
    assert not stages(folder.outbox)


def test_what_is_not_ours_stays(folder: Folder) -> None:
    """Folders that are not named like deliveries are left alone, and so are fresh deliveries."""
    folder.configure(keep_days=1.0)
    folder.drop("seven.png", crop())
    assert folder.command("run", "--once").returncode == 0
    for name in ("2019", "20190101T000000Z", "archive-2019-x", "20190101-a-b"):
        (folder.outbox / name / "scans").mkdir(parents=True)
    (folder.outbox / "20190101T000000Z-000001-abcd" / "scans").mkdir(parents=True)
    assert folder.command("run", "--once").returncode == 0
    assert not (folder.outbox / "20190101T000000Z-000001-abcd" / "scans").exists()
    for name in ("2019", "20190101T000000Z", "archive-2019-x", "20190101-a-b"):
        assert (folder.outbox / name / "scans").is_dir(), name
    (fresh,) = [path for path in folder.deliveries() if (path / "results.csv").exists()]
    assert (fresh / "scans" / "seven.png").is_file()


OLD = [f"20190101T000000Z-000001-{letter}bcd" for letter in "ab"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An outbox whose deliveries are kept for a day, with two that are older."""
    settings = Settings(inbox=tmp_path / "inbox", outbox=tmp_path / "outbox", keep_days=1.0)
    settings.inbox.mkdir()
    for name in OLD:
        (settings.outbox / name / "scans").mkdir(parents=True)
    check_folders(settings)
    return settings


@pytest.mark.parametrize(("number", "told"), [(errno.ENOENT, 0), (errno.EACCES, 1)], ids=["gone", "closed"])
def test_one_that_cannot_be_removed_hinders_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, told: int
) -> None:
    """What somebody else took away is passed over in silence, what may not be removed with a warning."""
    real: Callable[[str, Path], None] = os.rename

    def rename(source: str, target: Path) -> None:
        if OLD[0] in source:
            raise OSError(number, os.strerror(number), source)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    Retention(settings).turn(once=True)
    assert [(settings.outbox / name / "scans").exists() for name in OLD] == [True, False]
    path = settings.outbox / OLD[0] / "scans"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    why = "cannot be removed, though it is old: Permission denied; remove it, or let us in"
    assert warnings == [f"{path}: {why}"] * told


def test_what_cannot_be_removed_is_named_by_its_path(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The system names the bare entry in the folder, of which there may be thousands."""

    def rmtree(_: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a.png")

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    Retention(settings).turn(once=True)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    paths = [settings.outbox / STAGING / f"{name}.scans{ENDING}" for name in OLD]
    why = "cannot be removed, though it is old: Permission denied; remove it, or let us in"
    assert warnings == [f"{path}: {why}" for path in paths]


def test_each_delivery_that_is_thinned_out_is_told(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """The log has a line for each, with what went of it, also of one that a crash left half way; none where none is."""
    caplog.set_level(logging.INFO)
    for name in ("thumbnails", "failed"):
        (settings.outbox / OLD[0] / name).mkdir()
    (settings.outbox / OLD[1] / "scans").rename(settings.outbox / ".staging" / f"{OLD[1]}.scans.old")
    Retention(settings).turn(once=True)
    assert sorted(caplog.messages) == [
        f"{OLD[0]}: old, removed its scans and thumbnails (keep_days)",
        f"{OLD[1]}: old, removed its scans (keep_days)",
    ]
    caplog.clear()
    Retention(settings).turn(once=True)
    assert caplog.messages == []


@pytest.mark.parametrize("what", ["gone", "a file"])
def test_a_staging_folder_that_is_not_there_is_no_trouble(settings: Settings, what: str) -> None:
    """It has nothing on its way out; whoever wants to stage something says what is wrong with it."""
    staging = settings.outbox / ".staging"
    staging.rmdir()
    if what == "a file":
        staging.write_text("in the way")
    Retention(settings).turn()


def test_it_looks_again_after_an_hour(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes old while a watcher runs is removed by and by, and not looked for at each turn."""
    real, ahead = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead)
    retention = Retention(settings)
    retention.turn()
    again = settings.outbox / OLD[0] / "scans"
    assert not again.exists()
    again.mkdir()
    retention.turn()
    assert again.exists()
    ahead = EVERY + 1
    retention.turn()
    assert not again.exists()


def test_many_that_were_thinned_out_long_ago(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow share no turn takes longer than it may, whatever there is to be looked at."""
    real, looks = time.monotonic, 0
    real_isdir = os.path.isdir

    def isdir(path: str) -> bool:
        nonlocal looks
        looks += OLD[0] in path or OLD[1] in path
        return real_isdir(path)

    monkeypatch.setattr(os.path, "isdir", isdir)
    monkeypatch.setattr(time, "monotonic", lambda: real() + looks * TURN)  # so long a look takes
    retention = Retention(settings)
    for turn in (1, 2):
        retention.turn()
        assert looks == turn * len(HEAVY)  # of one delivery
    assert not [name for name in OLD if (settings.outbox / name / "scans").exists()]


class Killed(BaseException):
    """The process ends here."""


def test_killed_at_each_step(tmp_path: Path) -> None:
    """Killed at any operation, a delivery has each of the two folders whole or not at all; the next run goes on."""
    real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in ("rename", "unlink", "rmdir")}
    for number in itertools.count(1):
        root = tmp_path / str(number)
        settings = Settings(inbox=root / "inbox", outbox=root / "outbox", keep_days=1.0)
        settings.inbox.mkdir(parents=True)
        delivery = settings.outbox / "20190101T000000Z-000001-abcd"
        for name in HEAVY:
            (delivery / name / "sub").mkdir(parents=True)
            for scan in ("a.png", "sub/b.png"):
                (delivery / name / scan).write_bytes(b"scan")
        (delivery / "results.csv").write_bytes(b"rows")
        check_folders(settings)
        calls = itertools.count(1)

        def wrapped(name: str, calls: Any = calls, number: int = number) -> Callable[..., Any]:
            def operation(*arguments: Any, **more: Any) -> Any:
                if next(calls) >= number:
                    raise Killed
                return real[name](*arguments, **more)

            return operation

        killed = False
        with pytest.MonkeyPatch.context() as patch:
            for name in real:
                patch.setattr(os, name, wrapped(name))
            try:
                Retention(settings).turn(once=True)
            except Killed:
                killed = True
        for name in HEAVY:
            if (delivery / name).exists():
                assert (delivery / name / "a.png").exists()
                assert (delivery / name / "sub" / "b.png").exists()
        Retention(settings).turn(once=True)
        assert os.listdir(delivery) == ["results.csv"]
        assert not os.listdir(settings.outbox / ".staging")
        shutil.rmtree(root)
        if not killed:
            break
    assert number > 8
