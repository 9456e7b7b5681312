"""The fault harness: each file-system operation of a whole batch fails once, in each way, and nothing may be lost.

It runs the inbox and the outbox themselves on real folders, in this process, with the operating system's functions
wrapped: the Nth call of any of them raises, or ends everything from there on as `kill -9` would.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from conftest import crop, read_csv

from watcher import claims as durability
from watcher.claims import Claims
from watcher.config import Batch as BatchSettings
from watcher.config import Settings
from watcher.courier import Courier
from watcher.inbox import Inbox
from watcher.outbox import Outbox, check_folders
from watcher.pipeline import read_whole
from watcher.reading import Reading, failed
from watcher.results import Row
from watcher.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from watcher.claims import Batch

# Everything that changes the folders, or makes a change durable.
OPERATIONS = ("rename", "link", "mkdir", "unlink", "rmdir", "fsync", "open", "utime", "chmod")


class Killed(BaseException):
    """The process ends here."""


class World:
    """Folders with a few scans, and a downstream that takes each delivery the moment it can be seen."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(
            inbox=root / "inbox",
            outbox=root / "outbox",
            settle=0.0,
            patience=0.0,
            watch="scan",
            batch=BatchSettings(size=2),
        )
        self.taken = root / "taken"
        for path in (self.settings.inbox / "sub", self.settings.outbox, self.taken):
            path.mkdir(parents=True)
        self.dropped = {}
        for name, data in (("a.png", crop(1)), ("sub/a.png", crop(2)), ("broken.png", b"text")):
            (self.settings.inbox / name).write_bytes(data)
            self.dropped[name] = hashlib.sha256(data).hexdigest()
        self.count = 0
        self.fail_at = 0
        self.failure: OSError | None = None  # None: killed
        self.dead = False
        self.turn = threading.RLock()  # operations come from the loop and from the courier

    def take(self) -> None:
        """Downstream, at its quickest."""
        for name in real["listdir"](self.settings.outbox):
            if not name.startswith("."):
                target = self.taken / name
                assert not os.path.exists(target), f"{name} came twice"
                real["rename"](self.settings.outbox / name, target)

    def operation(self, name: str) -> Callable[..., Any]:
        """One of the operating system's functions, as this world provides it."""

        def wrapped(*arguments: Any, **more: Any) -> Any:
            with self.turn:
                return operate(*arguments, **more)

        def operate(*arguments: Any, **more: Any) -> Any:
            self.take()
            self.count += 1
            if self.dead or (self.count == self.fail_at and self.failure is None):
                self.dead = True
                raise Killed
            if self.count == self.fail_at:
                assert self.failure is not None
                raise self.failure
            # What counts is which calls there are, and in which order; the disk need not really be waited for.
            result = 0 if name in {"fsync", "syncfs"} else real[name](*arguments, **more)
            self.take()
            return result

        return wrapped

    def read(self, batch: Batch) -> list[Row]:
        """Rows as the workers would make them."""
        rows = []
        for job in batch.jobs():
            data, sha256, stamp = read_whole(job.path, 10**6)
            reading = failed("unsupported") if data == b"text" else Reading("review", value="7")
            rows.append(Row(job.name, 1, reading, sha256=sha256, stamp=stamp, read_at="2026-01-01T00:00:00Z"))
        return rows

    def run(self) -> None:
        """What the daemon does, until nothing is left to do."""
        claims = Claims(self.settings.inbox)
        outbox = Outbox(self.settings)
        try:
            with Watch(self.settings.inbox, "scan") as watch, Courier() as courier:
                claims.ensure()
                inbox = Inbox(self.settings, claims, watch, stop=lambda: False)
                for batch in inbox.batches(outbox.finish, lambda _: None, once=True, landed=courier.wait):
                    outbox.stage(batch)
                    courier.send(partial(outbox.deliver, batch, self.read(batch), "model"))
        finally:
            for lock in claims.locks.values():  # as the kernel does for the dead
                os.close(lock)

    def check(self) -> None:
        """The oracle: each scan in exactly one delivery, whole, with its bytes, and nothing of ours left over."""
        self.take()
        found = []
        for delivery in self.taken.iterdir():
            for row in read_csv((delivery / "results.csv").read_bytes()):
                kind = "failed" if row["status"] == "failed" else "scans"
                assert hashlib.sha256((delivery / kind / row["file"]).read_bytes()).hexdigest() == row["sha256"]
                found.append((row["file"], row["sha256"]))
        assert sorted(found) == sorted(self.dropped.items())
        assert not os.listdir(self.settings.outbox / ".staging")
        left = [name for name in os.listdir(self.settings.inbox / ".work") if not name.endswith(".lock")]
        assert not left
        assert not [name for name in os.listdir(self.settings.inbox) if name not in {".work", "sub"}]


real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in (*OPERATIONS, "listdir", "getpid")}


@contextmanager
def inside(world: World) -> Iterator[None]:
    """Put a world in the place of the operating system."""
    real_open = io.open

    def opened(file: Any, mode: str = "r", *more: Any, **names: Any) -> Any:
        if set(mode) & set("wax+") and not isinstance(file, int):
            world.operation("getpid")()  # counted, and may fail
        return real_open(file, mode, *more, **names)

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, world.operation(name))
        patch.setattr(durability, "syncfs", world.operation("syncfs"))
        patch.setattr(io, "open", opened)
        patch.setattr("builtins.open", opened)
        yield


@pytest.mark.parametrize(
    "failure", [None, errno.ENOSPC, errno.EIO, errno.EROFS], ids=["kill", "ENOSPC", "EIO", "EROFS"]
)
def test_each_operation_fails_once(tmp_path: Path, failure: int | None) -> None:
    """Whichever operation fails, and however: the next try delivers each scan exactly once, and nothing twice."""
    for number in itertools.count(1):
        world = World(tmp_path / str(number))
        check_folders(world.settings)
        world.fail_at = number
        world.failure = None if failure is None else OSError(failure, os.strerror(failure))
        with inside(world):
            try:
                world.run()
            except Killed:
                pass
            except OSError as error:
                if error is not world.failure:
                    raise
            met = world.count >= number
            world.fail_at, world.dead = 0, False
            world.run()
        world.check()
        shutil.rmtree(tmp_path / str(number))
        if not met:
            break
    assert number > 40, "the harness has to meet the operations of a whole batch"
