"""Claims: whose they are, who takes them over, and what they are called."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from watcher import claims as claims_module
from watcher.claims import WORK, Batch, Claims
from watcher.mounts import Place, mount_of
from watcher.status import states

if TYPE_CHECKING:
    from collections.abc import Callable


def test_names_sort_and_never_repeat(tmp_path: Path) -> None:
    """Batches of one watcher sort in the order of their making, and those of two never collide."""
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        made = [one.new().id for _ in range(20)]
        assert made == sorted(made)
        assert not {batch.id for batch in (other.new() for _ in range(20))} & set(made)
        for path in (tmp_path / WORK).glob("*.open"):
            path.rmdir()


def test_each_recovers_its_own(tmp_path: Path) -> None:
    """A watcher sees its own claims, not those of one that lives."""
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        batch = one.new()
        other.adopt()
        assert other.undecided() == []
        assert one.undecided() == [batch]
        batch.open.rmdir()


def test_the_dead_that_left_nothing_keep_no_file_open(tmp_path: Path) -> None:
    """Thousands of watchers that died without a claim, one for each try to start, are cleaned up after one by one."""
    (tmp_path / WORK).mkdir()
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(most + 1):
        (tmp_path / WORK / f"{number:04x}.lock").touch()
    with Claims(tmp_path) as claims:
        assert claims.adopt() == []
        assert os.listdir(tmp_path / WORK) == [f"{claims.id}.lock"]


def test_the_dead_are_not_told_of(tmp_path: Path) -> None:
    """What a dead watcher last said is gone once its claims are ours; a report that was cut short is passed over."""
    with Claims(tmp_path) as claims:
        for name, said in (("dead", json.dumps({"pid": 1})), (claims.id, "")):
            (tmp_path / WORK / f"{name}.json").write_text(said)
        (tmp_path / WORK / "20261122T153255Z-000001-dead.open").mkdir()
        assert claims.adopt() == ["dead"]
        assert states(tmp_path) == []
        (tmp_path / WORK / "20261122T153255Z-000001-dead.open").rmdir()


def test_an_inbox_that_comes_back(tmp_path: Path) -> None:
    """Claims of ours in an inbox that was away for a while are ours again, though workers hold their lock as well."""
    inbox, away = tmp_path / "inbox", tmp_path / "away"
    inbox.mkdir()
    with Claims(inbox) as claims:
        batch, first, held = claims.new(), claims.id, os.dup(claims.lock)
        inbox.rename(away)
        inbox.mkdir()
        claims.ensure()
        claims.release()
        assert claims.undecided() == []
        inbox.rename(tmp_path / "new")
        away.rename(inbox)
        claims.ensure()
        claims.adopt()
        claims.release()
        assert claims.undecided() == [batch]
        batch.open.rmdir()
        claims.release()
        assert os.listdir(inbox / WORK) == [f"{claims.id}.lock"]
        assert claims.id != first
        os.close(held)


def test_nothing_of_a_report_is_left(tmp_path: Path) -> None:
    """A report that could not be finished goes with its watcher."""
    with Claims(tmp_path) as claims:
        claims.report.with_suffix(".new").touch()
    assert os.listdir(tmp_path / WORK) == []


@pytest.mark.parametrize("lock_file", [True, False], ids=["lock left", "lock lost"])
def test_the_dead_are_taken_over(tmp_path: Path, lock_file: bool) -> None:
    """Claims of a watcher whose lock is free, or gone, are taken over by one other, and its lock file goes after."""
    dead = Claims(tmp_path)
    dead.ensure()
    undecided, decided = dead.new(), dead.new()
    os.rename(decided.open, decided.done)
    os.close(dead.lock)  # as the kernel does
    if not lock_file:
        (tmp_path / WORK / f"{dead.id}.lock").unlink()
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        one.adopt()
        other.adopt()
        assert one.undecided() == [undecided]
        assert one.decided() == [decided]
        assert other.undecided() == other.decided() == []
        undecided.open.rmdir()
        decided.drop()
        one.release()
        assert not (tmp_path / WORK / f"{dead.id}.lock").exists()


@pytest.mark.parametrize("moved", [True, False])
def test_an_outbox_that_was_moved(tmp_path: Path, moved: bool) -> None:
    """What was decided for an outbox on another mount is taken over where it was moved with all that is staged."""
    place = Place(tmp_path)
    with Claims(tmp_path, place) as dead:
        batch = dead.new()
        decided = batch.decide(mark="0123abcd")
        (tmp_path / WORK / f"{dead.id}.lock").write_text(f"{tmp_path}\0/another/mount")
    with Claims(tmp_path, place, lambda claim: moved and claim.mark == "0123abcd") as claims:
        if moved:
            assert claims.adopt() == [dead.id]
            assert [claim.done for claim in claims.decided()] == [decided.done]
        else:
            with pytest.raises(OSError, match="is claimed for the outbox"):
                claims.adopt()


def test_where_it_delivers_is_durable_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which outbox the claims are staged in survives a power cut: it is on the disk before anything is claimed."""
    durable: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda fd: durable.append(os.pread(fd, 65536, 0)))
    with Claims(tmp_path, Place(tmp_path)) as claims:
        assert durable == [(tmp_path / WORK / f"{claims.id}.lock").read_bytes()]
        assert os.fsencode(tmp_path) in durable[0]


