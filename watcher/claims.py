"""What was taken out of the inbox and is not yet delivered: the folder inbox/.work, the only memory there is.

    .work/<watcher>.lock         held by a living watcher and its workers; says which outbox its claims are staged in
    .work/<watcher>.json         what it is doing, for `status`
    .work/<batch>.open/…         scans claimed, to be read; done again after a crash
    .work/<batch>.done-<mark>/…  decided: the delivery is durable, what is left is to publish it and to clean up;
                                 the mark is that of the outbox that it is staged in

A batch is named <time>-<number>-<watcher>.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import secrets
import shutil
import time
from calendar import timegm
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from watcher.errors import naming, told
from watcher.folder import IGNORED
from watcher.mounts import kind_of
from watcher.results import ISO_8601
from watcher.tasks import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from watcher.mounts import Place

log = logging.getLogger(__name__)

WORK = ".work"
# File systems whose syncfs(2) waits until all is on the disk, and says so when it does not get there.
COMMIT_AS_ONE = {"ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "zfs", "tmpfs", "overlay"}
STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Batch:
    """Scans that were claimed together, and are delivered together."""

    id: str
    work: Path
    mark: str = field(default="", compare=False)  # of the outbox that it was decided in; earlier versions knew none

    @property
    def open(self) -> Path:
        """The claim before it is decided."""
        return self.work / f"{self.id}.open"

    @property
    def done(self) -> Path:
        """The claim after it is decided."""
        return self.work / (f"{self.id}.done-{self.mark}" if self.mark else f"{self.id}.done")

    @property
    def watcher(self) -> str:
        """Who claimed it."""
        return self.id.rsplit("-", 1)[-1]

    @property
    def received_at(self) -> str:
        """When it was claimed, UTC, ISO 8601."""
        return datetime.strptime(self.id.split("-", 1)[0], STAMP).replace(tzinfo=UTC).strftime(ISO_8601)

    def jobs(self) -> list[Job]:
        """Its scans by name, as the folder holds them; a NAS or a sync tool puts its own files beside them."""
        root = str(self.open)
        paths = [f"{folder}/{name}" for folder, names in self._folders() for name in names]
        return sorted((Job(path, path[len(root) + 1 :]) for path in paths), key=lambda job: job.name)

    def _folders(self) -> Iterator[tuple[str, list[str]]]:
        """The folders of the claim, from the top, and the scans in each."""
        for folder, folders, names in os.walk(self.open, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(IGNORED)]
            yield folder, [name for name in names if not name.startswith(IGNORED)]

    def decide(self, durable: int | None = None, mark: str = "") -> Batch:
        """Commit: from here on the delivery is only published, never made again. The one private commit point.

        Returns the batch as it is then. `mark` tells the outbox that it is staged in; `durable` is the device of a file
        system that was made durable as a whole since the scans were claimed.
        """
        if durable != os.stat(self.work).st_dev and sync_at_once(self.work) is None:
            # First where the scans are, from the top, then where they were: after a power cut they are never in none.
            sync(self.work)
            folders = [folder for folder, _ in self._folders()]
            for folder in folders:
                sync(folder)
            for folder in folders:
                source = self.work.parent / os.path.relpath(folder, self.open)
                # Where its user removed it meanwhile, or closed it to us, the claim alone has to do.
                with suppress(FileNotFoundError, PermissionError):
                    if source.is_dir():
                        sync(source)
        decided = replace(self, mark=mark)
        os.rename(self.open, decided.done)
        sync(self.work)
        return decided

    def drop(self) -> None:
        """Delete the claim of a delivery that is published; where it is gone already, that is fine."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.done)


