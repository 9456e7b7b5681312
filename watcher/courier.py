"""Delivers a batch while the next one is read: the workers do not wait for the disk, nor the disk for the workers."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

log = logging.getLogger(__name__)


class Courier:
    """A thread of its own with one delivery at a time, in the order in which they come."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="courier")
        self._last: Future[None] | None = None

    def __enter__(self) -> Courier:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        except OSError as error:  # its claim stays, and is delivered by the next watcher
            log.warning("%s: %s", error.filename or "the system", error.strerror or error)
        self._thread.shutdown()

    def send(self, deliver: Callable[[], None]) -> None:
        """Begin a delivery, once the one before is through; raises what that one raised."""
        self.wait()
        self._last = self._thread.submit(deliver)

    def wait(self) -> None:
        """Wait until no delivery is under way; raises what the last one raised, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
