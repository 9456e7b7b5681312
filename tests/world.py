"""Inbox and outbox themselves on real folders, in this process, with the operating system's functions wrapped."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from conftest import crop, read_csv, stages

from watcher import claims as claims_module
from watcher import inbox as inbox_module
from watcher.claims import Claims
from watcher.config import Settings
from watcher.courier import Courier
from watcher.errors import ConfigError, Stopped
from watcher.file import put_back
from watcher.inbox import Inbox
from watcher.outbox import Outbox, check_folders
from watcher.pipeline import read_whole, write
from watcher.results import Reading, Row, failed
from watcher.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from watcher.claims import Batch

CHANGES = ("rename", "link", "mkdir", "unlink", "rmdir", "fsync", "ftruncate", "utime", "chmod")
LOOKS = ("open", "scandir", "listdir", "stat", "lstat", "pread")
CROPS = [crop(number, (60, 50)) for number in range(5)]
TURNS = 200  # of the loop, after which a world has hung
real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in (*CHANGES, *LOOKS)}


class Killed(BaseException):
    """The process ends here."""


class Hasty(Inbox):
    """Does not wait between two looks."""

    def _rest(self) -> None:
        """Go on."""

    def _pause(self, seconds: float) -> bool:
        """Go on."""
        return False


class World:
    """Folders with a few scans, and what happens to each operation on them.

    One of the scans is replaced in the last moment before it is claimed. `downstream`: a job that takes each delivery
    the moment it can be seen. `courier`: a batch is delivered while others are read, as the daemon does it;
    without it, each operation comes at the same place in each run.
    """

    def __init__(self, root: Path, downstream: bool = False, courier: bool = False) -> None:
        self.root = root
        self.courier = courier
        self.turn = threading.RLock()  # operations come from the loop and from the courier
        self.settings = Settings(inbox=root / "inbox", outbox=root / "outbox", settle=0.0, patience=0.0, watch="scan")
        self.settings = self.settings.model_copy(
            update={"batch": self.settings.batch.model_copy(update={"size": 3, "wait": 0.0}), "scan_every": 0.05}
        )
        self.downstream = downstream
        self.taken = root / "taken"
        self.dropped: dict[str, str] = {}
        self.before: Callable[[str, tuple[Any, ...], dict[str, Any]], None] = lambda *_: None
        self.after: Callable[[str, tuple[Any, ...], dict[str, Any]], None] = lambda *_: None
        self.replace = True

    def prepare(self) -> None:
        """Make the folders and drop the scans."""
        for path in (self.settings.inbox / "sub", self.settings.outbox, self.taken):
            path.mkdir(parents=True)
        for number, name in enumerate(("a.png", "b.png", "sub/a.png", "late.png", "broken.png")):
            data = b"a text that is no scan" if name == "broken.png" else CROPS[number]
            (self.settings.inbox / name).write_bytes(data)
            self.dropped[name] = hashlib.sha256(CROPS[-1] if name == "late.png" else data).hexdigest()

    def take(self) -> None:
        """Downstream, at its quickest."""
        for name in real["listdir"](self.settings.outbox) if self.downstream else ():
            if not name.startswith("."):
                target = self.taken / name
                assert not real_exists(target), f"{name} came twice"
                real["rename"](self.settings.outbox / name, target)

    def operation(self, name: str, does: Callable[..., Any]) -> Callable[..., Any]:
        """One of the operating system's functions, as this world provides it."""

        def wrapped(*arguments: Any, **more: Any) -> Any:
            with self.turn:
                return operate(*arguments, **more)

        def operate(*arguments: Any, **more: Any) -> Any:
            self.take()
            if name == "rename" and self.replace and str(arguments[0]).endswith("/inbox/late.png"):
                self.replace = False
                with opener(self.root / "fresh", "wb") as file:
                    file.write(CROPS[-1])
                real["rename"](self.root / "fresh", arguments[0])
            self.before(name, arguments, more)
            # What counts is which calls there are, and in which order; the disk need not really be waited for.
            result = None if name == "fsync" else 0 if name == "syncfs" else does(*arguments, **more)
            self.after(name, arguments, more)
            self.take()
            return result

        return wrapped

    def read(self, batch: Batch, stage: Path) -> list[Row]:
        """Rows as the workers would make them, with a picture each."""
        rows = []
        for job in batch.jobs():
            data, sha256, stamp = read_whole(job.path, 10**6)
            reading = failed("unsupported") if data == b"a text that is no scan" else Reading("review", value="7")
            thumbnail = f"{job.name}.png"
            write(stage / "thumbnails", thumbnail, b"a picture")
            read_at = "2026-01-01T00:00:00Z"
            rows.append(Row(job.name, 1, reading, sha256=sha256, stamp=stamp, thumbnail=thumbnail, read_at=read_at))
        return rows

    def run(self) -> None:
        """What the daemon does, until all is delivered, through whatever fails on the way."""
        turns = itertools.count()

        def stop() -> bool:
            turn = next(turns)
            assert turn < TURNS, "it does not come to an end"
            return self.finished()

        with self.system():
            claims = outbox = None
            try:
                for _ in turns:  # as systemd does
                    try:
                        check_folders(self.settings)
                        outbox = Outbox(self.settings)
                        claims = Claims(self.settings.inbox, outbox.place, outbox.holds)
                        claims.ensure()
                        break
                    except (ConfigError, OSError):
                        self.let_go(claims, outbox)
                assert claims is not None
                assert outbox is not None
                deliver = outbox.deliver
                with Watch(self.settings.inbox, "scan") as watch, Courier() as courier:
                    inbox = Hasty(self.settings, claims, watch, stop)
                    belt: list[tuple[Batch, list[Row]]] = []

                    def send_off(but: int) -> None:
                        try:
                            while len(belt) > but:
                                courier.send(partial(deliver, *belt[0], "model"))
                                if not self.courier:
                                    courier.wait()
                                belt.pop(0)
                        except OSError:
                            belt.clear()
                            raise

                    def landed() -> None:
                        send_off(but=0)
                        courier.wait()

                    with suppress(Stopped):
                        for batch in inbox.batches(outbox.finish, lambda _: None, landed=landed, forget=outbox.abandon):
                            try:
                                rows = self.read(batch, outbox.stage(batch))
                                outbox.sheet(batch).write_bytes(b"a contact sheet")
                                belt.append((batch, rows))
                                send_off(but=1)
                            except OSError:
                                belt.clear()
            finally:
                self.let_go(claims, outbox)

    def let_go(self, claims: Claims | None, outbox: Outbox | None) -> None:
        """What the kernel does for the dead."""
        for held in (claims.locks if claims is not None else {}, outbox._stages if outbox is not None else {}):
            for fd in held.values():
                os.close(fd)
            held.clear()

    def finished(self) -> bool:
        """Whether all is delivered and cleaned up."""
        with self.reality():
            work = self.settings.inbox / ".work"
            busy = work.exists() and any(path.suffix.startswith((".open", ".done")) for path in work.iterdir())
            return not busy and len(self.rows()) >= len(self.dropped)

    def rows(self) -> list[dict[str, str]]:
        """All rows that downstream has, or may have."""
        folders = [path for path in self.settings.outbox.iterdir() if not path.name.startswith(".")]
        return [
            row
            for delivery in [*self.taken.iterdir(), *folders]
            for row in read_csv((delivery / "results.csv").read_bytes()) or pytest.fail(f"{delivery.name} is empty")
        ]

    def check(self, stages_may_stay: bool = False) -> None:
        """The oracle: each scan in exactly one delivery, whole, with its bytes, and nothing of ours left over."""
        self.take()
        found = []
        for delivery in [*self.taken.iterdir(), *self.settings.outbox.glob("[!.]*")]:
            for row in read_csv((delivery / "results.csv").read_bytes()):
                kind = "failed" if row["status"] == "failed" else "scans"
                assert hashlib.sha256((delivery / kind / row["file"]).read_bytes()).hexdigest() == row["sha256"]
                assert (delivery / row["thumbnail"]).read_bytes() == b"a picture"
                found.append((row["file"], row["sha256"]))
            assert (delivery / "contact-sheet.png").read_bytes() == b"a contact sheet"
            assert (delivery / "results.json").read_bytes().endswith(b"}\n")
            assert (delivery / "datapackage.json").read_bytes().endswith(b"}\n")
        assert sorted(found) == sorted(self.dropped.items()), f"{sorted(found)} for {sorted(self.dropped.items())}"
        assert stages_may_stay or not stages(self.settings.outbox)
        left = [name for name in os.listdir(self.settings.inbox / ".work") if not name.endswith(".lock")]
        assert not left
        assert not [name for name in os.listdir(self.settings.inbox) if name not in {".work", "sub"}]

    @contextmanager
    def system(self) -> Iterator[None]:
        """Put this world in the place of the operating system."""
        real_open = io.open

        def opened(file: Any, mode: str = "r", *more: Any, **names: Any) -> Any:
            if isinstance(file, int) or not str(file).startswith(str(self.root)):
                return real_open(file, mode, *more, **names)
            name = "create" if set(mode) & set("wax+") else "open"
            return self.operation(name, real_open)(file, mode, *more, **names)

        with pytest.MonkeyPatch.context() as patch:
            for name in (*CHANGES, *LOOKS):
                patch.setattr(os, name, self.operation(name, real[name]))
            patch.setattr(inbox_module, "SICK", 0.0)
            patch.setattr(inbox_module, "put_back", self.operation("put_back", put_back))
            patch.setattr(claims_module, "syncfs", self.operation("syncfs", claims_module.syncfs))
            patch.setattr(io, "open", opened)
            patch.setattr("builtins.open", opened)
            yield

    @contextmanager
    def reality(self) -> Iterator[None]:
        """Look at what is there without being part of it."""
        with pytest.MonkeyPatch.context() as patch:
            for name, function in real.items():
                patch.setattr(os, name, function)
            patch.setattr(io, "open", opener)
            patch.setattr("builtins.open", opener)
            yield


opener = io.open


def real_exists(path: Path) -> bool:
    """Whether something is there."""
    try:
        real["stat"](path)
    except FileNotFoundError:
        return False
    return True
