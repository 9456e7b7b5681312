"""Wakes the loop: file events, signals and timers only say that it may be worth to look; the folder scan decides."""

from __future__ import annotations

import logging
import os
import re
import select
import threading
import time
import warnings
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
from watcher.mounts import mount_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)
# Its errors are of events that come while it is being stopped; whether it lives, `check` finds out. Its warnings are of
# folders that come and go; which are watched, `covers` finds out.
logging.getLogger("watchdog").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"watchdog\.")

# File systems whose events do not tell what other machines do: there the timer alone wakes.
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs", "vboxsf"}
SOON = 1.0  # seconds until a new folder is watched
TOO_DEEP = "too many folders in each other; move the innermost out of the inbox"
RENEW = 60.0  # seconds between tries to watch what could not be


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
        self._threads: set[threading.Thread] = set()  # that the observer needs, all of them
        self._root = 0
        self._missing: dict[int, float] = {}  # folders without a watch, by inode, and since when
        self._renewed = (0, -RENEW)  # for how many folders, and when, the observer was started again for their sake

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
        """Start the observer, again where one of its threads died or the folder was replaced under it."""
        if not self.events:
            return
        root = self.folder.stat().st_ino
        if self._observer is not None and root == self._root:
            if all(thread.is_alive() for thread in self._threads):
                return
            log.warning("file events from %s had ended, starting them again", self.folder)
        self._end_observer()
        before = set(threading.enumerate())
        try:
            folder = str(self.folder.resolve())  # of a link the link itself would be watched
            self._observer = Observer()
            self._observer.schedule(
                _Waker(self.wake, folder),
                folder,
                recursive=True,
                event_filter=[FileCreatedEvent, FileMovedEvent, FileClosedEvent, DirCreatedEvent, DirMovedEvent],
            )
            self._observer.start()
        except (OSError, RecursionError) as error:
            # Inotify instances or watches are used up, or folders lie too deep in each other: the timer still wakes.
            self._end_observer()
            self._hinder(f"no file events: {error.strerror if isinstance(error, OSError) else TOO_DEEP}")
            return
        self._threads, self._root = set(threading.enumerate()) - before, root
        self._missing = {}
        if self.trouble.startswith("no file events:"):
            self._hinder("")

    def covers(self, folders: set[int]) -> None:
        """Find out whether events come from each of the folders, given by inode.

        watchdog says nothing of a watch that it could not have, and a deleted folder takes its own along.
        """
        if self._observer is None:
            return
        watched, now = watched_folders(), time.monotonic()
        # A folder that is new has its watch in a moment.
        self._missing = {inode: self._missing.get(inode, now) for inode in folders - watched}
        late = sum(now - since >= SOON for since in self._missing.values())
        if late == len(folders) and watched:  # a file system that numbers its inodes in two ways (overlayfs)
            return
        if late and (len(folders) != self._renewed[0] or now - self._renewed[1] >= RENEW):
            self._end_observer()  # `check` starts it again, and all that can be watched is
            self._renewed = len(folders), now
        elif late:
            self._hinder(f"no file events from {late} of {len(folders)} folders; raise fs.inotify.max_user_watches")
        elif not self._missing:
            self._hinder("")

    def _hinder(self, trouble: str) -> None:
        if trouble and not self.trouble:
            log.warning("%s; looking on the timer instead", trouble)
        elif self.trouble and not trouble:
            log.info("file events come again")
        self.trouble = trouble

    def _end_observer(self) -> None:
        if self._observer is None:
            return
        if self._observer.ident is not None:
            self._observer.stop()
            self._observer.join()
        else:  # it was never started, but holds its inotify instance
            self._observer.on_thread_stop()
        self._observer = None


class _Waker(FileSystemEventHandler):
    """Sets the flag and nothing else: an exception in a handler would end the observer's thread."""

    def __init__(self, wake: Callable[[], None], folder: str) -> None:
        self.wake, self.claims = wake, f"{folder}/{WORK}/"

    def on_any_event(self, event: FileSystemEvent) -> None:
        path = event.dest_path or event.src_path
        if not os.fsdecode(path).startswith(self.claims):
            self.wake()


def on_network(folder: Path) -> bool:
    """Whether a folder lies on a file system whose other writers send no events here."""
    kind = mount_of(folder).kind
    return kind in NETWORK or (kind.startswith("fuse.") and kind != "fuseblk")


def watched_folders() -> set[int]:
    """The inodes that this process watches by inotify(7) (proc_pid_fdinfo(5))."""
    found: set[int] = set()
    for name in os.listdir("/proc/self/fdinfo"):
        with suppress(FileNotFoundError):  # closed since, such as the listing's own
            text = Path("/proc/self/fdinfo", name).read_text()
            found.update(int(inode, 16) for inode in re.findall(r"^inotify wd:\w+ ino:(\w+)", text, re.MULTILINE))
    return found
