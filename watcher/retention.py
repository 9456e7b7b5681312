"""What becomes of old deliveries: their scans and thumbnails go after `keep_days`, their results stay."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from watcher.claims import claimed_at
from watcher.outbox import ENDING, STAGING
from watcher.results import THUMBNAILS

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config import Settings

log = logging.getLogger(__name__)

REMOVED = ("scans", THUMBNAILS)  # what failed stays: it is there because a person has to look at it
EVERY = 3600.0  # seconds between looks for deliveries that have become old
TURN = 1.0  # seconds that one turn of the work loop spends on it
DAY = 86400


class Retention:
    """Thins out old deliveries in small turns, so that new scans do not wait for it."""

    def __init__(self, settings: Settings, beat: Callable[[], None] = lambda: None) -> None:
        self.outbox = settings.outbox
        self.staging = settings.outbox / STAGING
        self.keep = None if settings.keep_days is None else settings.keep_days * DAY
        self.beat = beat
        self._due: deque[tuple[str, list[str]]] = deque()  # a delivery, and what is to be removed of it
        self._looked = -EVERY

    def turn(self, once: bool = False) -> None:
        """Go on where the last turn stopped; `once`: to the end."""
        start = time.monotonic()
        if not self._due and start - self._looked >= EVERY:
            self._looked = start
            self._due.extend(self._old())
        while self._due and (once or time.monotonic() - start < TURN):
            delivery, paths = self._due.popleft()
            gone = [name for path in paths if (name := self._remove(path))]
            if gone and claimed_at(delivery):  # else it was left of something else than a delivery
                fields = {"batch": delivery, "removed": gone}
                log.info("%s: old, removed its %s (keep_days)", delivery, " and ".join(gone), extra={"fields": fields})

    def _old(self) -> list[tuple[str, list[str]]]:
        """What is to be removed, where it is there, and of which delivery: what a crash left halfway, then by age."""
        left: list[tuple[str, list[str]]] = []
        # Whoever stages something makes it again, or says why not.
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in _entries(self.staging):
                if entry.name.endswith(ENDING):
                    left.append((entry.name.partition(".")[0], [entry.path]))
        if self.keep is None:
            return left
        latest = time.time() - self.keep
        old = [entry.name for entry in _entries(self.outbox) if (claimed_at(entry.name) or latest) < latest]
        return left + [(name, [f"{self.outbox}/{name}/{part}" for part in REMOVED]) for name in sorted(old)]

    def _remove(self, path: str) -> str:
        """Remove a folder of a delivery, or what a crash left of it; returns which it was, empty where it stays."""
        self.beat()
        if not os.path.isdir(path):  # most went long ago, and on a share each look takes its time
            return ""
        delivery, name = os.path.split(path)
        try:
            # Out of sight in one rename: a folder that is half removed would be taken for one that is half written.
            if not name.endswith(ENDING):
                aside = self.staging / f"{os.path.basename(delivery)}.{name}{ENDING}"
                os.rename(path, aside)
                path = str(aside)
            shutil.rmtree(path)
        except FileNotFoundError:  # downstream, or another watcher, was quicker
            return ""
        except OSError as error:
            log.warning("%s: cannot be removed, though it is old: %s; remove it, or let us in", path, error.strerror)
            return ""
        return name.removesuffix(ENDING).rpartition(".")[2]


def _entries(folder: os.PathLike[str]) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