class Claims:
    """The claims of this watcher, and of those that died."""

    def __init__(
        self, inbox: Path, outbox: Place | None = None, holds: Callable[[Batch], bool] = lambda _: False
    ) -> None:
        self.work = inbox / WORK
        self.outbox = outbox
        self.holds = holds  # tells whether a decided batch was staged in our outbox
        self.id = ""
        self.locks: dict[str, int] = {}  # watcher → open lock file; ours, and those of the dead that we took over
        self._count = 0
        self._ours: set[str] = set()  # all names that we had
        self._foreign: set[str] = set()  # watchers whose locks are closed to us, as was said

    def __enter__(self) -> Claims:
        self.ensure()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.release()
            # With claims left the lock file stays, free: whoever comes next takes them over.
            if not any(batch.watcher == self.id for batch in self._batches("open", "done")):
                _forget(self.work, self.id)
        except OSError as error:  # an inbox that has gone: its lock file is free all the same
            log.warning("%s", told(error))
        for lock in self.locks.values():
            os.close(lock)
        self.locks.clear()

    @property
    def lock(self) -> int:
        """Our own lock, as a file descriptor."""
        return self.locks[self.id]

    @property
    def report(self) -> Path:
        """Where this watcher says what it is doing."""
        return self.work / f"{self.id}.json"

    def ensure(self) -> None:
        """Make sure that our lock is there, also in an inbox that was replaced by a new one."""
        if self.id and _is_at(self.lock, self.work / f"{self.id}.lock"):
            return
        self.work.mkdir(exist_ok=True)
        while True:
            name = secrets.token_hex(2)
            try:
                lock = os.open(self.work / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                continue
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(lock, self.work / f"{name}.lock"):  # taken for a dead one's before it was locked
                os.close(lock)
                continue
            try:
                with naming(self.work / f"{name}.lock"):
                    os.write(lock, self._where())
                    os.fsync(lock)
            except OSError:  # of a full disk, say: each try would leave another
                os.close(lock)
                _forget(self.work, name)
                raise
            self.id, self.locks[name] = name, lock
            self._ours.add(name)
            return

    def new(self) -> Batch:
        """An empty claim of our own."""
        self._count += 1
        batch = Batch(f"{datetime.now(UTC).strftime(STAMP)}-{self._count:06d}-{self.id}", self.work)
        batch.open.mkdir()
        return batch

    def undecided(self) -> list[Batch]:
        """Our batches that are to be read, oldest first."""
        return [batch for batch in self._batches("open") if batch.watcher in self.locks]

    def decided(self) -> list[Batch]:
        """Our batches that are to be published and cleaned up, oldest first."""
        return [batch for batch in self._batches("done") if batch.watcher in self.locks]

    def adopt(self) -> list[str]:
        """Take over the claims of watchers that live no more; returns who they were."""
        busy = {batch.watcher for batch in self._batches("open", "done")}
        owners = busy | {path.stem for path in self.work.glob("*.lock")}
        taken = []
        for owner in sorted(owners - self.locks.keys()):
            if self._take(owner):
                if owner in busy:
                    taken.append(owner)
                else:  # it left nothing but its lock
                    self._let_go(owner)
        return taken

    def release(self) -> None:
        """Let go of the dead whose claims are all delivered."""
        busy = {batch.watcher for batch in self._batches("open", "done")}
        for owner in self.locks.keys() - {self.id, *busy}:
            if owner in self._ours:  # an inbox that was replaced may come back, with claims of ours
                _forget(self.work, owner)
            else:
                self._let_go(owner)

    def _let_go(self, owner: str) -> None:
        _forget(self.work, owner)
        os.close(self.locks.pop(owner))

    def _take(self, owner: str) -> bool:
        path = self.work / f"{owner}.lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError as error:
            if owner not in self._foreign:
                self._foreign.add(owner)
                words = "it is another user's, so what that watcher leaves unfinished is for one of that user"
                log.warning("%s; %s; run all watchers of an inbox as one user", told(error), words)
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # alive
            os.close(lock)
            return False
        if not _is_at(lock, path):  # somebody was quicker, and is done with it
            os.close(lock)
            return False
        try:
            self._check_outbox(owner, os.pread(lock, 65536, 0))
            (self.work / f"{owner}.json").unlink(missing_ok=True)  # it does nothing any more
        except OSError:
            os.close(lock)
            raise
        self.locks[owner] = lock
        return True

    def _where(self) -> bytes:
        """The outbox and the mount it lies on."""
        return os.fsencode(f"{self.outbox.folder}\0{self.outbox.mount}") if self.outbox is not None else b""

    def _check_outbox(self, owner: str, where: bytes) -> None:
        """Raise OSError where a dead watcher's deliveries are staged in an outbox that is not ours."""
        folder, _, mount = os.fsdecode(where).partition("\0")
        if not where or self.outbox is None or where == self._where():
            return
        claims = [batch for batch in self._batches("open", "done") if batch.watcher == owner]
        unmounted = folder == str(self.outbox.folder) and len(mount) > len(self.outbox.mount)
        lost = [batch for batch in claims if (not self.holds(batch) if batch.done.exists() else unmounted)]
        if lost:
            raise OSError(
                errno.ENODEV,
                f"is claimed for the outbox {folder} on the mount {mount}; mount it, or set outbox: back to it",
                lost[0].id,
            )

    def _batches(self, *endings: str) -> Iterator[Batch]:
        for name in sorted(os.listdir(self.work)):
            stem, _, ending = name.partition(".")
            ending, _, mark = ending.partition("-")
            if ending in endings:
                yield Batch(stem, self.work, mark)


def claimed_at(name: str) -> int | None:
    """When a batch was claimed, by its name, in seconds since 1970; None for a name of something else."""
    try:
        return timegm(time.strptime(name.partition("-")[0], STAMP)) if name.count("-") == 2 else None
    except ValueError:
        return None


def sync(path: Path | str) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with naming(path):
            os.fsync(fd)
    finally:
        os.close(fd)


def sync_at_once(folder: Path) -> int | None:
    """Make all of a folder's file system durable, in one commit of its journal; None where it cannot be trusted to.

    Returns the file system's device number.

    File by file, each fsync is a commit of its own: some milliseconds of waiting for each scan, on any disk.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        device = os.fstat(fd).st_dev
        if kind_of(device) not in COMMIT_AS_ONE:
            return None
        if syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(fd)
    return device


syncfs = ctypes.CDLL(None, use_errno=True).syncfs


def _is_at(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), os.stat(path))
    except FileNotFoundError:
        return False


def _forget(work: Path, owner: str) -> None:
    for ending in ("json", "new", "lock"):
        (work / f"{owner}.{ending}").unlink(missing_ok=True)


def _raise(error: OSError) -> None:
    raise error