def test_another_disk_says_nothing_of_the_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the outbox's disk is durable saves making the inbox's so only where the two are one."""
    synced: list[int] = []

    def syncfs(fd: int) -> int:
        synced.append(os.fstat(fd).st_dev)
        return real(fd)

    real: Callable[[int], int] = claims_module.syncfs
    monkeypatch.setattr(claims_module, "syncfs", syncfs)
    monkeypatch.setattr(claims_module, "COMMIT_AS_ONE", {mount_of(tmp_path).kind})
    device = tmp_path.stat().st_dev
    with Claims(tmp_path) as claims:
        for durable, expected in ((device, []), (device + 1, [device])):
            batch = claims.new()
            batch.decide(durable)
            assert synced == expected
            batch.drop()


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT], ids=["closed", "removed"])
def test_a_folder_that_is_closed_once_its_scans_are_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where each folder is made durable by itself, one that its user closes or removes meanwhile holds up nothing."""
    monkeypatch.setattr(claims_module, "COMMIT_AS_ONE", set())
    source, real = tmp_path / "sub", claims_module.sync
    source.mkdir()

    def sync(path: Path | str) -> None:
        if Path(path) == source:
            raise OSError(number, os.strerror(number), str(path))
        real(path)

    monkeypatch.setattr(claims_module, "sync", sync)
    with Claims(tmp_path) as claims:
        batch = claims.new()
        (batch.open / "sub").mkdir()
        (batch.open / "sub" / "a.png").write_bytes(b"x")
        decided = batch.decide()
        assert claims.decided() == [batch]
        decided.drop()


def test_a_lock_file_that_has_just_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a file that its last owner has deleted meanwhile is none: a third one could have another."""
    dead = Claims(tmp_path)
    dead.ensure()
    batch = dead.new()
    os.close(dead.lock)
    path = tmp_path / WORK / f"{dead.id}.lock"
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        real = fcntl.flock

        def flock(lock: int, operation: int) -> None:
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                path.unlink()
                monkeypatch.setattr(fcntl, "flock", real)
            real(lock, operation)

        monkeypatch.setattr(fcntl, "flock", flock)
        assert one.adopt() == []
        assert other.adopt() == [dead.id]
        assert one.adopt() == []
        batch.open.rmdir()


def test_a_lock_file_that_was_taken_for_a_dead_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock file that another watcher cleans up before it is locked is made again: a lock on what is gone is none."""
    real = fcntl.flock
    gone: list[str] = []

    def flock(lock: int, operation: int) -> None:
        if not gone:
            gone.append(os.readlink(f"/proc/self/fd/{lock}"))
            os.unlink(gone[0])
        real(lock, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Claims(tmp_path) as claims:
        assert gone
        assert os.path.samestat(os.fstat(claims.lock), os.stat(tmp_path / WORK / f"{claims.id}.lock"))
        assert os.listdir(tmp_path / WORK) == [f"{claims.id}.lock"]


def test_nothing_is_left_of_a_watcher_that_was_stopped(tmp_path: Path) -> None:
    """A watcher that ends with all delivered leaves no file behind; one with open claims leaves its lock file."""
    with Claims(tmp_path):
        pass
    assert os.listdir(tmp_path / WORK) == []
    with Claims(tmp_path) as claims:
        batch = claims.new()
    assert sorted(os.listdir(tmp_path / WORK)) == sorted([f"{batch.watcher}.lock", f"{batch.id}.open"])


def test_a_new_inbox_in_the_old_ones_place(tmp_path: Path) -> None:
    """When the inbox is replaced by an empty one, the watcher locks itself in there too."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with Claims(inbox) as claims:
        inbox.rename(tmp_path / "away")
        inbox.mkdir()
        claims.ensure()
        assert (inbox / WORK / f"{claims.id}.lock").exists()


def test_received_at_is_in_the_name(tmp_path: Path) -> None:
    """When a batch was claimed can be told from its name alone, also after a crash."""
    assert Batch("20261122T153255Z-000123-7f3a", tmp_path).received_at == "2026-11-22T15:32:55Z"


def test_deciding_moves_the_claim(tmp_path: Path) -> None:
    """A decided batch is no longer to be read, and dropping it deletes it; dropping it again is fine."""
    with Claims(tmp_path) as claims:
        batch = claims.new()
        (batch.open / "sub").mkdir()
        (batch.open / "sub" / "a.png").write_bytes(b"x")
        assert [job.name for job in batch.jobs()] == ["sub/a.png"]
        batch.decide()
        assert claims.undecided() == []
        assert claims.decided() == [batch]
        batch.drop()
        batch.drop()
        assert claims.decided() == []
