"""Wakes the loop: file events, signals and timers only say that it may be worth to look; the folder scan decides."""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from watcher.claims import WORK

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)
# Its errors are of events that come while it is being stopped; whether it lives, `check` finds out.
logging.getLogger("watchdog").setLevel(logging.CRITICAL)

# File systems whose events do not tell what other machines do: there the timer alone wakes.
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs", "vboxsf"}


class Watch:
    """A pipe that events and signals write to, and that the loop waits on."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.events = mode == "events" or (mode == "auto" and not on_network(folder))
        self.trouble = ""  # why no events come though they should
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._observer: BaseObserver | None = None
        self._root = 0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_observer()
        os.close(self._reader)
        os.close(self._writer)

    def wake(self) -> None:
        """End the wait, now or the next one; safe in a signal handler and in any thread."""
        with suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._writer, b"!")

    def wait(self, timeout: float) -> bool:
        """Wait until woken, at most `timeout` seconds; whether it was woken."""
        if select.select([self._reader], [], [], max(0.0, timeout))[0]:
            return bool(os.read(self._reader, 65536))
        return False

    def check(self) -> None:
        """Start the observer, again where its thread died or the folder was replaced under it."""
        if not self.events:
            return
        root = self.folder.stat().st_ino
        if self._observer is not None and self._observer.is_alive() and root == self._root:
            return
        self._end_observer()
        try:
            observer = Observer()
            observer.schedule(
                _Waker(self.wake),
                str(self.folder),
                recursive=True,
                event_filter=[FileCreatedEvent, FileMovedEvent, FileClosedEvent, DirCreatedEvent, DirMovedEvent],
            )
            observer.start()
        except OSError as error:  # inotify instances or watches are used up: the timer still wakes
            if not self.trouble:
                log.warning("no file events from %s, looking on the timer instead: %s", self.folder, error)
            self.trouble = f"no file events: {error.strerror}"
            return
        self._observer, self._root, self.trouble = observer, root, ""

    def _end_observer(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


class _Waker(FileSystemEventHandler):
    """Sets the flag and nothing else: an exception in a handler would end the observer's thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        path = event.dest_path or event.src_path
        if f"/{WORK}/" not in os.fsdecode(path):  # our own claims
            self.wake()


def on_network(folder: Path) -> bool:
    """Whether a folder lies on a file system whose other writers send no events here."""
    kind = file_system(folder)
    return kind in NETWORK or (kind.startswith("fuse.") and kind != "fuseblk")


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on (Linux, mountinfo(5))."""
    path = str(folder.resolve())
    best, kind = -1, ""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        mount = left.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:
            best, kind = len(mount), right.split()[0]
    return kind
